"""The webhooks that get every alert, in the agent's namespace: each is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

MODES = {"works": "", "flaps": "", "fails": "fails", "hangs": "hangs"}
"""``flaps`` is made to fail, to hang and to recover again and again."""


class Webhooks:
    """Receivers by name; what they were sent, they tell."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.processes = [self._start(folder, name, mode) for name, mode in MODES.items()]
        self.ports = {name: self._port(folder / name) for name in MODES}

    def _start(self, folder: Path, name: str, mode: str) -> subprocess.Popen[bytes]:
        within = ["nsenter", f"--net=/run/netns/{self._lab.guarded}"]
        receiver = [sys.executable, "-m", "bench.receiver", str(folder / name), mode]
        return subprocess.Popen([*within, *receiver])

    def _port(self, path: Path) -> int:
        while not path.exists():
            time.sleep(0.05)
        return int(path.read_text())

    def routes(self) -> list[dict[str, Any]]:
        """What the agent is configured with."""
        return [
            {
                "name": name,
                "destination": "webhook",
                "webhook_url": f"http://127.0.0.1:{port}/",
                "batch": 100,
                "timeout_ms": 5000,
                "spool_bytes": 4 << 30,
            }
            for name, port in self.ports.items()
        ]

    def ask(self, name: str, path: str = "/") -> dict[str, int]:
        """What it has seen; ``path`` may also be a mode to go over to."""
        with self._lab.inside(self._lab.guarded):
            url = f"http://127.0.0.1:{self.ports[name]}{path}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                found: dict[str, int] = json.load(answer)
                return found

    def all(self) -> dict[str, dict[str, int]]:
        """Of each of them."""
        return {name: self.ask(name) for name in MODES}

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(10)
