"""Every match field of the contract, in the kernel: the packets it means, and their neighbours."""

import os
import time

import msgspec
import pytest

from ebpfsentinel.domains.firewall.settings import Alias, Schedule
from ebpfsentinel.domains.firewall.tests.judge import DROP, PASS, rule
from ebpfsentinel.domains.firewall.tests.packets import (
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    Raw,
    ether,
    tcp4,
    tcp6,
    udp4,
)
from ebpfsentinel.domains.firewall.tests.property_run import place_interface
from ebpfsentinel.model.settings import moment_text

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

V4, V6 = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
NS = 1_000_000_000


def ip4(payload, **fields):
    return ether(IP(**V4, **fields) / payload)


def ip6(payload, **fields):
    return ether(IPv6(**V6, **fields) / payload)


FIRST4 = ip4(TCP(sport=1, dport=80, flags="S"), flags="MF")
LATER4 = ip4(Raw(b"\x00\x01\x00\x50" + bytes(16)), frag=2, proto=6)
FIRST6 = ether(IPv6(**V6) / IPv6ExtHdrFragment(m=1, nh=6) / TCP(dport=80, flags="S"))
LATER6 = ether(
    IPv6(**V6) / IPv6ExtHdrFragment(offset=2, nh=6) / Raw(b"\x00\x01\x00\x50" + bytes(16))
)
DOUBLE = (Dot1AD(vlan=10), Dot1Q(vlan=20))

