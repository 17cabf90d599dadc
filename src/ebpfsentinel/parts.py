"""What an agent is made of, and what all of its work needs."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import ebpfsentinel
from ebpfsentinel.alerts import Fold
from ebpfsentinel.alerts.fold import SECOND_NS
from ebpfsentinel.auth import Gatekeeper, TlsFiles
from ebpfsentinel.changes import Changes, is_enabled
from ebpfsentinel.config import load
from ebpfsentinel.enrichment import Enricher
from ebpfsentinel.exemptions import Exemptions
from ebpfsentinel.flow import Flow
from ebpfsentinel.guardian import Guardian
from ebpfsentinel.kernel import heap, interfaces
from ebpfsentinel.machine import Machine
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import DomainRefused, KernelError, OnMissing
from ebpfsentinel.privileges import enter
from ebpfsentinel.rules import Cel
from ebpfsentinel.sinks import LiveFeed, Router, configure
from ebpfsentinel.store import AuditEntry, RuleChange, Store, StoreError
from ebpfsentinel.unconfirmed import Change, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebpfsentinel.config import CoreSettings, Loaded
    from ebpfsentinel.model.domain import Domain, Engine
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

_AUTO = "auto"
_YOUNG = 50_000
"""So many new objects are not looked through for cycles yet."""


class Parts:
    """The parts of one agent, over a kernel: what :mod:`ebpfsentinel.privileges` gives, or another.

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
        self.ready, self.not_ready_reason = False, "starting"
        self.missing: dict[str, str] = {}
        self.domains = {domain.name: domain for domain in domains}
        self._config, self._flags = config, flags
        self.loaded = self._load()
        agent = self.settings.agent
        self.kernel: Kernel = kernel or enter(self.settings, config, flags)
        self.store = _open_store(self.settings)
        self.waiting = Waiting(self.store, self.kernel)
        self.gatekeeper = Gatekeeper(self.store.keys)
        self.tls = TlsFiles()
        self._let_in()
        tools = Tools(rules=Cel())
        self.engines: dict[str, Engine] = {
            name: domain.engine(tools) for name, domain in self.domains.items()
        }
        self.alerts = LiveFeed(self.store.alerts.after)
        self._fold = Fold()
        self.router = Router(Path(agent.state_dir) / "spool", self.version)
        sinks = (self.router, self.alerts)
        self.exemptions = Exemptions(self.store)
        self.enricher = Enricher()
        self.flow = Flow(
            self.kernel,
            self.engines,
            self._fold,
            self.store,
            sinks,
            self.exemptions.found,
            {name: dict(domain.techniques) for name, domain in self.domains.items()},
            self.enricher.enrich,
            self.enricher.learn,
        )
        self._machine = Machine(self.kernel)
        self._guardian, self._looked_at = Guardian(self.kernel), 0.0
        self._changes = Changes(
            self.domains, self.engines, self.kernel, self.store, self._surroundings
        )

    @property
    def settings(self) -> CoreSettings:
        """What is in force."""
        return self.loaded.settings

    def _configure_alerts(self, settings: CoreSettings) -> None:
        self._fold.configure(**fold_settings(settings))
        self.flow.techniques = settings.alerting.techniques
        self.enricher.configure(settings.geoip, settings.container)
        self.router.configure(settings.alerting)

    def _let_in(self) -> None:
        """Who may call is known before anything listens."""
        try:
            self._access(self.settings)()
            self.gatekeeper.keys.restore()
        except StoreError as error:
            logger.error("keys that were made here are not good now: %s", error)  # noqa: TRY400
        except BaseException:
            self.store.close()
            raise

    def _access(self, settings: CoreSettings) -> Callable[[], None]:
        """Read what is named of keys and certificates; what is given back puts it in force.

        Raises:
            SettingsError: it cannot be used; nothing has changed.
        """
        keys = self.gatekeeper.prepare(settings.auth, settings.agent.api_rate_limit)
        place = "tls" if settings.tls.enabled else "agent.tls"
        files = self.tls.prepare(settings.effective_tls, place)

        def adopt() -> None:
            self.gatekeeper.adopt(keys)
            self.tls.adopt(files)

        return adopt

    @property
    def losing(self) -> frozenset[str]:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        return self.flow.losing

    def process(self, pid: int, start_ns: int) -> dict[str, Any]:
        """All that is known of a process; see :meth:`ebpfsentinel.naming.Naming.process`."""
        return self.flow.naming.process(pid, start_ns)

    def _load(self) -> Loaded:
        return load(self._config, os.environ, self._flags, list(self.domains.values()))

    def _have(self, loaded: Loaded) -> Loaded:
        """Load what is enabled; what cannot be had is off in what is given back, and said loudly.

        Raises:
            KernelError: nothing can be had, or agent.on_missing says that it has to be.
        """
        missing: dict[str, str] = {}
        while True:
            try:
                self.kernel.load(self._enabled(loaded.settings))
            except DomainRefused as error:
                loaded = self._without(loaded, error)
                missing[error.domain] = error.reason
            else:
                self.missing = missing
                return loaded

    def _without(self, loaded: Loaded, error: DomainRefused) -> Loaded:
        """The settings with a domain switched off that the kernel does not take.

        Raises:
            DomainRefused: we are not to go on without it, or it was not asked for.
        """
        section = getattr(loaded.settings, error.domain, None)
        if (
            loaded.settings.agent.on_missing is OnMissing.FAIL
            or section is None
            or not is_enabled(section)
        ):
            raise error
        logger.error("going on without %s: %s", error.domain, error.reason)
        off = {error.domain: msgspec.structs.replace(section, enabled=False)}
        settings = msgspec.structs.replace(loaded.settings, **off)
        warning = f"{error.domain} is off: its programs cannot be had here"
        return replace(loaded, settings=settings, warnings=(*loaded.warnings, warning))

    def interfaces(self) -> list[str]:
        """The interfaces to guard: those named, and for ``auto`` all that are up."""
        named = self.settings.agent.interfaces
        found = [name for name in named if name != _AUTO]
        if _AUTO in named:
            found += [name for name in interfaces.up() if name not in found]
        return found

    def _enabled(self, settings: CoreSettings) -> list[Domain]:
        return [d for d in self.domains.values() if is_enabled(getattr(settings, d.name))]

    def _surroundings(self) -> Surroundings:
        return self._machine.surroundings((self.settings.agent.http_port,))

    def _hosts(self, settings: CoreSettings) -> list[str]:
        """The DNS names that settings refer to."""
        return [
            host for d in self._enabled(settings) for host in d.hosts(getattr(settings, d.name))
        ]

    def _hosts_of(self, domain: Domain) -> Sequence[str]:
        return domain.hosts(getattr(self.settings, domain.name))

    def _check_attached(self) -> None:
        """Ready means: every interface that was asked for has our programs."""
        if trouble := self.kernel.trouble():
            self.ready, self.not_ready_reason = False, trouble
            return
        attached = {place.asked or place.interface for place in self.kernel.attachments()}
        hooked = any(
            p.hook.startswith(("xdp", "tc")) and p.domain in self.engines
            for p in self.kernel.programs()
        )
        missing = [name for name in self.interfaces() if name not in attached] if hooked else []
        reasons = [f"not attached: {', '.join(missing)}"] if missing else []
        reasons += [f"without {', '.join(self.missing)}"] if self.missing else []
        self.ready, self.not_ready_reason = not reasons, "; ".join(reasons)

    def _keep_owner_in(self, fresh_s: float = 0) -> None:
        """Look who is there, unless we did less than ``fresh_s`` ago."""
        now = time.monotonic()
        if now - self._looked_at < fresh_s:
            return
        try:
            self._guardian.refresh(self.settings)
            self._looked_at = now
        except KernelError as error:
            logger.warning("the never-block floor is as it was: %s", error)

    def _audit_undone(self, change: Change, why: str) -> None:
        logger.warning("change %s is undone, %s: %s", change.id, why, change.summary)
        detail = f"{change.id}: {change.summary}; {why}"
        component = change.undo.domain or "config"
        self._audit(
            component, "change_undone", change.actor, rule_id=change.undo.key, detail=detail
        )

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
        self._audit(domain, action, actor, rule_id=key, before=before, after=after)

    def note_head(self) -> None:
        """Log where the audit trail ends: what is in the log elsewhere no new chain can match."""
        try:
            head = self.store.audit.head()
        except StoreError as error:
            logger.warning("the audit trail cannot be read: %s", error)
        else:
            logger.info("the audit trail ends with entry %d, hash %s", head.seq, head.hash)

    def _audit(
        self,
        component: str,
        action: str,
        actor: str,
        *,
        rule_id: str = "",
        detail: str = "",
        **more: Any,
    ) -> None:
        if self.settings.audit.enabled:
            entry = AuditEntry(
                timestamp_ns=time.time_ns(),
                component=component,
                action=action,
                actor=actor,
                rule_id=rule_id,
                detail=detail,
                **more,
            )
            self.store.audit.append([entry])


def settle() -> None:
    """Take what is here to stay out of the collector's sight: thousands of rules, all of Python.

    It would walk through them in the midst of a change, for tens of milliseconds; and through what
    a change makes, again and again.
    """
    gc.set_threshold(_YOUNG)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def tidy() -> None:
    """Collect the cycles of the last minute: the threshold of :func:`settle` is hours away.

    And give back to the kernel what malloc holds on to: a twentieth of our memory within an hour.
    """
    gc.collect()
    heap.give_back()


def _open_store(settings: CoreSettings) -> Store:
    folder = Path(settings.agent.state_dir)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    audit = settings.audit
    return Store(folder, audit=audit.buffer_size, retention_days=audit.retention_days)


def fold_settings(settings: CoreSettings) -> dict[str, Any]:
    """What the fold of alerts is configured with."""
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
