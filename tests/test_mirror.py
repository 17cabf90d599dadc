"""A mirror of the real agent: refused where there is none, and back in force when it is back."""

import json
import os
import socket

import pytest

from tests.lab import AGENT, Lab, ip
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

PORT = 7001
ETH_P_ALL = 3


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


def monitor(lab):
    """Make the mirror; returns a socket at its other end."""
    ip("-n", lab.guarded, "link", "add", "mon0", "type", "veth", "peer", "tap0")
    for device in ("mon0", "tap0"):
        ip("-n", lab.guarded, "link", "set", device, "up")
    lab.run(lab.guarded, "ethtool", "-K", "tap0", "gro", "on")
    with lab.inside(lab.guarded):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.bind(("tap0", 0))
    tap.settimeout(60)
    return tap


def copied(tap, count):
    """Wait for so many copies of datagrams to the port."""
    while count:
        count -= tap.recv(2048)[36:38] == PORT.to_bytes(2, "big")


def rule(mirror="mon0"):
    return {"id": "copied", "priority": 10, "action": "deny", "protocol": "udp",
            "dst_port": PORT, "mirror": mirror}  # fmt: skip


def unresolved(agent):
    return agent.cli("status")["domains"]["firewall"]["unresolved"]


def test_a_mirror_that_goes_is_named_and_works_again_when_it_is_back(lab):
    tap = monitor(lab)
    agent = lab.agent(firewall={"mode": "block", "rules": [rule()]})
    assert lab.arrivals(PORT) == 0
    copied(tap, 20)
    ip("-n", lab.guarded, "link", "del", "mon0")
    tap.close()
    until(lambda: unresolved(agent) == ["interface mon0"])
    assert lab.arrivals(PORT) == 0
    agent.end()
    agent.start()
    assert unresolved(agent) == ["interface mon0"]
    with monitor(lab) as tap:
        until(lambda: not unresolved(agent))
        assert lab.arrivals(PORT) == 0
        copied(tap, 20)


def test_a_mirror_that_was_never_there_is_refused_with_those_there_are(lab):
    with monitor(lab):
        agent = lab.agent(firewall={"rules": [rule()]})
        other = rule("mon1") | {"id": "other", "dst_port": PORT + 1}
        added = lab.run(lab.guarded, str(AGENT), "firewall", "add", "--json", json.dumps(other))
        assert added.returncode == 1
        assert "there is no interface 'mon1'" in added.stdout + added.stderr
        assert agent.rule("copied")["mirror"] == "mon0"
