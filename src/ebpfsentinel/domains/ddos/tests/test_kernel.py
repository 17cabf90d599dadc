"""Guards and measures on the real kernel: packets that die, and packets that must not."""

import contextlib
import ctypes
import ipaddress
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA

from ebpfsentinel.domains.ddos.events import (
    DDOS_BLOCK,
    DDOS_KNOWN,
    DDOS_PREFIX,
    DdosReason,
    PacketAction,
)
from ebpfsentinel.domains.ddos.settings import AttackType
from ebpfsentinel.domains.ddos.tables import limit
from ebpfsentinel.domains.ddos.tests.defended import (
    DROP,
    IP,
    PASS,
    TCP,
    TX,
    IPv6,
    Raw,
    echo,
    ether,
    tcp,
    udp,
)
from ebpfsentinel.model.action import MapWrite, Swap
from ebpfsentinel.model.domain import Surroundings
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.kernel import DRY, META
from ebpfsentinel.model.packets import WOULD, words
from tests.waiting import until

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
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
    head_with(defended, watch_acks)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        port = client.getsockname()[1]
        frame = tcp("127.0.0.1", "127.0.0.1", flags, port, server.getsockname()[1])
        assert defended.run(frame, 50) == [PASS] * 50


def test_acks_of_no_flow_die_beyond_the_limit_when_there_are_too_many(defended):
    defended.settings(connection_tracking=TCP_ON)
    assert defended.run(tcp(*OF[4], "A"), 500) == [PASS] * 500
    assert of(defended.counts(), "stray", "ack_flood") == pytest.approx(500, abs=64)
    head_with(defended, watch_acks)
    verdicts = defended.run(tcp(*OF[4], "A"), 50)
    assert verdicts[-10:] == [DROP] * 10


@contextlib.contextmanager
def cookies_always():
    """A network namespace of our own whose stack gives a cookie for every SYN."""
    with Path("/proc/thread-self/ns/net").open() as home:
        assert not _LIBC.unshare(_CLONE_NEWNET)
        try:
            Path("/proc/sys/net/ipv4/tcp_syncookies").write_text("2")
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert not _LIBC.setns(home.fileno(), _CLONE_NEWNET)


@pytest.fixture
def listener(request):
    """A listener, and its port, where every SYN gets a cookie."""
    family = request.param
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with cookies_always(), socket.create_server((OF[family][1], 0), family=kind) as server:
        yield family, server.getsockname()[1]


def ip_of(frame, family):
    return (IP if family == 4 else IPv6)(frame[14:])


@pytest.mark.parametrize("listener", [4, 6], indirect=True)
@pytest.mark.parametrize("tag", [b"", b"\x81\x00\x00\x07"], ids=["plain", "tagged"])
def test_a_syn_becomes_the_answer_that_carries_the_cookie(listener, defended, tag):
    family, port = listener
    defended.settings(syn_protection={"enabled": True, "threshold_mode": False})
    syn = tcp(*OF[family], "S", 4242, port, seq=1000, options=[("MSS", 1200), ("SAckOK", b"")])
    syn = syn[:12] + tag + syn[12:]
    found = defended.kernel.run("xdp_root", syn)
    assert found.retval == TX
    assert found.data[:6] == syn[6:12]
    assert found.data[6:12] == syn[:6]
    assert found.data[12:][: len(tag)] == tag
    answer = ip_of(found.data[len(tag) :], family)
    assert (answer.src, answer.dst) == (OF[family][1], OF[family][0])
    reply = answer[TCP]
    assert (reply.sport, reply.dport, str(reply.flags), reply.ack) == (port, 4242, "SA", 1001)
    assert dict(reply.options)["MSS"] == (1460 if family == 4 else 1440)
    checked = type(answer)(bytes(answer))
    del checked[TCP].chksum
    assert type(answer)(bytes(checked))[TCP].chksum == reply.chksum
    if family == 4:
        header = IP(bytes(answer))
        del header.chksum
        assert IP(bytes(header)).chksum == answer.chksum
    counts = defended.counts()
    assert (int(counts["cookies_sent"]), of(counts, "refused", "syn_flood")) == (1, 1)


