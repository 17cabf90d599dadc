"""Explaining and trying, with a running agent: its tables, its alerts, its rules."""

import json
import os
import struct
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

PORT = 7301
RULES = [
    {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": PORT},
    {"id": "log-all", "priority": 20, "action": "log", "protocol": "udp"},
]


AGENT = Path(sys.executable).parent / "ebpfsentinel-agent"


def await_samples(lab, wanted):
    """Until the agent has taken in so many samples to each port; the test's timeout ends it."""
    while True:
        answer = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:8080/api/v1/firewall/samples")
        frames = [bytes.fromhex(each["frame"]) for each in json.loads(answer.stdout)["samples"]]
        ports = Counter(int.from_bytes(frame[36:38], "big") for frame in frames if len(frame) == 42)
        if all(ports[port] >= count for port, count in wanted.items()):
            return


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


def test_a_plan_shows_what_a_reload_would_do_to_packets_seen(lab, tmp_path):
    agent = lab.agent(firewall={"mode": "block", "rules": RULES, "sample_every": 1})
    lab.arrivals(PORT + 1, count=4)
    lab.arrivals(PORT, count=3)
    await_samples(lab, {PORT: 3, PORT + 1: 4})
    then = tmp_path / "then.json"
    rules = [RULES[0] | {"dst_port": PORT + 1}, {**RULES[1], "scope": "guard0"}]
    then.write_text(
        json.dumps(
            {"agent": {"interfaces": ["guard0"]}, "firewall": {"mode": "block", "rules": rules}}
        )
    )
    found = agent.cli("firewall", "plan", str(then), "--most", "100")
    assert found["changes"]["changed"]["no-udp"] == {"dst_port": [PORT, PORT + 1]}
    assert found["changes"]["changed"]["log-all"] == {"scope": ["global", "guard0"]}
    assert found["changes"]["settings"] == {"sample_every": [1, 1024]}
    kinds = {
        (kind["before"]["rule"], kind["after"]["rule"]): kind["frames"]
        for kind in found["difference"]["kinds"]
    }
    assert kinds == {("no-udp", "log-all"): 3, ("log-all", "no-udp"): 4}
    text = lab.run(lab.guarded, str(AGENT), "firewall", "plan", str(then)).stdout
    assert f"dst_port: {PORT} -> {PORT + 1}" in text
    assert agent.rule("no-udp")["dst_port"] == str(PORT)


def capture(tmp_path, source, count):
    """A file of so many UDP datagrams."""
    udp = struct.pack(">HHHH", 9, PORT, 8, 0)
    ends = bytes([*source, 10, 0, 0, 2])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 17, 0) + ends
    frame = bytes(12) + b"\x08\x00" + ip + udp
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame
    path = tmp_path / f"{source[3]}.pcap"
    path.write_bytes(head + record * count)
    return path


def test_what_the_floor_spares_is_said_to_be(lab, tmp_path):
    floor = {"never_block": {"addresses": ["10.0.0.7/32", "10.77.0.1/32"]}}
    agent = lab.agent(agent=floor, firewall={"mode": "block", "rules": RULES})
    assert lab.arrivals(PORT, count=3) == 3
    (alert,) = agent.alerts("no-udp")
    found = agent.cli("firewall", "why", alert["id"])
    assert found["alert"]["action"] == found["verdict"] == "spared"
    assert found["rule"]["id"] == "no-udp"
    for last, verdict in ((7, "spared"), (8, "deny")):
        line = f"udp 10.0.0.{last}:9 -> 10.0.0.2:{PORT}"
        assert agent.cli("firewall", "would", line)["verdict"] == verdict
        path = capture(tmp_path, (10, 0, 0, last), 20)
        (row,) = agent.cli("firewall", "replay", str(path))["in_force"]["rules"]
        assert (row["rule"], row["verdict"], row["frames"]) == ("no-udp", verdict, 20)


def test_a_replay_takes_the_running_agents_rules_and_leaves_it_alone(lab, agent, tmp_path):
    body = {"id": "late", "priority": 5, "action": "deny", "protocol": "udp", "dst_port": PORT}
    agent.cli("firewall", "add", "--json", json.dumps(body))
    lab.arrivals(PORT, count=2)
    path = capture(tmp_path, (10, 0, 0, 1), 5000)
    before = agent.rule("late")["packets"]
    found = agent.cli("firewall", "replay", str(path))
    assert found["in_force"]["from"] == "the running agent"
    rows = [(row["rule"], row["verdict"], row["frames"]) for row in found["in_force"]["rules"]]
    assert rows == [("late", "deny", 5000)]
    assert agent.rule("late")["packets"] == before == 2
    (alert,) = agent.alerts("late")
    assert alert["count"] == 2
    assert lab.arrivals(PORT, count=1) == 0
