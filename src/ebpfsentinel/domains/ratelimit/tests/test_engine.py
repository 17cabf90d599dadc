"""The limiter's pure half: what it refuses, how it numbers, and what it tells."""

from __future__ import annotations

import contextlib
import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.config import convert
from ebpfsentinel.domains.ratelimit.alerting import MAX_ALERTS
from ebpfsentinel.domains.ratelimit.engine import RateLimitEngine
from ebpfsentinel.domains.ratelimit.events import RL_COUNT, RL_EVENT, RL_TABLE_COUNT
from ebpfsentinel.domains.ratelimit.settings import RateLimitRule, RateLimitSettings
from ebpfsentinel.model.action import MapDelete, Swap
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.rules import Cel

AROUND = Surroundings(interfaces={"eth0": 1, "eth1": 2}, boot_offset_ns=1000, secret=b"s")
RULE = {"id": "a", "rate": 10}
SECOND = 10**9


def engine_of(*rules, **settings):
    engine = RateLimitEngine(Tools(rules=Cel()))
    change(engine, *rules, **settings)
    return engine


def change(engine, *rules, around=AROUND, **settings):
    wanted = convert({"rules": list(rules), **settings}, RateLimitSettings, "ratelimit")
    plan = engine.plan(wanted, {}, around)
    engine.commit(plan)
    return plan


def views(engine):
    return {item.id: item for item in engine.items("rules")}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"src_ip": "10.0.0.1/8"}, r"rules\[0\]\.src_ip: .*Did you mean 10\.0\.0\.0/8\?"),
        ({"dst_ip": "nowhere"}, r"rules\[0\]\.dst_ip: .*Write an address"),
        ({"src_ip": "10.0.0.1", "dst_ip": "::1"}, "one address is IPv4, the other IPv6"),
        ({"src_ip": "::ffff:10.0.0.1"}, "Write 10.0.0.1"),
        ({"dst_port": "90-80"}, r"rules\[0\]\.dst_port: '90-80' is not a range"),
        ({"protocol": "icmp", "dst_port": 1}, "icmp has no ports"),
        ({"interfaces": ["eht0"]}, r"interfaces\[0\]: no interface 'eht0'\. Did you mean 'eth0'"),
        ({"scope": "global", "src_ip": "10.0.0.1"}, "a global limit is for all.*per_rule"),
        ({"algorithm": "sliding_window", "rate": 2_000_000}, "Use token_bucket"),
        ({"algorithm": "bucket"}, "algorithm"),
        ({"scope": "per_ipp"}, "scope"),
        ({"rate": 0}, "rate"),
        ({"burst": 0}, "burst"),
        ({"id": "a b"}, "is not a rule id"),
        ({"id": "default-limit"}, "Choose another id"),
        ({"action": "refuse"}, "action"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"brust": 5}, "brust"),
    ],
)
def test_a_limit_that_cannot_be_taken_names_place_and_remedy(body, text):
    with pytest.raises(SettingsError, match=text):
        engine_of(RULE | body)


def test_the_seeds_body_and_the_contracts_defaults():
    engine = engine_of({"id": "rl-global", "rate": 1000, "burst": 2000, "scope": "per_ip"})
    found, default = engine.items("rules")
    assert (found.rate, found.burst, found.action, found.algorithm) == (
        1000, 2000, "drop", "token_bucket",
    )  # fmt: skip
    assert (default.id, default.rate, default.burst, default.system) == (
        "default-limit", 1000, 2000, True,
    )  # fmt: skip
    assert not RateLimitSettings().enabled


@pytest.mark.parametrize(
    ("spelled", "action"), [("deny", "drop"), ("BLOCK", "drop"), ("allow", "pass"), ("Log", "log")]
)
def test_actions_have_aliases(spelled, action):
    assert views(engine_of(RULE | {"action": spelled}))["a"].action == action


