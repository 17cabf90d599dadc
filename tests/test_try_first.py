"""Explaining and trying, with a running agent: its tables, its alerts, its rules."""

import json
import os

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

PORT = 7301
RULES = [
    {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": PORT},
    {"id": "log-all", "priority": 20, "action": "log", "protocol": "udp"},
]


@pytest.fixture
def agent(lab):
    return lab.agent(firewall={"mode": "block", "rules": RULES})


def test_an_alert_is_explained_and_a_packet_asked_about_leaves_no_trace(lab, agent):
    assert lab.arrivals(PORT, count=3) == 0
    (alert,) = agent.alerts("no-udp")
    found = agent.cli("firewall", "why", alert["id"])
    assert found["alert"]["action"] == found["verdict"] == "deny"
    assert found["rule"]["id"] == "no-udp"
    assert found["rule"]["packets"] == 3
    assert found["stage"].startswith("xdp_firewall on ")
    assert [each["id"] for each in found["would_follow"]] == ["log-all", "default-policy"]
    for _ in range(3):
        line = f"udp 10.0.0.1:9 -> 10.0.0.2:{PORT}"
        assert agent.cli("firewall", "would", line)["verdict"] == "deny"
    assert agent.rule("no-udp")["packets"] == 3
    (same,) = agent.alerts("no-udp")
    assert same["id"] == alert["id"]


def test_what_cannot_be_asked_is_refused_with_the_place(agent):
    agent.cli("firewall", "would", "tcp 10.0.0.1:1 -> nowhere", code=1)
    agent.cli("firewall", "why", "1234567890123-none-1", code=1)


def test_idle_rules_are_found(agent):
    body = {"id": "late", "priority": 30, "action": "deny", "protocol": "udp", "dst_port": 9}
    agent.cli("firewall", "add", "--json", json.dumps(body))
    found = agent.cli("firewall", "shadowed")
    assert [(each["id"], each["by"]) for each in found["shadowed"]] == [("late", ["log-all"])]
    assert found["undecided"] == []
    young = agent.cli("firewall", "unused", "--days", "1")["too_young"]
    assert {"no-udp", "late"} <= {each["id"] for each in young}
    assert agent.cli("firewall", "unused", "--days", "1")["unused"] == []
