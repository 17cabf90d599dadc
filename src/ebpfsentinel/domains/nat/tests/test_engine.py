"""The pure half: what is taken and refused, which numbers and rows it becomes, what is told."""

import ipaddress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.events import NAT_COUNT, NAT_EVENT
from ebpfsentinel.domains.nat.host import legacy_rules, nft_rules
from ebpfsentinel.domains.nat.settings import NatRule, NatSettings, PrefixRule
from ebpfsentinel.domains.nat.tables import adjustment
from ebpfsentinel.model.action import MapDelete, Swap
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError

AROUND = Surroundings(interfaces={"wan": 1, "lan": 2}, secret=b"s", now_ns=10**18)
SNAT = {"id": "s", "type": "snat", "translated_addr": "192.0.2.1"}
DNAT = {"id": "d", "type": "dnat", "dst": "192.0.2.1", "translated_addr": "10.0.0.1"}
PREFIX = {"id": "p", "internal_prefix": "fd00::/48", "external_prefix": "2001:db8::/48"}


def engine():
    return DOMAIN.engine(Tools(rules=None))


def settings(**fields):
    return msgspec.convert({"enabled": True, **fields}, NatSettings)


def planned(made, runtime=None, around=AROUND, **fields):
    plan = made.plan(settings(**fields), runtime or {}, around)
    made.commit(plan)
    return plan


def generation(plan):
    return next(each.value for each in plan.actions if isinstance(each, Swap))[0]