@pytest.mark.parametrize("listener", [4, 6], indirect=True)
def test_an_ack_with_the_cookie_makes_its_source_known(listener, defended):
    family, port = listener
    defended.settings(syn_protection={"enabled": True, "threshold_mode": False})
    syn = tcp(*OF[family], "S", 4242, port, seq=1000)
    cookie = ip_of(defended.kernel.run("xdp_root", syn).data, family)[TCP].seq
    wrong = tcp(*OF[family], "A", 4242, port, seq=1001, ack=cookie ^ 0x5A5A5A5A)
    right = tcp(*OF[family], "A", 4242, port, seq=1001, ack=(cookie + 1) & 0xFFFFFFFF)
    defended.run(wrong)
    assert defended.kernel.run("xdp_root", syn).retval == TX
    defended.run(right)
    assert int(defended.counts()["cookies_valid"]) == 1
    assert defended.kernel.run("xdp_root", syn).retval == PASS


@pytest.mark.parametrize("listener", [4], indirect=True)
def test_below_the_threshold_syns_go_up(listener, defended):
    _, port = listener
    defended.settings(syn_protection={"enabled": True, "threshold_pps": 100})
    syns = [tcp(f"198.51.100.{number}", OF[4][1], "S", 4242, port) for number in range(30)]
    verdicts = defended.run_all(syns)
    assert verdicts[:10] == [PASS] * 10
    assert TX in verdicts[10:]


@pytest.mark.parametrize("listener", [4], indirect=True)
def test_a_syn_with_data_or_cut_short_is_no_harm(listener, defended):
    _, port = listener
    defended.settings(syn_protection={"enabled": True, "threshold_mode": False})
    whole = tcp(*OF[4], "S", 4242, port, options=[("MSS", 1200), ("Timestamp", (1, 0))])
    long = whole + b"data" * 300
    assert defended.kernel.run("xdp_root", long).retval == TX
    for length in range(14, len(whole)):
        assert defended.kernel.run("xdp_root", whole[:length]).retval in (PASS, TX)


def watch_acks(head):
    """As while there is an ACK flood: each ACK is looked at."""
    head["every_ack"] = 1


def head_with(defended, change):
    """The head in force, with a change to it."""
    plan = defended.engine.plan(defended.engine._now.settings, {}, Surroundings())
    (swap,) = [action for action in plan.actions if isinstance(action, Swap)]
    change(swap.value)
    defended.kernel.apply([swap])


def throttled(defended, seconds):
    """Unknown sources share 10 packets, and ten a second; a known one may send 5,000."""
    until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(seconds * 1e9)

    def change(head):
        at = AttackType.VOLUMETRIC.number
        head["throttle"]["interval"][0, at], head["throttle"]["tolerance"][0, at] = limit(10)
        head["throttle_until_ns"][0, at] = until_ns

    head_with(defended, change)


def make_known(defended, address):
    key = np.zeros(1, DDOS_KNOWN)
    key["addr"][0, 0], key["family"] = int(ipaddress.ip_address(address)), 4
    now_ns = np.array([time.clock_gettime_ns(time.CLOCK_BOOTTIME)], np.uint64)
    defended.kernel.apply([MapWrite("ddos_known", key, now_ns)])


def test_a_throttle_leaves_the_unknown_what_is_left_and_the_known_their_share(defended):
    defended.settings()
    throttled(defended, 60)
    make_known(defended, "203.0.113.5")
    forged = [udp(f"198.51.100.{number}", "127.0.0.1", 99) for number in range(40)]
    verdicts = defended.run_all(forged)
    assert verdicts[:10] == [PASS] * 10
    assert verdicts[-10:] == [DROP] * 10
    assert defended.run(udp("203.0.113.5", "127.0.0.1", 99), 100) == [PASS] * 100


def test_a_throttle_leaves_neighbour_discovery_alone(defended):
    """Without it, nobody on the link could reach this host, known or not."""
    defended.settings()
    throttled(defended, 60)
    defended.run(udp(*OF[6], 99), 30)
    assert defended.run(udp(*OF[6], 99)) == [DROP]
    for kind in (ICMPv6ND_NS, ICMPv6ND_NA, ICMPv6ND_RA):
        assert defended.run(ether(IPv6(src="fe80::1", dst="fe80::2"), kind()), 50) == [PASS] * 50


def test_a_throttle_lapses_in_the_kernel(defended):
    """Nobody has to take it away: an agent that is dead keeps no one out."""
    defended.settings()
    throttled(defended, -1)
    assert defended.run(udp(*OF[4], 99), 100) == [PASS] * 100


