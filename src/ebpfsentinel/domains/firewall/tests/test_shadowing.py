"""Shadowed rules: held against every packet of a small world, and in time for 4,096 rules."""

import itertools
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.firewall.compile import NOTHING
from ebpfsentinel.domains.firewall.conditions import DIMENSIONS, Conditions, conditions_of
from ebpfsentinel.domains.firewall.events import FwField
from ebpfsentinel.domains.firewall.groups import joined
from ebpfsentinel.domains.firewall.ranking import Checker
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.domains.firewall.shadowing import find_shadows
from ebpfsentinel.model.domain import Surroundings

WIDEST = (1 << 48) - 1
WORLD = {
    FwField.FW_SRC_ADDR: range(6),
    FwField.FW_SRC_PORT: range(4),
    FwField.FW_DST_PORT: range(4),
    FwField.FW_VLAN: range(2),
}
"""Beyond it every field goes on as in its last value."""
PORTS = (FwField.FW_SRC_PORT, FwField.FW_DST_PORT)
ENDS = dict.fromkeys(WORLD, WIDEST) | dict.fromkeys(PORTS, 0xFFFF)
ENDS[FwField.FW_SRC_ADDR] = (1 << 32) - 1


def points():
    """Every packet of the small world; one without ports has neither."""
    for values in itertools.product(*WORLD.values()):
        point = dict(zip(WORLD, values, strict=True))
        yield point
        yield point | dict.fromkeys(PORTS, NOTHING)


def rule(name, **written):
    return msgspec.convert({"id": name, "priority": 1, "action": "deny", **written}, FirewallRule)


def checked(*rules, aliases=None):
    settings = msgspec.convert({"aliases": aliases or {}}, FirewallSettings)
    around = Surroundings(interfaces={"lo": 1, "eth0": 2}, addresses={"a.example": ("10.0.0.1",)})
    found = Checker(settings, around).check_all([(each, each.id, "config") for each in rules])
    return [conditions_of(each, settings.aliases) for each in found]


def by(*rules, aliases=None):
    found = find_shadows(checked(*rules, aliases=aliases))
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


def test_a_scope_covers_only_what_comes_in_there():
    lo = rule("lo", scope="lo")
    assert by(lo, rule("all")) == {}
    assert by(lo, rule("same", scope="lo", dst_port=1)) == {"same": ("lo",)}
    assert by(rule("all"), lo) == {"lo": ("all",)}


def test_all_fields_of_rules_count():
    wide = rule("wide", protocol="tcp", flags="S/S", src_mac="00:11:22:33:44:55")
    assert by(wide, rule("less", protocol="tcp", flags="S/SA")) == {}
    narrow = {"protocol": "tcp", "flags": "S/SA", "src_mac": "00-11-22-33-44-55", "dscp_match": 1}
    assert by(wide, rule("narrow", **narrow)) == {"narrow": ("wide",)}
    assert by(rule("later", fragment="any"), rule("ports", fragment="later", vlan_id=3)) == {
        "ports": ("later",)
    }


def test_negations_and_groups_are_what_they_stand_for():
    others = rule("others", src_ip="10.0.0.0/8", negate_source=True)
    assert by(others, rule("outside", src_ip="11.0.0.0/8")) == {"outside": ("others",)}
    assert by(others, rule("inside", src_ip="10.1.0.0/16")) == {}
    inside = rule("inside", src_ip="10.0.0.0/8")
    assert by(others, inside, rule("all4", src_ip="0.0.0.0/0")) == {"all4": ("others", "inside")}
    aliases = {
        "nets": {"type": "ip_set", "values": ["10.0.0.0/8", "192.0.2.0/24"]},
        "name": {"type": "dynamic_dns", "values": ["a.example"]},
        "both": {"type": "nested", "values": ["nets", "name"]},
    }
    nets = rule("nets", src_alias="nets")
    assert by(nets, rule("host", src_ip="192.0.2.9"), aliases=aliases) == {"host": ("nets",)}
    assert by(rule("name", src_alias="both"), rule("ten", src_ip="10.0.0.1"), aliases=aliases) == {}
    assert by(rule("all"), rule("name", src_alias="name"), aliases=aliases) == {}


def test_a_schedule_covers_only_its_like():
    one, two = Conditions("one", {4: {}}, schedule="day"), Conditions("two", {4: {}})
    assert find_shadows([one, two]).shadowed == ()
    assert len(find_shadows([two, one]).shadowed) == 1
    three = Conditions("three", {4: {FwField.FW_VLAN: ((1, 1),)}}, schedule="day")
    assert len(find_shadows([one, three]).shadowed) == 1


def test_what_lapses_covers_nothing():
    lapses = Conditions("lapses", {4: {}, 6: {}}, lapses=True)
    lasts = Conditions("any", {4: {}, 6: {}})
    assert find_shadows([lapses, lasts]).shadowed == ()
    assert len(find_shadows([lasts, lapses]).shadowed) == 1


@st.composite
def small_rules(draw):
    asks = {}
    for name in draw(st.sets(st.sampled_from(sorted(WORLD)))):
        values = draw(st.sets(st.sampled_from(WORLD[name]), min_size=1))
        last = WORLD[name][-1]
        asks[name] = joined((v, ENDS[name] if v == last else v) for v in sorted(values))
    return asks, draw(st.sampled_from(["", "", "", "day"]))


@settings(max_examples=300, deadline=None)
@given(st.lists(small_rules(), min_size=1, max_size=8))
def test_every_claim_is_true_and_none_is_missed(world):
    rules = [
        Conditions(str(at), {4: asks}, schedule=schedule)
        for at, (asks, schedule) in enumerate(world)
    ]
    claimed = {each.id for each in find_shadows(rules).shadowed}
    alive = set()
    for point in points():
        for day in (False, True):
            first = next(
                (
                    each.id
                    for each in rules
                    if (day or not each.schedule)
                    and all(
                        any(low <= point[name] <= high for low, high in ranges)
                        for name, ranges in each.asks[4].items()
                    )
                ),
                None,
            )
            alive.add(first)
    assert not claimed & alive
    assert claimed == {each.id for each in rules} - alive
    assert set(WORLD) <= set(DIMENSIONS)


@pytest.mark.parametrize("overlap", [False, True])
def test_what_is_covered_is_found_among_four_thousand_rules(overlap):
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
    conditions = checked(*rules)
    found = find_shadows(conditions)
    assert "covered" in {each.id for each in found.shadowed}
