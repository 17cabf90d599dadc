"""What has been told of packets over their limits, and what has yet to be.

The kernel counts every packet over a limit by the limit. Of each bucket it reports the first one,
then one a second, with how many it kept silent about in between. What it keeps silent about last,
when a source stops, stands in no event: once a limit has been quiet for two seconds, the rest is
told in one alert for the limit. Should a source whose rest was told come back, its next event tells
of those packets too, and they are taken off here. So, for each limit that is quiet, the alerts'
counts add up to the packets over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ratelimit.events import RL_COUNT
from ebpfsentinel.domains.ratelimit.tables import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

_QUIET_NS = 2_000_000_000


class Told:
    """By number of the limit. All arrays have the shape ``(16384,)``."""

    def __init__(self) -> None:
        self.counts = np.zeros(NUMBERS, RL_COUNT)
        self.events = np.zeros(NUMBERS, np.int64)
        self.suppressed = np.zeros(NUMBERS, np.int64)
        self._rest = np.zeros(NUMBERS, np.int64)
        self._moved_ns = np.zeros(NUMBERS, np.int64)
        self._old: set[int] = set()

    def adopt(self, numbers: Iterable[int]) -> None:
        """These counted before this agent began: what they count already is not to be told."""
        self._old = set(numbers)

    def begin(self, numbers: Iterable[int]) -> None:
        """These are new limits: they have counted nothing."""
        fresh = list(numbers)
        for kept in (self.counts, self.events, self.suppressed, self._rest, self._moved_ns):
            kept[fresh] = 0

    def take(self, counts: NDArray[Any], now_ns: int) -> None:
        """What the kernel has counted by now."""
        if self._old:
            old = sorted(self._old)
            self.suppressed[old] += counts["over"][old].astype(np.int64) - self._known()[old]
            self._old = set()
        moved = counts["over"] != self.counts["over"]
        self._moved_ns[moved] = now_ns
        self.counts = counts.copy()

    def hear(self, numbers: NDArray[np.int64], suppressed: NDArray[np.int64]) -> NDArray[np.int64]:
        """Events; returns how many packets each stands for that nothing has told of yet."""
        news = suppressed.copy()
        for number in np.unique(numbers[self._rest[numbers] > 0]).tolist():
            mine = np.flatnonzero(numbers == number)
            through = np.minimum(np.cumsum(suppressed[mine]), self._rest[number])
            known = np.diff(through, prepend=0)
            news[mine] -= known
            self._rest[number] -= through[-1]
        np.add.at(self.events, numbers, 1)
        np.add.at(self.suppressed, numbers, news)
        return news + 1

    def rests(self, now_ns: int) -> Iterator[tuple[int, int]]:
        """Limits that are quiet, and how many of their packets no event told of; told herewith."""
        rest = self.counts["over"].astype(np.int64) - self._known()
        due = (rest > 0) & (now_ns - self._moved_ns >= _QUIET_NS)
        for number in np.flatnonzero(due).tolist():
            self.suppressed[number] += rest[number]
            self._rest[number] += rest[number]
            yield number, int(rest[number])

    def _known(self) -> NDArray[np.int64]:
        return self.events + self.suppressed


class Offenders:
    """The sources that were over their limits most, of the last so many that were reported."""

    _MOST = 4096

    def __init__(self) -> None:
        self._packets: dict[tuple[str, str], int] = {}
        self._last_ns: dict[tuple[str, str], int] = {}

    def add(self, source: str, rule_id: str, packets: int, at_ns: int) -> None:
        """So many more packets of this source were over this limit."""
        key = (source, rule_id)
        self._packets[key] = self._packets.get(key, 0) + packets
        self._last_ns[key] = at_ns
        if len(self._packets) > self._MOST:
            self._forget()

    def _forget(self) -> None:
        """Keep the half that was heard of last."""
        late = sorted(self._last_ns, key=self._last_ns.__getitem__)[self._MOST // 2 :]
        self._packets = {key: self._packets[key] for key in late}
        self._last_ns = {key: self._last_ns[key] for key in late}

    def top(self, most: int) -> list[dict[str, Any]]:
        """The worst, first."""
        ranked = sorted(self._packets, key=self._packets.__getitem__, reverse=True)[:most]
        return [
            {
                "source": key[0],
                "rule_id": key[1],
                "over": self._packets[key],
                "last_ns": self._last_ns[key],
            }
            for key in ranked
        ]
