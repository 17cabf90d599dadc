"""API keys that were made while the agent ran, by id; the keys themselves are not here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.keys import KeyRecord
from ebpfsentinel.store.database import Write

if TYPE_CHECKING:
    from ebpfsentinel.store.database import Database


class Keys:
    """See :class:`ebpfsentinel.model.keys.KeyRoom`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, record: KeyRecord) -> bool:
        """Keep a key in place of one with the same id. False: written later."""
        sql = (
            "INSERT INTO keys (id, body) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body"
        )
        values = (record.id, msgspec.json.encode(record))
        return self._database.write(Write("keys", ((sql, values),)))

    def remove(self, key_id: str) -> bool:
        """Forget one; one that is not there is no error. False: written later."""
        sql = "DELETE FROM keys WHERE id = ?"
        return self._database.write(Write("keys", ((sql, (key_id,)),)))

    def query(self) -> list[KeyRecord]:
        """All, oldest first.

        Raises:
            StoreError: the file cannot be read.
        """
        rows = self._database.read("SELECT body FROM keys ORDER BY seq")
        decode = msgspec.json.Decoder(KeyRecord).decode
        return [decode(body) for (body,) in rows]
