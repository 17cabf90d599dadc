"""When rules were hit last: over restarts, and since when that is counted."""

import msgspec
import numpy as np

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import AntiLockout, FirewallRule, FirewallSettings
from ebpfsentinel.domains.firewall.usage import DAY_NS, unused
from ebpfsentinel.model.domain import Surroundings, Tools

START = 1_800_000_000_000_000_000


def settings(*names):
    rules = [
        msgspec.convert({"id": name, "priority": 1, "action": "log"}, FirewallRule)
        for name in names
    ]
    return FirewallSettings(rules=rules, anti_lockout=AntiLockout(enabled=False))


def engine_with(*names, memo=None):
    made = DOMAIN.engine(Tools(rules=None))
    if memo is not None:
        made.recall(memo)
    made.commit(made.plan(settings(*names), {}, Surroundings()))
    return made


def count(engine, now_ns, **packets):
    numbers = {name: number for number, name in engine.names().items()}
    rows = np.zeros_like(engine._counts)
    for name, hits in packets.items():
        rows["packets"][numbers[name]] = hits
    engine.feed("fw_count", rows, now_ns)


def told(engine, days, now_ns):
    body = unused(engine.items("rules"), engine.usage, days, now_ns)
    return [{row["id"] for row in body[key]} for key in ("unused", "too_young")]


def test_unused_rules_are_told_from_those_too_young():
    engine = engine_with("old", "busy")
    engine.tick(START)
    count(engine, START)
    count(engine, START + 9 * DAY_NS, busy=1)
    engine.commit(engine.plan(settings("old", "busy", "young"), {}, Surroundings()))
    now = START + 10 * DAY_NS
    engine.tick(now - 1)
    assert told(engine, 5, now) == [{"old"}, {"young"}]
    assert told(engine, 0.5, now) == [{"old", "busy"}, {"young"}]
    assert told(engine, 20, now) == [set(), {"old", "young"}]


def test_last_hits_outlive_a_restart_and_a_rule_that_went_is_forgotten():
    engine = engine_with("a", "b")
    count(engine, START)
    count(engine, START + 5, a=3)
    memo = engine.tick(START + 10).memo
    assert memo is not None
    assert engine.tick(START + 20).memo is None
    memo = msgspec.json.decode(msgspec.json.encode(memo))
    again = engine_with("a", "c", memo=memo)
    again.tick(START + 100)
    views = {view.id: view for view in again.items("rules")}
    assert views["a"].last_hit_ns == START + 5
    assert again.usage.of("a").since_ns == START + 10
    assert again.usage.of("c").since_ns == START + 100
    assert set(again.usage.memo()["since_ns"]) == {"a", "c"}


def test_what_changes_is_written_down_at_most_once_a_minute():
    engine = engine_with("a")
    count(engine, START)
    memos = 0
    for second in range(600):
        count(engine, START + second * 10**9, a=second)
        memos += engine.tick(START + second * 10**9).memo is not None
    assert memos == 10
