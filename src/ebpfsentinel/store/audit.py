"""Who did what: audit entries, and every version of every rule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.store import chain
from ebpfsentinel.store.database import Write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.store.chain import Verification
    from ebpfsentinel.store.database import Database, Link, Statements

    _Row = tuple[int, str, str, str, bytes]

DETAIL = 512
DAY_NS = 86_400 * 10**9
_PAGE = 2000
_GIVEN = frozenset(("seq", "hash"))
_INSERT = (
    "INSERT INTO audit (seq, timestamp_ns, component, action, rule_id, body, hash) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_MOVE_HEAD = (
    "INSERT INTO audit_chain (id, anchor_seq, anchor_hash, head_seq, head_hash) "
    "VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
    "SET head_seq = excluded.head_seq, head_hash = excluded.head_hash"
)
_MOVE_ANCHOR_TO = (
    "UPDATE audit_chain SET anchor_seq = last.seq, anchor_hash = last.hash "
    "FROM (SELECT seq, hash FROM audit WHERE seq <= ? ORDER BY seq DESC LIMIT 1) AS last"
)
_MOVE_ANCHOR_BEHIND = (
    "UPDATE audit_chain SET anchor_seq = last.seq, anchor_hash = last.hash "
    "FROM (SELECT seq, hash FROM audit WHERE seq < coalesce((SELECT seq FROM audit NOT INDEXED "
    "WHERE timestamp_ns >= ? ORDER BY seq LIMIT 1), 9e18) ORDER BY seq DESC LIMIT 1) AS last"
)
_EVICT = "DELETE FROM audit WHERE seq <= (SELECT anchor_seq FROM audit_chain)"
_OTHER_COLUMNS = (
    "SELECT seq FROM audit WHERE timestamp_ns IS NOT json_extract(CAST(body AS TEXT), "
    "'$.timestamp_ns') OR component IS NOT json_extract(CAST(body AS TEXT), '$.component') "
    "OR action IS NOT json_extract(CAST(body AS TEXT), '$.action') "
    "OR rule_id IS NOT json_extract(CAST(body AS TEXT), '$.rule_id') ORDER BY seq LIMIT 1"
)


class AuditEntry(msgspec.Struct, kw_only=True):
    """One thing that was done, or refused. ``timestamp_ns`` is wall time; ``detail`` is cut to 512.

    ``result`` is ``done``, ``refused`` (by us) or ``failed`` (at us). ``before`` and ``after`` are
    what was changed. ``seq`` and ``hash`` are its place in the chain (see
    :mod:`ebpfsentinel.store.chain`), given by the store.
    """

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
    result: str = "done"
    before: Any = None
    after: Any = None
    seq: int = 0
    hash: str = ""


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


_decode = msgspec.json.Decoder(AuditEntry).decode


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
        self._database = database
        self.configure(most, days)

    def configure(self, most: int, days: int) -> None:
        """Keep so many, for so long; from the next entry and the next sweep on."""
        self._most, self._days = most, days

    def append(self, entries: Sequence[AuditEntry]) -> bool:
        """Keep the entries, in one commit. False: written later."""
        if not entries:
            return True
        rows = [_row(entry) for entry in entries]
        return self._database.write(Write("audit", self._linking(rows), len(rows)))

    def _linking(self, rows: Sequence[_Row]) -> Link:
        """Puts entries behind the head as it is when they are written, and moves it."""

        def statements(connection: sqlite3.Connection) -> Statements:
            seq, head = _head(connection)
            before, linked = (seq, head), []
            for row in rows:
                seq += 1
                head = chain.link(head, seq, row[-1])
                linked.append((seq, *row, head))
            evict = ((_MOVE_ANCHOR_TO, (seq - self._most,)), (_EVICT, ()))
            known = connection.execute("SELECT anchor_seq FROM audit_chain").fetchone()
            full = seq - (known or before)[0] > self._most
            return (
                (_INSERT, linked),
                (_MOVE_HEAD, (*before, seq, head)),
                *(evict if full else ()),
            )

        return statements

    def query(self, wanted: AuditQuery) -> tuple[list[AuditEntry], int]:
        """The page of entries, newest first, and how many match in all.

        Raises:
            StoreError: the file cannot be read.
        """
        condition, values = wanted.where()
        total = self._database.read(f"SELECT count(*) FROM audit WHERE {condition}", values)  # noqa: S608
        rows = self._database.read(
            f"SELECT seq, hash, body FROM audit WHERE {condition} "  # noqa: S608
            "ORDER BY seq DESC LIMIT ? OFFSET ?",
            [*values, wanted.limit, wanted.offset],
        )
        return [_entry(*row) for row in rows], total[0][0]

    def verify(self) -> Verification:
        """Walk the whole chain; may take a second, and may be called from another thread.

        Raises:
            StoreError: the file cannot be read.
        """
        while True:
            walk = chain.Walk(*self._anchor())
            found = walk.end(*self._follow(walk))
            if found.intact or self._anchor()[0] <= walk.anchor.seq:
                return self._with_columns(found)
            # what went from the front meanwhile has overtaken us

    def _follow(self, walk: chain.Walk) -> tuple[int, bytes]:
        """To the end, or to the first that does not fit; returns where the end should be."""
        while True:
            head = self._database.read("SELECT head_seq, head_hash FROM audit_chain")
            rows = self._page(walk.seq)
            if not rows or not walk.take(rows):
                return head[0] if head else (0, chain.NOTHING)

    def head(self) -> chain.Link:
        """The last entry.

        Raises:
            StoreError: the file cannot be read.
        """
        found = self._database.read("SELECT head_seq, head_hash FROM audit_chain")
        seq, head = found[0] if found else (0, chain.NOTHING)
        return chain.Link(seq, head.hex())

    def export(self) -> Iterator[bytes]:
        """Lines of JSON with which the chain can be followed elsewhere; oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        seq, anchor = self._anchor()
        yield chain.first_line(seq, anchor)
        while rows := self._page(seq):
            yield b"".join(chain.line(*row) for row in rows)
            seq = rows[-1][0]

    def _anchor(self) -> tuple[int, bytes]:
        found = self._database.read("SELECT anchor_seq, anchor_hash FROM audit_chain")
        return found[0] if found else (0, chain.NOTHING)

    def _page(self, after: int) -> list[tuple[int, bytes, bytes]]:
        sql = (  # whoever changes a file by hand may leave values of any type
            "SELECT seq, coalesce(CAST(body AS BLOB), x''), CAST(hash AS BLOB) FROM audit "
            "WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        return self._database.read(sql, (after, _PAGE))

    def _with_columns(self, found: Verification) -> Verification:
        """Filters go by columns of their own: those must say what the entries say."""
        wrong = self._database.read(_OTHER_COLUMNS) if found.intact else ()
        if not wrong:
            return found
        problem = f"entry {wrong[0][0]} is listed under what it does not say"
        return msgspec.structs.replace(
            found, intact=False, broken=chain.Broken(wrong[0][0], problem)
        )

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
        """Delete what is older than the retention: of the audit, all before the first that is not.

        The chain then begins behind what went.
        """
        old = (now_ns - self._days * DAY_NS,)
        versions = (
            "DELETE FROM history WHERE timestamp_ns < ? AND version < (SELECT max(version) "
            "FROM history AS later WHERE later.rule_id = history.rule_id "
            "AND later.component = history.component)"
        )
        entries = ((_MOVE_ANCHOR_BEHIND, old), (_EVICT, ()))
        self._database.write(Write("audit", (*entries, (versions, old)), 0))


def _row(entry: AuditEntry) -> _Row:
    kept = msgspec.structs.replace(entry, detail=entry.detail[:DETAIL])
    return kept.timestamp_ns, kept.component, kept.action, kept.rule_id, _body(kept)


def _body(entry: AuditEntry) -> bytes:
    """The JSON that is hashed; text that is not Unicode gets ``?``."""
    tree = {
        name: value
        for name in entry.__struct_fields__
        if name not in _GIVEN and (value := getattr(entry, name)) is not None
    }
    try:
        return msgspec.json.encode(tree, enc_hook=str)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(tree, enc_hook=str), ensure_ascii=False)
        return text.encode("utf-8", "replace")


def _entry(seq: int, found: bytes, body: bytes) -> AuditEntry:
    try:
        entry = _decode(body)
        entry.seq, entry.hash = seq, found.hex()
    except (msgspec.DecodeError, TypeError, AttributeError):
        problem = "what stood here was changed: see `audit verify`"
        entry = AuditEntry(timestamp_ns=0, component="audit", action="unreadable", detail=problem)
        entry.seq = seq
    return entry


def _head(connection: sqlite3.Connection) -> tuple[int, bytes]:
    found = connection.execute("SELECT head_seq, head_hash FROM audit_chain").fetchone()
    return found or (0, chain.NOTHING)


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
