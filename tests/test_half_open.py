"""Half-open connections: counted by one domain, limited by another, and never for ever."""

import os
import time

import msgspec
import pytest

from ebpfsentinel.domains.conntrack import DOMAIN as TRACKING
from ebpfsentinel.domains.conntrack.tests.packets import Ends
from ebpfsentinel.domains.conntrack.tests.tracked import Tracked
from ebpfsentinel.domains.ddos import DOMAIN as DEFENCE
from ebpfsentinel.domains.ddos.events import DdosReason
from ebpfsentinel.domains.ddos.settings import DdosSettings
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import DRY
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
DROP, PASS = 1, 2
LIMIT = 10


@pytest.fixture
def host():
    kernel = LinuxKernel()
    kernel.load([TRACKING, DEFENCE])
    kernel._fill_chains()
    tracked = Tracked(kernel)
    tracked.settings(timeouts={"tcp_syn_sent": 1, "tcp_syn_recv": 1})
    guard = {"enabled": True, "half_open_threshold": LIMIT}
    wanted = msgspec.convert(
        {"enabled": True, "mode": "block", "connection_tracking": guard}, DdosSettings
    )
    engine = DEFENCE.engine(Tools(rules=None))
    around = Surroundings(boot_offset_ns=clock.boot_offset_ns(), now_ns=time.time_ns())
    kernel.apply(engine.plan(wanted, {}, around).actions)
    yield tracked
    kernel.detach()


def arrives(host, frame):
    """Is it let in by XDP? If so, TC sees it."""
    if host.run(frame, "xdp_root") == DROP:
        return False
    host.come(frame)
    return True


@pytest.mark.parametrize("ends", [Ends(), Ends().six()], ids=["ipv4", "ipv6"])
def test_a_source_with_too_many_half_open_connections_begins_no_more(host, ends):
    syns = [Ends(ends.client, ends.server, sport=port).tcp("S") for port in range(1000, 1100)]
    assert sum(arrives(host, syn) for syn in syns) == LIMIT
    reasons = set(host.kernel.drain("ddos_events")["reason"].tolist())
    assert reasons == {DdosReason.DDOS_HALF_OPEN}
    other = Ends("2001:db8::9", ends.server) if ":" in ends.client else Ends("10.0.0.9")
    assert arrives(host, other.tcp("S"))


def test_a_question_is_answered_and_counts_nothing(host):
    assert host.run(Ends().tcp("S"), DRY) == PASS
    assert host.sources() == {}


def test_connections_that_are_completed_do_not_count(host):
    for port in range(1000, 1100):
        ends = Ends(sport=port)
        assert arrives(host, ends.tcp("S"))
        host.leave(ends.back("SA"))
        host.come(ends.tcp("A"))
    assert host.sources()[0x0A000002] == (100, 0)


def test_w11_a_refused_source_is_let_in_again_though_nothing_sweeps(host):
    """Not a packet of it reaches TC any more, and there is no agent: time alone does it."""
    for port in range(1000, 1020):
        arrives(host, Ends(sport=port).tcp("S"))
    assert not arrives(host, Ends(sport=5).tcp("S"))
    until(lambda: host.run(Ends(sport=5).tcp("S"), "xdp_root") != DROP)
    assert host.sources()[0x0A000002] == (LIMIT, LIMIT), "nothing was swept"


AMPLIFIED = {"enabled": True, "ports": [{"port": 53, "protocol": "udp", "max_pps": 1}]}


@pytest.fixture
def guarded(host):
    """Answers of amplifiers are limited to one a second of a source."""
    wanted = {"enabled": True, "mode": "block", "amplification_protection": AMPLIFIED}
    engine = DEFENCE.engine(Tools(rules=None))
    around = Surroundings(boot_offset_ns=clock.boot_offset_ns(), now_ns=time.time_ns())
    plan = engine.plan(msgspec.convert(wanted, DdosSettings), {}, around)
    host.kernel.apply(plan.actions)
    return host


@pytest.mark.parametrize("ends", [Ends(), Ends().six()], ids=["ipv4", "ipv6"])
def test_answers_to_a_forwarded_question_pass_beyond_the_limit_and_others_do_not(guarded, ends):
    """No socket of this host has the flow: only the table of flows knows that it was asked for."""
    asked = Ends(ends.server, ends.client, sport=5353, dport=53)
    guarded.come(asked.udp())
    assert all(arrives(guarded, asked.udp_back()) for _ in range(20))
    forged = Ends(ends.server, ends.client, sport=5354, dport=53)
    assert sum(arrives(guarded, forged.udp_back()) for _ in range(20)) <= 1


def test_that_a_forged_packet_was_answered_makes_no_flow_that_is_wanted(guarded):
    forged = Ends(sport=53, dport=5000)
    arrives(guarded, forged.udp())
    guarded.leave(forged.udp_back())
    assert sum(arrives(guarded, forged.udp()) for _ in range(20)) <= 1
