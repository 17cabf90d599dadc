"""The units: systemd takes them, exposure is as documented, both halves live with them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab import AGENT, Lab, RunningAgent
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))
AGENT_UNIT, KEEPER_UNIT = "ebpfsentinel.service", "ebpfsentinel-keeper.service"
USER = "64322"
DENY = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}


def analyzed(unit: str, folder: Path, *verb: str) -> str:
    """What systemd-analyze says; only the program's path differs from an installation."""
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd-analyze is missing: apt install systemd"
    for name in UNITS:  # they name one another
        text = (DEPLOY / name).read_text()
        there = f"ExecStart={shutil.which('true')}"
        (folder / name).write_text(text.replace("ExecStart=ebpfsentinel-agent", there))
    done = subprocess.run(
        [tool, *verb, folder / unit], capture_output=True, text=True, check=False,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{folder}:"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_the_unit(unit: str, tmp_path: Path) -> None:
    assert analyzed(unit, tmp_path, "verify", "--man=no") == ""


def test_exposure_is_as_documented(tmp_path: Path) -> None:
    page = (ROOT / "docs/installation.md").read_text()
    for unit in UNITS:
        told = analyzed(unit, tmp_path, "security", "--offline=true", "--no-pager")
        exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", told)
        assert exposure is not None
        assert f"| `{unit}` | {exposure[1]} |" in page
        if unit == AGENT_UNIT:
            assert float(exposure[1]) <= 2.0


@pytest.fixture
def lab() -> Iterator[Lab]:
    """In a folder that the service's user may pass."""
    with tempfile.TemporaryDirectory(prefix="units-") as folder:
        Path(folder).chmod(0o755)
        with contextlib.closing(Lab(Path(folder))) as made:
            yield made


def within(unit: str) -> list[str]:
    """What makes a process as systemd makes one of the unit."""
    return [sys.executable, str(ROOT / "tests/sandbox.py"), str(DEPLOY / unit), USER]


@contextlib.contextmanager
def keeper(lab: Lab, config: Path) -> Iterator[None]:
    """A keeper as its unit runs it, in the guarded namespace, from when it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(lab.tmp / "notify"))
        manager.settimeout(30)
        net = ["nsenter", f"--net=/run/netns/{lab.guarded}"]
        running = subprocess.Popen(
            [*net, *within(KEEPER_UNIT), AGENT, "keeper", "--config", config],
            env=os.environ | {"NOTIFY_SOCKET": str(lab.tmp / "notify")},
        )
        try:
            assert manager.recv(64) == b"READY=1"
            yield
        finally:
            running.terminate()
            running.wait(60)


def confined(agent: RunningAgent) -> dict[str, str]:
    """What the kernel says of the agent."""
    assert agent.process is not None
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    return {name: " ".join(rest.split()) for name, _, rest in (s.partition(":") for s in lines)}


def test_both_halves_live_with_what_their_units_leave_them(lab: Lab) -> None:
    door, state = lab.tmp / "run/kernel.sock", lab.tmp / "state"
    for folder in (door.parent, state):
        folder.mkdir(mode=0o750)
        os.chown(folder, 0 if folder == door.parent else int(USER), int(USER))
    agent = {
        "interfaces": ["guard0"], "state_dir": str(state), "user": USER,
        "privilege_separation": True, "keeper_socket": str(door),
    }  # fmt: skip
    blocking = {"mode": "block", "rules": [DENY]}
    running = RunningAgent(lab, {"agent": agent, "firewall": blocking})
    lab.agents.append(running)
    os.chown(running.config, 0, int(USER))
    running.config.chmod(0o640)
    running.wrapper = within(AGENT_UNIT)
    with keeper(lab, running.config):
        running.start()
        assert lab.arrivals(5353) == 0
        assert lab.arrivals(5354) == 20
        assert until(lambda: running.alerts("no-udp"))
        assert running.cli("health")["ready"] is True
        told = confined(running)
        assert told["Uid"] == " ".join([USER] * 4)
        assert {told[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        assert (told["NoNewPrivs"], told["Seccomp"]) == ("1", "2")
        running.end()
