"""Shadowed rules: held against every packet of a small world, and in time for 4,096 rules."""

import itertools
import random
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.firewall.conditions import DIMENSIONS, Conditions, conditions_of
from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.shadowing import find_shadows

WORLD = {
    "src": range(6),
    "src_port": (-1, 0, 1, 2, 3),
    "dst_port": (-1, 0, 1, 2, 3),
    "vlan_id": (0, 1),
}
"""Beyond it every dimension goes on as in its last value."""
ENDS = {"src": (1 << 32) - 1, "src_port": 65535, "dst_port": 65535, "vlan_id": 4095}


def rule(name, **written):
    return msgspec.convert({"id": name, "priority": 1, "action": "deny", **written}, FirewallRule)


def by(*rules):
    found = find_shadows([conditions_of(each) for each in rules])
    assert not found.undecided
    return {each.id: each.by for each in found.shadowed}


def test_one_rule_covers():
    assert by(
        rule("net", src_ip="10.0.0.0/8"),
        rule("host", src_ip="10.1.2.3", dst_port=80),
        rule("other", src_ip="11.0.0.1"),
    ) == {"host": ("net",)}


def test_several_rules_cover_together():
    assert by(
        rule("low", src_ip="10.0.0.0/9"),
        rule("no-use", src_ip="192.0.2.0/24"),
        rule("high", src_ip="10.128.0.0/9"),
        rule("net", src_ip="10.0.0.0/8", protocol="tcp"),
    ) == {"net": ("low", "high")}
    assert by(rule("a", protocol="tcp"), rule("b", protocol="udp"), rule("c")) == {}


def test_a_rule_with_ports_does_not_cover_packets_without():
    assert by(rule("ports", dst_port="0-65535"), rule("any")) == {}
    covered = {"tcp": ("ports",)}
    assert by(rule("ports", dst_port="0-65535"), rule("tcp", protocol="tcp", src_port=1)) == covered


def test_both_families_must_be_covered():
    four, six = rule("four", src_ip="0.0.0.0/0"), rule("six", src_ip="::/0")
    assert by(four, rule("any")) == {}
    assert by(four, six, rule("any")) == {"any": ("four", "six")}


def test_what_is_not_understood_covers_only_its_like():
    lo = rule("lo", scope="lo")
    assert by(lo, rule("all")) == {}
    assert by(lo, rule("same", scope="lo", dst_port=1)) == {"same": ("lo",)}
    assert by(rule("all"), lo) == {"lo": ("all",)}
    narrow = Conditions("narrow", (4,), {}, frozenset({("new_field", "1")}))
    more = Conditions("more", (4,), {}, frozenset({("new_field", "1"), ("other", "2")}))
    wide = Conditions("wide", (4,))
    assert find_shadows([narrow, wide]).shadowed == ()
    assert [each.id for each in find_shadows([narrow, more]).shadowed] == ["more"]


def test_what_lapses_covers_nothing():
    lapses = Conditions("lapses", (4, 6), lapses=True)
    assert find_shadows([lapses, Conditions("any", (4, 6))]).shadowed == ()
    assert len(find_shadows([Conditions("any", (4, 6)), lapses]).shadowed) == 1


@st.composite
def small_rules(draw):
    ranges = {}
    for name in draw(st.sets(st.sampled_from(sorted(WORLD)))):
        low, high = sorted(draw(st.tuples(*[st.sampled_from(WORLD[name])] * 2)))
        ranges[name] = (low, ENDS[name] if high == WORLD[name][-1] else high)
    opaque = draw(st.sampled_from([frozenset()] * 4 + [frozenset({("x", "1")})]))
    return ranges, opaque


@settings(max_examples=300, deadline=None)
@given(st.lists(small_rules(), min_size=1, max_size=9))
def test_every_claim_is_true_and_none_is_missed(world):
    rules = [Conditions(str(at), (4,), ranges, opaque) for at, (ranges, opaque) in enumerate(world)]
    claimed = {each.id for each in find_shadows(rules).shadowed}
    alive = set()
    for values in itertools.product(*WORLD.values()):
        point = dict(zip(WORLD, values, strict=True))
        for asks in (frozenset(), frozenset({("x", "1")})):
            first = next(
                (
                    each.id
                    for each in rules
                    if each.opaque <= asks
                    and all(low <= point[d] <= high for d, (low, high) in each.ranges.items())
                ),
                None,
            )
            alive.add(first)
    assert not claimed & alive
    assert claimed == {each.id for each in rules} - alive
    assert set(WORLD) <= set(DIMENSIONS)


@pytest.mark.parametrize("overlap", [False, True])
def test_four_thousand_rules_take_seconds(overlap):
    pick = random.Random(5)
    rules = []
    for number in range(4096):
        octets = f"10.{pick.randrange(256)}.{pick.randrange(256)}.0"
        low = pick.randrange(60_000)
        rules.append(
            rule(
                f"r{number}",
                src_ip=f"10.{pick.randrange(256)}.0.0/16" if overlap else f"{octets}/24",
                dst_port=f"{low}-{low + pick.randrange(5000 if overlap else 20)}",
                protocol=pick.choice(["any", "tcp", "udp"]),
            )
        )
    rules[4000] = rule("covered", src_ip=rules[7].src_ip, dst_port=rules[7].dst_port, vlan_id=3)
    rules[4000].protocol = rules[7].protocol
    began = time.monotonic()
    found = find_shadows([conditions_of(each) for each in rules])
    assert time.monotonic() - began < 15
    assert "covered" in {each.id for each in found.shadowed}
