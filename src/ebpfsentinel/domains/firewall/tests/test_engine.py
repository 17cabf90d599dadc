"""The firewall's pure half: what it refuses, how it numbers, and what it tells."""

from __future__ import annotations

import contextlib
import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.config import convert
from ebpfsentinel.domains.firewall.alerting import MAX_ALERTS
from ebpfsentinel.domains.firewall.engine import DEFAULT_RULE, FirewallEngine
from ebpfsentinel.domains.firewall.events import FW_COUNT, PACKET_EVENT, FwMode
from ebpfsentinel.domains.firewall.generation import FRESH_RULES, GONE_RULES
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.model.action import MapDelete, Patch, Switch
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.rules import Cel

AROUND = Surroundings(interfaces={"eth0": 1, "eth1": 2}, boot_offset_ns=1000)
RULE = {"id": "a", "priority": 10, "action": "deny", "protocol": "tcp", "dst_port": 80}


def engine_of(*rules, **settings):
    engine = FirewallEngine(Tools(rules=Cel()))
    change(engine, *rules, **settings)
    return engine


def change(engine, *rules, around=AROUND, **settings):
    wanted = convert({"rules": list(rules), **settings}, FirewallSettings, "firewall")
    plan = engine.plan(wanted, {}, around)
    engine.commit(plan)
    return plan


def own(engine):
    return {item.id: item for item in engine.items("rules") if not item.system}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"src_ip": "10.0.0.1/8"}, r"rules\[0\]\.src_ip: .*Did you mean 10\.0\.0\.0/8\?"),
        ({"dst_ip": "nowhere"}, r"rules\[0\]\.dst_ip: .*Write an address"),
        ({"src_ip": "10.0.0.1", "dst_ip": "::1"}, "one address is IPv4, the other IPv6"),
        ({"dst_port": "90-80"}, r"rules\[0\]\.dst_port: '90-80' is not a range"),
        ({"dst_port": "http"}, "not a port or port range"),
        ({"protocol": "icmp"}, "icmp has no ports"),
        ({"protocol": "tpc"}, r"protocol"),
        ({"scope": "eht0"}, r"no interface 'eht0'\. Did you mean 'eth0'\?"),
        ({"vlan_id": 4095}, "vlan_id"),
        ({"priority": 0}, "priority"),
        ({"id": "a b"}, "is not a rule id"),
        ({"action": "refuse"}, "action"),
        ({"state": ["new"]}, "state"),
    ],
)
def test_a_rule_that_cannot_be_taken_names_place_and_remedy(body, text):
    with pytest.raises(SettingsError, match=text):
        engine_of(RULE | body)


@pytest.mark.parametrize("ports", [80, "80", "80-80", {"start": 80, "end": 80}])
def test_ports_are_spelled_as_in_the_reference(ports):
    assert own(engine_of(RULE | {"dst_port": ports}))["a"].dst_port == "80"


@pytest.mark.parametrize(
    ("spelled", "action"),
    [
        ("drop", "deny"),
        ("BLOCK", "deny"),
        ("pass", "allow"),
        ("Log", "log"),
        ("reset", "reject"),
    ],
)
def test_actions_have_aliases(spelled, action):
    assert own(engine_of(RULE | {"action": spelled}))["a"].action == action


def test_two_rules_of_one_id_are_refused_with_both_places():
    with pytest.raises(
        SettingsError, match=r"rules\[1\]\.id: 'a' is the id of firewall\.rules\[0\]"
    ):
        engine_of(RULE, RULE)


def test_the_16385th_rule_of_a_family_is_refused_and_no_rule_is_cut_off():
    """W51: the reference answers 201 and keeps the first 4,096."""
    rules = [RULE | {"id": f"r{n}", "src_ip": f"10.0.{n >> 8}.{n & 255}"} for n in range(16385)]
    engine = engine_of(*rules[:16384], anti_lockout={"enabled": False})
    with pytest.raises(SettingsError, match="16385 rules for IPv4; 16384 is the most"):
        change(engine, *rules, anti_lockout={"enabled": False})
    assert len(own(engine)) == 16384


def test_priority_ranks_and_position_breaks_ties():
    order = [("c", 5), ("a", 10), ("b", 5)]
    rules = [RULE | {"id": name, "priority": priority} for name, priority in order]
    assert list(own(engine_of(*rules))) == ["c", "b", "a"]


