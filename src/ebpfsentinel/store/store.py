"""The store: one file, its rooms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.store.alerts import Alerts
from ebpfsentinel.store.audit import Audit
from ebpfsentinel.store.database import Database
from ebpfsentinel.store.holder import Holder
from ebpfsentinel.store.items import Items, Memos, Unconfirmed
from ebpfsentinel.store.keys import Keys

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

FILE = "ebpfsentinel.db"
ALERTS = 50_000


class Store:
    """The rooms of one SQLite file, such as :attr:`items`, :attr:`alerts` and :attr:`audit`.

    Opening never fails: a file that cannot be used shows in :attr:`trouble`, and what is written
    meanwhile waits in memory (see :mod:`ebpfsentinel.store.database`).
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        alerts: int = ALERTS,
        audit: int = 100_000,
        retention_days: int = 90,
    ) -> None:
        self.folder = state_dir
        self._holder = Holder(state_dir)
        self._database = Database(state_dir / FILE)
        self.items = Items(self._database)
        self.memos = Memos(self._database)
        self.unconfirmed = Unconfirmed(self._database)
        self.keys = Keys(self._database)
        self.alerts = Alerts(self._database, alerts)
        self.audit = Audit(self._database, audit, retention_days)

    @property
    def trouble(self) -> str:
        """Why nothing can be written now; empty while all is well."""
        return self._database.trouble

    @property
    def notes(self) -> tuple[str, ...]:
        """What an operator should know, such as a file that was moved aside."""
        return tuple(self._database.notes)

    @property
    def lost(self) -> dict[str, int]:
        """Records given up, by room."""
        return dict(self._database.lost)

    @property
    def waiting(self) -> int:
        """Records that wait in memory to be written."""
        return self._database.waiting

    def together(self) -> AbstractContextManager[None]:
        """What is written within is one transaction; do not await within."""
        return self._database.together()

    def sweep(self, now_ns: int) -> None:
        """Delete what is too old, and try again what waits; call it now and then."""
        self._database.flush()
        self.audit.sweep(now_ns)

    def close(self) -> None:
        """Write what waits, and close."""
        self._database.close()
        self._holder.close()
