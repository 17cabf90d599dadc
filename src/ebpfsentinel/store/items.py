"""Runtime items of the domains' collections, and the memos of their engines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.store.database import Write

if TYPE_CHECKING:
    from ebpfsentinel.store.database import Database


class Items:
    """What users added while the agent ran, by (domain, collection, key), in that order."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, domain: str, collection: str, key: str, item: Any) -> bool:
        """Keep ``item`` (JSON-able); one of the same key is replaced. False: written later."""
        sql = (
            "INSERT INTO items (domain, collection, key, body) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (domain, collection, key) DO UPDATE SET body = excluded.body"
        )
        body = msgspec.json.encode(item)
        return self._database.write(Write("items", ((sql, (domain, collection, key, body)),)))

    def remove(self, domain: str, collection: str, key: str) -> bool:
        """Forget an item; one that is not there is no error. False: written later."""
        sql = "DELETE FROM items WHERE domain = ? AND collection = ? AND key = ?"
        return self._database.write(Write("items", ((sql, (domain, collection, key)),)))

    def query(self, domain: str, collection: str) -> list[dict[str, Any]]:
        """All items as plain values, oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        sql = "SELECT body FROM items WHERE domain = ? AND collection = ? ORDER BY seq"
        rows = self._database.read(sql, (domain, collection))
        return [msgspec.json.decode(body) for (body,) in rows]


class Memos:
    """One JSON-able value per domain: the memo of the last committed plan, and what came to it.

    What comes with a small change is a row of its own, until the memo is written again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, domain: str, memo: dict[str, Any]) -> bool:
        """Keep ``memo`` in place of the last one. False: written later."""
        forget = "DELETE FROM memos_more WHERE domain = ?"
        sql = "INSERT OR REPLACE INTO memos VALUES (?, ?)"
        body = msgspec.json.encode(memo)
        statements = ((forget, (domain,)), (sql, (domain, body)))
        return self._database.write(Write("memos", statements))

    def add(self, domain: str, more: dict[str, dict[str, Any]]) -> bool:
        """Put keys into mappings within the memo. False: written later."""
        sql = "INSERT INTO memos_more (domain, body) VALUES (?, ?)"
        return self._database.write(Write("memos", ((sql, (domain, msgspec.json.encode(more))),)))

    def get(self, domain: str) -> dict[str, Any] | None:
        """The memo, or None.

        Raises:
            StoreError: the file cannot be read.
        """
        sql = "SELECT body FROM memos WHERE domain = ?"
        more = "SELECT body FROM memos_more WHERE domain = ? ORDER BY seq"
        rows = [*self._database.read(sql, (domain,)), *self._database.read(more, (domain,))]
        memo: dict[str, Any] | None = None
        for (body,) in rows:
            found = msgspec.json.decode(body, type=dict[str, Any])
            memo = found if memo is None else _joined(memo, found)
        return memo


def _joined(memo: dict[str, Any], more: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return memo | {name: memo.get(name, {}) | pairs for name, pairs in more.items()}


class Unconfirmed:
    """How to undo each change that waits to be confirmed, and a configuration that was put back."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, key: str, body: Any) -> bool:
        """Keep ``body`` (JSON-able). False: it is not on disk yet."""
        sql = "INSERT OR REPLACE INTO changes VALUES (?, ?)"
        return self._database.write(Write("changes", ((sql, (key, msgspec.json.encode(body))),)))

    def remove(self, key: str) -> bool:
        """Forget one; one that is not there is no error. False: written later."""
        return self._database.write(
            Write("changes", (("DELETE FROM changes WHERE id = ?", (key,)),))
        )

    def query(self) -> dict[str, Any]:
        """All, by key.

        Raises:
            StoreError: the file cannot be read.
        """
        rows = self._database.read("SELECT id, body FROM changes")
        return {key: msgspec.json.decode(body) for key, body in rows}
