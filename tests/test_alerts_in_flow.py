"""What happens to an alert between engine and destination, in a whole agent on the fake kernel."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

import ebpfsentinel.domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.alerts import Scope
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.domain import Outcome
from ebpfsentinel.model.kernel import Ledger
from ebpfsentinel.store import AlertQuery

if TYPE_CHECKING:
    from pathlib import Path

CARDS = discover(ebpfsentinel.domains)


class LossyKernel(FakeKernel):
    """Loses as many records as it is told."""

    lost = 0

    def ledgers(self) -> list[Ledger]:
        return [Ledger("busy", 100, 100, 100, {"ring_full": self.lost}), Ledger("idle", 0, 0, 0)]


def write(path: Path, **alerting: Any) -> Path:
    agent = {"interfaces": ["eth0"], "state_dir": str(path / "state")}
    text = json.dumps({"agent": agent, "alerting": alerting})
    (path / "config.json").write_text(text)
    return path / "config.json"


@pytest.fixture
def agent(tmp_path: Path):
    kernel = LossyKernel(interfaces=["eth0"])
    made = Agent(write(tmp_path), {}, CARDS, kernel)
    asyncio.run(made.prepare())
    yield made
    asyncio.run(made.stop())


def alert(rule: str = "r", src: str = "192.0.2.1", component: str = "firewall", **rest: Any):
    return Alert(
        timestamp_ns=1,
        component=component,
        severity=Severity.LOW,
        rule_id=rule,
        action="log",
        message="m",
        src_ip=src,
        **rest,
    )


def tell(agent: Agent, *alerts: Alert) -> list[Alert]:
    """The alerts that came out of these."""
    before = {each.id for each in stored(agent)}
    asyncio.run(agent.flow._tell(Outcome(list(alerts))))
    return [each for each in stored(agent) if each.id not in before]


def stored(agent: Agent) -> list[Alert]:
    return agent.store.alerts.query(AlertQuery(limit=1000))[0]


def dropped(agent: Agent) -> dict[str, float]:
    return {m.labels["reason"]: m.value for m in agent.metrics() if m.name == "alerts_dropped"}


def test_the_technique_is_the_engines_the_users_or_the_cards(agent, tmp_path):
    (own,) = tell(agent, alert("a", technique="T1000"))
    (cards,) = tell(agent, alert("b"))
    write(tmp_path, techniques={"c": "T1071.001"})
    asyncio.run(agent.reload("test"))
    (users,) = tell(agent, alert("c"))
    assert (own.technique, cards.technique, users.technique) == ("T1000", "T1046", "T1071.001")
    (none,) = tell(agent, alert("d", component="nobody"))
    assert none.technique is None


def test_alerts_say_what_was_lost_since_those_before(agent):
    agent.kernel.lost = 7
    (first,) = tell(agent, alert("a"))
    assert first.context["lost"] == {"busy": 7}
    agent.flow._losses._read_s = -1.0
    (second,) = tell(agent, alert("b"))
    assert "lost" not in second.context
    agent.kernel.lost = 9
    agent.flow._losses._read_s = -1.0
    (third,) = tell(agent, alert("c"))
    assert third.context["lost"] == {"busy": 2}


def test_windows_and_routes_reload(agent, tmp_path):
    assert len(tell(agent, alert(), alert())) == 1
    write(tmp_path, dedup_window_secs=0, routes=[])
    report, _ = asyncio.run(agent.reload("test"))
    assert report["alerting"] == "ok"
    assert len(tell(agent, alert(), alert())) == 2
    assert dropped(agent) == {"dedup": 1, "exception": 0, "slow_listener": 0, "no_route": 2}


def test_what_was_held_back_is_told_when_the_agent_ends(tmp_path):
    agent = Agent(write(tmp_path), {}, CARDS, LossyKernel(interfaces=["eth0"]))
    asyncio.run(agent.prepare())
    tell(agent, alert(), alert(count=4))
    asyncio.run(agent.stop())
    again = Agent(write(tmp_path), {}, CARDS, LossyKernel(interfaces=["eth0"]))
    asyncio.run(again.prepare())
    assert [each.count for each in stored(again)] == [4, 1]
    asyncio.run(again.stop())


def test_an_exception_holds_over_a_restart_with_its_hits(tmp_path):
    agent = Agent(write(tmp_path, dedup_window_secs=0), {}, CARDS, LossyKernel(interfaces=["eth0"]))
    asyncio.run(agent.prepare())
    (first,) = tell(agent, alert())
    agent.exemptions.make(first.id, [Scope.SOURCE], 60, "because", "me")
    assert tell(agent, alert(count=3)) == []
    assert dropped(agent)["exception"] == 3
    assert len(tell(agent, alert(src="192.0.2.2"))) == 1
    asyncio.run(agent.stop())
    again = Agent(write(tmp_path, dedup_window_secs=0), {}, CARDS, LossyKernel(interfaces=["eth0"]))
    asyncio.run(again.prepare())
    assert tell(again, alert()) == []
    (kept,) = again.exemptions.found.all()
    assert (kept.hits, kept.actor, kept.reason) == (4, "me", "because")
    asyncio.run(again.stop())


def test_enrichment_that_fails_costs_no_alert(agent):
    def broken(_alerts: Any) -> None:
        raise RuntimeError("no")

    agent.flow._enrich = broken
    assert len(tell(agent, alert())) == 1
