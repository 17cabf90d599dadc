"""How an agent is changed: items and configurations come in force, or are undone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.auth.gatekeeper import token_files
from ebpfsentinel.auth.tls import files_of
from ebpfsentinel.config import convert
from ebpfsentinel.config.differing import differing
from ebpfsentinel.config.load import digest, restored
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.refusal import DuplicateItem, UnknownItem
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.parts import Parts, set_up_logging, settle
from ebpfsentinel.unconfirmed import Change, Undo

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ebpfsentinel.config import Loaded
    from ebpfsentinel.model.domain import Domain
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.model.keys import KeyRecord, NewKey

logger = logging.getLogger(__name__)

_SETTLE_S = 0.5
_FRESH_S = 0.05
"""Who stands in the never-block floor may be this old at a change: hundreds come in a second."""
_NEEDS_RESTART = (
    "bind_address",
    "http_port",
    "metrics_port",
    "grpc_enabled",
    "grpc_port",
    "grpc_reflection",
    "state_dir",
    "on_exit",
    "xdp_mode",
    "privilege_separation",
    "user",
    "keeper_socket",
)


class Administration(Parts):
    """The changes that a file, the API or the time ask for."""

    def __init__(
        self,
        config: Path | None,
        flags: Mapping[str, Any],
        domains: Sequence[Domain],
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__(config, flags, domains, kernel)
        self._before_file: tuple[str, Loaded | None] = ("", None)
        self._reloads = {"success": 0, "failure": 0}
        self._undo_at_start()

    def _undo_at_start(self) -> None:
        """What nobody confirmed before the last agent ended does not come back."""
        for change in self.waiting.undo_in_store():
            self._audit_undone(change, "the agent ended before it was confirmed")
        kept = self.waiting.kept()
        if kept is None:
            return
        if kept.digest != digest(self._config):
            self.waiting.let_go()
            return
        why = (
            f"{self._config} was put in force, not confirmed, and undone: what was in force before "
            "holds until the file changes or `config reload` is called"
        )
        self.loaded = restored(kept.settings, list(self.domains.values()), why)

    async def add(
        self, domain: str, collection: str, item: msgspec.Struct, actor: str, confirm: int = 0
    ) -> Change | None:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        key = self._changes.key_of(domain, collection, item)
        undo = Undo(domain=domain, collection=collection, key=key)
        change = self._begin(actor, confirm, f"{key} added", [domain], undo)
        with self.store.together():
            with self._made(change):
                taken = self._changes.add(domain, collection, item)
            self._audit_change(domain, key, actor, after=taken)
        return await self._settled(change)

    async def remove(
        self, domain: str, collection: str, key: str, actor: str, confirm: int = 0
    ) -> Change | None:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        before = self._changes.find(domain, collection, key)
        undo = Undo(domain=domain, collection=collection, key=key, before=before)
        change = self._begin(actor, confirm, f"{key} deleted", [domain], undo)
        with self.store.together():
            with self._made(change):
                gone = self._changes.remove(domain, collection, key)
            self._audit_change(domain, key, actor, before=gone)
        return await self._settled(change)

    def _begin(
        self, actor: str, confirm: int, summary: str, domains: Sequence[str], undo: Undo
    ) -> Change | None:
        self._keep_owner_in(_FRESH_S)
        return self.waiting.begin(actor, confirm, summary, domains, undo) if confirm else None

    @contextlib.contextmanager
    def _made(self, change: Change | None) -> Iterator[None]:
        """A change that fails need not be undone."""
        try:
            yield
        except BaseException:
            if change is not None:
                self.waiting.forget(change)
            raise

    async def _settled(self, change: Change | None) -> Change | None:
        """Connections that were waiting to be accepted are, before fresh ones count."""
        if change is not None:
            for _ in range(3):
                await asyncio.sleep(0)
            self.waiting.in_force(change)
        return change

    async def confirm(self, key: str, actor: str, connected_ns: int) -> Change:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        change = self.waiting.confirm(key, connected_ns)
        component = change.undo.domain or "config"
        detail = f"{change.id}: {change.summary}"
        self._audit(component, "change_confirmed", actor, rule_id=change.undo.key, detail=detail)
        return change

    def _undo(self, change: Change, why: str) -> None:
        """Put back what was; where that fails, the kernel stops dropping, and we try again."""
        try:
            self._put_back(change.undo)
        except (SettingsError, KernelError) as error:
            logger.error("change %s cannot be undone yet: %s", change.id, error)  # noqa: TRY400
            return
        self.waiting.forget(change)
        self._audit_undone(change, why)

    def _put_back(self, undo: Undo) -> None:
        if undo.settings is not None:
            why = "an unconfirmed configuration was undone"
            earlier = restored(undo.settings, list(self.domains.values()), why)
            self._put_in_force(self.loaded, earlier)
            self.waiting.keep(undo)
        elif undo.before is None:
            with contextlib.suppress(UnknownItem):
                gone = self._changes.remove(undo.domain, undo.collection, undo.key)
                self._audit_change(undo.domain, undo.key, "undo", before=gone)
        else:
            with contextlib.suppress(DuplicateItem):
                item = self._changes.item_type(undo.domain, undo.collection)
                before = convert(msgspec.to_builtins(undo.before), item, "item")
                back = self._changes.add(undo.domain, undo.collection, before)
                self._audit_change(undo.domain, undo.key, "undo", after=back)

    def create_key(self, wanted: NewKey, actor: str) -> tuple[KeyRecord, str]:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        now_ns = time.time_ns()
        if any(key.identity.name == wanted.name for key in self.gatekeeper.static_keys.all):
            raise DuplicateItem(wanted.name)
        ends_ns = wanted.expires_ns(now_ns)
        keys = self.gatekeeper.keys
        made = keys.create(wanted.name, wanted.role, wanted.namespaces, now_ns, ends_ns)
        self._audit_key("key_created", actor, after=made[0])
        return made

    def rotate_key(self, key_id: str, grace_seconds: int, actor: str) -> tuple[KeyRecord, str]:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        before = self.gatekeeper.keys.get(key_id)
        made = self.gatekeeper.keys.rotate(key_id, time.time_ns(), grace_seconds * 10**9)
        self._audit_key("key_rotated", actor, before=before, after=made[0])
        return made

    def revoke_key(self, key_id: str, actor: str) -> KeyRecord:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        gone = self.gatekeeper.keys.revoke(key_id)
        self._audit_key("key_revoked", actor, before=gone)
        return gone

    def _audit_key(
        self,
        action: str,
        actor: str,
        before: KeyRecord | None = None,
        after: KeyRecord | None = None,
    ) -> None:
        record = after or before
        if record is None:
            return
        told = f"{record.name}, role {record.role.value}"
        sides = {
            name: found.public() for name, found in (("before", before), ("after", after)) if found
        }
        self._audit("auth", action, actor, rule_id=record.id, detail=told, **sides)

    async def reload(
        self, actor: str, confirm: int = 0, *, asked: bool = True
    ) -> tuple[dict[str, str], Change | None]:
        """See :class:`ebpfsentinel.api.agent.Agent`; not ``asked``: the file may have changed."""
        found = digest(self._config)
        if not asked and self._is_known(found):
            return {}, None
        before, change = self.loaded, None
        try:
            self._check_nothing_waits()
            loaded = self._load()
            await self._machine.names.refresh(self._hosts(loaded.settings))
            change = self._begin_reload(actor, confirm, found)
            report = self._put_in_force(before, loaded)
        except (SettingsError, KernelError) as error:
            self.loaded = before
            if change is not None:
                self.waiting.forget(change)
            self._reloads["failure"] += 1
            self._audit("config", "reload_refused", actor, detail=str(error), result="refused")
            logger.warning("configuration refused, the old one stays in force: %s", error)
            raise
        self.waiting.let_go()
        if loaded.settings != before.settings:
            self._before_file = (found, before)
        self._reloads["success"] += 1
        changed = ", ".join(name for name, result in report.items() if result != "unchanged")
        old, new = differing(before.settings, loaded.settings)
        detail = changed or "unchanged"
        self._audit("config", "config_changed", actor, detail=detail, before=old, after=new)
        asyncio.get_running_loop().call_later(_SETTLE_S, settle)
        logger.info("configuration reloaded: %s", changed or "nothing changed")
        return report, await self._settled(change)

    def _is_known(self, found: str) -> bool:
        """Is the file the one that waits to be confirmed, or that was undone?"""
        kept = self.waiting.kept()
        known = {change.undo.digest for change in self.waiting.all()}
        return bool(found) and (found in known or (kept is not None and found == kept.digest))

    def _check_nothing_waits(self) -> None:
        for change in self.waiting.all():
            if change.undo.settings is not None:
                problem = f"the configuration in force waits to be confirmed ({change.id})"
                raise SettingsError(
                    "config", problem, f"Run: ebpfsentinel-agent confirm {change.id}"
                )

    def _begin_reload(self, actor: str, confirm: int, found: str) -> Change | None:
        """What is undone is what held before this file, also where it was followed already."""
        followed, earlier = self._before_file
        before = earlier if found and found == followed and earlier else self.loaded
        settings = msgspec.to_builtins(before.settings) if confirm else None
        undo = Undo(settings=settings, digest=found)
        return self._begin(actor, confirm, "configuration reloaded", list(self.domains), undo)

    def _put_in_force(self, before: Loaded, loaded: Loaded) -> dict[str, str]:
        """All sections or none; section to what became of it."""
        let_in = self._access(loaded.settings)
        self.loaded = loaded
        self.loaded = loaded = self._have(loaded)
        new, old = loaded.settings, before.settings
        self.waiting.arm()  # places in the chains may be others now
        try:
            self._guardian.refresh(new)
            self.kernel.reserve(self.interfaces())
            self._changes.apply(new, list(self.domains))
            self.kernel.attach(self.interfaces())
        except (SettingsError, KernelError):
            self._have(before)
            raise
        let_in()
        self._configure_alerts(new)
        self.store.audit.configure(new.audit.buffer_size, new.audit.retention_days)
        set_up_logging(loaded)
        self._check_attached()
        report = {}
        for name in new.__struct_fields__:
            same = getattr(new, name) == getattr(old, name)
            report[name] = "unchanged" if same and name not in self.domains else "ok"
            if name in self.domains and same and not self.domains[name].files(getattr(new, name)):
                report[name] = "unchanged"
        stuck = [
            key for key in _NEEDS_RESTART if getattr(new.agent, key) != getattr(old.agent, key)
        ]
        if new.effective_tls.enabled != old.effective_tls.enabled:
            stuck.append("tls.enabled")
        if stuck:
            report["agent"] = f"in force after a restart: {', '.join(stuck)}"
        return report

    def watched_files(self) -> set[str]:
        """The configuration and every file that it names."""
        found = {str(self._config)} if self._config else set()
        found |= {*files_of(self.settings.effective_tls), *token_files(self.settings.auth)}
        for name, domain in self.domains.items():
            found |= set(domain.files(getattr(self.settings, name)))
        return found