@pytest.mark.parametrize(
    ("fields", "place", "word"),
    [
        ({"snat_rules": [{**SNAT, "translated_addr": None}]}, "snat_rules[0]", "needs it"),
        ({"snat_rules": [DNAT]}, "snat_rules[0].type", "does not belong"),
        ({"snat_rules": [{**SNAT, "ext_port": 4}]}, "ext_port", "no such key"),
        ({"snat_rules": [{"id": "m", "type": "masquerade"}]}, "interface", "needs it"),
        ({"snat_rules": [{**SNAT, "interface": "wam"}]}, "interface", "'wan'"),
        ({"snat_rules": [{**SNAT, "src": "fd00::/8"}]}, "snat_rules[0]", "IPv4 and IPv6"),
        ({"snat_rules": [{**SNAT, "src": "10.0.0.1/8"}]}, "src", "10.0.0.0/8"),
        ({"snat_rules": [{**SNAT, "translated_addr": "10.0.0.0/8"}]}, "translated_addr", "network"),
        ({"snat_rules": [SNAT, SNAT]}, "snat_rules[1].id", "too"),
        ({"snat_rules": [{**SNAT, "id": "hairpin"}]}, "id", "nat.hairpin"),
        ({"snat_rules": [{**SNAT, "dst_port": 5, "protocol": "icmp"}]}, "dst_port", "no ports"),
        ({"dnat_rules": [{**DNAT, "translated_port": 0}]}, "translated_port", "nobody's"),
        ({"dnat_rules": [{"id": "f", "type": "port_forward", "ext_port": "1-5",
                          "internal_addr": "10.0.0.1", "int_port": "1-4"}]}, "int_port", "5 ports"),
        ({"dnat_rules": [{"id": "o", "type": "one_to_one", "external": "192.0.2.0/24",
                          "internal": "10.0.0.0/25"}]}, "dnat_rules[0]", "size"),
        ({"nptv6_rules": [{**PREFIX, "external_prefix": "2001:db8::/40"}]}, "nptv6", "48 and 40"),
        ({"nptv6_rules": [{**PREFIX, "internal_prefix": "10.0.0.0/8"}]}, "internal_prefix", "IPv4"),
        ({"nptv6_rules": [{**PREFIX, "internal_prefix": "fd00::/65"}]}, "internal_prefix", "65"),
        ({"nptv6_rules": [PREFIX, {**PREFIX, "id": "q"}]}, "nptv6 rule q", "overlaps"),
        ({"hairpin": {"enabled": True}}, "hairpin.internal_subnet", "needed"),
        ({"hairpin": {"enabled": True, "internal_subnet": "10.0.0.0/8", "hairpin_snat_ip": "::1"}},
         "hairpin_snat_ip", "family"),
        ({"snat_rules": [{**SNAT, "id": f"s{n}"} for n in range(257)]}, "snat_rules", "257"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_its_place(fields, place, word):
    with pytest.raises(SettingsError) as refused:
        planned(engine(), **fields)
    assert place in refused.value.place
    assert word in str(refused.value)


def test_rules_are_asked_by_priority_and_then_as_written():
    rules = [{**SNAT, "id": name, "priority": p} for name, p in (("c", 200), ("a", 9), ("b", 9))]
    made = engine()
    row = generation(planned(made, snat_rules=rules))
    assert [each.id for each in made.items("rules")] == ["a", "b", "c"]
    numbers = row["source"]["number"][:3].tolist()
    assert [made.name(number) for number in numbers] == ["a", "b", "c"]
    assert row["source_count"] == 3


def test_a_rule_that_means_the_same_keeps_its_number_and_counters():
    made = engine()
    first = generation(planned(made, snat_rules=[SNAT]))["source"]["number"][0]
    added = planned(made, {"rules": [msgspec.convert(DNAT, NatRule)]}, snat_rules=[SNAT])
    assert generation(added)["source"]["number"][0] == first
    (fresh,) = [each for each in added.actions if isinstance(each, MapDelete)]
    assert first not in fresh.keys
    changed = planned(made, snat_rules=[{**SNAT, "translated_addr": "192.0.2.9"}])
    assert generation(changed)["source"]["number"][0] != first
    assert made.name(int(first)) == "s"


def test_the_memo_brings_numbers_and_the_secret_back():
    made, again = engine(), engine()
    plan = planned(made, snat_rules=[SNAT])
    again.recall(msgspec.json.decode(msgspec.json.encode(plan.memo)))
    other = planned(
        again, around=Surroundings(interfaces={"wan": 1}, secret=b"t"), snat_rules=[SNAT]
    )
    heads = [each.actions[-1].values["hash_keys"] for each in (plan, other)]
    assert np.array_equal(*heads)
    assert other.memo["numbers"] == plan.memo["numbers"]


def test_interfaces_are_judged_since_they_first_had_rules():
    made, slots = engine(), {"wan": 1, "lan": 2, "dmz": 3}

    def since(now_ns, **fields):
        around = Surroundings(interfaces=slots, now_ns=now_ns)
        (head,) = planned(made, around=around, **fields).actions[-1].values
        return head["judged_since_ns"][1:4].tolist()

    wan, lan = {**SNAT, "interface": "wan"}, {**DNAT, "interface": "lan"}
    assert since(100) == [0, 0, 0]
    assert since(200, snat_rules=[wan]) == [200, 0, 0]
    assert since(300, snat_rules=[wan], dnat_rules=[lan]) == [200, 300, 0]
    assert since(400, dnat_rules=[lan]) == [0, 300, 0]
    assert since(500, snat_rules=[SNAT]) == [500, 300, 500]
    assert since(450, snat_rules=[SNAT]) == [450, 300, 450], "of an earlier boot"


def test_masquerades_are_looked_at_again_when_an_address_changes():
    made = engine()

    def serial(*addresses):
        around = Surroundings(interfaces=AROUND.interfaces, own_addresses={"wan": addresses})
        return int(planned(made, around=around).actions[-1].values["masquerade"][0])

    first = serial("192.0.2.1")
    assert serial("192.0.2.1") == first
    assert serial("192.0.2.2", "2001:db8::1") == first + 1


@given(st.integers(1, 64), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_an_adjustment_and_its_opposite_are_nothing(bits, one, other):
    inside, outside = (
        ipaddress.ip_network((value >> 64 - bits << 128 - bits, bits)) for value in (one, other)
    )
    total = adjustment(inside, outside) + adjustment(outside, inside)
    assert (total & 0xFFFF) + (total >> 16) in (0, 0xFFFF)


def test_the_rfcs_example_of_an_adjustment():
    inside = ipaddress.ip_network("fd01:203:405::/48")
    assert adjustment(inside, ipaddress.ip_network("2001:db8:1::/48")) == 0xD54F


def test_nptv6_rules_of_two_interfaces_may_overlap():
    other = {**PREFIX, "id": "q", "external_prefix": "2001:db8:7::/48", "interface": "lan"}
    made = engine()
    planned(made, nptv6_rules=[{**PREFIX, "interface": "wan"}, other])
    assert [each.id for each in made.items("nptv6")] == ["p", "q"]
    runtime = {"nptv6": [msgspec.convert({**PREFIX, "id": "r"}, PrefixRule)]}
    with pytest.raises(SettingsError, match="overlaps"):
        planned(engine(), runtime, nptv6_rules=[PREFIX])


def test_exhaustion_is_an_alert_that_names_the_rule():
    made = engine()
    number = int(generation(planned(made, snat_rules=[SNAT]))["source"]["number"][0])
    rows = np.zeros(2, NAT_EVENT)
    rows["packet"]["rule_id"], rows["packet"]["action"] = number, [20, 21]
    rows["to_addr"][:, 0] = int(ipaddress.ip_address("192.0.2.1"))
    would, drop = made.feed("nat_events", rows, 0).alerts
    assert (would.rule_id, would.action, drop.action) == ("s", "would_translate", "drop")
    assert "no port of 192.0.2.1 is free" in drop.message


def test_a_full_table_is_told_once_a_minute():
    made = engine()
    planned(made)
    rows = np.zeros(1, NAT_COUNT)
    told = []
    for second in range(3):
        rows["table_full"] += 5
        told += made.feed("nat_count", rows, second * 10**9).alerts
    assert [alert.rule_id for alert in told] == ["translation-table"]


NFT = [
    {"metainfo": {"json_schema_version": 1}},
    {"rule": {"family": "ip", "table": "nat", "chain": "post", "handle": 4,
              "expr": [{"match": {}}, {"masquerade": None}]}},
    {"rule": {"family": "ip", "table": "nat", "chain": "pre", "handle": 5,
              "expr": [{"counter": None}, {"xt": {"type": "target", "name": "DNAT"}}]}},
    {"rule": {"family": "inet", "table": "filter", "chain": "in", "handle": 6,
              "expr": [{"accept": None}]}},
]  # fmt: skip


def test_the_hosts_own_translation_is_found_and_told_once():
    found = [
        *nft_rules(NFT),
        *legacy_rules("iptables-legacy-save", "-A POSTROUTING -j SNAT --to 1\n"),
    ]
    assert found == [
        "nftables ip nat post: masquerade (handle 4)",
        "nftables ip nat pre: DNAT (handle 5)",
        "iptables-legacy: -A POSTROUTING -j SNAT --to 1",
    ]
    made = engine()
    around = Surroundings(interfaces={"wan": 1}, surveyed={"rules": found})
    planned(made, around=around, snat_rules=[SNAT])
    (alert,) = made.tick(0).alerts
    assert (alert.rule_id, alert.action) == ("host-nat", "overlap")
    assert made.tick(1).alerts == ()
    assert made.status()["host_nat"] == found
    assert "translates addresses too" in made.status()["host_nat_advice"]
