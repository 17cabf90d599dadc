"""Guards and measures on the real kernel: packets that die, and packets that must not."""

import socket

import pytest

from ebpfsentinel.domains.ddos.events import DdosReason
from ebpfsentinel.domains.ddos.settings import AttackType
from ebpfsentinel.domains.ddos.tests.defended import DROP, PASS, echo, tcp, udp
from ebpfsentinel.model.action import Swap
from ebpfsentinel.model.domain import Surroundings

OF = {4: ("198.51.100.7", "127.0.0.1"), 6: ("2001:db8::7", "::1")}
ICMP_ON = {"enabled": True, "max_pps": 5}
TCP_ON = {"enabled": True, "rst_threshold": 5, "fin_threshold": 5, "ack_threshold": 5}


def of(counts, field, kind):
    return int(counts[field][AttackType(kind).number])


@pytest.mark.parametrize("family", [4, 6])
def test_echo_requests_beyond_the_limit_die_and_are_told_of_once(defended, family):
    defended.settings(icmp_protection=ICMP_ON)
    verdicts = defended.run(echo(*OF[family]), 20)
    assert verdicts == [PASS] * 5 + [DROP] * 15
    counts, events = defended.counts(), defended.events()
    assert of(counts, "packets", "icmp_flood") == 20
    assert of(counts, "refused", "icmp_flood") == 15
    assert events["reason"][0] == DdosReason.DDOS_LIMIT
    assert len(events) + int(events["suppressed"].sum()) <= 15
    assert len(events) >= 1


def test_each_source_has_a_limit_of_its_own(defended):
    defended.settings(icmp_protection=ICMP_ON)
    defended.run(echo(*OF[4]), 20)
    assert defended.run(echo("198.51.100.8", "127.0.0.1"), 6) == [PASS] * 5 + [DROP]


def test_an_echo_request_with_too_much_in_it_dies(defended):
    defended.settings(icmp_protection=ICMP_ON)
    assert defended.run(echo(*OF[4], payload=64)) == [PASS]
    assert defended.run(echo(*OF[4], payload=65)) == [DROP]
    assert defended.events()["reason"].tolist() == [DdosReason.DDOS_OVERSIZE]


def test_in_alert_mode_the_same_verdicts_drop_nothing(defended):
    defended.settings(mode="alert", icmp_protection=ICMP_ON)
    assert defended.run(echo(*OF[4]), 20) == [PASS] * 20
    assert of(defended.counts(), "refused", "icmp_flood") == 15


def test_what_is_not_guarded_passes(defended):
    defended.settings()
    for frame in (echo(*OF[4], payload=1000), udp(*OF[4], 53), tcp(*OF[4], "R"), tcp(*OF[6], "S")):
        assert defended.run(frame, 300) == [PASS] * 300


def test_amplified_answers_die_beyond_the_limit_of_their_port(defended):
    ports = [{"port": 123, "max_pps": 5}, {"port": 53, "max_pps": 10}]
    defended.settings(amplification_protection={"enabled": True, "ports": ports})
    assert defended.run(udp(*OF[4], 123), 8) == [PASS] * 5 + [DROP] * 3
    assert defended.run(udp(*OF[4], 53), 11) == [PASS] * 10 + [DROP]
    assert defended.run(udp(*OF[6], 123), 6) == [PASS] * 5 + [DROP]
    assert defended.run(udp(*OF[4], 1234), 50) == [PASS] * 50
    assert of(defended.counts(), "packets", "udp_amplification") == 25


@pytest.mark.parametrize("family", [4, 6])
def test_answers_that_were_asked_for_always_pass(defended, family):
    defended.settings(
        amplification_protection={"enabled": True, "ports": [{"port": 53, "max_pps": 2}]}
    )
    local = OF[family][1]
    with socket.socket(
        socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM
    ) as asked:
        asked.bind((local, 0))
        port = asked.getsockname()[1]
        assert defended.run(udp(local, local, 53, port), 4) == [PASS] * 2 + [DROP] * 2
        asked.connect((local, 53))
        assert defended.run(udp(local, local, 53, port), 50) == [PASS] * 50


@pytest.mark.parametrize("flags", ["R", "F", "FA", "RA"])
def test_resets_and_fins_of_no_flow_die_beyond_the_limit(defended, flags):
    defended.settings(connection_tracking=TCP_ON)
    assert defended.run(tcp(*OF[4], flags), 8) == [PASS] * 5 + [DROP] * 3
    assert defended.run(tcp(*OF[6], flags), 8) == [PASS] * 5 + [DROP] * 3


@pytest.mark.parametrize("flags", ["FA", "RA", "A"])
def test_segments_of_a_flow_of_this_host_always_pass(defended, flags):
    defended.settings(connection_tracking=TCP_ON)
    watch_acks(defended)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port = client.getsockname()[1]
        frame = tcp("127.0.0.1", "127.0.0.1", flags, port, server.getsockname()[1])
        assert defended.run(frame, 50) == [PASS] * 50


def watch_acks(defended):
    """As while there is an ACK flood: each ACK is looked at."""
    plan = defended.engine.plan(defended.engine._now.settings, {}, Surroundings())
    (swap,) = [action for action in plan.actions if isinstance(action, Swap)]
    swap.value["every_ack"] = 1
    defended.kernel.apply([swap])


def test_acks_of_no_flow_die_beyond_the_limit_when_there_are_too_many(defended):
    defended.settings(connection_tracking=TCP_ON)
    assert defended.run(tcp(*OF[4], "A"), 500) == [PASS] * 500
    assert of(defended.counts(), "stray", "ack_flood") == pytest.approx(500, abs=64)
    watch_acks(defended)
    verdicts = defended.run(tcp(*OF[4], "A"), 50)
    assert verdicts[-10:] == [DROP] * 10
