"""Programs that tests talk to: started, awaited by what they print, ended by their process id."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def running(command: list[str], *, until: str, within_s: float, cwd: Path) -> Iterator[None]:
    """The program, from the line that says ``until`` on; killed at the end if it does not end."""
    said: deque[str] = deque(maxlen=200)
    ready, ended = threading.Event(), threading.Event()
    program = subprocess.Popen(
        command, cwd=cwd, text=True, errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip

    def read() -> None:
        for line in program.stdout:
            said.append(line)
            if until in line:
                ready.set()
        ended.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(within_s), f"{command[0]} is not ready:\n{''.join(said)}"
        assert not ended.is_set(), f"{command[0]} has ended:\n{''.join(said)}"
        yield
    finally:
        program.stdin.close()
        program.terminate()
        try:
            program.wait(60)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
        reader.join()
        program.stdout.close()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
