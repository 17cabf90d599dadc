"""``doctor`` says what is broken on a real agent, why, and what to do."""

import contextlib
import json
import signal

import pytest

from tests.lab import AGENT, Lab
from tests.waiting import until


@pytest.fixture
def lab(tmp_path):
    with contextlib.closing(Lab(tmp_path)) as made:
        yield made


def findings(agent, about, code=0):
    told = agent.cli("doctor", code=code)
    return [each for each in told["findings"] if each["about"] == about]


def degraded_of(agent, about):
    return [each for each in findings(agent, about) if each["state"] == "degraded"]


def test_a_healthy_agent_is_well(lab):
    agent = lab.agent(firewall={"mode": "block"})
    told = agent.cli("doctor")
    assert told["state"] == "well", [each for each in told["findings"] if each["state"] != "well"]
    whats = {each["what"] for each in told["findings"]}
    assert "guard0: XDP auto asked, native in effect" in whats
    assert "mode block asked, block in effect" in whats


def test_a_step_down_is_said(lab):
    agent = lab.agent(agent={"xdp_mode": "generic"})
    assert findings(agent, "interfaces")[0]["what"] == (
        "guard0: XDP generic asked, generic in effect"
    )


def test_a_lost_interface_is_broken_and_named(lab):
    agent = lab.agent()
    lab.run(lab.guarded, "ip", "link", "del", "guard0")
    until(lambda: lab.run(lab.guarded, str(AGENT), "health").returncode)
    broken = [each for each in findings(agent, "interfaces", code=1) if each["state"] == "broken"]
    assert broken[0]["why"] == "not attached: guard0"
    assert "ebpf status" in broken[0]["remedy"]


def test_a_dead_destination_degrades(lab):
    route = {
        "name": "siem",
        "destination": "webhook",
        "webhook_url": "http://127.0.0.1:9/",  # nobody listens
    }
    rule = {"id": "no-udp", "priority": 1, "action": "deny", "protocol": "udp"}
    agent = lab.agent(
        alerting={"allow_private": True, "routes": [route]}, firewall={"rules": [rule]}
    )
    for port in range(20, 26):  # each is an alert by itself
        lab.arrivals(port)
    degraded = until(lambda: degraded_of(agent, "alerts"))
    assert "siem (webhook)" in degraded[0]["what"]
    assert "alerts test siem" in degraded[0]["remedy"]


def test_without_an_agent_the_host_is_looked_at(lab):
    agent = lab.agent()
    agent.signal(signal.SIGTERM)
    agent.wait()
    told = agent.cli("doctor", code=1)
    assert told["findings"][0]["what"] == "no agent answers at http://127.0.0.1:8080"
    assert [each["state"] for each in told["findings"][1:]] == ["well"] * 4


def test_the_text_is_for_eyes(lab):
    lab.agent()
    told = lab.run(lab.guarded, str(AGENT), "doctor")
    assert "ok        interfaces" in told.stdout
    assert told.stdout.rstrip().endswith("All is well.")
    assert json.loads(lab.run(lab.guarded, str(AGENT), "-o", "json", "doctor").stdout)
