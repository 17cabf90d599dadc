"""The algorithms as a textbook has them, in exact numbers."""

from __future__ import annotations

from fractions import Fraction

SECOND = 10**9


class TokenBucket:
    """Full at first; ``interval`` is the time per packet in nanoseconds, a fraction."""

    def __init__(self, interval: Fraction, burst: int) -> None:
        self._interval, self._burst = interval, burst
        self._tokens, self._last = Fraction(burst), 0

    def admits(self, now: int) -> bool:
        gained = Fraction(now - self._last) / self._interval
        self._tokens, self._last = min(self._tokens + gained, Fraction(self._burst)), now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class LeakyBucket:
    """Empty at first; it leaks a packet each ``interval``, and holds ``burst``."""

    def __init__(self, interval: Fraction, burst: int) -> None:
        self._interval, self._burst = interval, burst
        self._level, self._last = Fraction(0), 0

    def admits(self, now: int) -> bool:
        leaked = Fraction(now - self._last) / self._interval
        self._level, self._last = max(self._level - leaked, Fraction(0)), now
        if self._level + 1 > self._burst:
            return False
        self._level += 1
        return True


class FixedWindow:
    """Seconds that begin with the first packet, and again with the first one after a pause."""

    def __init__(self, rate: int, tick: int) -> None:
        self._rate, self._tick = rate, tick
        self._start: int | None = None
        self._count = 0

    def admits(self, now: int) -> bool:
        now = now // self._tick * self._tick
        if self._start is None or now - self._start >= 2 * SECOND:
            self._start, self._count = now, 0
        elif now - self._start >= SECOND:
            self._start, self._count = self._start + SECOND, 0
        if self._count >= self._rate:
            return False
        self._count += 1
        return True


class SlidingWindow:
    """As many in the last second as were counted in this window and, in part, in the one before."""

    def __init__(self, rate: int, tick: int, unit: int) -> None:
        self._rate, self._tick, self._unit = rate, tick, unit
        self._start: int | None = None
        self._before = self._count = 0

    def admits(self, now: int) -> bool:
        now = now // self._tick * self._tick
        start = now // self._unit * self._unit
        age = None if self._start is None else start - self._start
        if age is None or age >= 2 * SECOND:
            self._start, self._before, self._count = start, 0, 0
        elif age >= SECOND:
            self._start, self._before, self._count = self._start + SECOND, self._count, 0
        assert self._start is not None
        left = Fraction(SECOND - (now - self._start), SECOND)
        if self._count + self._before * left >= self._rate:
            return False
        self._count += 1
        return True
