"""Exceptions from alerts, made in one step, kept over restarts, ending by themselves."""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.alerts import AlertException, Exceptions, made_from
from ebpfsentinel.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.alerts import Scope
    from ebpfsentinel.store import Store

logger = logging.getLogger(__name__)

MEMO = "alert-exceptions"
_SECOND_NS = 10**9


class UnknownAlert(LookupError):  # noqa: N818 -- as UnknownItem
    """No alert of this id is stored."""


class Exemptions:
    """The exceptions in force (:attr:`found`), as the store keeps them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.found = Exceptions()
        try:
            memo = store.memos.get(MEMO) or {}
        except StoreError as error:
            logger.error("exceptions are not in force: %s", error)  # noqa: TRY400
            return
        for each in msgspec.convert(memo.get("exceptions", []), list[AlertException]):
            self.found.add(each)

    def make(
        self, alert_id: str, scopes: Sequence[Scope], seconds: int, reason: str, actor: str
    ) -> AlertException:
        """An exception from a stored alert, in force at once; ``seconds`` 0: for ever.

        Raises:
            UnknownAlert: there is no such alert.
            SettingsError: the alert has nothing of a scope, or there are too many exceptions.
            StoreError: alerts cannot be read.
        """
        alert = self._store.alerts.get(alert_id)
        if alert is None:
            raise UnknownAlert(alert_id)
        now_ns = time.time_ns()
        made = made_from(
            alert,
            scopes,
            f"ex-{secrets.token_hex(4)}",
            actor=actor,
            reason=reason,
            created_ns=now_ns,
            expires_ns=now_ns + seconds * _SECOND_NS if seconds else 0,
        )
        self.found.add(made)
        self.save()
        return made

    def remove(self, key: str) -> AlertException | None:
        """End one; None: there is none."""
        gone = self.found.remove(key)
        if gone is not None:
            self.save()
        return gone

    def expire(self) -> list[AlertException]:
        """End those whose time is over."""
        over = self.found.expire(time.time_ns())
        if over:
            self.save()
        return over

    def save(self) -> None:
        """Keep all of them, hits included."""
        self.found.changed = False
        self._store.memos.put(MEMO, {"exceptions": msgspec.to_builtins(self.found.all())})

    def save_hits(self) -> None:
        """Keep them where hits were counted since."""
        if self.found.changed:
            self.save()