CASES = {
    "a VLAN": ({"vlan_id": 7}, [tcp4(tags=[Dot1Q(vlan=7)])], [tcp4(), tcp4(tags=[Dot1Q(vlan=8)])]),
    "untagged": ({"vlan_id": 0}, [tcp4(), tcp6()], [tcp4(tags=[Dot1Q(vlan=7)])]),
    "QinQ": (
        {"vlan_id": 10, "inner_vlan_id": 20},
        [tcp4(tags=DOUBLE), tcp6(tags=DOUBLE)],
        [tcp4(tags=[Dot1Q(vlan=10)]), tcp4(tags=(Dot1AD(vlan=20), Dot1Q(vlan=10)))],
    ),
    "no inner tag": (
        {"inner_vlan_id": 0},
        [tcp4(), tcp4(tags=[Dot1Q(vlan=1)])],
        [tcp4(tags=DOUBLE)],
    ),
    "a source MAC": ({"src_mac": "02:00:00:00:00:01"}, [tcp4(), tcp6()], []),
    "another source MAC": ({"src_mac": "02:00:00:00:00:ff"}, [], [tcp4(), tcp6()]),
    "a destination MAC": ({"dst_mac": "02-00-00-00-00-FF"}, [tcp4(), tcp4(tags=DOUBLE)], []),
    "pings": (
        {"protocol": "icmp", "icmp_type": 8},
        [ip4(ICMP(type=8)), ip4(ICMP(type=8, code=3))],
        [ip4(ICMP(type=0)), tcp4(), ip6(ICMPv6EchoRequest())],
    ),
    "pings of IPv6": (
        {"protocol": "icmpv6", "icmp_type": 128, "icmp_code": 0},
        [ip6(ICMPv6EchoRequest())],
        [ip6(ICMPv6EchoRequest(code=1)), ip4(ICMP(type=8))],
    ),
    "unreachable ports": (
        {"protocol": "icmp", "icmp_type": 3, "icmp_code": 3},
        [ip4(ICMP(type=3, code=3))],
        [ip4(ICMP(type=3, code=1)), ip4(ICMP(type=8, code=3))],
    ),
    "SYN without ACK": (
        {"protocol": "tcp", "flags": "S/SA"},
        [tcp4(flags="S"), tcp4(flags="SF"), FIRST4, FIRST6],
        [tcp4(flags="SA"), tcp4(flags="A"), udp4(), LATER4, LATER6],
    ),
    "no flag at all": (
        {"protocol": "tcp", "flags": "/FSRPAU"},
        [tcp4(flags="")],
        [tcp4(flags="S"), tcp4(flags="R")],
    ),
    "a DSCP": (
        {"dscp_match": 46},
        [ip4(TCP(), tos=46 << 2), ip4(TCP(), tos=46 << 2 | 3), ip6(TCP(), tc=46 << 2)],
        [tcp4(), ip4(TCP(), tos=45 << 2), ip6(TCP(), tc=46)],
    ),
    "whole packets": ({"fragment": "none"}, [tcp4(), tcp6()], [FIRST4, LATER4, FIRST6, LATER6]),
    "first fragments": ({"fragment": "first"}, [FIRST4, FIRST6], [tcp4(), tcp6(), LATER4, LATER6]),
    "later fragments": ({"fragment": "later"}, [LATER4, LATER6], [tcp4(), tcp6(), FIRST4, FIRST6]),
    "any fragment": (
        {"fragment": "any"},
        [FIRST4, LATER4, FIRST6, LATER6],
        [tcp4(), tcp6()],
    ),
    "W42: a later fragment has no ports": (
        {"protocol": "tcp", "dst_port": 80},
        [FIRST4, FIRST6, tcp4(dport=80)],
        [LATER4, LATER6],
    ),
    "W52: eight bytes of TCP are enough for a port": (
        {"protocol": "tcp", "dst_port": 80},
        [ip4(Raw(b"\x00\x01\x00\x50\x00\x00\x00\x00"), flags="MF", proto=6)],
        [],
    ),
    "ports behind extension headers": (
        {"protocol": "udp", "dst_port": 53},
        [ether(IPv6(**V6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(dport=53))],
        [ether(IPv6(**V6) / IPv6ExtHdrHopByHop() / UDP(dport=54))],
    ),
    "all sources but one": (
        {"src_ip": "10.0.0.1", "negate_source": True},
        [tcp4(src="10.0.0.3"), tcp4(src="0.0.0.0"), tcp4(src="255.255.255.255")],
        [tcp4(), tcp6()],
    ),
    "W2: a rule without an address is of both families": (
        {"protocol": "tcp", "dst_port": 80},
        [tcp4(dport=80), tcp6(dport=80)],
        [tcp4(dport=81), tcp6(dport=81)],
    ),
}


@pytest.mark.parametrize("fields, hits, misses", CASES.values(), ids=CASES)  # noqa: PT006
@pytest.mark.parametrize("among", [0, 60])
def test_what_a_condition_means(judge, fields, hits, misses, among):
    """Alone, and among rules that send the classifier another way."""
    others = [
        rule(f"o{n}", "log", 5, protocol="tcp", dst_port=2000 + n, src_port=n) for n in range(among)
    ]
    judge.rules(rule(**fields), *others)
    assert [judge.judge(frame).code for frame in hits] == [DROP] * len(hits)
    assert [judge.judge(frame).code for frame in misses] == [PASS] * len(misses)


def test_w52_what_cannot_be_parsed_is_the_default_policys(judge):
    """Three tags, and an ethertype that nobody knows, do not slip past a default drop."""
    judge.rules(policy="drop")
    tags = [Dot1AD(vlan=1), Dot1Q(vlan=2), Dot1Q(vlan=3)]
    unknown = bytes.fromhex("0200000000ff020000000001") + b"\x12\x34" + bytes(46)
    assert [judge.judge(f).code for f in (tcp4(tags=tags), unknown)] == [DROP, DROP]


def test_w49_of_two_rules_for_one_port_the_better_priority_wins(judge):
    judge.rules(
        rule("late", "allow", 20, protocol="tcp", dst_port=80),
        rule("early", "deny", 10, protocol="tcp", dst_port=80),
        rule("exact", "allow", 30, protocol="tcp", src_ip=V4["src"], src_port=1234, dst_port=80),
    )
    assert judge.judge(tcp4(dport=80)).code == DROP
    assert judge.by(tcp4(dport=80)) == "early"


def test_groups_of_addresses_and_ports(judge):
    aliases = {
        "bad": {"type": "ip_set", "values": ["10.0.0.0/31", "192.0.2.7", "2001:db8::/64"]},
        "web": {"type": "port_set", "values": [80, 443]},
        "unused": {"type": "ip_set", "values": ["0.0.0.0/0", "::/0"]},
    }
    judge.rules(
        rule(protocol="tcp", src_alias="bad", dst_port_alias="web"),
        aliases={name: msgspec.convert(alias, Alias) for name, alias in aliases.items()},
    )
    denied = [tcp4(), tcp4(dport=443), tcp4(src="192.0.2.7"), tcp6()]
    passed = [tcp4(dport=81), tcp4(src="10.0.0.2"), tcp4(src="192.0.2.8"), udp4(dport=80)]
    assert [judge.judge(frame).code for frame in denied] == [DROP] * 4
    # W18: a group that no rule names drops nothing
    assert [judge.judge(frame).code for frame in passed] == [PASS] * 4


def test_a_rule_whose_group_is_not_known_yet_matches_nothing(judge):
    alias = msgspec.convert({"type": "dynamic_dns", "values": ["nowhere.test"]}, Alias)
    for more in ({}, {"negate_source": True}):
        judge.rules(rule(src_alias="named", **more), aliases={"named": alias})
        assert judge.judge(tcp4()).code == PASS
    assert judge.engine.status()["unresolved"] == ["nowhere.test"]


def wall_offset_ns():
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_rule_lapses_in_the_kernel_with_nobody_there_to_take_it_out(judge):
    """Nothing is done between the two verdicts but waiting for the packet's to change."""
    over_s = time.time_ns() // NS + 2
    judge.rules(rule(expires_at=moment_text(over_s * NS)), boot_offset_ns=wall_offset_ns())
    frame = tcp4()
    assert judge.judge(frame).code == DROP
    deadline = time.monotonic() + 10
    while judge.quick(frame)[0] == DROP and time.monotonic() < deadline:
        assert time.time() < over_s + 1.1
    assert judge.quick(frame)[0] == PASS
    assert time.time() >= over_s - 1


def test_a_schedule_is_in_the_tables(judge):
    now = time.localtime()
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    written = {
        "today": {"entries": [{"days": [days[now.tm_wday]]}]},
        "another day": {"entries": [{"days": [days[(now.tm_wday + 3) % 7]]}]},
    }
    schedules = {name: msgspec.convert(body, Schedule) for name, body in written.items()}
    offset_ns = wall_offset_ns()
    for name, code in (("today", DROP), ("another day", PASS)):
        judge.rules(
            rule(schedule=name),
            schedules=schedules,
            boot_offset_ns=offset_ns,
            utc_offset_s=now.tm_gmtoff,
        )
        assert judge.judge(tcp4()).code == code


def test_w37_a_rule_holds_on_its_interface_only(judge):
    for slot, code in ((1, DROP), (2, PASS)):
        place_interface(judge.kernel, slot)
        judge.rules(rule(scope="lan0"), interfaces={"lan0": 1, "wan0": 2})
        assert judge.judge(tcp4()).code == code


def test_a_namespace_stands_for_the_interfaces_that_lead_there(judge):
    around = {"namespaces": {"web": ("lan0", "wan0"), "idle": ()}}
    slots = {"lan0": 1, "wan0": 2, "eth0": 3}
    for slot, code in ((1, DROP), (2, DROP), (3, PASS)):
        place_interface(judge.kernel, slot)
        judge.rules(rule(scope={"namespace": "web"}), interfaces=slots, around=around)
        assert judge.judge(tcp4()).code == code
    judge.rules(rule(scope={"namespace": "idle"}), interfaces=slots, around=around)
    assert judge.judge(tcp4()).code == PASS
