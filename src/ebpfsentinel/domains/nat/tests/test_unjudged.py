"""Beside connection tracking: what passes interfaces without rules, and is put down nowhere."""

import os

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.conntrack import DOMAIN as CONNTRACK
from ebpfsentinel.domains.conntrack.tests.tracked import Tracked
from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.tests.judge import ADDRESSES, Judge, empty
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.action import FlowTable

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

INSIDE, OUTSIDE, SERVER, OTHER = "10.0.0.7", ADDRESSES["wan"][0], "198.51.100.9", "10.0.0.99"
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
MASQUERADE = {"id": "m", "type": "masquerade", "interface": "wan"}
DIVERT = {
    "id": "d",
    "type": "dnat",
    "dst": SERVER,
    "translated_addr": OTHER,
    "interface": "lan",
}


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN, CONNTRACK])
    kernel._fill_chains()
    yield kernel
    kernel.detach()


@pytest.fixture
def judge(loaded):
    empty(loaded)
    loaded.apply([FlowTable(None)])
    Tracked(loaded).settings()
    made = Judge(loaded)
    made.rules(snat_rules=[MASQUERADE])
    return made


def put_down(judge):
    return int((judge.kernel.read("nat_table")[1]["tags"] & 1).sum())


def tcp(flags):
    return LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=4000, dport=80, flags=flags)


def udp(port, src=INSIDE, dst=SERVER):
    return LINK / IP(src=src, dst=dst) / UDP(sport=port, dport=53) / b"asked"


def back(frame):
    """What answers it."""
    kind = TCP if TCP in frame else UDP
    flags = {"flags": "SA"} if kind is TCP else {}
    layer = kind(sport=frame[kind].dport, dport=frame[kind].sport, **flags)
    return LINK / IP(src=frame[IP].dst, dst=frame[IP].src) / layer


def asks(judge, frame):
    """From the inside to the outside; how it went out."""
    assert bytes(judge.comes(frame, "lan")) == bytes(frame)
    return judge.leaves(frame)


def answers(judge, went):
    """And back; how it came in."""
    came = judge.comes(back(went))
    assert bytes(judge.leaves(came, "lan")) == bytes(came)
    return came


def test_only_where_there_are_rules_is_a_flow_put_down(judge):
    went = asks(judge, tcp("S"))
    assert went[IP].src == OUTSIDE
    assert answers(judge, went)[IP].dst == INSIDE
    assert asks(judge, tcp("A"))[IP].src == OUTSIDE
    assert put_down(judge) == 2
    found = judge.counts()
    assert (found["untouched"], found["masq_applied"], found["total_seen"]) == (3, 3, 6)


def test_without_connection_tracking_it_is_put_down_everywhere(judge):
    judge.kernel.apply([FlowTable(None)])
    went = asks(judge, tcp("S"))
    assert answers(judge, went)[IP].dst == INSIDE
    assert put_down(judge) == 4


def test_what_answers_a_translation_may_come_in_anywhere(judge):
    went = asks(judge, udp(4000))
    assert judge.comes(back(went), "lan")[IP].dst == INSIDE
    assert put_down(judge) == 2


def test_an_answer_that_leaves_where_there_are_rules_is_no_flow_of_its_own(judge):
    asked = udp(4000, dst=ADDRESSES["lan"][0])
    judge.comes(asked, "lan")
    answer = back(asked)
    assert bytes(judge.leaves(answer)) == bytes(answer)
    fresh = udp(4001, src=ADDRESSES["lan"][0], dst=SERVER)
    assert judge.leaves(fresh)[IP].src == OUTSIDE


def test_rules_are_not_asked_about_answered_flows_that_are_older(judge):
    assert answers(judge, asks(judge, udp(4000)))[IP].dst == INSIDE
    asks(judge, udp(4001))
    judge.rules(snat_rules=[MASQUERADE], dnat_rules=[DIVERT])
    assert judge.comes(udp(4000), "lan")[IP].dst == SERVER
    assert judge.comes(udp(4001), "lan")[IP].dst == OTHER, "nobody had answered"
    assert judge.comes(udp(4002), "lan")[IP].dst == OTHER


def test_a_later_rule_leaves_older_rules_as_old_as_they_are(judge):
    first = judge.engine._now.since["wan"]
    judge.rules(snat_rules=[MASQUERADE], dnat_rules=[DIVERT])
    since = judge.engine._now.since
    assert since["wan"] == first < since["lan"]
