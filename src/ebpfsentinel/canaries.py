"""Canaries: harmless records and deeds that have to come back, or somebody is deaf.

A hook that was detached, a ring that nobody reads and an engine that fails all look like peace. So
now and then a canary goes each way, and its silence is what an alarm is made of. There are three:

* a record of its own into every ring, put there by a program beside those that fill it
  (``record.h``), and fed to the engine with what came along: ring, reader and engine work;
* a deed of the agent's own, such as an exec, that the hooks named on the domains' cards
  (:class:`~ebpfsentinel.model.domain.Canary`) must see: hook, ring and reader work;
* a frame through the chain of every interface by BPF_PROG_RUN, as a question that leaves no trace:
  the programs run to the end. That they are attached, and that packets reach them, this cannot
  tell: :mod:`ebpfsentinel.watch` asks the kernel, and compares the counters.

Here is what is under way and what came back; what to think of it, :mod:`ebpfsentinel.watch` says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.health import CANARY_WORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_WORD = np.uint64(CANARY_WORD)
_PID_NS = Path("/proc/self/ns/pid")
_FORGET = 4096
"""Pids of deeds that nobody waits for any more; there are a few at any time."""


@dataclass(slots=True)
class Way:
    """One way that is proven again and again: ``sent_s`` and ``heard_s`` are monotonic, 0: never.

    ``latency_s`` is of the last canary that came back; ``fault`` says why none can be sent.
    """

    kind: str
    name: str
    sent_s: float = 0.0
    heard_s: float = 0.0
    heard_ns: int = 0
    latency_s: float | None = None
    fault: str = ""

    @property
    def waits(self) -> bool:
        """Is one under way?"""
        return self.sent_s > self.heard_s

    def send(self) -> None:
        """One goes; while another is under way, the time of that one counts."""
        if not self.waits:
            self.sent_s = time.monotonic()

    def hear(self) -> None:
        """It has come back."""
        if self.waits:
            self.heard_s, self.heard_ns = time.monotonic(), time.time_ns()
            self.latency_s = self.heard_s - self.sent_s
            self.fault = ""

    def silent_s(self, now_s: float) -> float:
        """How long the one that is under way has been; 0: none is."""
        return now_s - self.sent_s if self.waits else 0.0


@dataclass(slots=True)
class Deeds:
    """The processes that were canaries, by the rings that have to tell of them."""

    pids: dict[str, set[int]] = field(default_factory=dict)

    def expect(self, ring: str, pid: int) -> None:
        """The ring must have a record of this process."""
        found = self.pids.setdefault(ring, set())
        if len(found) > _FORGET:
            found.clear()
        found.add(pid)


class Canaries:
    """Those in rings. ``ways`` are all that is proven, by name."""

    def __init__(self) -> None:
        self.ways: dict[str, Way] = {}
        self.deeds = Deeds()
        self._ring_waits: set[str] = set()
        self._deed_of: dict[str, str] = {}
        self._pid_ns = _PID_NS.stat().st_ino

    def way(self, kind: str, name: str) -> Way:
        """This one, made where there is none."""
        return self.ways.setdefault(f"{kind} {name}", Way(kind, name))

    def keep(self, names: Iterable[str]) -> None:
        """Forget all but these: what they belonged to is off, or gone."""
        wanted = set(names)
        self.ways = {name: way for name, way in self.ways.items() if name in wanted}

    def excuse(self) -> None:
        """Nobody ran for a while: those under way have set out now."""
        for way in self.ways.values():
            if way.waits:
                way.sent_s = time.monotonic()

    def send_to(self, ring: str) -> None:
        """A canary is in this ring now."""
        self.way("ring", ring).send()
        self._ring_waits.add(ring)

    def expect(self, hook: str, ring: str, pid: int) -> None:
        """A deed of process ``pid`` has to show in this ring."""
        self.way("hook", hook).send()
        self.deeds.expect(ring, pid)
        self._deed_of[ring] = hook

    def sift(self, ring: str, rows: NDArray[Any]) -> tuple[NDArray[Any], bool]:
        """The records without canaries, and whether there was one. Costs nothing while none is due.

        Deeds are not taken out: they are as true as any other record.
        """
        if pids := self.deeds.pids.get(ring):
            self._find_deed(ring, rows, pids)
        if ring not in self._ring_waits or not len(rows):
            return rows, False
        first = np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), -1)
        canary = (first == _WORD).all(axis=1)
        if not canary.any():
            return rows, False
        self._ring_waits.discard(ring)
        self.way("ring", ring).hear()
        return rows[~canary], True

    def _find_deed(self, ring: str, rows: NDArray[Any], pids: set[int]) -> None:
        names = rows.dtype.names or ()
        if "pid" not in names:
            return
        if {"ns_pid", "pid_ns"} <= set(names):
            self._learn(rows)
        if seen := pids.intersection(rows["pid"].tolist()):
            pids -= seen
            self.way("hook", self._deed_of[ring]).hear()

    def _learn(self, rows: NDArray[Any]) -> None:
        """In a container a child has another pid for us than for the kernel: wait for that one."""
        ours = rows[rows["pid_ns"] == self._pid_ns]
        for pid, known in zip(ours["pid"].tolist(), ours["ns_pid"].tolist(), strict=True):
            for waiting in self.deeds.pids.values():
                if pid != known and known in waiting:
                    waiting.remove(known)
                    waiting.add(pid)
