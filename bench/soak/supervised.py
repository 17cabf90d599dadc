"""The agent under a supervisor that starts it again, and its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab import Lab, RunningAgent

API = "http://127.0.0.1:8080"
ANOTHER_CLOCK = ["unshare", "--time", "--boottime", "7200", "--monotonic", "7200"]
_TICKS = os.sysconf("SC_CLK_TCK")


class Supervised:
    """``lives`` counts its starts. The files of each life are the same."""

    def __init__(self, lab: Lab, agent: RunningAgent) -> None:
        self._lab, self.agent = lab, agent
        self.lives = 0
        self.downs_s: list[float] = []

    def start(self, wrapper: list[str] | None = None) -> None:
        """Returns once it says that it guards the host."""
        self.agent.wrapper = wrapper or []
        self.agent.start()
        self.lives += 1

    def kill(self, wrapper: list[str] | None = None) -> None:
        """``kill -9`` of all of its processes; then it is started again."""
        began = time.monotonic()
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process = self.agent.process
        assert process is not None
        assert process.stdout is not None
        process.wait(10)
        process.stdout.close()
        self.start(wrapper)
        self.downs_s.append(round(time.monotonic() - began, 2))

    def tree(self) -> list[int]:
        """The supervisor's child and all below it."""
        assert self.agent.process is not None
        found = [self.agent.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                found += map(int, children.split())
        return found

    def resident_mb(self) -> float:
        """VmRSS of all its processes."""
        return round(sum(map(_resident_kb, self.tree())) / 1024, 1)

    def cpu_s(self) -> float:
        """What they have used since they were started."""
        found = 0.0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found += (int(after[11]) + int(after[12])) / _TICKS
        return found

    def get(self, path: str) -> Any:
        """A body of the REST API; text where it is not JSON. Also of an answer such as 503."""
        with self._lab.inside(self._lab.guarded):
            try:
                with urllib.request.urlopen(f"{API}{path}", timeout=30) as answer:
                    body = answer.read()
            except urllib.error.HTTPError as refused:
                body = refused.read()
        try:
            return json.loads(body)
        except ValueError:
            return body.decode()

    def count(self, metric: str) -> int:
        """A counter, summed over its labels."""
        lines = self.get("/metrics").splitlines()
        found = (line for line in lines if line.startswith((f"{metric}{{", f"{metric} ")))
        return int(sum(float(line.rpartition(" ")[2]) for line in found))

    def until(self, look: Callable[[], Any], most_s: float = 60) -> float:
        """Seconds until that is so.

        Raises:
            TimeoutError: it never was.
        """
        began = time.monotonic()
        while not look():
            if time.monotonic() - began > most_s:
                raise TimeoutError(f"not within {most_s:g} s")
            time.sleep(0.1)
        return round(time.monotonic() - began, 2)

    def ready(self) -> bool:
        """As ``/readyz`` says."""
        return bool(self.get("/readyz")["status"] == "ok")


def _resident_kb(pid: int) -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
    return 0


class Listener:
    """A client of the alert stream that comes back whenever the agent does."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._wanted, self._seen_at = "", 0.0
        self._over, self._seen = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, ValueError):
                self._read()
            self._over.wait(0.2)

    def _read(self) -> None:
        with self._lab.inside(self._lab.guarded):
            stream = urllib.request.urlopen(f"{API}/api/v1/alerts/stream", timeout=120)
        with stream:
            for line in stream:
                if self._over.is_set():
                    return
                if self._wanted and self._wanted.encode() in line and not self._seen.is_set():
                    self._seen_at = time.monotonic()
                    self._seen.set()

    def latency_ms(self, name: str, act: Callable[[], Any]) -> float | None:
        """From ``act`` to the first alert that has ``name`` in it; None: none within 30 s."""
        self._seen.clear()
        self._wanted = name
        began = time.monotonic()
        act()
        seen = self._seen.wait(30)
        self._wanted = ""
        return round((self._seen_at - began) * 1000, 1) if seen else None

    def close(self) -> None:
        self._over.set()
