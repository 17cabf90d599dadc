"""Alerts: the newest by count, found by what operators ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, as_json
from ebpfsentinel.store.database import Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.store.database import Database

_COLUMNS = "id, timestamp_ns, component, severity, rule_id, technique, false_positive, body"


class AlertQuery(msgspec.Struct, kw_only=True, frozen=True):
    """Which alerts: every field that is set narrows. Times are wall nanoseconds, both included."""

    component: str | None = None
    min_severity: Severity | None = None
    rule_id: str | None = None
    technique: str | None = None
    false_positive: bool | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    limit: int = 100
    offset: int = 0

    def where(self) -> tuple[str, list[Any]]:
        """The SQL condition and its values."""
        parts = {
            "component = ?": self.component,
            "severity >= ?": self.min_severity and self.min_severity.ordinal,
            "rule_id = ?": self.rule_id,
            "technique = ?": self.technique,
            "false_positive = ?": self.false_positive,
            "timestamp_ns >= ?": self.from_ns,
            "timestamp_ns <= ?": self.to_ns,
        }
        used = {sql: value for sql, value in parts.items() if value is not None}
        return " AND ".join(used) or "1", list(used.values())


class Alerts:
    """At most ``most`` alerts; the oldest go first, by a range of the primary key."""

    def __init__(self, database: Database, most: int) -> None:
        self._database, self._most = database, most

    def append(self, alerts: Sequence[Alert]) -> bool:
        """Keep the alerts, in one commit. False: written later."""
        if not alerts:
            return True
        insert = f"INSERT INTO alerts ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        evict = "DELETE FROM alerts WHERE seq <= (SELECT max(seq) FROM alerts) - ?"
        rows = [_row(alert) for alert in alerts]
        return self._database.write(
            Write("alerts", ((insert, rows), (evict, (self._most,))), len(rows))
        )

    def query(self, wanted: AlertQuery) -> tuple[list[Alert], int]:
        """The page of alerts, newest first, and how many match in all.

        Raises:
            StoreError: the file cannot be read.
        """
        condition, values = wanted.where()
        total = self._database.read(f"SELECT count(*) FROM alerts WHERE {condition}", values)  # noqa: S608
        rows = self._database.read(
            f"SELECT body, false_positive FROM alerts WHERE {condition} "  # noqa: S608
            "ORDER BY seq DESC LIMIT ? OFFSET ?",
            [*values, wanted.limit, wanted.offset],
        )
        return [_alert(body, marked) for body, marked in rows], total[0][0]

    def after(self, alert_id: str, most: int = 5000) -> list[Alert]:
        """What came after the alert, oldest first; nothing where the id is not known.

        Raises:
            StoreError: the file cannot be read.
        """
        sql = (
            "SELECT body, false_positive FROM alerts "
            "WHERE seq > (SELECT seq FROM alerts WHERE id = ?) ORDER BY seq LIMIT ?"
        )
        return [_alert(*row) for row in self._database.read(sql, (alert_id, most))]

    def get(self, alert_id: str) -> Alert | None:
        """The alert of this id.

        Raises:
            StoreError: the file cannot be read.
        """
        sql = "SELECT body, false_positive FROM alerts WHERE id = ? LIMIT 1"
        return next((_alert(*row) for row in self._database.read(sql, (alert_id,))), None)

    def mark_false_positive(self, alert_id: str) -> bool:
        """Mark the alert; False when there is none of this id.

        Raises:
            StoreError: the file cannot be read.
        """
        if not self._database.read("SELECT 1 FROM alerts WHERE id = ? LIMIT 1", (alert_id,)):
            return False
        sql = "UPDATE alerts SET false_positive = 1 WHERE id = ?"
        self._database.write(Write("alerts", ((sql, (alert_id,)),)))
        return True


def _row(alert: Alert) -> tuple[Any, ...]:
    return (
        alert.id,
        alert.timestamp_ns,
        alert.component,
        alert.severity.ordinal,
        alert.rule_id,
        alert.technique,
        alert.false_positive,
        as_json(alert),
    )


def _alert(body: bytes, marked: int) -> Alert:
    alert = msgspec.json.decode(body, type=Alert)
    alert.false_positive = bool(marked)
    return alert
