"""When to try again: the waits between tries, and the circuit breaker; each destination has both.

Pure: the time comes in, and so does the luck.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Circuit(enum.IntEnum):
    """As the metric ``alert_sender_circuit_state`` has it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2

    @property
    def word(self) -> str:
        """For people."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Pace:
    """Waits after the first, second, further failures; and when the circuit opens, for how long."""

    waits_s: tuple[float, ...] = (1.0, 5.0, 30.0)
    jitter: float = 0.2
    failures: int = 5
    open_s: float = 60.0


class Breaker:
    """Counts failures in a row; after ``pace.failures`` of them only one try a time is made."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.failures = 0
        self.opened = 0
        self._open_until = 0.0

    def failed(self, now_s: float, luck: float) -> float:
        """A try failed; how long to wait before the next. ``luck`` is 0..1, drawn evenly."""
        self.failures += 1
        pace = self._pace
        wait = pace.waits_s[min(self.failures, len(pace.waits_s)) - 1]
        if self.failures >= pace.failures:
            wait = pace.open_s
            self.opened += 1
            self._open_until = now_s + wait
        return wait * (1 + pace.jitter * luck)

    def succeeded(self) -> None:
        """All is well again."""
        self.failures, self._open_until = 0, 0.0

    def state(self, now_s: float) -> Circuit:
        """Closed; open; or open for long enough to try."""
        if self.failures < self._pace.failures:
            return Circuit.CLOSED
        return Circuit.OPEN if now_s < self._open_until else Circuit.HALF_OPEN
