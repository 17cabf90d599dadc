"""What was asked for and what is in effect stand side by side, and differ only where they do."""

import pytest

from ebpfsentinel.api.modes import mode_metrics, modes
from ebpfsentinel.model.health import Proof


@pytest.fixture
def agent(served, monkeypatch):
    for name, empty in (("missing", {}), ("proofs", []), ("troubles", []), ("blind", "")):
        monkeypatch.setattr(served.agent, name, empty)
    return served.agent


def by_what(agent):
    return {mode.what: (mode.asked, mode.effective, mode.as_asked) for mode in modes(agent)}


def test_all_that_has_a_mode_is_there(agent):
    found = by_what(agent)
    assert found["interface eth0"] == ("auto", "generic", False)
    assert found["privilege separation"] == ("off", "off", True)
    assert found["ring moat_events"] == ("read", "read", True)
    assert found["domain moat"][2]


def test_a_missing_domain_and_a_silent_ring_differ(agent):
    agent.missing["moat"] = "the kernel has no water"
    agent.proofs.append(Proof(kind="ring", name="moat_events", state="silent"))
    found = by_what(agent)
    assert found["domain moat"] == ("on", "off", False)
    assert found["ring moat_events"] == ("read", "silent", False)
    values = {each.labels["what"]: each.value for each in mode_metrics(agent)}
    assert values["domain moat"] == values["ring moat_events"] == 0


def test_the_status_has_them(client):
    body = client.get("/api/v1/agent/status").json()
    assert {"what", "asked", "effective", "as_asked", "why"} == set(body["modes"][0])
    assert body["missing"] == {}


def test_health_has_proofs_and_troubles(agent, client):
    agent.proofs.append(Proof(kind="ring", name="moat_events", state="well", latency_ms=1.5))
    body = client.get("/api/v1/agent/health").json()
    assert body["state"] == "well"
    assert body["proofs"][0]["latency_ms"] == 1.5


def test_a_blind_agent_is_not_ready(agent, client):
    agent.blind = "ring moat_events: no canary came back"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["blind"]) == (503, agent.blind)
    assert client.get("/api/v1/agent/status").json()["status"] == "blind"
