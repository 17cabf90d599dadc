"""The journey and its changes on the in-memory kernel: what must hold when something refuses."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ebpfsentinel.domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.config import convert, discover
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.model.action import Patch, Switch
from ebpfsentinel.model.domain import Outcome
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.refusal import DuplicateItem, SystemItem, UnknownItem
from ebpfsentinel.model.settings import SettingsError, parse_moment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ebpfsentinel.model.action import Action

CARDS = discover(ebpfsentinel.domains)
RULE = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 53}


class StubbornKernel(FakeKernel):
    """Refuses the next change of ``refused``, once; with ``after``, when it is in force already."""

    refused = ""
    after = False

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            refused = isinstance(action, Switch | Patch) and action.map == self.refused
            if refused:
                self.refused = ""
            if not refused or self.after:
                super().apply([action])
            if refused:
                raise KernelError("no memory")


def write(path: Path, **sections: Any) -> Path:
    agent = {"interfaces": ["eth0"], "state_dir": str(path / "state")}
    (path / "config.json").write_text(json.dumps({"agent": agent, **sections}))
    return path / "config.json"


def start(path: Path, kernel: FakeKernel | None = None, **sections: Any) -> Agent:
    kernel = kernel or StubbornKernel(interfaces=["eth0"])
    agent = Agent(write(path, **sections), {}, CARDS, kernel)
    run(agent)
    return agent


def run(agent: Agent) -> None:
    async def both() -> None:
        await agent.prepare()
        await agent.start()

    asyncio.run(both())


def rule_of(body: dict[str, Any]) -> Any:
    card = next(card for card in CARDS if card.name == "firewall")
    return convert(body, card.collections[0].item, "rule")


def event(agent: Agent, **values: Any) -> np.ndarray[Any, Any]:
    _, record = "fw_events", agent.kernel.drain("fw_events").dtype  # type: ignore[attr-defined]
    row = np.zeros(1, record)
    for name, value in values.items():
        row[name] = value
    return row


def ids(agent: Agent) -> set[str]:
    return {item.id for item in agent.engines["firewall"].items("rules") if not item.system}  # type: ignore[attr-defined]


def test_a_record_becomes_a_stored_alert_that_names_rule_and_interface(tmp_path: Path) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    number = agent.store.memos.get("firewall")["numbers"]["no-udp"]  # type: ignore[index]
    row = event(agent, rule_id=number, action=1, protocol=17, flags=0x48, dst_port=53)
    ifindex = agent.kernel.attachments()[0].ifindex
    row["ifindex"] = ifindex
    agent.kernel.put("fw_events", np.repeat(row, 5))  # type: ignore[attr-defined]
    assert asyncio.run(agent.flow.step()) == 5
    from ebpfsentinel.store import AlertQuery  # noqa: PLC0415

    alerts, total = agent.store.alerts.query(AlertQuery())
    assert total == 1
    assert (alerts[0].rule_id, alerts[0].count) == ("no-udp", 5)
    assert alerts[0].action == "would_deny"
    assert alerts[0].context["interface"] == "eth0"
    asyncio.run(agent.stop())


def test_equal_alerts_within_the_window_are_counted_not_repeated(tmp_path: Path) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    row = event(agent, rule_id=0, action=1, protocol=17)
    for _ in range(3):
        agent.kernel.put("fw_events", row)  # type: ignore[attr-defined]
        asyncio.run(agent.flow.step())
    dropped = {m.labels["reason"]: m.value for m in agent.metrics() if m.name == "alerts_dropped"}
    assert dropped["dedup"] == 2
    asyncio.run(agent.stop())


def in_force(kernel: StubbornKernel) -> tuple[Any, ...]:
    """What the head says but for names and slots, and the bank of each place that it points to."""
    head = kernel.generation("fw_head")[0]
    current = int(head["current"])
    return (int(head["mode"]), head["banks"].tolist()), [
        kernel.generation("fw_banks", 2 * place + (current >> place & 1)).tobytes()
        for place in (0, 4)
    ]


@pytest.mark.parametrize("after", [False, True])
def test_a_refused_plan_of_one_domain_leaves_every_domain_as_it_was(
    tmp_path: Path, after: bool
) -> None:
    kernel = StubbornKernel(interfaces=["eth0"])
    agent = start(tmp_path, kernel, firewall={"rules": [RULE]})
    before = in_force(kernel)
    rules = [RULE, RULE | {"id": "more", "dst_port": 54}]
    write(tmp_path, firewall={"mode": "block", "rules": rules}, process={"ignored": ["cron"]})
    kernel.refused, kernel.after = "fw_banks", after
    with pytest.raises(KernelError, match="no memory"):
        asyncio.run(agent.reload("test"))
    assert ids(agent) == {"no-udp"}
    assert agent.settings.firewall.mode == "alert"  # type: ignore[attr-defined]
    assert in_force(kernel) == before
    asyncio.run(agent.add("firewall", "rules", rule_of(RULE | {"id": "next"}), "test"))
    asyncio.run(agent.stop())


def test_a_wrong_rule_is_refused_whole_and_names_its_place(tmp_path: Path) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    write(tmp_path, firewall={"rules": [RULE | {"id": "other", "src_ip": "10.0.0.1/8"}]})
    with pytest.raises(SettingsError, match=r"firewall\.rules\[0\]\.src_ip.*10\.0\.0\.0/8"):
        asyncio.run(agent.reload("test"))
    assert ids(agent) == {"no-udp"}
    asyncio.run(agent.stop())


def test_items_are_added_once_removed_once_and_never_the_systems(tmp_path: Path) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    more = rule_of(RULE | {"id": "more"})
    asyncio.run(agent.add("firewall", "rules", more, "test"))
    with pytest.raises(DuplicateItem):
        asyncio.run(agent.add("firewall", "rules", more, "test"))
    with pytest.raises(SystemItem):
        asyncio.run(agent.remove("firewall", "rules", "anti-lockout-22", "test"))
    with pytest.raises(SystemItem):
        asyncio.run(agent.remove("firewall", "rules", "no-udp", "test"))
    asyncio.run(agent.remove("firewall", "rules", "more", "test"))
    with pytest.raises(UnknownItem):
        asyncio.run(agent.remove("firewall", "rules", "more", "test"))
    asyncio.run(agent.stop())


@pytest.mark.parametrize("after", [False, True])
def test_a_refused_item_is_neither_in_force_nor_stored(tmp_path: Path, after: bool) -> None:
    kernel = StubbornKernel(interfaces=["eth0"])
    agent = start(tmp_path, kernel)
    kernel.refused, kernel.after = "fw_banks", after
    with pytest.raises(KernelError):
        asyncio.run(agent.add("firewall", "rules", rule_of(RULE), "test"))
    assert ids(agent) == set()
    assert agent.store.items.query("firewall", "rules") == []
    asyncio.run(agent.stop())


def test_a_stored_item_that_no_longer_fits_is_left_out_and_kept(tmp_path: Path) -> None:
    agent = start(tmp_path)
    asyncio.run(agent.add("firewall", "rules", rule_of(RULE | {"scope": "eth0"}), "test"))
    asyncio.run(agent.stop())
    kernel = FakeKernel(interfaces=["eth1"])
    path = write(tmp_path)
    path.write_text(path.read_text().replace("eth0", "eth1"))
    agent = Agent(path, {}, CARDS, kernel)
    run(agent)
    assert ids(agent) == set()
    assert len(agent.store.items.query("firewall", "rules")) == 1
    asyncio.run(agent.stop())


def test_not_ready_until_every_interface_is_attached(tmp_path: Path) -> None:
    agent = start(tmp_path, FakeKernel())
    assert not agent.ready
    assert agent.not_ready_reason == "not attached: eth0"
    agent.kernel.add_interface("eth0")  # type: ignore[attr-defined]
    agent.kernel.attach(["eth0"])
    agent._check_attached()
    assert agent.ready
    asyncio.run(agent.stop())


def test_a_domain_that_is_switched_off_leaves_the_chain_and_comes_back(tmp_path: Path) -> None:
    agent = start(tmp_path)
    write(tmp_path, firewall={"enabled": False})
    asyncio.run(agent.reload("test"))
    assert "xdp_firewall" not in attached(agent)
    write(tmp_path, firewall={"enabled": True, "rules": [RULE]})
    assert asyncio.run(agent.reload("test"))[0]["firewall"] == "ok"
    assert "xdp_firewall" in attached(agent)
    assert ids(agent) == {"no-udp"}
    asyncio.run(agent.stop())


def attached(agent: Agent) -> set[str]:
    return {program.name for program in agent.kernel.programs() if program.attached}


def test_a_fault_in_one_engine_blinds_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})

    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(agent.engines["process"], "feed", fail)
    agent.kernel.put("execs", np.zeros(3, agent.kernel.drain("execs").dtype))  # type: ignore[attr-defined]
    agent.kernel.put("fw_events", event(agent, action=1))  # type: ignore[attr-defined]
    assert asyncio.run(agent.flow.step()) == 4
    samples = {(m.name, *m.labels.values()): m.value for m in agent.metrics()}
    assert samples["events_unjudged", "process"] == 3
    assert samples["alerts", "firewall", "medium"] == 1
    assert "domain process failed on 3 records of execs" in caplog.text
    asyncio.run(agent.stop())


def test_a_tick_that_fails_is_said_once_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    ticked = []

    def fail(*_: object) -> None:
        raise RuntimeError("bug")

    def tick(now_ns: int) -> Outcome:
        ticked.append(now_ns)
        return Outcome()

    monkeypatch.setattr(agent.engines["firewall"], "tick", fail)
    monkeypatch.setattr(agent.engines["process"], "tick", tick)
    for _ in range(3):
        asyncio.run(agent.flow.tick(["firewall", "process"]))
    samples = {(m.name, *m.labels.values()): m.value for m in agent.metrics()}
    assert samples["ticks_failed", "firewall"] == 3
    assert len(ticked) == 3
    assert caplog.text.count("domain firewall failed at a tick") == 1
    asyncio.run(agent.stop())


def test_events_keep_their_time_when_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ebpfsentinel.kernel import clock  # noqa: PLC0415
    from ebpfsentinel.store import AlertQuery  # noqa: PLC0415

    agent = start(tmp_path, firewall={"rules": [RULE]})
    monkeypatch.setattr(clock, "boot_offset_ns", lambda: 5_000_000_000)
    agent._follow_clock()
    agent.kernel.put("fw_events", event(agent, action=1, timestamp_ns=7))  # type: ignore[attr-defined]
    asyncio.run(agent.flow.step())
    alerts, _ = agent.store.alerts.query(AlertQuery())
    assert alerts[0].timestamp_ns == 5_000_000_007
    asyncio.run(agent.stop())


def test_many_stored_items_are_taken_back_in_one_plan_not_one_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start(tmp_path)
    for number in range(5):
        asyncio.run(agent.add("firewall", "rules", rule_of(RULE | {"id": f"r{number}"}), "test"))
    asyncio.run(agent.stop())
    agent = Agent(write(tmp_path), {}, CARDS, FakeKernel(interfaces=["eth0"]))
    engine, plans = agent.engines["firewall"], []
    plan = engine.plan
    monkeypatch.setattr(engine, "plan", lambda *given: plans.append(given) or plan(*given))
    run(agent)
    assert ids(agent) == {f"r{number}" for number in range(5)}
    assert len(plans) == 2
    asyncio.run(agent.stop())


def test_an_item_with_a_time_to_live_lapses_and_is_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start(tmp_path)
    asyncio.run(agent.add("firewall", "rules", rule_of(RULE | {"ttl": "10m"}), "test"))
    (kept,) = agent.store.items.query("firewall", "rules")
    over_ns = parse_moment("", kept["expires_at"])
    assert abs(over_ns - time.time_ns() - 600 * 10**9) < 5 * 10**9
    assert kept.get("ttl") is None
    agent._follow_time()
    assert ids(agent) == {"no-udp"}
    monkeypatch.setattr("ebpfsentinel.agent.time.time_ns", lambda: over_ns)
    agent._follow_time()
    assert ids(agent) == set()
    assert agent.store.items.query("firewall", "rules") == []
    last = agent.store.audit.history("no-udp")[0]
    assert (last.action, last.actor) == ("rule_removed", "expiry")
    asyncio.run(agent.stop())


def test_a_time_to_live_needs_a_start(tmp_path: Path) -> None:
    agent = start(tmp_path)
    for body, place in (({"ttl": "soon"}, "ttl"), ({"ttl": 5, "expires_at": "2030"}, "ttl")):
        with pytest.raises(SettingsError, match=place):
            asyncio.run(agent.add("firewall", "rules", rule_of(RULE | body), "test"))
    write(tmp_path, firewall={"rules": [RULE | {"ttl": 5}]})
    with pytest.raises(SettingsError, match=r"rules\[0\]\.ttl.*Write expires_at"):
        asyncio.run(agent.reload("test"))
    asyncio.run(agent.stop())


def test_what_was_worked_out_no_further_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = StubbornKernel(interfaces=["eth0"])
    night = {"night": {"entries": [{"time": "22:00-06:00"}]}}
    rules = [RULE | {"schedule": "night"}]
    agent = start(tmp_path, kernel, firewall={"rules": rules, "schedules": night})
    agent._follow_time()
    before = in_force(kernel)
    tomorrow_ns = time.time_ns() + 86400 * 10**9
    monkeypatch.setattr("ebpfsentinel.agent.time.time_ns", lambda: tomorrow_ns)
    agent._follow_time()
    assert in_force(kernel) != before
    asyncio.run(agent.stop())


def test_a_ring_that_loses_has_its_own_domain_look_around_again_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start(tmp_path, firewall={"rules": [RULE]})
    assert agent.flow.report_losses() == frozenset()
    for ring, owner in (("fw_events", "firewall"), ("execs", "process")):
        row = np.zeros(1, agent.kernel.drain(ring).dtype)
        agent.kernel.put(ring, np.repeat(row, 1 << 20))  # type: ignore[attr-defined]
        assert agent.flow.report_losses() == {owner}
        assert agent.flow.losing == {ring}
        seeded: list[str] = []
        monkeypatch.setattr(
            agent.kernel, "seed", lambda name, seeded=seeded: seeded.append(name) or np.empty(0)
        )
        asyncio.run(agent.flow.seed({owner}))
        assert {agent.kernel.owner(name) for name in seeded} <= {owner}
        assert bool(seeded) == (owner == "process")
    asyncio.run(agent.stop())
