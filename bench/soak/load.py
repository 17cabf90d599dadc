"""The load: the demo's kind of traffic and execs, round after round, from a thread of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

EXECS, PROCESSES, EVERY_S = 5, 60, 0.5
RULES = {
    "mode": "block",
    "rules": [
        {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353},
        {"id": "log", "priority": 11, "action": "log", "protocol": "tcp", "dst_port": "1000-2000"},
    ],
}
OTHER_RULES = {
    "mode": "block",
    "rules": [
        *RULES["rules"],
        {
            "id": "more",
            "priority": 12,
            "action": "deny",
            "protocol": "udp",
            "dst_port": "6000-7000",
        },
    ],
}


class Load:
    """Rounds until :meth:`close`; while somebody holds :attr:`road`, none is on its way.

    A round is 300 denied UDP packets of both families, 10 logged TCP connections, 60 processes, and
    5 execs from a temporary folder that raise an alert each.
    """

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self.road = threading.Lock()
        self.rounds = 0
        self.broken: list[str] = []
        self._over = threading.Event()
        self._odd = self.program("try-me")
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def program(self, name: str) -> Path:
        """A copy of ``true`` in a temporary folder: whoever executes it raises an alert."""
        odd = self._folder / name
        shutil.copy("/bin/true", odd)
        return odd

    def _carry(self) -> None:
        while not self._over.wait(EVERY_S):
            with self.road:
                try:
                    self._round()
                except (OSError, subprocess.SubprocessError) as error:
                    self.broken.append(repr(error))
                    print(f"round {self.rounds}: {error!r}", file=sys.stderr)

    def _round(self) -> None:
        self._lab.arrivals(5353, 200)
        self._lab.arrivals(5353, 100, ipv6=True)
        for port in range(10):
            self._lab.connects(1000 + (10 * self.rounds + port) % 900)
        for _ in range(PROCESSES):
            subprocess.run(["/bin/true"], check=True)
        for _ in range(EXECS):
            subprocess.run([str(self._odd)], check=True)
        self.rounds += 1

    def close(self) -> None:
        self._over.set()
        self._thread.join()
