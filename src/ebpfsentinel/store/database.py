"""The SQLite file, and what happens when it cannot be written.

The agent must go on guarding when its disk is full, gone, or held by another process. So a write
never raises: what fails is kept in memory, in order, up to :data:`BACKLOG_WRITES` writes, and
written when the file works again; what no longer fits is counted in :attr:`Database.lost`, by room.
The trouble is logged once when it starts and once when it ends, and shown in
:attr:`Database.trouble`. Reads raise :class:`StoreError`.

A file that is no database any more is moved aside, never deleted, and a new one is begun.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ebpfsentinel.store import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    Statements = tuple[tuple[str, Sequence[Any]], ...]
    Link = Callable[[sqlite3.Connection], Statements]

BACKLOG_WRITES = 10_000
RETRY_S = 1.0
BUSY_MS = 250

_log = logging.getLogger(__name__)
_RUINED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE items (
        seq INTEGER PRIMARY KEY, domain TEXT, collection TEXT, key TEXT, body BLOB,
        UNIQUE (domain, collection, key)
    );
    CREATE TABLE memos (domain TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
    CREATE TABLE alerts (
        seq INTEGER PRIMARY KEY, id TEXT, timestamp_ns INTEGER, component TEXT,
        severity INTEGER, rule_id TEXT, technique TEXT, false_positive INTEGER, body BLOB
    );
    CREATE INDEX alerts_id ON alerts (id);
    CREATE INDEX alerts_time ON alerts (timestamp_ns);
    CREATE INDEX alerts_component ON alerts (component, seq);
    CREATE INDEX alerts_rule ON alerts (rule_id, seq);
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, timestamp_ns INTEGER, component TEXT, action TEXT,
        rule_id TEXT, body BLOB
    );
    CREATE INDEX audit_time ON audit (timestamp_ns);
    CREATE TABLE history (
        seq INTEGER PRIMARY KEY, rule_id TEXT, component TEXT, version INTEGER,
        timestamp_ns INTEGER, action TEXT, actor TEXT, before BLOB, after BLOB,
        UNIQUE (rule_id, component, version)
    );
    """,
    """
    CREATE TABLE changes (id TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
    """,
    """
    CREATE TABLE memos_more (seq INTEGER PRIMARY KEY, domain TEXT, body BLOB);
    """,
    """
    CREATE TABLE keys (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, body BLOB);
    """,
    """
    ALTER TABLE audit ADD COLUMN hash BLOB;
    CREATE TABLE audit_chain (
        id INTEGER PRIMARY KEY CHECK (id = 1), anchor_seq INTEGER, anchor_hash BLOB,
        head_seq INTEGER, head_hash BLOB
    );
    INSERT INTO audit_chain SELECT 1, min(seq) - 1, zeroblob(32), 0, zeroblob(32) FROM audit
        HAVING count(*);
    UPDATE audit SET hash = link_on(seq, body) WHERE seq IN (SELECT seq FROM audit ORDER BY seq);
    UPDATE audit_chain SET head_seq = last.seq, head_hash = last.hash
        FROM (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) AS last;
    """,
)
"""Each brings the schema from its index to the next; ``migrations`` keeps when that was."""


