"""Packet rates from counters: measured over real time, however often somebody looks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
_LEAST_NS = 20_000_000
"""Between two looks; what is nearer together says little, and is left for the next."""
_MOST_NS = 10 * SECOND_NS
"""Between two looks; what is further apart (a stopped agent, a clock that was set) says nothing."""


class Rates:
    """Packets a second of several counters, and their moving average (EWMA).

    ``pps`` is of the last look, ``smooth`` the average with the time constant: after a step, it is
    63 % there when that has passed, whatever the times of looking were. Both ``(counters,)``.
    """

    def __init__(self, counters: int) -> None:
        self.pps, self.smooth = np.zeros(counters), np.zeros(counters)
        self._before = np.full(counters, np.inf)
        self._before_ns = 0

    def look(self, counts: NDArray[np.float64], now_ns: int, constant_ns: int) -> bool:
        """Take in cumulative counts ``(counters,)``; False where they tell nothing yet."""
        passed_ns = now_ns - self._before_ns
        before = self._before
        if 0 <= passed_ns < _LEAST_NS:
            return False
        self._before, self._before_ns = counts, now_ns
        if not 0 < passed_ns <= _MOST_NS or (counts < before).any():
            return False
        self.pps = (counts - before) * SECOND_NS / passed_ns
        self.smooth += (self.pps - self.smooth) * -math.expm1(-passed_ns / constant_ns)
        return True

    def of(self, counter: int) -> tuple[float, float]:
        """The average, and the rate of the last look."""
        return float(self.smooth[counter]), float(self.pps[counter])
