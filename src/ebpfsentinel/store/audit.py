"""Who did what: audit entries, and every version of every rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.store.database import Write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.store.database import Database

DETAIL = 512
DAY_NS = 86_400 * 10**9


class AuditEntry(msgspec.Struct, kw_only=True):
    """One thing that was done. ``timestamp_ns`` is wall time; ``detail`` is cut to 512."""

    timestamp_ns: int
    component: str
    action: str
    actor: str = ""
    rule_id: str = ""
    detail: str = ""
    src_ip: str | None = None
    dst_ip: str | None = None
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    is_ipv6: bool = False


class RuleChange(msgspec.Struct, kw_only=True):
    """One version of a rule; ``version`` (from 1) is given by the store."""

    timestamp_ns: int
    component: str
    action: str
    actor: str
    rule_id: str
    before: Any = None
    after: Any = None
    version: int = 0


class AuditQuery(msgspec.Struct, kw_only=True, frozen=True):
    """Which entries: every field that is set narrows. Times are wall nanoseconds, both included."""

    component: str | None = None
    action: str | None = None
    rule_id: str | None = None
    from_ns: int | None = None
    to_ns: int | None = None
    limit: int = 100
    offset: int = 0

    def where(self) -> tuple[str, list[Any]]:
        """The SQL condition and its values."""
        parts = {
            "component = ?": self.component,
            "action = ?": self.action,
            "rule_id = ?": self.rule_id,
            "timestamp_ns >= ?": self.from_ns,
            "timestamp_ns <= ?": self.to_ns,
        }
        used = {sql: value for sql, value in parts.items() if value is not None}
        return " AND ".join(used) or "1", list(used.values())


class Audit:
    """At most ``most`` entries and ``most`` versions, none older than ``days``.

    The newest version of a rule is never too old, so that numbering goes on.
    """

    def __init__(self, database: Database, most: int, days: int) -> None:
        self._database, self._most, self._days = database, most, days

    def append(self, entries: Sequence[AuditEntry]) -> bool:
        """Keep the entries, in one commit. False: written later."""
        if not entries:
            return True
        insert = (
            "INSERT INTO audit (timestamp_ns, component, action, rule_id, body) "
            "VALUES (?, ?, ?, ?, ?)"
        )
        evict = "DELETE FROM audit WHERE seq <= (SELECT max(seq) FROM audit) - ?"
        rows = [_row(entry) for entry in entries]
        statements = ((insert, rows), (evict, (self._most,)))
        return self._database.write(Write("audit", statements, len(rows)))

    def query(self, wanted: AuditQuery) -> tuple[list[AuditEntry], int]:
        """The page of entries, newest first, and how many match in all.

        Raises:
            StoreError: the file cannot be read.
        """
        condition, values = wanted.where()
        total = self._database.read(f"SELECT count(*) FROM audit WHERE {condition}", values)  # noqa: S608
        rows = self._database.read(
            f"SELECT body FROM audit WHERE {condition} ORDER BY seq DESC LIMIT ? OFFSET ?",  # noqa: S608
            [*values, wanted.limit, wanted.offset],
        )
        decode = msgspec.json.Decoder(AuditEntry).decode
        return [decode(body) for (body,) in rows], total[0][0]

    def append_change(self, change: RuleChange) -> bool:
        """Keep the next version of a rule. False: written later."""
        insert = (
            "INSERT INTO history "
            "(rule_id, component, version, timestamp_ns, action, actor, before, after) "
            "SELECT ?1, ?2, coalesce(max(version), 0) + 1, ?3, ?4, ?5, ?6, ?7 "
            "FROM history WHERE rule_id = ?1 AND component = ?2"
        )
        values = (
            change.rule_id,
            change.component,
            change.timestamp_ns,
            change.action,
            change.actor,
            msgspec.json.encode(change.before),
            msgspec.json.encode(change.after),
        )
        evict = "DELETE FROM history WHERE seq <= (SELECT max(seq) FROM history) - ?"
        return self._database.write(Write("history", ((insert, values), (evict, (self._most,)))))

    def history(self, rule_id: str, limit: int = 50) -> list[RuleChange]:
        """Versions of the rule, newest first; empty when there are none.

        Raises:
            StoreError: the file cannot be read.
        """
        sql = (
            "SELECT timestamp_ns, component, action, actor, rule_id, before, after, version "
            "FROM history WHERE rule_id = ? ORDER BY seq DESC LIMIT ?"
        )
        return [_change(*row) for row in self._database.read(sql, (rule_id, limit))]

    def sweep(self, now_ns: int) -> None:
        """Delete what is older than the retention."""
        old = (now_ns - self._days * DAY_NS,)
        entries = "DELETE FROM audit WHERE timestamp_ns < ?"
        versions = (
            "DELETE FROM history WHERE timestamp_ns < ? AND version < (SELECT max(version) "
            "FROM history AS later WHERE later.rule_id = history.rule_id "
            "AND later.component = history.component)"
        )
        self._database.write(Write("audit", ((entries, old), (versions, old)), 0))


def _row(entry: AuditEntry) -> tuple[Any, ...]:
    kept = msgspec.structs.replace(entry, detail=entry.detail[:DETAIL])
    body = msgspec.json.encode(kept)
    return kept.timestamp_ns, kept.component, kept.action, kept.rule_id, body


def _change(  # noqa: PLR0913, PLR0917
    timestamp_ns: int,
    component: str,
    action: str,
    actor: str,
    rule_id: str,
    before: bytes,
    after: bytes,
    version: int,
) -> RuleChange:
    return RuleChange(
        timestamp_ns=timestamp_ns,
        component=component,
        action=action,
        actor=actor,
        rule_id=rule_id,
        before=msgspec.json.decode(before),
        after=msgspec.json.decode(after),
        version=version,
    )
