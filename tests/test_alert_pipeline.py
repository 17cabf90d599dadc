"""A real agent: sinks down under load, the agent killed, nothing lost, order kept."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.waiting import until

ROOT = Path(__file__).parents[1]
DENY = {
    "mode": "block",
    "rules": [
        {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}
    ],
}


class Receiver:
    """A webhook in the agent's namespace; it fails until :meth:`recover`."""

    def __init__(self, lab, folder, mode):
        self.lab = lab
        within = ["nsenter", f"--net=/run/netns/{lab.guarded}"]
        file = folder / f"port-{mode}"
        self.process = subprocess.Popen(
            [*within, sys.executable, "-m", "bench.receiver", str(file), mode], cwd=ROOT
        )
        while not file.exists():
            assert self.process.poll() is None
            time.sleep(0.02)
        self.port = int(file.read_text())

    def ask(self, path="/"):
        with self.lab.inside(self.lab.guarded):
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)

    def close(self):
        self.process.kill()
        self.process.wait(60)


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def receivers(lab, tmp_path):
    made = {mode: Receiver(lab, tmp_path, mode) for mode in ("fails", "hangs")}
    yield made
    for each in made.values():
        each.close()


def alerting(receivers):
    routes = [
        {
            "name": name,
            "destination": "webhook",
            "webhook_url": f"http://127.0.0.1:{each.port}/",
            "timeout_ms": 500,
            "batch": batch,
        }
        for (name, each), batch in zip(receivers.items(), (1, 50), strict=True)
    ]
    return {
        "dedup_window_secs": 0,
        "throttle_max": 0,
        "allow_private": True,
        "routes": routes,
    }


def destinations(agent):
    return {each["name"]: each for each in agent.cli("alerts", "destinations")["destinations"]}


def raise_alerts(lab, ports):
    """Alerts of denied packets, one or more a port."""
    for port in ports:
        with lab.inside(lab.sender), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"x", ("10.77.0.2", port))
        time.sleep(0.06)


def stored(agent, *which):
    """The ids of alerts, the oldest first."""
    found = agent.cli("alerts", "list", "--limit", "1000", *which)["alerts"]
    return [alert["id"] for alert in reversed(found)]


def test_sinks_down_agent_killed_nothing_lost_order_kept(lab, receivers):
    agent = lab.agent(firewall=DENY, alerting=alerting(receivers))
    raise_alerts(lab, [5353] * 15)
    until(lambda: len(stored(agent)) >= 5)
    until(lambda: all(each["failures"] for each in destinations(agent).values()))
    before = stored(agent)
    agent.signal(signal.SIGKILL)
    agent.wait()
    agent.process.stdout.close()
    agent.start()
    after = destinations(agent)
    assert all(each["waiting"] >= len(before) for each in after.values())
    raise_alerts(lab, [5353] * 10)
    for each in receivers.values():
        each.ask("/recover")
    until(lambda: not any(each["waiting"] for each in destinations(agent).values()))
    everything = stored(agent)
    for each in receivers.values():
        got = each.ask("/seen")["ids"]
        assert set(everything) <= set(got)
        assert [i for i in got if i in set(everything)] == everything


def test_a_test_alert_and_an_exception_by_the_command_line(lab, receivers):
    receivers["fails"].ask("/recover")
    agent = lab.agent(firewall=DENY, alerting=alerting(receivers))
    assert agent.cli("alerts", "test", "fails")["delivered"]
    assert "no answer" in agent.cli("alerts", "test", "hangs", code=1)["error"]
    raise_alerts(lab, [5353] * 2)
    until(lambda: stored(agent, "--rule-id", "no-udp"))
    (alert, *_) = agent.cli("alerts", "list", "--rule-id", "no-udp")["alerts"]
    assert alert["technique"] == "T1046"
    made = agent.cli("alerts", "except", alert["id"], "--scope", "source", "--expires", "1h")
    assert made["wanted"] == {"source": "10.77.0.1"}
    count = len(stored(agent, "--rule-id", "no-udp"))
    raise_alerts(lab, [5353] * 3)
    until(lambda: agent.cli("alerts", "exceptions")["exceptions"][0]["hits"] >= 3)
    assert len(stored(agent, "--rule-id", "no-udp")) == count
    assert agent.cli("alerts", "unexcept", made["id"])["hits"] >= 3
    raise_alerts(lab, [5353] * 2)
    until(lambda: len(stored(agent, "--rule-id", "no-udp")) > count)
    actions = [entry["action"] for entry in agent.cli("audit", "logs")["entries"]]
    assert {"exception_added", "exception_removed"} <= set(actions)
