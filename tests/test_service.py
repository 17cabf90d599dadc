"""The service manager is told the truth by a real agent (sd_notify(3))."""

import contextlib
import signal
import socket

import pytest

from ebpfsentinel.cli.service import ServiceManager
from tests.lab import Lab

WATCHDOG_US = 500_000


@pytest.fixture
def lab(tmp_path):
    with contextlib.closing(Lab(tmp_path)) as made:
        yield made


@pytest.fixture
def manager(tmp_path):
    """A socket as systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(str(tmp_path / "notify"))
        door.settimeout(60)
        yield door


def told(manager, *wanted):
    """What was said up to the moment when each of these has been."""
    left, lines = set(wanted), []
    while left:
        lines += manager.recv(4096).decode().splitlines()
        left -= set(lines)
    return lines


def test_a_service_manager_hears_of_the_whole_life(lab, manager, tmp_path):
    environment = ["env", f"NOTIFY_SOCKET={tmp_path}/notify", f"WATCHDOG_USEC={WATCHDOG_US}"]
    agent = lab.agent_within(environment)
    lines = told(manager, "READY=1", "WATCHDOG=1")
    assert lines[0] == "READY=1"
    assert "STATUS=guards guard0" in lines
    for _ in range(3):
        told(manager, "WATCHDOG=1")
    agent.signal(signal.SIGTERM)
    told(manager, "STOPPING=1")
    assert agent.wait() == 0


def test_a_lost_interface_is_in_the_status(lab, manager, tmp_path):
    environment = ["env", f"NOTIFY_SOCKET={tmp_path}/notify", f"WATCHDOG_USEC={WATCHDOG_US}"]
    lab.agent_within(environment)
    told(manager, "STATUS=guards guard0")
    lab.run(lab.guarded, "ip", "link", "del", "guard0")
    told(manager, "STATUS=not ready: not attached: guard0")


def test_the_watchdog_of_another_process_is_not_fed(lab, manager, tmp_path):
    environment = [
        "env",
        f"NOTIFY_SOCKET={tmp_path}/notify",
        f"WATCHDOG_USEC={WATCHDOG_US}",
        "WATCHDOG_PID=1",
    ]
    agent = lab.agent_within(environment)
    agent.signal(signal.SIGTERM)
    assert "WATCHDOG=1" not in told(manager, "STOPPING=1")
    assert agent.wait() == 0


def test_an_abstract_socket_is_spoken_to(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(f"\0{tmp_path}/notify")
        door.settimeout(60)
        ServiceManager({"NOTIFY_SOCKET": f"@{tmp_path}/notify"}).tell(READY=1, STATUS="here")
        assert door.recv(64) == b"READY=1\nSTATUS=here"
