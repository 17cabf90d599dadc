"""API keys that were made while the agent ran: what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from ebpfsentinel.model.identity import Role  # noqa: TC001 - read by msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


class KeyRecord(msgspec.Struct, kw_only=True, frozen=True):
    """One key. ``digest`` is SHA-256 over ``salt`` and the key, hexadecimal; times are wall time.

    After a rotation, ``old_digest`` (salt, colon, digest) is good until ``old_until_ns``.
    """

    id: str
    name: str
    role: Role
    namespaces: tuple[str, ...] = ()
    salt: str
    digest: str
    made_ns: int
    expires_ns: int | None = None
    last_used_ns: int | None = None
    old_digest: str = ""
    old_until_ns: int = 0


class KeyRoom(Protocol):
    """Where they are kept."""

    def put(self, record: KeyRecord) -> bool:
        """Keep a key in place of one with the same id. False: written later."""

    def remove(self, key_id: str) -> bool:
        """Forget one. False: written later."""

    def query(self) -> Sequence[KeyRecord]:
        """All, oldest first."""
