"""Fold alerts: give each an id, join equal ones, and keep a noisy rule from drowning the rest.

Nothing disappears unseen: every alert that goes no further is counted under its reason, and when a
window ends in which alerts were held back, one more alert says how many (``context.suppressed``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ebpfsentinel.alerts.windows import Windows, entity_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebpfsentinel.alerts.windows import Key
    from ebpfsentinel.model.alert import Alert

SECOND_NS = 10**9


class Fold:
    """Dedupe, then throttle. Windows are fixed: they begin with the first alert.

    An alert equals another when rule, addresses (all 128 bits), destination port, protocol, action
    and process are the same. The throttle counts by rule and entity (decision 0040); its first hit
    always passes. ``dropped`` counts by reason (``dedup``, ``throttle``, ``disabled``).
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.passed: Counter[tuple[str, str]] = Counter()
        self._equal, self._noisy = Windows("dedup"), Windows("throttle")
        self._sequence = 0
        self.configure()

    def configure(
        self,
        *,
        enabled: bool = True,
        dedup_window_ns: int = 60 * SECOND_NS,
        throttle_window_ns: int = 300 * SECOND_NS,
        throttle_max: int = 100,
    ) -> None:
        """Set the windows; 0 switches a stage off. What has been seen stays seen."""
        self._enabled = enabled
        self._equal.length_ns, self._noisy.length_ns = dedup_window_ns, throttle_window_ns
        self._throttle_max = throttle_max

    def fold(self, alerts: Iterable[Alert], now_ns: int) -> list[Alert]:
        """The alerts that go on, with their ids."""
        kept = []
        for alert in alerts:
            reason = self._refusal(alert, now_ns)
            if reason:
                self.dropped[reason] += alert.count
            else:
                kept.append(self._named(alert))
        return kept

    def _named(self, alert: Alert) -> Alert:
        self._sequence += 1
        alert.id = f"{alert.timestamp_ns}-{alert.rule_id}-{self._sequence}"
        self.passed[alert.component, alert.severity.value] += 1
        return alert

    def withdraw(self, alert: Alert, reason: str) -> None:
        """One that had passed goes no further after all."""
        self.passed[alert.component, alert.severity.value] -= 1
        self.dropped[reason] += alert.count

    def _refusal(self, alert: Alert, now_ns: int) -> str:
        if not self._enabled:
            return "disabled"
        if self._is_duplicate(alert, now_ns):
            return "dedup"
        return "throttle" if self._is_too_much(alert, now_ns) else ""

    def _is_duplicate(self, alert: Alert, now_ns: int) -> bool:
        if not self._equal.length_ns:
            return False
        return _is_over(self._equal, _key(alert), alert, 1, now_ns)

    def _is_too_much(self, alert: Alert, now_ns: int) -> bool:
        if not self._throttle_max:
            return False
        key = (alert.component, alert.rule_id, *entity_of(alert))
        return _is_over(self._noisy, key, alert, self._throttle_max, now_ns)

    def close(self, now_ns: int, *, every: bool = False) -> list[Alert]:
        """Forget the windows that are over; the alerts that tell what they held back, with ids.

        ``every``: the agent ends, so all windows do.
        """
        told = [
            summary
            for windows in (self._equal, self._noisy)
            for summary in windows.close(now_ns, every=every)
        ]
        return [self._named(summary) for summary in told]


def _is_over(windows: Windows, key: Key, alert: Alert, most: int, now_ns: int) -> bool:
    """Count the alert in its window; is it one too many?"""
    window = windows.at(key, now_ns)
    if window.passed < most:
        window.passed += 1
        return False
    window.suppress(alert)
    return True


def _key(alert: Alert) -> Key:
    return (
        alert.component,
        alert.rule_id,
        alert.action,
        *alert.src_addr,
        *alert.dst_addr,
        alert.dst_port,
        alert.protocol,
        alert.pid,
    )
