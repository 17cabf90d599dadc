"""Changes that wait to be confirmed, and are undone unless they are.

How to undo one is on disk before it takes effect. While the agent lives it undoes a change exactly;
where it died, the kernel itself stops dropping at the deadline for the domains concerned (see
:meth:`~ebpfsentinel.model.kernel.Kernel.lapse`), and the next start undoes before it puts anything
in force.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.refusal import OldConnection, UnknownChange
from ebpfsentinel.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.store import Store

KEPT = "configuration"
SECOND_NS = 1_000_000_000


class Undo(msgspec.Struct, kw_only=True):
    """What to put back: an item (``before`` None: take it out), or a whole configuration.

    ``digest`` is of the file that is not to be loaded again as long as it stays as it is.
    """

    domain: str = ""
    collection: str = ""
    key: str = ""
    before: Any = None
    settings: Any = None
    digest: str = ""


class Change(msgspec.Struct, kw_only=True):
    """One change that waits. Times are wall and boot clock; ``in_force_ns`` is monotonic."""

    id: str
    actor: str
    summary: str
    domains: list[str]
    made_ns: int
    seconds: int
    deadline_ns: int
    undo: Undo
    in_force_ns: int = 0

    def seconds_left(self) -> float:
        """Until it is undone."""
        return max(0.0, (self.deadline_ns - _boot_ns()) / SECOND_NS)


def _boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Waiting:
    """All changes that wait, by id, oldest first."""

    def __init__(self, store: Store, kernel: Kernel) -> None:
        self._store, self._kernel = store, kernel
        self._changes: dict[str, Change] = {}

    def begin(
        self, actor: str, seconds: int, summary: str, domains: Sequence[str], undo: Undo
    ) -> Change:
        """Write down how to undo what is about to be done, and arm the kernel.

        Raises:
            KernelError: it cannot be written down, or not armed; nothing has changed.
        """
        change = Change(
            id=secrets.token_hex(4),
            actor=actor,
            summary=summary,
            domains=list(domains),
            made_ns=time.time_ns(),
            seconds=seconds,
            deadline_ns=_boot_ns() + seconds * SECOND_NS,
            undo=undo,
        )
        if not self._store.unconfirmed.put(change.id, change):
            self._store.unconfirmed.remove(change.id)
            raise KernelError(
                "how to undo this change cannot be written down, so it was not made: "
                f"{self._store.trouble}"
            )
        self._changes[change.id] = change
        self.arm()
        return change

    def in_force(self, change: Change) -> None:
        """Connections from now on are fresh."""
        change.in_force_ns = time.monotonic_ns()

    def forget(self, change: Change) -> None:
        """It is confirmed, undone, or was never made."""
        self._changes.pop(change.id, None)
        self._store.unconfirmed.remove(change.id)
        self.arm()

    def confirm(self, key: str, connected_ns: int) -> Change:
        """Keep the change for good.

        Raises:
            UnknownChange: there is none of this id.
            OldConnection: the connection (accepted at ``connected_ns``, monotonic) is older.
        """
        change = self._changes.get(key)
        if change is None or not change.seconds_left():
            raise UnknownChange(key)
        if not change.in_force_ns or connected_ns <= change.in_force_ns:
            raise OldConnection(key)
        self.forget(change)
        return change

    def arm(self) -> None:
        """Tell the kernel when it must stop dropping, and for which domains."""
        earliest = min((each.deadline_ns for each in self._changes.values()), default=0)
        domains = {name for each in self._changes.values() for name in each.domains}
        self._kernel.lapse(earliest, sorted(domains))

    def all(self) -> list[Change]:
        """What waits now."""
        return list(self._changes.values())

    def due(self) -> list[Change]:
        """Whose time is over, the latest first: the order to undo them in."""
        return [each for each in reversed(self._changes.values()) if not each.seconds_left()]

    # A configuration that was put back.

    def keep(self, undo: Undo) -> None:
        """As long as the file has this digest, these settings hold instead of it."""
        self._store.unconfirmed.put(KEPT, undo)

    def kept(self) -> Undo | None:
        """The configuration that was put back, if any."""
        try:
            found = self._store.unconfirmed.query().get(KEPT)
        except StoreError:
            return None
        return msgspec.convert(found, Undo) if found else None

    def let_go(self) -> None:
        """The file counts again."""
        self._store.unconfirmed.remove(KEPT)

    def undo_in_store(self) -> list[Change]:
        """At a start: what was never confirmed is undone where it is kept; returns it."""
        try:
            rows = self._store.unconfirmed.query()
        except StoreError:
            return []
        found = [msgspec.convert(body, Change) for key, body in rows.items() if key != KEPT]
        for change in sorted(found, key=lambda change: -change.made_ns):
            undo, items = change.undo, self._store.items
            if undo.settings is not None:
                self.keep(undo)
            elif undo.before is None:
                items.remove(undo.domain, undo.collection, undo.key)
            else:
                items.put(undo.domain, undo.collection, undo.key, undo.before)
            self._store.unconfirmed.remove(change.id)
        return found
