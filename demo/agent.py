"""The real agent as a process of its own, and its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from demo.network import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URL = "http://127.0.0.1:18080"
CONFIG = Path(__file__).with_name("config.yaml")
READY_S = 15.0


class Agent:
    """The agent while it runs; ``alerts`` are all that came over the live stream."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log
        self.alerts: list[dict[str, Any]] = []
        self.listening = threading.Event()
        self._client = httpx.Client(base_url=URL, timeout=5.0, trust_env=False)

    def get(self, path: str) -> Any:
        """The body of an answer.

        Raises:
            httpx.HTTPError: no answer, or a refusal.
        """
        return self._client.get(path).raise_for_status().json()

    def wait_ready(self) -> float:
        """Seconds until everything was attached.

        Raises:
            DemoError: the agent ended, or is not ready in time.
        """
        began = time.monotonic()
        while time.monotonic() - began < READY_S:
            if self.process.poll() is not None:
                raise DemoError(f"the agent ended with {self.process.returncode}:\n{self.tail()}")
            with contextlib.suppress(httpx.TransportError):
                if self._client.get("/readyz").status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.05)
        raise DemoError(f"the agent is not ready after {READY_S:g} s:\n{self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def listen(self, show: Callable[[dict[str, Any]], None]) -> None:
        """Follow the live stream until the agent ends."""
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.stream(
                "GET", f"{URL}/api/v1/alerts/stream", timeout=60.0, trust_env=False
            ) as got,
        ):
            for line in got.iter_lines():
                self.listening.set()
                if line.startswith("data:"):
                    self.alerts.append(json.loads(line[5:]))
                    show(self.alerts[-1])


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Agent]:
    """Start the agent in the calling thread's network namespace; end it, by pid, afterwards."""
    log = folder / "agent.log"
    environment = os.environ | {"EBPFSENTINEL_AGENT__STATE_DIR": str(folder / "state")}
    program = Path(sys.executable).with_name("ebpfsentinel-agent")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "--config", CONFIG], stdout=output, stderr=output, env=environment
        )
    try:
        yield Agent(process, log)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