def test_the_systems_rules_come_first_and_keep_the_agents_port_open():
    around = Surroundings(api_ports=(8181,), interfaces={"eth0": 1})
    engine = engine_of()
    change(engine, RULE | {"priority": 1}, around=around)
    items = engine.items("rules")
    assert [item.system for item in items] == [True] * 4 + [False]
    assert "8181" in {item.dst_port for item in items if item.system}
    change(engine, around=around, anti_lockout={"interfaces": ["eth0"], "ports": [22]})
    assert {item.scope for item in engine.items("rules")} == {"eth0"}


def test_the_systems_rules_take_no_room_among_the_users():
    rules = [RULE | {"id": f"r{n}", "src_ip": f"10.0.{n >> 8}.{n & 255}"} for n in range(4096)]
    switch = next(a for a in change(engine_of(), *rules).actions if isinstance(a, Switch))
    assert (set(switch.places), switch.head["first_count"].tolist()) == ({0}, [3])


def test_rules_keep_their_number_and_a_new_one_gets_a_clean_counter():
    engine = engine_of(RULE)
    before = change(engine, RULE, RULE | {"id": "b"}).memo["numbers"]
    plan = change(engine, RULE | {"id": "c"}, RULE)
    after = plan.memo["numbers"]
    assert after["a"] == before["a"]
    assert after["c"] not in before.values()
    assert isinstance(plan.actions[0], MapDelete)
    assert plan.actions[0].keys.tolist() == [after["c"]]


def test_numbers_are_recalled_after_a_restart():
    memo = change(engine_of(), RULE).memo
    engine = FirewallEngine(Tools(rules=Cel()))
    engine.recall(memo)
    plan = change(engine, RULE)
    assert plan.memo == memo
    assert all(isinstance(action, Switch) for action in plan.actions)


def test_a_plan_changes_nothing_until_it_is_committed():
    engine = engine_of(RULE)
    engine.plan(FirewallSettings(), {}, AROUND)
    assert set(own(engine)) == {"a"}


def test_mode_and_policy_are_in_the_head():
    plan = change(engine_of(), mode="enforce", default_policy="deny")
    (switch,) = plan.actions
    assert switch.head["mode"][0] == FwMode.FW_MODE_BLOCK
    assert switch.head["default_action"][0] == 1
    assert switch.head["banks"][0].tolist() == [0, 0]


def test_only_the_banks_that_changed_are_compiled_again():
    rules = [RULE | {"id": f"r{n}", "src_ip": f"10.0.{n >> 8}.{n & 255}"} for n in range(4097)]
    engine = engine_of(*rules, anti_lockout={"enabled": False})
    added = {"id": "v6", "priority": 1, "action": "deny", "src_ip": "2001:db8::1"}
    (switch,) = change(engine, *rules, added, anti_lockout={"enabled": False}).actions[2:]
    assert (set(switch.places), set(switch.kept)) == ({4}, {0, 1})
    rules[4096] |= {"action": "allow"}
    (switch,) = change(engine, *rules, added, anti_lockout={"enabled": False}).actions
    assert (set(switch.places), set(switch.kept)) == ({1}, {0, 4})
    anew = dataclasses.replace(AROUND, anew=True)
    switch, _ = change(engine, *rules, added, around=anew, anti_lockout={"enabled": False}).actions
    assert (set(switch.places), set(switch.kept)) == ({0, 1, 4}, set())


class Adding:
    """An engine with a configuration, to which rules are added one by one."""

    def __init__(self, *lines, **settings):
        self.settings = convert({"rules": list(lines), **settings}, FirewallSettings, "firewall")
        self.engine, self.added = FirewallEngine(Tools(rules=Cel())), []
        self.around = AROUND
        self.plan()

    def plan(self):
        made = self.engine.plan(self.settings, {"rules": self.added}, self.around)
        self.engine.commit(made)
        return made

    def add(self, **fields):
        self.added = [*self.added, convert(RULE | fields, FirewallRule, "rule")]
        return self.plan()

    def remove(self, name):
        self.added = [rule for rule in self.added if rule.id != name]
        return self.plan()


def kinds(plan):
    return [type(action) for action in plan.actions]