def block(defended, network, seconds):
    wanted = ipaddress.ip_network(network)
    key, value = np.zeros(1, DDOS_PREFIX), np.zeros(1, DDOS_BLOCK)
    key["addr"][0] = words(wanted.network_address)
    key["family"], key["bits"] = wanted.version, wanted.prefixlen
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    value["until_ns"], value["attack"] = now_ns + int(seconds * 1e9), 3
    defended.kernel.apply([MapWrite("ddos_blocked", key, value)])


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("198.51.100.7/32", "198.51.100.7", "198.51.100.8"),
        ("198.51.100.0/24", "198.51.100.255", "198.51.101.7"),
        ("2001:db8::7/128", "2001:db8::7", "2001:db8::8"),
        ("2001:db8::/64", "2001:db8::ffff:1", "2001:db8:0:1::1"),
    ],
)
def test_what_comes_from_a_blocked_source_dies_and_what_comes_from_another_does_not(
    defended, network, inside, outside
):
    defended.settings()
    block(defended, network, 60)
    to = "::1" if ":" in inside else "127.0.0.1"
    assert defended.run(udp(inside, to, 99)) == [DROP]
    assert defended.run(udp(outside, to, 99)) == [PASS]
    (event,) = defended.events()
    assert (event["reason"], event["packet"]["rule_id"]) == (DdosReason.DDOS_BLOCK, 3)


def test_a_block_lapses_in_the_kernel(defended):
    defended.settings()
    block(defended, "198.51.100.7/32", -1)
    assert defended.run(udp("198.51.100.7", "127.0.0.1", 99)) == [PASS]


def test_what_stands_on_the_never_block_floor_is_spared(defended):
    defended.settings(icmp_protection=ICMP_ON)
    networks = (ipaddress.ip_network("198.51.100.0/24"),)
    defended.kernel.protect(Floor(networks=networks))
    assert defended.run(echo(*OF[4]), 20) == [PASS] * 20
    assert PacketAction.ACTION_SPARED in defended.events()["packet"]["action"]


def test_a_question_leaves_no_trace(defended):
    defended.settings(icmp_protection=ICMP_ON)
    for _ in range(20):
        assert defended.kernel.run(DRY, echo(*OF[4])).retval == PASS
    assert not defended.counts()["packets"].any()
    assert not len(defended.events())
    assert defended.run(echo(*OF[4]), 6) == [PASS] * 5 + [DROP]
    meta = np.frombuffer(defended.kernel.run(DRY, echo(*OF[4])).meta, META)[0]
    assert meta["packet_flags"] & WOULD
    assert meta["action"] == PacketAction.ACTION_PASS


def test_refused_packets_are_those_told_of_and_those_said_to_be_left_out(defended):
    """First one, then one in 20 ms at most: none is lost without a count."""
    defended.settings(icmp_protection=ICMP_ON)
    frame = echo(*OF[4])
    began = time.monotonic()
    until(lambda: defended.run(frame, 20) and time.monotonic() - began > 0.2, every_s=0)
    events = defended.events()
    most = os.cpu_count() * (1 + (time.monotonic() - began) / 0.02)
    told = len(events) + int(events["suppressed"].sum())
    refused = of(defended.counts(), "refused", "icmp_flood")
    _, cpus = defended.kernel.read("ddos_cpu")
    waiting = int(cpus["suppressed"].sum())
    assert refused == told + waiting
    assert 2 <= len(events) <= most


def test_a_limit_is_one_limit_on_all_cpus(defended):
    """Each CPU with a bucket of its own would let twice as many through (W9)."""
    defended.settings(icmp_protection={"enabled": True, "max_pps": 100})
    frame, passed = echo(*OF[4]), []

    def send(cpu):
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        passed.append(defended.run(frame, 500).count(PASS))

    began = time.monotonic()
    threads = [threading.Thread(target=send, args=(cpu,)) for cpu in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert len(passed) > 1
    assert sum(passed) <= 100 + 100 * took + 1


def test_fragments_have_no_ports_to_be_judged_by(defended):
    """A later fragment's payload is not read as ports (W42)."""
    ports = [{"port": 0x7878, "max_pps": 1}]
    defended.settings(amplification_protection={"enabled": True, "ports": ports})
    later = ether(IP(src=OF[4][0], dst=OF[4][1], frag=100, proto=17), Raw(b"x" * 64))
    assert defended.run(later, 50) == [PASS] * 50
    assert of(defended.counts(), "packets", "udp_amplification") == 0