def test_two_limits_of_one_id_are_refused_with_both_places():
    with pytest.raises(SettingsError, match=r"rules\[1\]\.id: 'a' is the id of ratelimit\.rules"):
        engine_of(RULE, RULE)


def test_a_limit_that_another_always_hides_is_refused():
    with pytest.raises(SettingsError, match=r"rules\[1\]: 'a' is for the same packets"):
        engine_of(RULE, RULE | {"id": "b", "rate": 20})
    engine_of(RULE, RULE | {"id": "b", "vlan_id": 5}, RULE | {"id": "c", "scope": "per_rule"})


def test_seventeen_shared_limits_are_one_too_many():
    rules = [RULE | {"id": f"r{n}", "scope": "per_rule"} for n in range(17)]
    engine_of(*rules[:16])
    with pytest.raises(SettingsError, match="17 limits that sources share; 16 is the most"):
        engine_of(*rules)


def test_too_many_limits_for_one_source_are_refused_not_cut_off():
    rules = [RULE | {"id": f"r{n}", "vlan_id": n} for n in range(63)]
    engine_of(*rules)
    with pytest.raises(SettingsError, match="65 limits would be asked for one source"):
        engine_of(*rules, RULE | {"id": "more", "vlan_id": 99})


def test_a_changed_limit_gets_a_new_number_and_the_others_keep_theirs():
    engine = engine_of(RULE, RULE | {"id": "b", "vlan_id": 5})
    before = dict(engine._now.numbers)
    plan = change(engine, RULE | {"rate": 11}, RULE | {"id": "b", "vlan_id": 5})
    after = plan.memo["numbers"]
    kept = set(before) & set(after)
    assert len(kept) == 2
    assert all(before[name] == after[name] for name in kept)
    (fresh,) = set(after.values()) - set(before.values())
    assert fresh not in before.values()
    deletes = [action for action in plan.actions if isinstance(action, MapDelete)]
    assert [(each.map, each.keys.tolist()) for each in deletes] == [
        ("rl_own", [fresh]),
        ("rl_count", [fresh]),
    ]


def test_numbers_go_round_before_one_is_used_again():
    engine, seen = engine_of(RULE, default_rate=0), []
    for rate in range(1, 40):
        seen += change(engine, RULE | {"rate": 100 + rate}, default_rate=0).memo["numbers"].values()
    assert len(set(seen)) == len(seen)


def test_what_was_kept_is_recalled_secret_and_all():
    memo = change(engine_of(), RULE).memo
    engine = RateLimitEngine(Tools(rules=Cel()))
    engine.recall(memo)
    plan = change(engine, RULE, around=dataclasses.replace(AROUND, secret=b"another"))
    assert plan.memo == memo
    assert [type(action) for action in plan.actions] == [Swap]


def test_a_plan_changes_nothing_until_it_is_committed():
    engine = engine_of(RULE)
    engine.plan(RateLimitSettings(), {}, AROUND)
    assert "a" in views(engine)


def test_one_generation_holds_all():
    plan = change(engine_of(), RULE, mode="enforce")
    swap = plan.actions[-1]
    assert (swap.map, swap.slot, int(swap.value["mode"][0])) == ("rl_limits", 0, 1)


def events(numbers, suppressed=0, **values):
    rows = np.zeros(len(numbers), RL_EVENT)
    rows["packet"]["rule_id"] = numbers
    rows["suppressed"] = suppressed
    for name, value in values.items():
        rows["packet"][name] = value
    return rows


def number_of(engine, rule_id):
    return next(number for number, name in engine.names().items() if name == rule_id)


def test_an_event_stands_for_those_that_were_suppressed():
    engine = engine_of(RULE)
    rows = events([number_of(engine, "a")], 41, action=1, protocol=17, timestamp_ns=7)
    (alert,) = engine.feed("rl_events", rows, 0).alerts
    assert (alert.rule_id, alert.count, alert.action, alert.timestamp_ns) == ("a", 42, "drop", 1007)
    assert (views(engine)["a"].events, views(engine)["a"].suppressed) == (1, 41)


