"""Fold alerts: give each an id, join equal ones, and keep a noisy rule from drowning the rest.

Nothing disappears unseen: every alert that goes no further is counted under its reason.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebpfsentinel.model.alert import Alert

SECOND_NS = 10**9
_MOST_KEYS = 100_000

Key = tuple[object, ...]


class Fold:
    """Dedupe, then throttle. Windows are fixed: they begin with the first alert.

    An alert equals another when rule, addresses (all 128 bits), destination port, protocol, action
    and process are the same. The throttle counts by rule and component; its first hit always
    passes. ``dropped`` counts by reason (``dedup``, ``throttle``, ``disabled``).
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()
        self.passed: Counter[tuple[str, str]] = Counter()
        self._seen: dict[Key, int] = {}
        self._rules: dict[Key, tuple[int, int]] = {}
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
        self._dedup_ns, self._throttle_ns = dedup_window_ns, throttle_window_ns
        self._throttle_max = throttle_max

    def fold(self, alerts: Iterable[Alert], now_ns: int) -> list[Alert]:
        """The alerts that go on, with their ids."""
        kept = []
        for alert in alerts:
            reason = self._refusal(alert, now_ns)
            if reason:
                self.dropped[reason] += alert.count
                continue
            self._sequence += 1
            alert.id = f"{alert.timestamp_ns}-{alert.rule_id}-{self._sequence}"
            self.passed[alert.component, alert.severity.value] += 1
            kept.append(alert)
        return kept

    def _refusal(self, alert: Alert, now_ns: int) -> str:
        if not self._enabled:
            return "disabled"
        if self._is_duplicate(alert, now_ns):
            return "dedup"
        return "throttle" if self._is_too_much(alert, now_ns) else ""

    def _is_duplicate(self, alert: Alert, now_ns: int) -> bool:
        if not self._dedup_ns:
            return False
        key = _key(alert)
        if now_ns - self._seen.get(key, -self._dedup_ns) < self._dedup_ns:
            return True
        self._seen[key] = now_ns
        if len(self._seen) > _MOST_KEYS:
            self.forget(now_ns)
        return False

    def _is_too_much(self, alert: Alert, now_ns: int) -> bool:
        if not self._throttle_max:
            return False
        key = (alert.component, alert.rule_id)
        began, count = self._rules.get(key, (now_ns, 0))
        if now_ns - began >= self._throttle_ns:
            began, count = now_ns, 0
        self._rules[key] = (began, count + 1)
        return count >= self._throttle_max

    def forget(self, now_ns: int) -> None:
        """Drop what no window covers any more; of too many keys, the oldest half."""
        self._seen = {k: at for k, at in self._seen.items() if now_ns - at < self._dedup_ns}
        self._rules = {
            k: entry for k, entry in self._rules.items() if now_ns - entry[0] < self._throttle_ns
        }
        if len(self._seen) > _MOST_KEYS:
            self._seen = dict(list(self._seen.items())[_MOST_KEYS // 2 :])


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
