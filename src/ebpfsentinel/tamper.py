"""Is what is ours still as it was, or did somebody else have his hands on it?

What is in the kernel, the kernel is asked for (:meth:`~ebpfsentinel.model.kernel.Kernel.inspect`).
Here are the files that the agent was started from, whether somebody traces it, and whether it was
stopped. Who is root can do all of that without being seen, if he takes care (he can stop the agent,
change what it would look at, and let it go on); see docs/threat-model.md for what is out of reach.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.health import Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_STATUS = Path("/proc/self/status")
_GAP_S = 3.0
"""A tick that comes so much too late: the agent did not run meanwhile."""
_MOST_TOLD = 8
_SUFFIXES = (".py", ".o", ".json", ".so")

Mark = tuple[int, int, int, int]


def package_files(folder: Path) -> list[Path]:
    """What the agent is made of: its modules and its kernel objects, without tests."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in _SUFFIXES and "tests" not in path.parts and path.is_file()
    )


class Files:
    """Digests of files as they were at the start.

    A file whose inode, size and times are the same is not read again; who can set those back can
    also write to our memory.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._known = {path: (_mark(path), _digest(path)) for path in paths}

    def changed(self) -> Iterator[tuple[Path, str]]:
        """Each file that is not what it was, and what became of it; the same ones every time."""
        for path, (mark, digest) in list(self._known.items()):
            now = _mark(path)
            if now == mark:
                continue
            if now is None:
                yield path, "was removed"
            elif (found := _digest(path)) != digest:
                yield path, f"was replaced (SHA-256 {digest[:16]}... before, {found[:16]}... now)"
            else:
                self._known[path] = now, digest


def _mark(path: Path) -> Mark | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class Gaps:
    """Did we run? A machine that slept is none of our troubles."""

    def __init__(self) -> None:
        self._last = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)

    def since_last(self, expected_s: float) -> float:
        """Seconds that are missing since the last call, beyond those expected; 0: none."""
        now, before, self._last = self._now(), self._last, self._now()
        gap_s = now[0] - before[0] - expected_s
        return gap_s if gap_s > _GAP_S else 0.0


def tracer() -> int:
    """Pid of the process that traces us (ptrace(2)); 0: none."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("TracerPid:"):
            return int(line.split()[1])
    return 0


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"


class Own:
    """What is ours outside the kernel."""

    def __init__(self, folder: Path) -> None:
        self._files = Files(package_files(folder))
        self._folder = folder
        self.gaps = Gaps()

    def look(self) -> Iterator[Trouble]:
        """The files, and who traces us."""
        changed = [
            (os.path.relpath(path, self._folder), what) for path, what in self._files.changed()
        ]
        for name, what in changed[:_MOST_TOLD]:
            text = f"{name} of the agent {what}: by an upgrade? Then restart the agent"
            yield Trouble("tamper", f"tamper.file.{name}", text, Severity.HIGH)
        if len(changed) > _MOST_TOLD:
            text = f"{len(changed) - _MOST_TOLD} more files of the agent were changed"
            yield Trouble("tamper", "tamper.files", text, Severity.HIGH)
        if pid := tracer():
            text = f"the agent is traced by process {pid} ({_name(pid)})"
            yield Trouble("tamper", "tamper.traced", text)

    def stopped(self, expected_s: float) -> Trouble | None:
        """Were we stopped, or starved?"""
        if gap_s := self.gaps.since_last(expected_s):
            text = f"the agent did not run for {gap_s:.1f} s: stopped, frozen, or no CPU was left"
            return Trouble("tamper", "tamper.stopped", text, Severity.HIGH)
        return None
