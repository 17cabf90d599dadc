"""Windows in which alerts of one key are held back, and what is told of them afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.alert import Severity, program_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.model.alert import Alert

MOST_KEYS = 100_000
Key = tuple[object, ...]


@dataclass(slots=True)
class Window:
    """From its first alert on: how many alerts passed, and how many records did not.

    ``last`` is the last alert that did not pass, ``severity`` the worst of them.
    """

    began_ns: int
    passed: int = 0
    suppressed: int = 0
    last: Alert | None = None
    severity: Severity = Severity.LOW

    def suppress(self, alert: Alert) -> None:
        """It did not pass."""
        self.suppressed += alert.count
        self.last = alert
        if alert.severity.ordinal > self.severity.ordinal:
            self.severity = alert.severity


class Windows:
    """Fixed windows by key, each as long as :attr:`length_ns`; ``reason`` is why they hold back.

    Of too many keys the oldest half goes, and is told of at once.
    """

    def __init__(self, reason: str) -> None:
        self.reason, self.length_ns = reason, 0
        self._open: dict[Key, Window] = {}
        self._closed: list[Window] = []

    def __len__(self) -> int:
        return len(self._open)

    def at(self, key: Key, now_ns: int) -> Window:
        """The window of the key that is open now; a new one where there is none."""
        window = self._open.get(key)
        if window is not None and now_ns - window.began_ns < self.length_ns:
            return window
        if window is not None:
            del self._open[key]
            self._close(window)
        window = self._open[key] = Window(now_ns)
        if len(self._open) > MOST_KEYS:
            for old in list(self._open)[: MOST_KEYS // 2]:
                self._close(self._open.pop(old))
        return window

    def _close(self, window: Window) -> None:
        if window.suppressed:
            self._closed.append(window)

    def close(self, now_ns: int, *, every: bool = False) -> Iterator[Alert]:
        """Close what is over, and tell of each window that held something back."""
        over = [
            key
            for key, window in self._open.items()
            if every or now_ns - window.began_ns >= self.length_ns
        ]
        for key in over:
            self._close(self._open.pop(key))
        closed, self._closed = self._closed, []
        for window in closed:
            if window.last is not None:
                yield _summary(window, window.last, self.reason, now_ns)


def _summary(window: Window, last: Alert, reason: str, now_ns: int) -> Alert:
    about = {
        "reason": reason,
        "count": window.suppressed,
        "since_ns": window.began_ns,
        "until_ns": now_ns,
    }
    return msgspec.structs.replace(
        last,
        timestamp_ns=last.timestamp_ns,
        severity=window.severity,
        count=window.suppressed,
        message=f"{window.suppressed} more, held back ({reason}), the last: {last.message}",
        context={**last.context, "suppressed": about},
    )


def entity_of(alert: Alert) -> Key:
    """Whom an alert is about: its source address, else the executable, else this host."""
    if any(alert.src_addr):
        return ("source", alert.is_ipv6, *alert.src_addr)
    if alert.src_ip:
        return ("source", alert.src_ip)
    if path := program_of(alert).get("path"):
        return ("executable", path)
    return ("pid", alert.pid) if alert.pid is not None else ("host",)