def test_the_worst_sources_are_on_top():
    engine = engine_of(RULE)
    rows = events([number_of(engine, "a")] * 3, [1, 50, 7], action=1)
    rows["packet"]["src_addr"][:, 0] = [1, 2, 1]
    engine.feed("rl_events", rows, 0)
    top = [(each["source"], each["over"]) for each in engine.offenders.top(5)]
    assert top == [("0.0.0.2", 51), ("0.0.0.1", 10)]


def test_a_flood_of_sources_is_counted_beyond_the_alerts_it_makes():
    engine = engine_of(RULE)
    rows = events([number_of(engine, "a")] * 2000, 1, action=1)
    rows["packet"]["src_addr"][:, 0] = range(2000)
    assert len(engine.feed("rl_events", rows, 0).alerts) == MAX_ALERTS
    unlisted = next(m.value for m in engine.metrics() if m.name == "ratelimit_unlisted")
    assert unlisted == 2 * (2000 - MAX_ALERTS)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), min_size=1, max_size=30
    )
)
def test_alerts_add_up_to_the_packets_over_the_limit(steps):
    """The kernel's rule, played: an event tells of what its bucket suppressed before."""
    engine = engine_of(RULE)
    number, told, waiting, over, now = number_of(engine, "a"), 0, [0] * 4, 0, 0
    for bucket, more, quiet in steps:
        rows = events([number], waiting[bucket])
        over += 1 + more
        waiting[bucket] = more
        told += sum(a.count for a in engine.feed("rl_events", rows, now).alerts)
        counts = np.zeros(16384, RL_COUNT)
        counts["over"][number] = over
        engine.feed("rl_count", counts, now)
        if quiet:
            now += 3 * SECOND
            told += sum(a.count for a in engine.tick(now).alerts)
            assert told == over
    now += 3 * SECOND
    told += sum(a.count for a in engine.tick(now).alerts)
    assert told == over


def test_w8_a_limit_that_only_counts_tells_nothing():
    engine = engine_of(RULE | {"action": "pass"})
    counts = np.zeros(16384, RL_COUNT)
    counts["over"][number_of(engine, "a")] = 500
    engine.feed("rl_count", counts, 0)
    assert engine.tick(9 * SECOND).alerts == []
    assert views(engine)["a"].over == 500


def test_what_an_earlier_agent_counted_is_not_told_again():
    memo = change(engine_of(), RULE).memo
    engine = RateLimitEngine(Tools(rules=Cel()))
    engine.recall(memo)
    change(engine, RULE)
    counts = np.zeros(16384, RL_COUNT)
    counts["over"][number_of(engine, "a")] = 500
    engine.feed("rl_count", counts, 0)
    assert engine.tick(9 * SECOND).alerts == []


def test_evictions_are_told_when_they_begin():
    engine = engine_of(RULE)
    found = []
    for second, evicted in ((0, 0), (1, 5), (2, 9), (100, 12)):
        rows = np.zeros(1, RL_TABLE_COUNT)
        rows["evicted"] = evicted
        found += engine.feed("rl_table_count", rows, second * SECOND).alerts
    assert [alert.context["evicted"] for alert in found] == [5, 3]


@given(st.binary(max_size=RL_EVENT.itemsize * 8))
def test_no_bytes_of_a_ring_break_it(raw):
    rows = np.frombuffer(raw[: len(raw) // RL_EVENT.itemsize * RL_EVENT.itemsize], RL_EVENT)
    outcome = engine_of().feed("rl_events", rows, 0)
    msgspec.json.encode(list(outcome.alerts))


_values = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.floats()
_bodies = st.dictionaries(
    st.sampled_from([*RateLimitSettings.__struct_fields__, *RateLimitRule.__struct_fields__]),
    _values | st.lists(_values, max_size=2),
)


@given(_bodies)
def test_no_rule_body_breaks_it(body):
    with contextlib.suppress(SettingsError):
        engine_of(RULE | body)
