"""Exceptions: alerts that somebody has looked at and wants to hear no more of, for a while.

An exception is made from an alert: its rule, and of the alert what its scopes name. It matches
alerts of the same rule that have the same in all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct, field

from ebpfsentinel.model.alert import Alert, program_of
from ebpfsentinel.model.settings import SettingsError, Spelling

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST = 10_000


class Scope(Spelling):
    """What of an alert an exception keeps to, beside its rule."""

    RULE = "rule"
    SOURCE = "source"
    DESTINATION = "destination"
    PORT = "port"
    EXECUTABLE = "executable"
    PARENT = "parent"
    USER = "user"
    CONTAINER = "container"


class AlertException(Struct, kw_only=True):
    """One exception. Times are wall nanoseconds; ``expires_ns`` 0: never."""

    id: str
    component: str
    rule_id: str
    wanted: Annotated[dict[str, str], Meta(description="Scope to what it has to be.")] = field(
        default_factory=dict
    )
    alert_id: str = ""
    actor: str = ""
    reason: str = ""
    created_ns: int = 0
    expires_ns: int = 0
    hits: int = 0
    last_hit_ns: int = 0

    def covers(self, alert: Alert) -> bool:
        """Does it match the alert?"""
        if (alert.component, alert.rule_id) != (self.component, self.rule_id):
            return False
        return all(value_of(alert, Scope(key)) == value for key, value in self.wanted.items())


def value_of(alert: Alert, scope: Scope) -> str:
    """What an alert has of a scope; empty where it has nothing."""
    known = program_of(alert)
    parent: dict[str, str] = next(iter(known.get("ancestors") or ()), {})
    container = alert.context.get("container") or {}
    values = {
        Scope.RULE: alert.rule_id,
        Scope.SOURCE: alert.src_ip,
        Scope.DESTINATION: alert.dst_ip,
        Scope.PORT: alert.dst_port or None,
        Scope.EXECUTABLE: known.get("path"),
        Scope.PARENT: parent.get("path"),
        Scope.USER: known.get("uid"),
        Scope.CONTAINER: container.get("name") or known.get("container_id"),
    }
    found = values[scope]
    return "" if found is None else str(found)


def made_from(alert: Alert, scopes: Iterable[Scope], key: str, **about: object) -> AlertException:
    """The exception that covers the alert and those like it in ``scopes``.

    Raises:
        SettingsError: the alert has nothing of a scope.
    """
    wanted = {}
    for scope in scopes:
        value = value_of(alert, scope)
        if not value:
            has = [each.value for each in Scope if value_of(alert, each)]
            problem = f"the alert has no {scope.value}"
            raise SettingsError("scope", problem, f"It has: {', '.join(has)}.")
        if scope is not Scope.RULE:
            wanted[scope.value] = value
    return AlertException(
        id=key,
        component=alert.component,
        rule_id=alert.rule_id,
        wanted=wanted,
        alert_id=alert.id,
        **about,  # type: ignore[arg-type]
    )


class Exceptions:
    """All exceptions, looked up by rule; ``changed`` while hits are counted that nobody stored."""

    def __init__(self, found: Iterable[AlertException] = ()) -> None:
        self._by_rule: dict[tuple[str, str], list[AlertException]] = {}
        self.changed = False
        for each in found:
            self.add(each)

    def all(self) -> list[AlertException]:
        """The oldest first."""
        every = [each for group in self._by_rule.values() for each in group]
        return sorted(every, key=lambda each: each.created_ns)

    def add(self, new: AlertException) -> None:
        """Put one in force.

        Raises:
            SettingsError: there are too many.
        """
        if sum(map(len, self._by_rule.values())) >= MOST:
            raise SettingsError("exceptions", f"there are {MOST} already", "Delete some.")
        self._by_rule.setdefault((new.component, new.rule_id), []).append(new)

    def remove(self, key: str) -> AlertException | None:
        """Take one out of force; None: there is none."""
        for rule, group in self._by_rule.items():
            for each in group:
                if each.id == key:
                    group.remove(each)
                    if not group:
                        del self._by_rule[rule]
                    return each
        return None

    def expire(self, now_ns: int) -> list[AlertException]:
        """Take out of force those whose time is over."""
        over = [each for each in self.all() if each.expires_ns and each.expires_ns <= now_ns]
        for each in over:
            self.remove(each.id)
        return over

    def covering(self, alert: Alert, now_ns: int) -> AlertException | None:
        """The first that matches the alert; it counts the hit."""
        for each in self._by_rule.get((alert.component, alert.rule_id), ()):
            if (not each.expires_ns or each.expires_ns > now_ns) and each.covers(alert):
                each.hits += alert.count
                each.last_hit_ns = now_ns
                self.changed = True
                return each
        return None

    def sift(self, alerts: Sequence[Alert], now_ns: int) -> tuple[Sequence[Alert], list[Alert]]:
        """Those that go on, and those that an exception covers."""
        if not self._by_rule:
            return alerts, []
        covered = [alert for alert in alerts if self.covering(alert, now_ns)]
        left = {id(alert) for alert in covered}
        return [alert for alert in alerts if id(alert) not in left], covered
