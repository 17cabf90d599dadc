"""What waits to be sent to one destination: on disk, and the next of it in memory as well.

Every alert goes to the spool; the first so many that wait are in memory too, so that a destination
that keeps up is never read for. While the disk fails, memory alone has to do, as far as it reaches.
What does not fit is counted by reason: ``spool_full``, or ``queue_full`` where the disk fails.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.alert import Alert
from ebpfsentinel.sinks.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEMORY_BYTES = 1 << 20
BATCH_BYTES = REFILL_BYTES = 1 << 20
_decoder = msgspec.json.Decoder(Alert)


@dataclass
class Item:
    """An alert on its way: its number at this destination, and the alert as JSON."""

    sequence: int
    body: bytes

    @cached_property
    def alert(self) -> Alert:
        """The alert itself."""
        return _decoder.decode(self.body)


class Backlog:
    """A queue in order; :meth:`next` looks, :meth:`done` takes away."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.spool = Spool(folder, most_bytes)
        self.depth = self.spool.count() if not self.spool.trouble else 0
        self.dropped: Counter[str] = Counter()
        self._memory: deque[Item] = deque()
        self._memory_bytes = 0
        self._synced = (self.spool.sequence, self.spool.acknowledged)

    def put(self, bodies: Sequence[bytes]) -> int:
        """Take the bodies, in order; how many fit, the first so many."""
        behind = bool(self._memory_bytes >= MEMORY_BYTES or (self.depth and not self._memory))
        number = self.spool.sequence
        taken = self.spool.append(bodies)
        for body in bodies[:taken]:
            number += 1
            if not behind:
                self._remember(Item(number, body))
                behind = self._memory_bytes >= MEMORY_BYTES
        left = bodies[taken:]
        while left and self.spool.trouble and self._memory_bytes < MEMORY_BYTES:
            self._remember(Item(self.spool.give(), left[0]))
            taken, left = taken + 1, left[1:]
        self.depth += taken
        return taken

    def refuse(self, count: int) -> None:
        """So many did not fit, and are given up."""
        if count:
            self.dropped["queue_full" if self.spool.trouble else "spool_full"] += count

    def _remember(self, item: Item) -> None:
        self._memory.append(item)
        self._memory_bytes += len(item.body)

    def next(self, most: int) -> list[Item]:
        """The first ``most`` that wait, or fewer; nothing only when nothing waits."""
        if not self._memory or self._memory[0].sequence != self.spool.acknowledged + 1:
            self._refill()
        found: list[Item] = []
        size = 0
        for item in self._memory:
            gap = found and item.sequence != found[-1].sequence + 1
            if gap or len(found) == most or size > BATCH_BYTES:
                break
            found.append(item)
            size += len(item.body)
        if not found:
            self._all_gone()
        return found

    def _refill(self) -> None:
        """What is on disk before that which is in memory, or the first of it, into memory."""
        before = self._memory[0].sequence if self._memory else self.spool.sequence + 1
        for sequence, body in reversed(
            self.spool.read(self.spool.acknowledged, before, REFILL_BYTES)
        ):
            self._memory.appendleft(Item(sequence, body))
            self._memory_bytes += len(body)

    def _all_gone(self) -> None:
        """Nothing is left to read: what was counted as waiting is damaged, and counted there."""
        self.depth = 0
        if self.spool.acknowledged < self.spool.sequence:
            self.spool.acknowledge(self.spool.sequence)

    def done(self, items: Sequence[Item]) -> None:
        """These, the first that waited, wait no more."""
        self.spool.acknowledge(items[-1].sequence)
        self.depth = max(self.depth - len(items), 0)
        while self._memory and self._memory[0].sequence <= items[-1].sequence:
            self._memory_bytes -= len(self._memory.popleft().body)

    def oldest_age_s(self) -> float:
        """Since when the first of those that wait was raised."""
        first = self.next(1)
        return max(time.time_ns() - first[0].alert.timestamp_ns, 0) / 1e9 if first else 0.0

    def unsynced(self) -> list[int]:
        """What is to be synced, where anything was written since the last call."""
        mark = (self.spool.sequence, self.spool.acknowledged)
        if mark == self._synced:
            return []
        self._synced = mark
        return self.spool.unsynced()

    def close(self) -> None:
        """Keep what is on disk; what is in memory alone is counted as lost."""
        memory_only = self.spool.trouble and len(self._memory)
        if memory_only:
            self.dropped["not_written"] += memory_only
        self.spool.close()