def test_one_rule_more_is_patched_in_and_compiled_when_no_more_come():
    adding = Adding(RULE)
    plan = adding.add(id="b", priority=5)
    assert kinds(plan) == [MapDelete, Patch, Patch]
    assert [item.id for item in adding.engine.items("rules")][-2:] == ["b", "a"]
    assert (plan.memo, set(plan.memo_more["numbers"])) == (None, {"b"})
    assert plan.actions[1].writes[-1][1] == bytes([1, 0, 0, 0])
    assert adding.add(id="c", priority=5).actions[1].writes[-1][1] == bytes([2, 0, 0, 0])
    assert plan.until_ns > AROUND.now_ns
    packed = adding.plan()
    assert kinds(packed) == [Switch]
    assert set(packed.memo["numbers"]) >= {"a", "b", "c"}
    assert packed.until_ns is None
    assert kinds(adding.add(id="d")) == [MapDelete, Patch, Patch]


def test_rules_that_keep_coming_are_compiled_in_the_end():
    adding, second = Adding(RULE), 10**9
    for number in range(20):
        adding.around = dataclasses.replace(AROUND, now_ns=(100 + number) * second // 2)
        plan = adding.add(id=f"b{number}")
        assert plan.until_ns == min(adding.around.now_ns + second, 60 * second)
    adding.plan()
    assert adding.add(id="again").until_ns == adding.around.now_ns + second


@pytest.mark.parametrize(
    "fields",
    [
        {"src_alias": "two"},
        {"cpu": 0, "action": "allow"},
        {"src_mac": "aa:bb:cc:dd:ee:ff"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_rule_that_cannot_stand_by_itself_is_compiled_with_all(fields):
    two = {"type": "ip_set", "values": ["10.0.0.1", "10.0.0.9", "10.1.0.2"]}
    adding = Adding(RULE, aliases={"two": two})
    assert Switch in kinds(adding.add(id="b", **fields))


def test_no_more_rules_are_patched_in_than_there_is_room_for():
    adding = Adding(RULE)
    for number in range(FRESH_RULES):
        assert Patch in kinds(adding.add(id=f"b{number}"))
    assert Patch not in kinds(adding.add(id="one-too-many"))
    assert Patch in kinds(adding.add(id="again"))


def test_a_rule_less_is_passed_over_and_compiled_away_when_no_more_go():
    adding = Adding(RULE)
    for name in ("b", "c", "d"):
        adding.add(id=name)
    adding.plan()
    adding.add(id="e")
    for name in ("c", "e"):
        plan = adding.remove(name)
        assert kinds(plan) == [Patch, Patch]
        assert [content for _, content in plan.actions[0].writes] == [bytes(8)]
        assert name not in own(adding.engine)
        assert not adding.engine.has("rules", name)
    assert plan.until_ns > AROUND.now_ns
    (switch,) = adding.plan().actions
    assert set(switch.places) == {0, 4}
    assert list(own(adding.engine)) == ["a", "b", "d"]
    assert kinds(adding.add(id="c")) == [MapDelete, Patch, Patch]


def test_no_more_rules_go_one_by_one_than_are_passed_over():
    adding = Adding(RULE)
    for number in range(GONE_RULES + 1):
        adding.add(id=f"b{number}")
    for number in range(GONE_RULES):
        assert Switch not in kinds(adding.remove(f"b{number}"))
    assert Switch in kinds(adding.remove(f"b{GONE_RULES}"))
    assert list(own(adding.engine)) == ["a"]


def test_a_rule_that_is_off_or_of_one_family_touches_no_other_table():
    adding = Adding(RULE)
    assert kinds(adding.add(id="off", enabled=False)) == [MapDelete]
    (patch,) = adding.add(id="four", src_ip="10.0.0.1").actions[1:]
    assert patch.place == 0


def test_a_rule_goes_to_the_bank_that_it_ranks_in():
    lines = [
        RULE | {"id": f"r{n}", "src_ip": f"10.0.{n >> 8}.{n & 255}", "priority": 1 + n // 4096}
        for n in range(5000)
    ]
    adding = Adding(*lines, anti_lockout={"enabled": False})
    for priority, place in ((1, 1), (2, 1), (3, 1)):
        plan = adding.add(id=f"p{priority}", src_ip="10.9.0.1", priority=priority)
        assert plan.actions[1].place == place
    lines[4095]["priority"] = 2
    adding = Adding(*lines, anti_lockout={"enabled": False})
    assert adding.add(id="p", src_ip="10.9.0.1", priority=1).actions[1].place == 0


def test_the_16385th_rule_is_refused_also_when_it_is_one_more():
    rules = [RULE | {"id": f"r{n}", "src_ip": f"10.0.{n >> 8}.{n & 255}"} for n in range(16383)]
    adding = Adding(*rules, anti_lockout={"enabled": False})
    assert Patch in kinds(adding.add(id="last", src_ip="10.1.0.1"))
    with pytest.raises(SettingsError, match="16385 rules for IPv4; 16384 is the most"):
        adding.add(id="one-too-many", src_ip="10.1.0.2")


def test_what_the_kernel_was_not_given_is_compiled_when_it_is():
    engine = engine_of(RULE, enabled=False)
    (switch,) = change(engine, RULE).actions
    assert set(switch.places) == {0, 4}


def events(count, **values):
    rows = np.zeros(count, PACKET_EVENT)
    for name, value in values.items():
        rows[name] = value
    return rows


def test_equal_events_are_one_alert_that_counts_them():
    engine = engine_of(RULE)
    number = change(engine, RULE).memo["numbers"]["a"]
    rows = events(5, rule_id=number, action=1, protocol=6, flags=0x44, timestamp_ns=7)
    rows["src_addr"][:, 0] = [1, 1, 2, 1, 2]
    rows["src_port"] = range(5)
    alerts = engine.feed("fw_events", rows, 0).alerts
    assert [(alert.src_ip, alert.count) for alert in alerts] == [("0.0.0.1", 3), ("0.0.0.2", 2)]
    assert {(a.rule_id, a.action, a.timestamp_ns) for a in alerts} == {("a", "deny", 1007)}


def test_all_128_bits_of_an_ipv6_address_tell_events_apart():
    rows = events(2, action=2, flags=0x01)
    rows["src_addr"][1, 3] = 1
    alerts = engine_of().feed("fw_events", rows, 0).alerts
    assert [alert.src_ip for alert in alerts] == ["::", "::1"]


def test_a_flood_of_sources_is_counted_beyond_the_alerts_it_makes():
    engine = engine_of()
    rows = events(2000, action=1)
    rows["src_addr"][:, 0] = range(2000)
    alerts = engine.feed("fw_events", rows, 0).alerts
    assert len(alerts) == MAX_ALERTS
    unreported = next(m.value for m in engine.metrics() if m.name == "rule_events_unreported")
    assert unreported == 2000 - MAX_ALERTS


def test_events_of_a_rule_that_is_gone_still_name_it_and_of_none_the_policy():
    engine = engine_of(RULE)
    number = change(engine, RULE).memo["numbers"]["a"]
    change(engine)
    rows = events(2, action=1)
    rows["rule_id"][0] = number
    alerts = engine.feed("fw_events", rows, 0).alerts
    assert {alert.rule_id for alert in alerts} == {"a", DEFAULT_RULE}


def test_hits_are_shown_with_the_rule():
    engine = engine_of(RULE)
    number = change(engine, RULE).memo["numbers"]["a"]
    counts = np.zeros(32768, FW_COUNT)
    engine.feed("fw_count", counts, 4)
    counts[number] = (3, 180)
    engine.feed("fw_count", counts, 5)
    engine.feed("fw_count", counts, 6)
    item = own(engine)["a"]
    assert (item.packets, item.bytes, item.last_hit_ns) == (3, 180, 5)


def test_hits_of_an_earlier_agent_have_no_time():
    engine = engine_of(RULE)
    number = change(engine, RULE).memo["numbers"]["a"]
    counts = np.zeros(32768, FW_COUNT)
    counts[number] = (3, 180)
    engine.feed("fw_count", counts, 5)
    assert (own(engine)["a"].packets, own(engine)["a"].last_hit_ns) == (3, None)


@given(st.binary(max_size=PACKET_EVENT.itemsize * 8))
def test_no_bytes_of_a_ring_break_it(raw):
    rows = np.frombuffer(
        raw[: len(raw) // PACKET_EVENT.itemsize * PACKET_EVENT.itemsize], PACKET_EVENT
    )
    outcome = engine_of().feed("fw_events", rows, 0)
    assert sum(alert.count for alert in outcome.alerts) == len(rows)
    msgspec.json.encode(list(outcome.alerts))


_values = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats()
_bodies = st.dictionaries(
    st.sampled_from([*FirewallSettings.__struct_fields__, "id", "priority", "action", "src_ip",
                     "dst_ip", "src_port", "dst_port", "protocol", "scope", "vlan_id"]),
    _values | st.dictionaries(st.text(max_size=5), _values, max_size=2),
)  # fmt: skip


@given(_bodies)
def test_no_rule_body_breaks_it(body):
    with contextlib.suppress(SettingsError):
        engine_of(RULE | body)
