"""The running agent: starts, follows its configuration and its interfaces, and ends cleanly.

What it does with events is :mod:`ebpfsentinel.flow`; how it changes, :mod:`ebpfsentinel.changes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import ebpfsentinel
from ebpfsentinel.alerts import Fold
from ebpfsentinel.alerts.fold import SECOND_NS
from ebpfsentinel.changes import Changes, is_enabled
from ebpfsentinel.config import convert, load
from ebpfsentinel.config.load import digest, restored
from ebpfsentinel.flow import DROPPED, Flow
from ebpfsentinel.guardian import Guardian
from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.machine import Machine
from ebpfsentinel.model.domain import Metric, Surroundings, Tools
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.refusal import DuplicateItem, UnknownItem
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.rules import Cel
from ebpfsentinel.sinks import LiveFeed, LogSink, configure
from ebpfsentinel.store import AuditEntry, RuleChange, Store
from ebpfsentinel.unconfirmed import Change, Undo, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.config import CoreSettings, Loaded
    from ebpfsentinel.model.domain import Domain, Engine
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

GATHER_S, GATHER_BUSY_S, BUSY_RECORDS = 0.05, 0.005, 2000
"""How long records may gather after the first, so that one wake-up serves many; and how long when
the last time brought so many that a ring might fill."""
_TICK_S = 1.0
_SECOND_MS = 1000
_RESEED_TICKS = 60
_MEASURE_TICKS = 10
_SETTLE_S = 0.5
_YOUNG = 50_000
"""So many new objects are not looked through for cycles yet."""
_MEASURE_S = 0.1
_AUTO = "auto"
_NEEDS_RESTART = ("bind_address", "http_port", "metrics_port", "state_dir", "on_exit", "xdp_mode")


class Agent:
    """One agent, over a kernel (the real one, unless a test brings another).

    ``config`` is the file, or None for defaults; ``flags`` are places of settings with values that
    win over it.
    """

    def __init__(
        self,
        config: Path | None,
        flags: Mapping[str, Any],
        domains: Sequence[Domain],
        kernel: Kernel | None = None,
    ) -> None:
        self.version = ebpfsentinel.__version__
        self.started_ns = time.time_ns()
        self.ready = False
        self.not_ready_reason = "starting"
        self.domains = {domain.name: domain for domain in domains}
        self._config, self._flags = config, flags
        self.loaded = self._load()
        agent = self.settings.agent
        self.kernel: Kernel = kernel or LinuxKernel(agent.on_exit, agent.xdp_mode)
        self.store = _open_store(self.settings)
        self.waiting = Waiting(self.store, self.kernel)
        self._undo_at_start()
        tools = Tools(rules=Cel())
        self.engines: dict[str, Engine] = {
            name: domain.engine(tools) for name, domain in self.domains.items()
        }
        self.alerts = LiveFeed(self.store.alerts.after)
        self._fold = Fold()
        sinks = (LogSink(), self.alerts)
        self.flow = Flow(self.kernel, self.engines, self._fold, self.store, sinks)
        self._machine = Machine(self.kernel)
        self._guardian = Guardian(self.kernel)
        self._changes = Changes(
            self.domains, self.engines, self.kernel, self.store, self._surroundings
        )
        self._before_file: tuple[str, Loaded | None] = ("", None)
        self._reloads = {"success": 0, "failure": 0}
        self._woken = asyncio.Event()

    @property
    def settings(self) -> CoreSettings:
        """What is in force."""
        return self.loaded.settings

    def _load(self) -> Loaded:
        return load(self._config, os.environ, self._flags, list(self.domains.values()))

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

    def _audit_undone(self, change: Change, why: str) -> None:
        logger.warning("change %s is undone, %s: %s", change.id, why, change.summary)
        detail = f"{change.id}: {change.summary}; {why}"
        component = change.undo.domain or "config"
        self._audit(
            component, "change_undone", change.actor, rule_id=change.undo.key, detail=detail
        )

    # Starting and ending

    async def prepare(self) -> None:
        """Load the programs and, meanwhile, plan; nothing is attached yet.

        Raises:
            SettingsError, KernelError: it cannot be had.
        """
        self._fold.configure(**_fold_settings(self.settings))
        self.kernel.claim(self.interfaces())
        self.kernel.reserve(self.interfaces())
        self._machine.look_around()
        await self._machine.names.refresh(self._hosts(self.settings))
        loading = asyncio.to_thread(self.kernel.load, self._enabled(self.settings))
        planning = asyncio.to_thread(self._changes.prepare, self.settings)
        _, plans = await asyncio.gather(loading, planning)
        self._changes.put(self.settings, plans)
        self._guardian.refresh(self.settings)
        self.waiting.arm()

    async def start(self) -> None:
        """Attach and seed; afterwards :attr:`ready`.

        Raises:
            SettingsError, KernelError: it cannot be had.
        """
        self.kernel.attach(self.interfaces())
        await self.flow.seed()
        self._check_attached()
        _settle()

    def _enabled(self, settings: CoreSettings) -> list[Domain]:
        return [d for d in self.domains.values() if is_enabled(getattr(settings, d.name))]

    def interfaces(self) -> list[str]:
        """The interfaces to guard: those named, and for ``auto`` all that are up."""
        named = self.settings.agent.interfaces
        found = [name for name in named if name != _AUTO]
        if _AUTO in named:
            found += [name for name in interfaces.up() if name not in found]
        return found

    def _check_attached(self) -> None:
        """Ready means: every interface that was asked for has our programs."""
        attached = {place.asked or place.interface for place in self.kernel.attachments()}
        hooked = any(
            p.hook.startswith(("xdp", "tc")) and p.domain in self.engines
            for p in self.kernel.programs()
        )
        missing = [name for name in self.interfaces() if name not in attached] if hooked else []
        self.ready = not missing
        self.not_ready_reason = f"not attached: {', '.join(missing)}" if missing else ""

    async def run(self, until: asyncio.Event) -> None:
        """Carry events until ``until`` is set."""
        loop = asyncio.get_running_loop()
        links = interfaces.watch()
        loop.add_reader(links, self._links_changed, links)
        carried = (self._drain(), self._tick(), self._pulse(), self._follow_names())
        tasks = [asyncio.create_task(each) for each in carried]
        ended = asyncio.create_task(until.wait())
        try:
            done, _ = await asyncio.wait([ended, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, ended):
                task.cancel()
            await asyncio.gather(*tasks, ended, return_exceptions=True)
            loop.remove_reader(links)
            links.close()
            self._listen(loop, on=False)

    async def stop(self) -> None:
        """Take in what is still in the rings, then leave the kernel and the store."""
        self.ready, self.not_ready_reason = False, "stopping"
        await self.flow.step()
        for change in reversed(self.waiting.all()):
            self._undo(change, "the agent ends")
        self.alerts.close()
        self.kernel.detach()
        self.store.close()

    def _listen(self, loop: asyncio.AbstractEventLoop, *, on: bool) -> None:
        for fd in self.kernel.rings().values():
            if on:
                loop.add_reader(fd, self._woken.set)
            else:
                loop.remove_reader(fd)

    async def _drain(self) -> None:
        """Sleep until a ring has records, let some gather, then take them all."""
        loop = asyncio.get_running_loop()
        records = 0
        while True:
            self._listen(loop, on=True)
            await self._woken.wait()
            self._listen(loop, on=False)
            self._woken.clear()
            await asyncio.sleep(GATHER_S if records < BUSY_RECORDS else GATHER_BUSY_S)
            records = await self.flow.step()

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            self._follow_clock()
            self._follow_time()
            self._keep_owner_in()
            for change in self.waiting.due():
                self._undo(change, "nobody confirmed it")
            await self._beat([d for d in self._enabled(self.settings) if d.pulse_ms >= _SECOND_MS])
            self.flow.sweep()
            if self.flow.report_losses() or ticks % _RESEED_TICKS == 0:
                await self.flow.seed()
            if ticks % _MEASURE_TICKS == 0:
                self.kernel.measure(on=True)
                await asyncio.sleep(_MEASURE_S)
                self.kernel.measure(on=False)

    async def _pulse(self) -> None:
        """Poll and tick the domains for which a second is too long."""
        while True:
            quick = [d for d in self._enabled(self.settings) if d.pulse_ms < _SECOND_MS]
            await asyncio.sleep(min((d.pulse_ms for d in quick), default=_SECOND_MS) / 1000)
            await self._beat(quick)

    async def _beat(self, domains: Sequence[Domain]) -> None:
        for domain in domains:
            self.refresh(domain.name)
        await self.flow.tick([domain.name for domain in domains])

    def _keep_owner_in(self) -> None:
        try:
            self._guardian.refresh(self.settings)
        except KernelError as error:
            logger.warning("the never-block floor is as it was: %s", error)

    def _follow_clock(self) -> None:
        """The wall clock was set: plan anew, so that engines place boot times right again."""
        offset_ns, before_ns = clock.boot_offset_ns(), self._machine.boot_offset_ns
        if abs(offset_ns - before_ns) < SECOND_NS:
            return
        logger.warning("the clock was set by %.1f s", (offset_ns - before_ns) / SECOND_NS)
        self._machine.boot_offset_ns = offset_ns
        try:
            self._changes.apply(self.settings, list(self.domains))
        except (SettingsError, KernelError) as error:
            logger.warning("times of events are off by that much: %s", error)

    def _follow_time(self) -> None:
        """Take out what has lapsed; plan anew what was worked out no further."""
        now_ns = time.time_ns()
        try:
            for domain, key, gone in self._changes.expire(now_ns):
                self._audit_change(domain, key, "expiry", before=gone)
            self._changes.renew(now_ns)
        except (SettingsError, KernelError) as error:
            logger.warning("what has lapsed is still listed, but not in force: %s", error)

    async def _follow_names(self) -> None:
        """Resolve DNS names again when their TTL is over; other answers are put in force."""
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                if await self._machine.names.refresh(self._hosts(self.settings)):
                    named = [d.name for d in self.domains.values() if self._hosts_of(d)]
                    self._changes.apply(self.settings, named)
            except (SettingsError, KernelError) as error:
                logger.warning("DNS names resolve anew, but not all in force: %s", error)

    def _hosts_of(self, domain: Domain) -> Sequence[str]:
        return domain.hosts(getattr(self.settings, domain.name))

    def _links_changed(self, links: Any) -> None:
        """An interface came, went or was renamed: attach to what is there now."""
        interfaces.settle(links)
        before = self._surroundings()
        self._machine.look_around()
        try:
            self.kernel.reserve(self.interfaces())
            now = self._surroundings()
            if (now.interfaces, now.namespaces) != (before.interfaces, before.namespaces):
                self._changes.apply(self.settings, list(self.domains))
            self._changes.relink(now.links or {})
            self.kernel.attach(self.interfaces())
        except (SettingsError, KernelError) as error:
            logger.warning("interfaces changed, but not all can be guarded: %s", error)
        self._check_attached()

    # Changing

    def _surroundings(self) -> Surroundings:
        return self._machine.surroundings((self.settings.agent.http_port,))

    def _hosts(self, settings: CoreSettings) -> list[str]:
        """The DNS names that settings refer to."""
        return [
            host for d in self._enabled(settings) for host in d.hosts(getattr(settings, d.name))
        ]

    async def add(
        self, domain: str, collection: str, item: msgspec.Struct, actor: str, confirm: int = 0
    ) -> Change | None:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        key = self._changes.key_of(domain, collection, item)
        undo = Undo(domain=domain, collection=collection, key=key)
        change = self._begin(actor, confirm, f"{key} added", [domain], undo)
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
        with self._made(change):
            gone = self._changes.remove(domain, collection, key)
        self._audit_change(domain, key, actor, before=gone)
        return await self._settled(change)

    def _begin(
        self, actor: str, confirm: int, summary: str, domains: Sequence[str], undo: Undo
    ) -> Change | None:
        self._keep_owner_in()
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

    def _audit_change(
        self,
        domain: str,
        key: str,
        actor: str,
        *,
        before: msgspec.Struct | None = None,
        after: msgspec.Struct | None = None,
    ) -> None:
        action = "rule_added" if after else "rule_removed"
        change = RuleChange(
            timestamp_ns=time.time_ns(),
            component=domain,
            action=action,
            actor=actor,
            rule_id=key,
            before=before,
            after=after,
        )
        self.store.audit.append_change(change)
        self._audit(domain, action, actor, rule_id=key)

    def _audit(
        self, component: str, action: str, actor: str, *, rule_id: str = "", detail: str = ""
    ) -> None:
        if self.settings.audit.enabled:
            entry = AuditEntry(
                timestamp_ns=time.time_ns(),
                component=component,
                action=action,
                actor=actor,
                rule_id=rule_id,
                detail=detail,
            )
            self.store.audit.append([entry])

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
            self._audit("config", "reload_refused", actor, detail=str(error))
            logger.warning("configuration refused, the old one stays in force: %s", error)
            raise
        self.waiting.let_go()
        if loaded.settings != before.settings:
            self._before_file = (found, before)
        self._reloads["success"] += 1
        changed = ", ".join(name for name, result in report.items() if result != "unchanged")
        self._audit("config", "config_changed", actor, detail=changed or "unchanged")
        asyncio.get_running_loop().call_later(_SETTLE_S, _settle)
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
        self.loaded = loaded
        new, old = loaded.settings, before.settings
        self.kernel.load(self._enabled(new))
        self.waiting.arm()  # places in the chains may be others now
        try:
            self._guardian.refresh(new)
            self.kernel.reserve(self.interfaces())
            self._changes.apply(new, list(self.domains))
            self.kernel.attach(self.interfaces())
        except (SettingsError, KernelError):
            self.kernel.load(self._enabled(old))
            raise
        self._fold.configure(**_fold_settings(new))
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
        if stuck:
            report["agent"] = f"in force after a restart: {', '.join(stuck)}"
        return report

    def watched_files(self) -> set[str]:
        """The configuration and every file that it names."""
        found = {str(self._config)} if self._config else set()
        for name, domain in self.domains.items():
            found |= set(domain.files(getattr(self.settings, name)))
        return found

    # Showing

    def refresh(self, domain: str) -> None:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        if domain in {d.name for d in self._enabled(self.settings)}:
            for source in self.domains[domain].polled:
                self.flow.feed(domain, source, self.kernel.total(source))

    def metrics(self) -> Sequence[Metric]:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        found = [metric for engine in self.engines.values() for metric in engine.metrics()]
        found += self.flow.metrics()
        missed = {"reason": "slow_listener"}
        found.append(Metric("alerts_dropped", "counter", DROPPED, missed, self.alerts.missed))
        for status, count in self._reloads.items():
            labels = {"status": status}
            found.append(
                Metric("config_reloads", "counter", "Reloads of the configuration", labels, count)
            )
        return found


def _settle() -> None:
    """Take what is here to stay out of the collector's sight: thousands of rules, all of Python.

    It would walk through them in the midst of a change, for tens of milliseconds; and through what
    a change makes, again and again.
    """
    gc.set_threshold(_YOUNG)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _open_store(settings: CoreSettings) -> Store:
    folder = Path(settings.agent.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    audit = settings.audit
    return Store(folder, audit=audit.buffer_size, retention_days=audit.retention_days)


def _fold_settings(settings: CoreSettings) -> dict[str, Any]:
    alerting = settings.alerting
    return {
        "enabled": alerting.enabled,
        "dedup_window_ns": alerting.dedup_window_secs * SECOND_NS,
        "throttle_window_ns": alerting.throttle_window_secs * SECOND_NS,
        "throttle_max": alerting.throttle_max,
    }


def set_up_logging(loaded: Loaded) -> None:
    """Logs as the settings say; text on a terminal unless they say otherwise."""
    agent = loaded.settings.agent
    chosen = "agent.log_format" in loaded.sources
    shown = "text" if sys.stderr.isatty() and not chosen else agent.log_format.value
    configure(agent.log_level.value, shown, agent.log_filter)
