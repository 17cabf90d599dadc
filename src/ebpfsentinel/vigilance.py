"""The agent looks after itself: canaries, tampering, and what to do about it.

What to think of each is in :mod:`ebpfsentinel.watch` and :mod:`ebpfsentinel.tamper`; here it is
done, in time, and what was taken away is put back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ebpfsentinel
from ebpfsentinel.administration import Administration
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.domain import Metric
from ebpfsentinel.model.health import BLINDING, KINDS, Health, Trouble
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.tamper import Own
from ebpfsentinel.watch import Troubles, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.model.domain import Domain
    from ebpfsentinel.model.health import Breach
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

_STEP_S = 1.0
_REMEDIES = {
    "hook": "bpftool net and bpftool link show what is there; restart the agent if it stays.",
    "chain": "It was put back, if agent.tamper.mend is on. Who else runs bpf(2) on this host?",
    "pin": "It was pinned again, if agent.tamper.mend is on. Who else writes to bpffs?",
    "map": "The rules were written anew, if agent.tamper.mend is on. Who else runs bpf(2) here?",
}


class Vigilance(Administration):
    """Proves that it sees, and notices what others do to it."""

    def __init__(
        self,
        config: Path | None,
        flags: Mapping[str, Any],
        domains: Sequence[Domain],
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__(config, flags, domains, kernel)
        self.watch = Watch(self.kernel, self.flow.canaries, self.router, self.domains)
        self.own: Own | None = None
        self._troubles = Troubles()
        self._sent_s = self._inspected_s = 0.0

    def health(self) -> Health:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        patience_s = self.settings.agent.canary.patience_secs
        proofs = self.watch.proofs(patience_s)
        return Health.of(self._troubles.all(), proofs, dict(self._troubles.counts))

    @property
    def blind(self) -> str:
        """Why the agent may not see what it should; empty: it sees."""
        return "; ".join(each.text for each in self._troubles.all() if each.kind in BLINDING)

    def _note_files(self) -> Own:
        """As they are now: this is what we were started from."""
        if self.own is None:
            self.own = Own(Path(ebpfsentinel.__file__).parent)
        return self.own

    async def _keep_watch(self) -> None:
        """Each second: look, and now and then send canaries and inspect what is ours."""
        self._sent_s = self._inspected_s = time.monotonic()
        own = self._note_files()
        own.gaps.since_last(0)
        while True:
            await asyncio.sleep(_STEP_S)
            stopped = own.stopped(_STEP_S)
            alerts = [self._troubles.alarm(stopped)] if stopped else []
            if stopped:  # what was under way while nobody ran was not late
                self.flow.canaries.excuse()
            alerts += self._look()
            await self.flow.tell(alerts)

    def _look(self) -> list[Alert]:
        """A fault of our own is said, and does not end the watch."""
        try:
            away = self.kernel.trouble()
            found = [Trouble("hook", "kernel.away", away)] if away else []
            told = [*self._troubles.follow("away", found)]
            told += self._troubles.follow("missing", self._missing())
            if away:  # what goes by the kernel would find all else amiss, too
                return told
            return [*told, *self._follow_canaries(), *self._follow_tampering()]
        except Exception as error:
            logger.exception("the agent could not look after itself")
            text = f"the agent cannot look after itself: {error}"
            return self._troubles.follow("watch", [Trouble("pipeline", "watch", text)])

    def _missing(self) -> Iterator[Trouble]:
        """Domains that were asked for, and cannot be had."""
        for name, reason in self.missing.items():
            text = f"domain {name} is enabled, and off: {reason.splitlines()[0]}"
            remedy = "docs/kernels.md says what each kernel can do; or switch the domain off."
            yield Trouble("hook", f"missing.{name}", text, remedy=remedy)

    def _follow_canaries(self) -> Iterator[Alert]:
        wanted, now_s = self.settings.agent.canary, time.monotonic()
        if not wanted.enabled:
            yield from self._troubles.follow("canaries", ())
            return
        self.watch.look(self.flow.faults)
        if now_s - self._sent_s >= wanted.interval_secs:
            self._sent_s = now_s
            self._rehearse()
            self.watch.send(self._enabled(self.settings), self.flow.faults)
            yield from self._troubles.follow("unseen", self.watch.unseen())
        patience_s = wanted.patience_secs
        yield from self._troubles.follow("canaries", self.watch.troubles(patience_s))

    def _rehearse(self) -> None:
        """An alert goes through all stations but the last."""
        way = self.flow.canaries.way("pipeline", "alerts")
        way.send()
        alert = Alert(
            timestamp_ns=time.time_ns(),
            component="agent",
            severity=Severity.LOW,
            rule_id="watch.canary",
            action="log",
            message="a canary",
        )
        try:
            self.flow.rehearse(alert)
        except Exception as error:
            logger.exception("an alert would not go on")
            way.fault = repr(error)
        else:
            way.hear()

    def _follow_tampering(self) -> Iterator[Alert]:
        wanted, now_s = self.settings.agent.tamper, time.monotonic()
        if now_s - self._inspected_s < wanted.interval_secs:
            return
        self._inspected_s = now_s
        if not wanted.enabled:
            yield from self._troubles.follow("kernel", ())
            yield from self._troubles.follow("own", ())
            return
        if self.own is not None:
            yield from self._troubles.follow("own", self.own.look())
        found = self.kernel.inspect(mend=wanted.mend)
        lasting = [_trouble(breach) for breach in found if breach.kind != "map"]
        yield from self._troubles.follow("kernel", lasting)
        for breach in found:
            if breach.kind == "map":  # what a map holds now is what is compared from now on
                yield self._troubles.alarm(_trouble(breach))
        if found and wanted.mend:
            self._mend(found)

    def _mend(self, found: Sequence[Breach]) -> None:
        """Attach what was detached, and write what was changed."""
        try:
            self.kernel.attach(self.interfaces())
            owners = {self.kernel.owner(each.subject) for each in found if each.kind == "map"}
            self._changes.again([name for name in owners if name in self.domains])
            if owners - set(self.domains):
                self._guardian.forget()
                self._guardian.refresh(self.settings)
        except (KernelError, SettingsError) as error:
            logger.warning("not all of what somebody else changed could be put back: %s", error)
        self._check_attached()

    def _watch_metrics(self) -> Iterator[Metric]:
        yield from self.watch.metrics(self.settings.agent.canary.patience_secs)
        text = "Alarms of the agent about itself"
        for kind in KINDS:
            count = self._troubles.counts.get(kind, 0)
            yield Metric("agent_alarms", "counter", text, {"kind": kind}, count)
        text = "1: the agent may not see what it should"
        yield Metric("agent_blind", "gauge", text, {}, float(bool(self.blind)))


def _trouble(breach: Breach) -> Trouble:
    text = f"{breach.kind} {breach.subject}: {breach.text}"
    kind = "hook" if breach.kind == "hook" else "tamper"
    key = f"tamper.{breach.kind}.{breach.subject}"
    return Trouble(kind, key, text, remedy=_REMEDIES[breach.kind])
