"""The compiler against the reference, in user space: the tables say what the rules say."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.engine import RuleSet
from ebpfsentinel.domains.firewall.record import MORE
from ebpfsentinel.domains.firewall.settings import (
    Alias,
    AliasType,
    AntiLockout,
    FirewallRule,
    FirewallSettings,
)
from ebpfsentinel.domains.firewall.tests import rulesets
from ebpfsentinel.domains.firewall.tests.evaluate import decided, decided_by_records
from ebpfsentinel.domains.firewall.tests.packets import Packet, number
from ebpfsentinel.domains.firewall.tests.reference import first_match
from ebpfsentinel.model.action import Switch
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError

AROUND = Surroundings(interfaces=rulesets.INTERFACES, now_ns=rulesets.NOW_S * 1_000_000_000)


def compiled(rules):
    """The banks by family, and the id of each rule by number."""
    engine = DOMAIN.engine(Tools(rules=None))
    wanted = FirewallSettings(rules=rules, anti_lockout=AntiLockout(enabled=False))
    plan = engine.plan(wanted, {}, AROUND)
    assert isinstance(plan.state, RuleSet)
    (switch,) = [action for action in plan.actions if isinstance(action, Switch)]
    banks = {4: [], 6: []}
    for place, bank in sorted(switch.places.items()):
        banks[6 if place >= 4 else 4].append(bank)
    return banks, {**plan.state.names, 0: None}


def check(rules, packets):
    tables, names = compiled(rules)
    for packet in packets:
        wanted = first_match(rules, packet, rulesets.NOW_S)
        slot = rulesets.INTERFACES.get(packet.interface, 0)
        for way in (decided, decided_by_records):
            found = names[way(tables[packet.family], packet, slot, rulesets.NOW_S)]
            assert found == (wanted and wanted.id), packet


def rule(rule_id, **fields):
    return FirewallRule(id=rule_id, priority=fields.pop("priority", 1), action="deny", **fields)


def packet(family=4, src="10.0.0.1", dst="10.0.0.2", protocol=6, ports=(1000, 80), **more):
    return Packet(family, number(src), number(dst), protocol, ports, **more)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=True), st.integers(0, 90))
def test_random_rules_and_packets(pick, count):
    rules, near = rulesets.ruleset(pick, count)
    places = [None, *rulesets.INTERFACES]
    check(rules, [rulesets.packet(pick, near, pick.choice(places)) for _ in range(60)])


@pytest.mark.parametrize(
    ("family", "text", "inside", "outside"),
    [
        (4, "0.0.0.0/0", ["0.0.0.0", "255.255.255.255", "10.1.2.3"], []),
        (4, "10.0.0.7/32", ["10.0.0.7"], ["10.0.0.6", "10.0.0.8"]),
        (4, "0.0.0.0/32", ["0.0.0.0"], ["0.0.0.1"]),
        (4, "255.255.255.255", ["255.255.255.255"], ["255.255.255.254"]),
        (4, "128.0.0.0/1", ["128.0.0.0", "255.255.255.255"], ["127.255.255.255"]),
        (6, "::/0", ["::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], []),
        (6, "2001:db8::7/128", ["2001:db8::7"], ["2001:db8::6", "2001:db8::8", "2001:db7::7"]),
        (6, "::/128", ["::"], ["::1", "1::"]),
        (6, "2001:db8:0:0:8000::/65", ["2001:db8:0:0:8000::"], ["2001:db8::7fff:0:0:0"]),
        (
            6,
            "2001:db8::/64",
            ["2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"],
            ["2001:db8:0:1::", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
    ],
)
@pytest.mark.parametrize("end", ["src", "dst"])
def test_the_borders_of_a_network(family, text, inside, outside, end):
    tables, names = compiled([rule("r", **{f"{end}_ip": text})])
    other = {"dst" if end == "src" else "src": "10.0.0.1" if family == 4 else "2001:db8::1"}
    for address in inside + outside:
        tried = packet(family, **{end: address}, **other)
        found = names[decided(tables[family], tried)]
        assert found == ("r" if address in inside else None), address


@pytest.mark.parametrize(
    ("ports", "inside", "outside"),
    [
        (0, [0], [1, 65535]),
        (65535, [65535], [65534, 0]),
        ("0-65535", [0, 1, 65535], []),
        ("80-443", [80, 443], [79, 444]),
        ({"start": 7, "end": 9}, [7, 8, 9], [6, 10]),
    ],
)
@pytest.mark.parametrize("end", ["src_port", "dst_port"])
def test_the_borders_of_a_port_range(ports, inside, outside, end):
    tables, names = compiled([rule("r", protocol="tcp", **{end: ports})])
    for port in inside + outside:
        tried = packet(ports=(port, 5) if end == "src_port" else (5, port))
        assert names[decided(tables[4], tried)] == ("r" if port in inside else None)
    assert names[decided(tables[4], packet(ports=None))] is None


def test_nested_networks_and_equal_priorities():
    rules = [
        rule("wide", src_ip="10.0.0.0/8", priority=30),
        rule("narrow", src_ip="10.1.0.0/16", priority=20),
        rule("host", src_ip="10.1.2.3", priority=10),
        rule("tie-first", src_ip="10.1.2.4", priority=10),
        rule("tie-second", src_ip="10.1.2.4", priority=10),
    ]
    tables, names = compiled(rules)
    for src, wanted in [
        ("10.9.9.9", "wide"),
        ("10.1.9.9", "narrow"),
        ("10.1.2.3", "host"),
        ("10.1.2.4", "tie-first"),
        ("11.0.0.0", None),
    ]:
        assert names[decided(tables[4], packet(src=src))] == wanted
    tables, names = compiled([rule("all", priority=5), *rules])
    assert names[decided(tables[4], packet(src="10.1.2.3"))] == "all"


def spread(family, count):
    """Rules no two of which have a border in common: the most rows there can be."""
    step = 8 << (0 if family == 4 else 90)
    base = number("10.0.0.0" if family == 4 else "2001:db8::")
    text = rulesets.ipaddress.IPv4Address if family == 4 else rulesets.ipaddress.IPv6Address
    bits = rulesets.BITS[family]
    return [
        rule(
            f"v{family}-{n}",
            priority=n + 1,
            protocol="tcp" if n % 2 else "udp",
            src_ip=f"{text(base + n * step)}/{bits - 1}",
            dst_ip=f"{text(base + n * step + step // 2)}/{bits}",
            src_port=f"{2 + n * 8 % 65536}-{4 + n * 8 % 65536}",
            dst_port=f"{3 + n * 8 % 65536}-{5 + n * 8 % 65536}",
            vlan_id=n % 4095,
        )
        for n in range(count)
    ]


def test_4096_rules_of_each_family_that_share_nothing():
    rules = spread(4, 4096) + spread(6, 4096)
    tables, names = compiled(rules)
    for index in (0, 1, 63, 64, 4000, 4095):
        for family in (4, 6):
            n = index + (4096 if family == 6 else 0)
            wanted = rules[n]
            src = int(rulesets.ipaddress.ip_network(wanted.src_ip)[1])
            dst = int(rulesets.ipaddress.ip_network(wanted.dst_ip)[0])
            port = 3 + index * 8
            tried = Packet(family, src, dst, 6 if index % 2 else 17, (port, port), index % 4095)
            assert names[decided(tables[family], tried)] == wanted.id
            missed = Packet(family, src, dst + 1, tried.protocol, (port, port), index % 4095)
            assert names[decided(tables[family], missed)] is None


def test_rules_fill_bank_after_bank():
    rules = spread(4, 4096 * 2 + 1)
    tables, names = compiled(rules)
    assert len(tables[4]) == 3
    for n in (0, 4095, 4096, 8191, 8192):
        src = int(rulesets.ipaddress.ip_network(rules[n].src_ip)[1])
        dst = int(rulesets.ipaddress.ip_network(rules[n].dst_ip)[0])
        port = 3 + n * 8 % 65536
        tried = Packet(4, src, dst, 6 if n % 2 else 17, (port, port), n % 4095)
        assert names[decided(tables[4], tried)] == rules[n].id


def test_one_rule_too_many_is_refused():
    rules = [rule(f"r{n}", dst_port=n, protocol="tcp") for n in range(16385)]
    with pytest.raises(SettingsError, match="16385 rules for IPv4; 16384 is the most") as raised:
        compiled(rules)
    assert "Join neighbouring CIDRs" in str(raised.value)
    compiled([*rules[:16384], rule("off", enabled=False)])


def test_too_many_borders_are_refused():
    """Two groups of 20,000 addresses, no two of them next to each other."""
    groups = {
        end: Alias(
            type=AliasType.IP_SET,
            values=[str(rulesets.ipaddress.IPv4Address(base + n * 2)) for n in range(20_000)],
        )
        for end, base in (("here", 0x0A000000), ("there", 0x0B000000))
    }
    wanted = FirewallSettings(
        aliases=groups, rules=[rule("r", src_alias="here", dst_alias="there")]
    )
    with pytest.raises(SettingsError, match="differ in too many places"):
        DOMAIN.engine(Tools(rules=None)).plan(wanted, {}, AROUND)
    wanted.rules = [rule("r", src_alias="here")]
    DOMAIN.engine(Tools(rules=None)).plan(wanted, {}, AROUND)


def test_equal_rule_sets_give_equal_tables():
    pick = random.Random(3)
    rules, _ = rulesets.ruleset(pick, 300)
    first, _ = compiled(rules)
    second, _ = compiled(rules)
    for family in (4, 6):
        for one, other in zip(first[family], second[family], strict=True):
            assert np.array_equal(one.view("u1"), other.view("u1"))


@pytest.mark.parametrize("fragment", [None, "none", "first", "later", "any"])
@pytest.mark.parametrize("dscp", [None, 0, 46])
def test_a_record_says_all_of_fragment_and_dscp(fragment, dscp):
    """So that such a rule is checked by itself, and not by the bitmaps of all."""
    asked = {"fragment": fragment, "dscp_match": dscp}
    (bank,) = compiled([rule("r", dst_ip="10.0.0.2", **asked)])[0][4]
    assert not bank["rules"]["asks"][0, 0] & MORE
