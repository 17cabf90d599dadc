"""API keys that were made while the agent ran: what is kept of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from ebpfsentinel.model.identity import Role
from ebpfsentinel.model.security import Name, Namespaces  # noqa: TC001 - read by msgspec
from ebpfsentinel.model.settings import Section, SettingsError, parse_duration, parse_moment

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

    def public(self) -> dict[str, Any]:
        """What others may see of it."""
        hidden = ("salt", "digest", "old_digest")
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in hidden}


class NewKey(Section):
    """A key that somebody asks for."""

    name: Annotated[Name, msgspec.Meta(description="Who shall hold it; stands in the audit trail.")]
    role: Annotated[Role, msgspec.Meta(description="viewer, analyst, operator or admin.")] = (
        Role.VIEWER
    )
    namespaces: Annotated[
        Namespaces, msgspec.Meta(description="Where an operator may write; '*' is everywhere.")
    ] = msgspec.field(default_factory=list)
    ttl: Annotated[
        int | str | None, msgspec.Meta(description="How long it shall be good, as 3600 or 90d.")
    ] = None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="Good until then: 2030-01-31T12:00:00Z.")
    ] = None

    def expires_ns(self, now_ns: int) -> int | None:
        """When it ends, wall nanoseconds; None: never.

        Raises:
            SettingsError: it says so twice, or not in the future.
        """
        if self.ttl is not None and self.expires_at is not None:
            raise SettingsError("key.ttl", "there is expires_at too", "Keep one.")
        if self.ttl is not None:
            return now_ns + parse_duration("key.ttl", self.ttl) * 10**9
        if self.expires_at is None:
            return None
        ends_ns = parse_moment("key.expires_at", self.expires_at)
        if ends_ns <= now_ns:
            raise SettingsError("key.expires_at", "is in the past", "Write a time to come.")
        return ends_ns


class KeyRoom(Protocol):
    """Where they are kept."""

    def put(self, record: KeyRecord) -> bool:
        """Keep a key in place of one with the same id. False: written later."""

    def remove(self, key_id: str) -> bool:
        """Forget one. False: written later."""

    def query(self) -> Sequence[KeyRecord]:
        """All, oldest first."""