class StoreError(Exception):
    """The store cannot answer; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Write:
    """Statements that happen together. ``weight`` is how many records of ``room`` they carry.

    Where they depend on what is in the file, they are worked out when they are carried out.
    """

    room: str
    statements: Statements | Link
    weight: int = 1
    more: tuple[Write, ...] = ()

    @property
    def all(self) -> tuple[Write, ...]:
        """It, and what happens in the same transaction behind it."""
        return (self, *self.more)


class Database:
    """One connection, safe to use from several threads.

    ``lost`` counts records that could not be kept, by room. ``trouble`` is empty while all is well.
    ``notes`` are things an operator should know from opening the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lost: Counter[str] = Counter()
        self.trouble = ""
        self.notes: list[str] = []
        self._backlog: deque[Write] = deque()
        self._held: list[Write] | None = None
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._retry_at = 0.0
        with self._lock:
            try:
                self._open()
            except (sqlite3.Error, OSError, StoreError) as error:
                self._fail(error)

    @property
    def waiting(self) -> int:
        """Records that wait in memory to be written."""
        with self._lock:
            return sum(each.weight for write in self._backlog for each in write.all)

    def write(self, write: Write) -> bool:
        """Carry out, or keep for later; True when it is on disk now."""
        with self._lock:
            if self._held is not None:
                self._held.append(write)
                return not self.trouble
            self._backlog.append(write)
            if self.trouble and time.monotonic() < self._retry_at:
                self._trim()
                return False
            return self.flush()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written within is one transaction, at the end; do not await within."""
        with self._lock:
            if self._held is not None:
                yield
                return
            self._held = []
            try:
                yield
            finally:
                held, self._held = self._held, None
                if held:
                    first, *more = held
                    self.write(replace(first, more=tuple(more)))

    def flush(self) -> bool:
        """Write all that waits, in order; True when nothing waits any more."""
        with self._lock:
            try:
                connection = self._open()
                waited = self.waiting
                while self._backlog:
                    self._carry_out(connection, self._backlog[0])
                    self._backlog.popleft()
            except (sqlite3.Error, OSError, StoreError) as error:
                self._fail(error)
                self._trim()
                return False
            if self.trouble:
                _log.warning("store works again, %d records written late", waited)
                self.trouble = ""
            return True

    def read(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._open().execute(sql, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                self._fail(error)
                raise StoreError(self.trouble) from None

    def close(self) -> None:
        """Write what waits, and close; what still cannot be written is counted as lost."""
        with self._lock:
            if self._backlog and not self.flush():
                for write in self._backlog:
                    self._lose(write)
                _log.error("store closed with %d records unwritten", self.waiting)
                self._backlog.clear()
            self._drop_connection()

    def _carry_out(self, connection: sqlite3.Connection, write: Write) -> None:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            for each in write.all:
                _execute(connection, each.statements)

    def _lose(self, write: Write) -> None:
        for each in write.all:
            self.lost[each.room] += each.weight

    def _trim(self) -> None:
        while len(self._backlog) > BACKLOG_WRITES:
            dropped = self._backlog.popleft()
            self._lose(dropped)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._connection = self._connect()
            except sqlite3.DatabaseError as error:
                if not _ruined(error):
                    raise
                self._move_aside(error)
                self._connection = self._connect()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        new = not self.path.exists()
        connection = sqlite3.connect(
            self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
        )
        try:
            if new:
                self.path.chmod(0o600)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA journal_size_limit = 8388608")
            connection.execute("PRAGMA cache_size = -2048")
            _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _fail(self, error: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        first = not self.trouble
        self.trouble = f"{self.path}: {error}. {_remedy(error)}".rstrip()
        if first:
            _log.error("store fails, records wait in memory: %s", self.trouble)
        if _ruined(error):
            self._drop_connection()
            self._move_aside(error)
        elif isinstance(error, sqlite3.OperationalError) and not self.path.exists():
            self._drop_connection()

    def _move_aside(self, error: Exception) -> None:
        aside = self.path.with_name(f"{self.path.name}.corrupt-{time.time_ns()}")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        note = f"{self.path} was no usable database ({error}); it is kept as {aside.name}"
        self.notes.append(note)
        _log.error("store begins anew: %s", note)

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _execute(connection: sqlite3.Connection, found: Statements | Link) -> None:
    for sql, values in found(connection) if callable(found) else found:
        if values and isinstance(values[0], tuple | list):
            connection.executemany(sql, values)
        else:
            connection.execute(sql, values)


def _ruined(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _RUINED


def _remedy(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return {
        sqlite3.SQLITE_FULL: "Free space on this disk.",
        sqlite3.SQLITE_BUSY: "Another process holds it; end that one.",
        sqlite3.SQLITE_IOERR: "Check the disk, its space and limits on file sizes.",
        sqlite3.SQLITE_CANTOPEN: "Check that agent.state_dir is a folder we may write to.",
        sqlite3.SQLITE_READONLY: "Make it writable.",
    }.get(code, "Check agent.state_dir." if isinstance(error, OSError) else "")


def schema(file: Path) -> int:
    """Which of :data:`MIGRATIONS` a file has seen; 0: there is none, or it is no database."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as found:
            return int(found.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error:
        return 0


def _linking() -> Callable[[int, bytes], bytes]:
    """Links entries in the order in which it is called."""
    head = chain.NOTHING

    def link_on(seq: int, body: bytes) -> bytes:
        nonlocal head
        head = chain.link(head, seq, body)
        return head

    return link_on


def _migrate(connection: sqlite3.Connection) -> None:
    connection.create_function("link_on", 2, _linking())
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(MIGRATIONS):
        raise StoreError(
            f"has schema {version}, this version knows {len(MIGRATIONS)}. "
            "Start the newer version, or set another agent.state_dir"
        )
    for number, script in enumerate(MIGRATIONS[version:], version + 1):
        connection.executescript(
            "BEGIN IMMEDIATE;"  # noqa: S608 -- numbers of our own
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER, applied_ns INTEGER);"
            f"{script}"
            f"INSERT INTO migrations VALUES ({number}, {time.time_ns()});"
            f"PRAGMA user_version = {number};"
            "COMMIT;"
        )
