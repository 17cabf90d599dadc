"""The running agent: starts, follows its configuration and its interfaces, and ends cleanly.

What it does with events is :mod:`ebpfsentinel.flow`; how it changes, :mod:`ebpfsentinel.changes`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from ebpfsentinel.alerts.fold import SECOND_NS
from ebpfsentinel.flow import DROPPED
from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.model.domain import CountsSome, Metric
from ebpfsentinel.model.kernel import DomainRefused, KernelError
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.parts import settle, tidy
from ebpfsentinel.vigilance import Vigilance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from ebpfsentinel.model.domain import Domain, Surroundings
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

FIRST_S, GATHER_S, GATHER_BUSY_S, BUSY_RECORDS = 0.002, 0.05, 0.005, 2000
"""How long records may gather after the first, so that one wake-up serves many. The first after
silence is not held long, but the next wake-up is then not before :data:`GATHER_S` later; sooner if
the last time brought so many that a ring might fill."""
_TICK_S = 1.0
_SECOND_MS = 1000
_RESEED_TICKS = 60
_MEASURE_TICKS = 10
_FILES_TICKS = 2
_MEASURE_S = 0.1
_FRESH_TIMES, _FRESH_S = 10, 0.2
_SETTLED_TICKS = 60
"""An agent that has gone on for so long needs nobody who would take over in its place."""
_SEEN = ("interfaces", "namespaces", "own_addresses")
"""What a change of links or addresses may make another; all domains then plan again."""


class Agent(Vigilance):
    """One agent: see :class:`~ebpfsentinel.parts.Parts` for what it takes."""

    def __init__(
        self,
        config: Path | None,
        flags: Mapping[str, Any],
        domains: Sequence[Domain],
        kernel: Kernel | None = None,
    ) -> None:
        super().__init__(config, flags, domains, kernel)
        self._woken = asyncio.Event()
        self._stale_at: dict[str, float] = {}
        self.ticked_s = time.monotonic()
        self._handing_over = self._away = False

    async def prepare(self) -> None:
        """Load the programs and, meanwhile, plan; nothing is attached yet.

        Raises:
            SettingsError, KernelError: it cannot be had.
        """
        self.kernel.claim(self.interfaces())
        self._configure_alerts(self.settings)
        self.kernel.reserve(self.interfaces())
        self._machine.look_around()
        await self._machine.names.refresh(self._hosts(self.settings))
        loading = asyncio.to_thread(self._have, self.loaded)
        planning = asyncio.to_thread(self._changes.prepare, self.settings)
        noting = asyncio.to_thread(self._note_files)
        self.loaded, plans, _ = await asyncio.gather(loading, planning, noting)
        there = {name: plan for name, plan in plans.items() if name not in self.missing}
        self._changes.put(self.settings, there)
        self._changes.apply(self.settings, list(self.missing))
        self._guardian.refresh(self.settings)
        self.waiting.arm()

    async def start(self) -> None:
        """Attach and seed; afterwards :attr:`ready`.

        Raises:
            SettingsError, KernelError: it cannot be had.
        """
        self._attach()
        await self.flow.seed(self.domains)
        self._check_attached()
        settle()

    def _attach(self) -> None:
        """To the hooks; a domain whose hooks are not there is missing, like one not loaded.

        Raises:
            KernelError: it cannot be had.
        """
        while True:
            try:
                self.kernel.attach(self.interfaces())
            except DomainRefused as error:
                self.loaded = self._without(self.loaded, error)
                lost = self.missing | {error.domain: error.reason}
                self.loaded = self._have(self.loaded)
                self.missing |= lost
                self._changes.apply(self.settings, [error.domain])
            else:
                return

    async def run(self, until: asyncio.Event) -> None:
        """Carry events until ``until`` is set."""
        loop = asyncio.get_running_loop()
        self.router.start()
        links = interfaces.watch()
        loop.add_reader(links, self._links_changed, links)
        carried = (
            self._drain(),
            self._tick(),
            self._pulse(),
            self._follow_names(),
            self._keep_watch(),
        )
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
        if not self._handing_over:  # we were told to end; what a failed start finds, it leaves
            self.kernel.outlive(on=False)

    def hand_over(self) -> None:
        """Everything stays in force when we end, for the next agent to take over.

        Raises:
            KernelError: it cannot; we go on.
        """
        self.kernel.outlive(on=True)
        self._handing_over = True

    async def stop(self) -> None:
        """Take in what is still in the rings, then leave the kernel and the store."""
        self.ready, self.not_ready_reason = False, "stopping"
        await self.flow.step()
        await self.flow.sweep(ending=True)
        for change in reversed(self.waiting.all()):
            self._undo(change, "the agent ends")
        self.alerts.close()
        await self.router.stop()
        self.watch.close()
        self.exemptions.save_hits()
        self.enricher.close()
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
        records, last = 0, 0.0
        while True:
            self._listen(loop, on=True)
            await self._woken.wait()
            self._listen(loop, on=False)
            self._woken.clear()
            due = last + (GATHER_S if records < BUSY_RECORDS else GATHER_BUSY_S)
            await asyncio.sleep(max(FIRST_S, due - loop.time()))
            with self._kernel_may_go():
                records = await self.flow.step()
            last = loop.time()

    @contextlib.contextmanager
    def _kernel_may_go(self) -> Iterator[None]:
        """Where it cannot be reached any more, what needs it waits; all other failures are ours."""
        try:
            yield
        except KernelError:
            if not self.kernel.trouble():
                raise

    async def _reach_kernel(self) -> None:
        """It is gone, or came back empty: put everything in force again, as soon as that works."""
        if not self._away:
            logger.error("nothing reaches the kernel: %s", self.kernel.trouble())
        self._away, self.ready = True, False
        try:
            await asyncio.to_thread(self.kernel.regain)
            await self._begin_again()
        except (SettingsError, KernelError) as error:
            if self.not_ready_reason != str(error):
                logger.warning("not in force again yet: %s", error)
            self.not_ready_reason = str(error)
        else:
            self._away = False
            logger.warning("the kernel is reached again, and everything is in force")

    async def _begin_again(self) -> None:
        """As at the start, with what is known by now."""
        self._listen(asyncio.get_running_loop(), on=False)
        self.kernel.claim(self.interfaces())
        self.kernel.reserve(self.interfaces())
        self._machine.look_around()
        before = self.missing
        self.loaded = await asyncio.to_thread(self._have, self.loaded)
        self.missing |= before
        self._changes.again(list(self.domains))
        self._guardian.forget()
        self._guardian.refresh(self.settings)
        self.waiting.arm()
        self._attach()
        await self.flow.seed(self.domains)
        self._check_attached()
        self._woken.set()  # to listen to the rings of now

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            self.ticked_s = time.monotonic()
            if self._away or self.kernel.trouble():
                await self._reach_kernel()
            with self._kernel_may_go():
                await self._after(ticks)

    async def _after(self, ticks: int) -> None:
        """What is due after so many seconds."""
        self._follow_clock()
        self._follow_time()
        self._keep_owner_in()
        for change in self.waiting.due():
            self._undo(change, "nobody confirmed it")
        await self._beat([d for d in self._enabled(self.settings) if d.pulse_ms >= _SECOND_MS])
        await self.flow.sweep()
        self._end_exceptions()
        behind = self.flow.report_losses()
        await self.flow.seed(behind if ticks % _RESEED_TICKS else self.domains)
        if ticks % _FILES_TICKS == 0 and self.tls.changed():
            await self._renew_files()
        if ticks == _SETTLED_TICKS and not self._handing_over:
            self.kernel.outlive(on=False)
        if ticks % _RESEED_TICKS == 0:
            self.exemptions.save_hits()
            tidy()
        if ticks % _MEASURE_TICKS == 0:
            self.kernel.measure(on=True)
            await asyncio.sleep(_MEASURE_S)
            self.kernel.measure(on=False)

    async def _renew_files(self) -> None:
        """Certificates were replaced in a way that the watch on folders does not see."""
        with contextlib.suppress(SettingsError, KernelError):  # it is logged, and in /tls/status
            await self.reload("file", asked=False)

    async def _pulse(self) -> None:
        """Poll and tick the domains for which a second is too long."""
        while True:
            quick = [d for d in self._enabled(self.settings) if d.pulse_ms < _SECOND_MS]
            await asyncio.sleep(min((d.pulse_ms for d in quick), default=_SECOND_MS) / 1000)
            with self._kernel_may_go():
                await self._beat(quick)

    async def _beat(self, domains: Sequence[Domain]) -> None:
        for domain in domains:
            self._poll(domain.name)
        await self.flow.tick([domain.name for domain in domains])

    def _end_exceptions(self) -> None:
        for gone in self.exemptions.expire():
            self._audit("alerts", "exception_expired", "expiry", rule_id=gone.id)

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

    def _links_changed(self, links: Any) -> None:
        """A link or an address came, went or changed: go by what is there now."""
        interfaces.settle(links)
        before = self._surroundings()
        self._machine.look_around()
        try:
            self._replan(before)
        except (SettingsError, KernelError) as error:
            logger.warning("interfaces changed, the rules that name them did not: %s", error)
        try:
            self.kernel.attach(self.interfaces())
        except KernelError as error:
            logger.warning("interfaces changed, but not all can be guarded: %s", error)
        self._check_attached()

    def _replan(self, before: Surroundings) -> None:
        """Rules by what is there now; where that fails, what is there is guarded by the old ones.

        Raises:
            SettingsError, KernelError: they are as they were.
        """
        self.kernel.reserve(self.interfaces())
        now = self._surroundings()
        if any(getattr(now, name) != getattr(before, name) for name in _SEEN):
            self._changes.apply(self.settings, list(self.domains))
        self._changes.relink(now.links or {})

    def refresh(self, domain: str) -> None:
        """See :class:`ebpfsentinel.api.agent.Agent`.

        Reading all counters may take ten milliseconds, and callers come at any rate: so what was
        read is good for ten times as long as it took, and they cannot make us do nothing else.
        """
        now = time.monotonic()
        if now >= self._stale_at.get(domain, 0.0):
            self._poll(domain)
            after = time.monotonic()
            self._stale_at[domain] = after + min(_FRESH_S, _FRESH_TIMES * (after - now))

    def _poll(self, domain: str) -> None:
        on = {d.name for d in self._enabled(self.settings)}
        if domain in on and not self.kernel.trouble():
            engine = self.engines[domain]
            for source in self.domains[domain].polled:
                most = engine.in_use(source) if isinstance(engine, CountsSome) else None
                self.flow.feed(domain, source, self.kernel.total(source, most))

    def metrics(self) -> Sequence[Metric]:
        """See :class:`ebpfsentinel.api.agent.Agent`."""
        found = [metric for engine in self.engines.values() for metric in engine.metrics()]
        found += self.flow.metrics()
        reached = float(not self.kernel.trouble())
        text = "1: the kernel is reached; 0: the keeper is gone"
        found.append(Metric("kernel_reached", "gauge", text, {}, reached))
        missed = {"reason": "slow_listener"}
        found.append(Metric("alerts_dropped", "counter", DROPPED, missed, self.alerts.missed))
        for reason, count in self.router.dropped.items():
            labels = {"reason": reason}
            found.append(Metric("alerts_dropped", "counter", DROPPED, labels, count))
        found += self.router.metrics()
        found += self._watch_metrics()
        for status, count in self._reloads.items():
            labels = {"status": status}
            found.append(
                Metric("config_reloads", "counter", "Reloads of the configuration", labels, count)
            )
        return found
