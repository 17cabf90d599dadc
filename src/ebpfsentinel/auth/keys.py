"""API keys: those of the configuration, and those that were made while the agent ran.

Of neither is the key itself kept, only SHA-256 over a salt and the key. A key that was made here
is 32 random bytes, so one round is enough: there is nothing to guess from. It begins with its id,
which finds the one hash to compare with; those of the configuration are all compared.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.identity import Identity, Role
from ebpfsentinel.model.keys import KeyRecord
from ebpfsentinel.model.refusal import DuplicateItem, UnknownItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.keys import KeyRoom
    from ebpfsentinel.model.security import ApiKey

MARK = "ebs"
HOW = "key"
_OURS = re.compile(rf"{MARK}_([0-9a-f]{{8}})_[\w-]{{43}}")
_USED_NS = 60 * 10**9
"""Uses are noted no oftener than this."""


def digest(salt: str, key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256((salt + key).encode()).hexdigest()


def prefix(key_id: str) -> str:
    """By which people recognise a key."""
    return f"{MARK}_{key_id}_"


@dataclass(frozen=True, slots=True)
class StaticKey:
    """One of the configuration."""

    identity: Identity
    digest: str


class StaticKeys:
    """Those of the configuration."""

    def __init__(self, keys: Sequence[ApiKey], salt: str | None) -> None:
        self._salt = salt or secrets.token_hex(16)
        self.all = [
            StaticKey(
                Identity(key.name, key.role, HOW, frozenset(key.namespaces)),
                digest(self._salt, key.key),
            )
            for key in keys
        ]

    def find(self, shown: str) -> Identity | None:
        """Whose it is; takes the same time for any."""
        seen = digest(self._salt, shown)
        found = None
        for key in self.all:
            if hmac.compare_digest(key.digest, seen):
                found = key.identity
        return found


class MadeKeys:
    """Those that were made here, in a room of the store; all times are wall nanoseconds."""

    def __init__(self, room: KeyRoom) -> None:
        self._room = room
        self._keys: dict[str, KeyRecord] = {}

    def restore(self) -> None:
        """Take in what the store kept.

        Raises:
            StoreError: it cannot be read.
        """
        self._keys = {record.id: record for record in self._room.query()}

    def all(self) -> list[KeyRecord]:
        """All, oldest first."""
        return list(self._keys.values())

    def find(self, shown: str, now_ns: int) -> Identity | None:
        """Whose it is, if it is good now."""
        split = _OURS.fullmatch(shown)
        record = self._keys.get(split[1]) if split else None
        if record is None or not _is_good(record, shown, now_ns):
            return None
        if now_ns - (record.last_used_ns or 0) > _USED_NS:
            self._keep(msgspec.structs.replace(record, last_used_ns=now_ns))
        return _identity(record)

    def vouches_for(self, identity: Identity) -> bool:
        """Is there still a key that gives this identity?"""
        return any(_identity(record) == identity for record in self._keys.values())

    def create(
        self,
        name: str,
        role: Role,
        namespaces: Sequence[str],
        now_ns: int,
        expires_ns: int | None,
    ) -> tuple[KeyRecord, str]:
        """A new key: what is kept of it, and the key.

        Raises:
            DuplicateItem: there is one of this name.
        """
        if any(record.name == name for record in self._keys.values()):
            raise DuplicateItem(name)
        key_id = secrets.token_hex(4)
        while key_id in self._keys:
            key_id = secrets.token_hex(4)
        key, salt = _fresh(key_id)
        record = KeyRecord(
            id=key_id,
            name=name,
            role=role,
            namespaces=tuple(namespaces),
            salt=salt,
            digest=digest(salt, key),
            made_ns=now_ns,
            expires_ns=expires_ns,
        )
        self._keep(record)
        return record, key

    def rotate(self, key_id: str, now_ns: int, grace_ns: int) -> tuple[KeyRecord, str]:
        """Another key in its place; the old one stays good for ``grace_ns``.

        Raises:
            UnknownItem: there is none.
        """
        record = self.get(key_id)
        key, salt = _fresh(key_id)
        old = f"{record.salt}:{record.digest}" if grace_ns else ""
        record = msgspec.structs.replace(
            record,
            salt=salt,
            digest=digest(salt, key),
            old_digest=old,
            old_until_ns=now_ns + grace_ns,
        )
        self._keep(record)
        return record, key

    def revoke(self, key_id: str) -> KeyRecord:
        """It is good no more.

        Raises:
            UnknownItem: there is none.
        """
        record = self.get(key_id)
        del self._keys[key_id]
        self._room.remove(key_id)
        return record

    def get(self, key_id: str) -> KeyRecord:
        """One by its id.

        Raises:
            UnknownItem: there is none.
        """
        if key_id not in self._keys:
            raise UnknownItem(key_id)
        return self._keys[key_id]

    def _keep(self, record: KeyRecord) -> None:
        self._keys[record.id] = record
        self._room.put(record)


def _fresh(key_id: str) -> tuple[str, str]:
    return prefix(key_id) + secrets.token_urlsafe(32), secrets.token_hex(16)


def _identity(record: KeyRecord) -> Identity:
    namespaces = frozenset(record.namespaces)
    return Identity(record.name, record.role, HOW, namespaces, record.expires_ns)


def _is_good(record: KeyRecord, shown: str, now_ns: int) -> bool:
    if record.expires_ns is not None and now_ns >= record.expires_ns:
        return False
    if hmac.compare_digest(record.digest, digest(record.salt, shown)):
        return True
    salt, _, old = record.old_digest.partition(":")
    in_time = bool(old) and now_ns < record.old_until_ns
    return in_time and hmac.compare_digest(old, digest(salt, shown))
