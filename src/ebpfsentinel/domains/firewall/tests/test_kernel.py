"""The firewall in this machine's kernel, one packet at a time through ``xdp_root``: no traffic."""

import os
import random
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.firewall.settings import AntiLockout
from ebpfsentinel.domains.firewall.tests import oracle, packets, rulesets
from ebpfsentinel.domains.firewall.tests.judge import DROP, META, PACKET_META, PASS, Judge, rule
from ebpfsentinel.domains.firewall.tests.packets import (
    ARP,
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Raw,
    ether,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from ebpfsentinel.domains.firewall.tests.property_run import compare, place_interface
from ebpfsentinel.model.settings import SettingsError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

WOULD = 0x08
DENY_80 = {"action": "deny", "protocol": "tcp", "dst_port": 80}


@pytest.fixture(scope="module")
def reporter(loaded):
    """Reports every packet and drops none; for a test that takes all its examples at once."""
    judge = Judge(loaded)
    judge.rules(mode="alert", policy="drop")
    return judge


@pytest.mark.parametrize("seed", range(50))
def test_random_rule_sets_and_packets_against_the_reference(judge, seed):
    found, pairs = compare(judge, 1_000_000 + seed, 2000)
    assert pairs
    assert found == []


def test_the_hand_packed_frames_are_those_of_scapy():
    for family, build in ((4, tcp4), (6, tcp6)):
        src, dst = ("10.0.0.1", "10.0.0.2") if family == 4 else ("2001:db8::1", "2001:db8::2")
        made = packets.Packet(family, packets.number(src), packets.number(dst), 6, (1234, 80), 5)
        theirs = oracle.parse(build(src, dst, 1234, 80, tags=[Dot1Q(vlan=5)]))
        ours = oracle.parse(packets.frame(made))
        theirs.tcp_flags = ours.tcp_flags
        assert theirs == ours


def test_allow_deny_and_log(judge):
    judge.rules(
        rule("web", "allow", dst_port=443, protocol="tcp"),
        rule("telnet", "deny", dst_port=23, protocol="tcp"),
        rule("dns", "log", dst_port=53, protocol="udp"),
    )
    for frame, code, rule_id, reported in (
        (tcp4(dport=443), PASS, "web", False),
        (tcp4(dport=23), DROP, "telnet", True),
        (udp4(dport=53), PASS, "dns", True),
        (tcp6(dport=23), DROP, "telnet", True),
        (udp4(dport=54), PASS, None, False),
    ):
        found = judge.judge(frame)
        assert (found.code, found.event is not None) == (code, reported)
        assert judge.by(frame) == rule_id


def test_default_drop_drops_what_no_rule_allows(judge):
    judge.rules(rule("web", "allow", dst_port=443, protocol="tcp"), policy="drop")
    assert judge.judge(tcp4(dport=443)).code == PASS
    found = judge.judge(tcp4(dport=80))
    assert (found.code, found.event["rule_id"], found.event["action"]) == (DROP, 0, 1)
    judge.rules(policy="pass")
    assert judge.judge(tcp4(dport=80)).code == PASS


def test_alert_mode_computes_the_same_verdict_and_drops_nothing(judge):
    judge.rules(rule("r", **DENY_80), mode="alert", policy="drop")
    for frame, rule_id in ((tcp4(dport=80), "r"), (tcp4(dport=81), None)):
        found = judge.judge(frame)
        assert found.code == PASS
        assert found.event["action"] == found.meta["action"] == 1
        assert found.event["flags"] & WOULD
        assert found.meta["packet_flags"] & WOULD
        assert judge.by(frame) == rule_id
    (alert,) = judge.engine.feed(
        "fw_events", np.array([judge.judge(tcp4(dport=80)).event]), 1
    ).alerts
    assert (alert.action, alert.rule_id) == ("would_deny", "r")


@pytest.mark.parametrize("frame", [tcp4(), tcp6(), tcp4(tags=[Dot1Q(vlan=7)])])
def test_a_rule_without_an_address_holds_for_both_families(judge, frame):
    judge.rules(rule("r", **DENY_80))
    assert judge.judge(frame).code == DROP
    judge.rules(rule("r", "allow", dst_port=80, protocol="tcp"), policy="drop")
    assert judge.judge(frame).code == PASS


def test_one_of_several_rules_by_address_and_family(judge):
    judge.rules(
        rule("v4", src_ip="10.0.0.0/8", priority=1), rule("v6", dst_ip="2001:db8::/32", priority=2)
    )
    assert judge.by(tcp4()) == "v4"
    assert judge.by(tcp6()) == "v6"
    assert judge.judge(tcp4(src="11.0.0.1")).code == PASS
    assert judge.judge(tcp6(dst="2001:db9::1")).code == PASS


def test_the_outermost_vlan_decides(judge):
    judge.rules(rule("tagged", vlan_id=100), rule("plain", vlan_id=0, priority=20))
    assert judge.by(tcp4(tags=[Dot1Q(vlan=100)])) == "tagged"
    assert judge.by(tcp4(tags=[Dot1AD(vlan=100), Dot1Q(vlan=5)])) == "tagged"
    assert judge.by(tcp4()) == "plain"
    found = judge.judge(tcp4(tags=[Dot1AD(vlan=5), Dot1Q(vlan=100)]))
    assert (found.code, found.meta["vlan_id"], found.meta["l3_offset"]) == (PASS, 5, 22)


def test_under_default_drop_nothing_unknown_slips_through(judge):
    judge.rules(rule("all-tcp", "allow", protocol="tcp"), policy="drop")
    three = [Dot1Q(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3)]
    assert judge.judge(tcp4()).code == PASS
    assert judge.judge(tcp4(tags=three[:2])).code == PASS
    assert judge.judge(tcp4(tags=three)).code == DROP
    assert judge.judge(tcp6(tags=three)).code == DROP
    for ethertype in (0x88CC, 0x8847, 0x8863, 0x0000, 0xFFFF):
        frame = bytes(12) + ethertype.to_bytes(2, "big") + bytes(46)
        assert judge.judge(frame).code == DROP, hex(ethertype)
    judge.rules(policy="pass")
    assert judge.judge(tcp4(tags=three)).code == PASS


def test_arp_and_neighbour_discovery_pass_a_default_drop(judge):
    judge.rules(policy="drop")
    solicitation = ether(IPv6(src="fe80::1", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS())
    echo = ether(IPv6(src="fe80::1", dst="fe80::2") / ICMPv6EchoRequest())
    assert judge.judge(ether(ARP())).code == PASS
    assert judge.judge(solicitation).code == PASS
    assert judge.judge(echo).code == DROP
    judge.rules(rule("no-icmp6", protocol="icmpv6"), policy="drop")
    assert judge.by(solicitation) == "no-icmp6"


def test_ports_behind_extension_headers(judge):
    judge.rules(rule("r", **DENY_80))
    base = IPv6(src="2001:db8::1", dst="2001:db8::2")
    headers = [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(), IPv6ExtHdrDestOpt()]
    packet = base
    for header in headers:
        packet /= header
        assert judge.judge(ether(packet / TCP(dport=80))).code == DROP
        assert judge.judge(ether(packet / TCP(dport=81))).code == PASS
    deep = base
    for _ in range(9):
        deep /= IPv6ExtHdrDestOpt()
    judge.rules(rule("tcp", "allow", protocol="tcp"), policy="drop")
    assert judge.judge(ether(deep / TCP(dport=80))).code == DROP


def test_a_first_fragment_with_eight_bytes_of_tcp_is_judged_by_its_ports(judge):
    judge.rules(rule("r", **DENY_80))
    head = bytes(TCP(sport=1, dport=80))[:8]
    assert judge.by(ether(IP(flags="MF", proto=6) / Raw(head))) == "r"
    fragment = IPv6ExtHdrFragment(nh=6, m=1, offset=0)
    assert judge.by(ether(IPv6() / fragment / Raw(head))) == "r"


def test_a_later_fragment_is_never_matched_by_ports(judge):
    judge.rules(rule("ports", **DENY_80), rule("any-udp", "log", protocol="udp", priority=20))
    looks_like_80 = b"\x00\x50\x00\x50" * 4
    for frame in (
        ether(IP(frag=10, proto=6) / Raw(looks_like_80)),
        ether(IP(frag=1, flags="MF", proto=6) / Raw(looks_like_80)),
        ether(IPv6() / IPv6ExtHdrFragment(nh=6, offset=9) / Raw(looks_like_80)),
    ):
        found = judge.judge(frame)
        assert (found.code, found.meta["rule_id"]) == (PASS, 0)
        assert found.meta["packet_flags"] & oracle.LATER
        assert not found.meta["packet_flags"] & oracle.PORTS
    assert judge.by(ether(IP(frag=10, proto=17) / Raw(looks_like_80))) == "any-udp"


WHOLE = [
    tcp4(tags=[Dot1AD(vlan=3), Dot1Q(vlan=4)]),
    ether(IP(options=b"\x01" * 12) / TCP(dport=80)),
    ether(IPv6() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(dport=53) / Raw(b"abc")),
    ether(IPv6() / IPv6ExtHdrFragment(nh=6, m=1) / TCP(dport=80)),
    ether(IP() / ICMP()),
]


def everything(judge, frame):
    """What the kernel parsed, from the event and the metadata, in the oracle's form."""
    found = judge.judge(frame)
    event, meta = found.event, found.meta
    words = [int(event[f"{end}_addr"][at]) for end in ("src", "dst") for at in range(4)]
    six = bool(int(event["flags"]) & oracle.IPV6)
    src, dst = (
        sum(word << (96 - 32 * at) for at, word in enumerate(words[start : start + 4]))
        if six
        else words[start]
        for start in (0, 4)
    )
    flags = int(event["flags"]) & ~WOULD
    fields = (src, dst, *(int(event[name]) for name in ("src_port", "dst_port", "protocol")))
    assert int(meta["packet_flags"]) & ~WOULD == flags
    assert (meta["protocol"], meta["vlan_id"]) == (event["protocol"], event["vlan_id"])
    offsets = int(meta["l3_offset"]), int(meta["l4_offset"])
    return (*fields, flags, int(event["tcp_flags"]), int(event["vlan_id"]), *offsets)


def wanted(frame):
    found = oracle.parse(frame)
    ends = (found.src, found.dst, found.src_port, found.dst_port, found.protocol)
    return (*ends, found.flags, found.tcp_flags, found.vlan, found.l3, found.l4)


def exempt(frame):
    """ARP and neighbour discovery, of which a default drop makes no event."""
    found = oracle.parse(frame)
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and at < 20:
        at += 4
    return frame[at : at + 2] == b"\x08\x06" or found.protocol == 58


@pytest.mark.parametrize("frame", WHOLE)
def test_a_frame_cut_at_every_byte(judge, frame):
    judge.rules(mode="alert", policy="drop")
    for end in range(14, len(frame) + 1):
        assert everything(judge, frame[:end]) == wanted(frame[:end]), end


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(WHOLE), st.data())
def test_damaged_frames_are_parsed_as_the_oracle_parses_them(reporter, frame, data):
    changed = bytearray(frame)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(12, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    cut = bytes(changed[: data.draw(st.integers(14, len(changed)))])
    if not exempt(cut):
        assert everything(reporter, cut) == wanted(cut)


def test_random_bytes_are_parsed_as_the_oracle_parses_them(judge):
    judge.rules(mode="alert", policy="drop")
    pick = random.Random(5)
    kinds = (b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00", b"\x88\xa8", b"\x08\x00", b"")
    for _ in range(20_000):
        head = pick.randbytes(12) + pick.choice(kinds)
        frame = head + pick.randbytes(pick.randrange(max(14 - len(head), 0), 120))
        if not exempt(frame):
            assert everything(judge, frame) == wanted(frame), frame.hex()


def test_an_event_carries_what_the_packet_was(judge):
    judge.rules(rule("other", dst_port=81, protocol="tcp"), rule("r", **DENY_80))
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    frame = tcp4("10.1.2.3", "10.4.5.6", 4321, 80, tags=[Dot1Q(vlan=9)], flags="SA")
    event = judge.judge(frame).event
    assert event["src_addr"].tolist() == [0x0A010203, 0, 0, 0]
    assert event["dst_addr"].tolist() == [0x0A040506, 0, 0, 0]
    assert (event["src_port"], event["dst_port"], event["protocol"]) == (4321, 80, 6)
    assert (event["vlan_id"], event["tcp_flags"], event["bytes"]) == (9, 0x12, len(frame))
    assert (event["action"], event["version"], event["ifindex"]) == (1, 1, 1)
    assert event["flags"] == oracle.VLAN | oracle.TCP | oracle.PORTS
    assert before <= event["timestamp_ns"] <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert judge.engine._set.names[int(event["rule_id"])] == "r"
    six = judge.judge(udp6("2001:db8::1", "::1", 5, 6, data=b"y" * 900)).event
    assert six is None
    judge.rules(rule("all"))
    six = judge.judge(udp6("2001:db8::1", "::1", 5, 6)).event
    assert six["src_addr"].tolist() == [0x20010DB8, 0, 0, 1]
    assert six["dst_addr"].tolist() == [0, 0, 0, 1]


def test_the_metadata_says_what_later_programs_want_to_know(judge):
    judge.rules(rule("r", "log", dst_port=80, protocol="tcp"))
    frame = ether(IPv6() / IPv6ExtHdrHopByHop() / TCP(dport=80), Dot1Q(vlan=12))
    code, head = judge.quick(frame)
    meta = np.frombuffer(head, PACKET_META)[0]
    number = judge.engine._set.numbers["r"]
    assert (code, len(head)) == (PASS, META)
    assert (meta["rule_id"], meta["action"], meta["flags"], meta["version"]) == (number, 2, 1, 1)
    assert (meta["l3_offset"], meta["l4_offset"]) == (18, 18 + 40 + 8)
    assert (meta["protocol"], meta["vlan_id"]) == (6, 12)


def test_counters_are_exact_on_every_cpu(judge):
    judge.rules(rule("r", **DENY_80), rule("never", dst_port=1, protocol="tcp"))
    before = judge.hits()
    frame, each = tcp4(dport=80), 500
    cpus = sorted(os.sched_getaffinity(0))

    def send(cpu):
        os.sched_setaffinity(0, {cpu})
        for _ in range(each):
            judge.kernel.run("xdp_root", frame)

    start = time.time_ns()
    threads = [threading.Thread(target=send, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    packets_before, bytes_before = before["r"]
    sent = each * len(cpus)
    assert judge.hits() == {
        "r": (packets_before + sent, bytes_before + sent * len(frame)),
        "never": (0, 0),
    }
    last = {view.id: view.last_hit_ns for view in judge.engine.items("rules")}
    assert last["never"] is None
    assert start <= last["r"] <= time.time_ns()


def test_counters_survive_a_reload_and_a_renumbering(judge):
    first, second = rule("first", **DENY_80), rule("second", dst_port=81, protocol="tcp")
    judge.rules(first, second)
    for _ in range(3):
        judge.judge(tcp4(dport=80))
    judge.judge(tcp4(dport=81))
    kept = judge.hits()
    judge.rules(rule("new", priority=1, dst_port=7, protocol="tcp"), second, first)
    assert judge.hits() == {**kept, "new": (0, 0)}
    judge.rules(rule("new", priority=1, dst_port=7, protocol="tcp"), first)
    judge.judge(tcp4(dport=80))
    assert judge.hits()["first"][0] == kept["first"][0] + 1
    memo = {"numbers": judge.engine._set.numbers}
    restarted = Judge(judge.kernel)
    restarted.engine.recall(memo)
    restarted.rules(first, rule("new", priority=1, dst_port=7, protocol="tcp"))
    assert restarted.hits()["first"][0] == kept["first"][0] + 1
    judge.rules(second)
    assert judge.hits() == {"second": (0, 0)}


def test_equal_protocol_and_port_keep_the_priority(judge):
    low = rule("deny", priority=10, **DENY_80)
    high = rule("allow", "allow", priority=20, dst_port=80, protocol="tcp")
    for order in ((low, high), (high, low)):
        judge.rules(*order)
        assert judge.by(tcp4(dport=80)) == "deny"
    five = rule(
        "five",
        "allow",
        20,
        src_ip="10.0.0.1",
        dst_ip="10.0.0.2",
        src_port=1234,
        dst_port=80,
        protocol="tcp",
    )
    judge.rules(five, low)
    assert judge.by(tcp4(dport=80)) == "deny"
    same = [rule("a", priority=5), rule("b", "allow", priority=5)]
    judge.rules(*same)
    assert judge.by(tcp4()) == "a"
    judge.rules(*reversed(same))
    assert judge.by(tcp4()) == "b"


def test_a_reload_never_shows_a_verdict_of_neither_generation(judge):
    padding = [rule(f"p{n}", dst_port=1000 + n, protocol="udp") for n in range(4000)]
    one = [*padding, rule("one", priority=20, **DENY_80)]
    two = [rule("two", priority=1, **DENY_80), *padding]
    judge.rules(*one)
    frames = [tcp4(dport=80), tcp6(dport=80)]
    codes, stop = [], threading.Event()

    def send():
        while not stop.is_set():
            codes.extend(judge.kernel.run("xdp_root", frame).retval for frame in frames)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(10):
            judge.rules(*two)
            judge.rules(*one)
    finally:
        stop.set()
        sender.join()
    assert len(codes) > 100
    assert set(codes) == {DROP}


def test_a_refused_rule_set_leaves_the_old_one_in_force(judge):
    judge.rules(rule("r", **DENY_80))
    many = [rule(f"m{n}", "allow", dst_port=n, protocol="tcp") for n in range(16385)]
    with pytest.raises(SettingsError, match="16385 rules"):
        judge.rules(*many)
    assert judge.by(tcp4(dport=80)) == "r"


def test_an_interface_rule_holds_on_that_interface_only(judge):
    judge.rules(
        rule("lan", scope="lan0", **DENY_80),
        rule("wan", priority=20, scope={"interface": "wan0"}, **DENY_80),
        interfaces=rulesets.INTERFACES,
    )
    for name, slot in {**rulesets.INTERFACES, "other": 0}.items():
        place_interface(judge.kernel, slot)
        found = judge.judge(tcp4(dport=80))
        if name == "other":
            assert found.code == PASS
        else:
            assert found.code == DROP
            assert judge.by(tcp4(dport=80)) == name.removesuffix("0")


def test_the_owner_stays_in(judge):
    judge.rules(rule("none", priority=1), lockout=AntiLockout())
    assert judge.judge(tcp4(dport=22)).code == PASS
    assert judge.judge(tcp6(dport=22)).code == PASS
    assert judge.judge(udp4(dport=22)).code == DROP
    assert judge.judge(tcp4(dport=23)).code == DROP
    assert judge.judge(tcp4(dport=22 + 64)).code == DROP  # the same bit of fw_head.first_ports
    judge.rules(lockout=AntiLockout(), policy="drop")
    assert judge.by(tcp4(dport=22)) == judge.by(tcp6(dport=22)) == "anti-lockout-22"
    assert judge.judge(tcp4(dport=86)).code == DROP


@pytest.mark.parametrize("others", [0, 8, 40])
def test_the_owner_stays_in_on_named_interfaces_however_many(judge, others):
    """Up to sixteen such rules are in the head, more of them in a bank."""
    slots = {"ours": 1} | {f"other{n}": n + 2 for n in range(others)}
    lockout = AntiLockout(interfaces=list(slots), ports=[22])
    for rules in ((), (rule("none", priority=1),)):
        judge.rules(*rules, lockout=lockout, interfaces=slots, policy="drop")
        place_interface(judge.kernel, 1)
        assert judge.by(tcp4(dport=22)) == "anti-lockout-ours-22"
        place_interface(judge.kernel, 60)
        assert judge.judge(tcp4(dport=22)).code == DROP
    place_interface(judge.kernel, 0)


def test_no_helper_failed(judge):
    assert set(judge.kernel.failures().values()) == {0}


@pytest.fixture
def one_cpu():
    """What a program remembers, each CPU remembers for itself."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("one_cpu")
def test_while_the_reader_is_behind_one_packet_in_many_is_told_and_all_are_counted(loaded, judge):
    judge.rules(rule("no", protocol="udp"))
    frame = udp4()
    before = events_ledger(loaded)
    loaded.run("xdp_root", frame, repeat=20_000)
    full = len(loaded.drain("fw_events"))
    assert 8192 < full < 16_384
    loaded.run("xdp_root", frame, repeat=25_600)
    evenly = len(loaded.drain("fw_events"))
    assert evenly == 100
    sent, told = 45_600, 0
    while told < 500:  # one in 256, until all are told again
        loaded.run("xdp_root", frame, repeat=500)
        told = len(loaded.drain("fw_events"))
        sent += 500
    after = events_ledger(loaded)
    assert after.seen - before.seen == sent
    assert after.seen == after.sent + sum(after.lost.values())
    assert after.sent == after.delivered


def events_ledger(kernel):
    return next(ledger for ledger in kernel.ledgers() if ledger.ring == "fw_events")


def test_a_bucket_with_borders_in_it_keeps_its_rules_apart(judge):
    """Neighbours share what is listed for their bucket, and each is still held against its own."""
    far = [rule(f"far-{n}", src_ip=f"{n}.0.0.0/8", dst_port=9) for n in range(1, 200)]
    near = [rule(f"near-{n}", src_ip=f"250.0.0.{n}", priority=20) for n in range(3)]
    near6 = [rule(f"six-{n}", src_ip=f"2001:db8::{n}", priority=20) for n in range(3)]
    far6 = [rule(f"six-far-{n}", src_ip=f"{n:x}00::/8", dst_port=9) for n in range(1, 200)]
    judge.rules(*far, *near, *far6, *near6)
    for n in range(3):
        assert judge.by(tcp4(src=f"250.0.0.{n}")) == f"near-{n}"
        assert judge.by(tcp6(src=f"2001:db8::{n}")) == f"six-{n}"
    for other in (tcp4(src="250.0.0.3"), tcp4(src="249.255.255.255"), tcp6(src="2001:db8::3")):
        assert judge.by(other) is None
