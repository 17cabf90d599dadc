"""One agent ends and another takes over, whatever ``on_exit`` says: no packet is unjudged."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from ebpfsentinel.store.holder import alone, holder

if TYPE_CHECKING:
    from collections.abc import Iterator

DENY = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}
BLOCK = {"mode": "block", "rules": [DENY]}
PINS_OF_ITS_OWN = "mount -t bpf bpf /sys/fs/bpf && echo ready && read end"


@pytest.fixture
def apart() -> Iterator[list[str]]:
    """A mount namespace with a bpffs that no other test sees."""
    command = ["unshare", "--mount", "sh", "-c", PINS_OF_ITS_OWN]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "ready\n"
        yield ["nsenter", f"--mount=/proc/{keeper.pid}/ns/mnt"]


@pytest.fixture
def agent(lab: Any, apart: list[str]) -> Any:
    """A blocking agent that detaches when it ends (``on_exit`` is as by default)."""
    return lab.agent_within(apart, firewall=BLOCK)


def pins(apart: list[str]) -> str:
    command = [*apart, "find", "/sys/fs/bpf", "-mindepth", "2"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def handed_over(agent: Any) -> None:
    told = agent.cli("hand-over", "--state-dir", str(agent.state))
    assert told["pid"] == agent.process.pid
    assert agent.wait() == 0
    agent.end()


def test_what_was_enforced_stays_until_the_next_agent_takes_it_over(
    lab: Any, agent: Any, apart: list[str]
) -> None:
    assert lab.arrivals(5353) == 0
    handed_over(agent)
    assert lab.arrivals(5353) == 0
    agent.start()
    assert lab.arrivals(5353) == 0
    assert agent.rule("no-udp")["packets"] == 60
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert lab.arrivals(5353) == 20
    assert pins(apart) == ""


def test_a_next_agent_that_cannot_start_or_dies_takes_nothing_away(lab: Any, agent: Any) -> None:
    handed_over(agent)
    good = agent.config.read_text()
    agent.write(firewall=BLOCK, agent={"metrics_port": 8080})
    with pytest.raises(AssertionError, match="8080"):
        agent.start()
    agent.end()
    assert lab.arrivals(5353) == 0
    agent.config.write_text(good)
    agent.start()
    agent.signal(signal.SIGKILL)
    agent.wait()
    assert lab.arrivals(5353) == 0
    agent.end()
    agent.start()
    assert agent.rule("no-udp")["packets"] == 40


def test_without_an_agent_there_is_nothing_to_hand_over(agent: Any) -> None:
    agent.end()
    assert agent.cli("hand-over", "--state-dir", str(agent.state))["pid"] is None


def test_an_agent_holds_its_state_folder_as_long_as_it_lives(agent: Any) -> None:
    assert holder(agent.state) == agent.process.pid
    with pytest.raises(BlockingIOError), alone(agent.state):
        pass
    agent.signal(signal.SIGKILL)
    agent.wait()
    assert holder(agent.state) == 0
    with alone(agent.state):
        pass
