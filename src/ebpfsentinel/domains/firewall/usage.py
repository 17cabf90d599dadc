"""When each rule was hit last, and since when that is counted: kept over restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ebpfsentinel.domains.firewall.settings import FirewallRuleView

DAY_NS = 86_400_000_000_000
_EVERY_NS = 60_000_000_000


class Use(msgspec.Struct):
    """Wall nanoseconds: last hit (0: none), and since when hits are counted (0: not yet)."""

    last_ns: int = 0
    since_ns: int = 0


class Usage:
    """By rule id. What a crash loses is a minute."""

    def __init__(self) -> None:
        self._uses: dict[str, Use] = {}
        self._changed = False
        self._told_ns = 0

    def recall(self, memo: Mapping[str, Any]) -> None:
        """What the last run knew."""
        last, since = memo.get("last_ns", {}), memo.get("since_ns", {})
        self._uses = {
            str(name): Use(int(last.get(name, 0)), int(since.get(name, 0))) for name in since
        }

    def memo(self) -> dict[str, dict[str, int]]:
        """For :meth:`recall`; two flat maps, since thousands of pairs wake the collector."""
        return {
            "last_ns": {name: use.last_ns for name, use in self._uses.items() if use.last_ns},
            "since_ns": {name: use.since_ns for name, use in self._uses.items()},
        }

    def keep(self, names: Mapping[str, int], new: Iterable[str]) -> None:
        """These rules are in force, of which some are ``new``: others are forgotten."""
        self._uses.update((name, Use()) for name in new)
        if self._uses.keys() != names.keys():
            self._uses = {name: self._uses.get(name) or Use() for name in names}
        self._changed = True

    def hit(self, names: Iterable[str], now_ns: int) -> None:
        """These were hit since the last look."""
        for name in names:
            if use := self._uses.get(name):
                use.last_ns, self._changed = now_ns, True

    def tick(self, now_ns: int) -> bool:
        """Counting has begun for what is new; is it time to write down what has changed?"""
        for use in self._uses.values():
            use.since_ns = use.since_ns or now_ns
        if not self._changed or now_ns - self._told_ns < _EVERY_NS:
            return False
        self._changed, self._told_ns = False, now_ns
        return True

    def of(self, name: str) -> Use:
        """One rule's."""
        return self._uses.get(name) or Use()


def unused(
    views: Sequence[FirewallRuleView], usage: Usage, days: float, now_ns: int
) -> dict[str, Any]:
    """Rules not hit for ``days``, and those too young to say; not the system's, nor disabled."""
    limit_ns = now_ns - int(days * DAY_NS)
    rows: dict[str, list[dict[str, Any]]] = {"unused": [], "too_young": []}
    for view in views:
        use = usage.of(view.id)
        if view.system or not view.enabled or use.last_ns > limit_ns:
            continue
        young = not use.since_ns or (use.since_ns > limit_ns and not use.last_ns)
        rows["too_young" if young else "unused"].append(
            {
                "id": view.id,
                "action": view.action,
                "origin": view.origin,
                "last_hit_ns": use.last_ns or None,
                "counting_since_ns": use.since_ns or None,
            }
        )
    return {"days": days, "timestamp_ns": now_ns, **rows}
