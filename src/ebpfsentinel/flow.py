"""The journey of one event, as code: hook, ring, batch, engine, fold, deliver, act, show.

Steps 1 to 3 happen in the kernel and in ``kernel/``; what is left of the way is :meth:`Flow.step`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.alerts import Exceptions
from ebpfsentinel.canaries import Canaries
from ebpfsentinel.losses import Losses
from ebpfsentinel.model.domain import Metric, Outcome
from ebpfsentinel.model.durations import Durations
from ebpfsentinel.model.kernel import KernelError, Way
from ebpfsentinel.model.processes import DescribesProcesses
from ebpfsentinel.naming import Naming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.alerts import Fold
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Engine, SeenName
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.sinks import Sink
    from ebpfsentinel.store import Store

logger = logging.getLogger(__name__)

_AT_ONCE, _TURNS = 16, 6
"""So many alerts are a millisecond of work: an answer of the API takes several turns."""
DROPPED = "Alerts that went no further"


class Flow:
    """Carries what the kernel saw to engines, alerts to destinations, and actions back."""

    def __init__(  # noqa: PLR0913, PLR0917 -- the stations of the way
        self,
        kernel: Kernel,
        engines: Mapping[str, Engine],
        fold: Fold,
        store: Store,
        sinks: Sequence[Sink],
        exceptions: Exceptions | None = None,
        techniques: Mapping[str, Mapping[str, str]] | None = None,
        enrich: Callable[[Sequence[Alert]], None] | None = None,
        learn: Callable[[Sequence[SeenName]], None] | None = None,
    ) -> None:
        self._kernel, self._engines, self._fold = kernel, engines, fold
        self._store, self._sinks = store, sinks
        self._exceptions = Exceptions() if exceptions is None else exceptions
        self._techniques, self._enrich, self._learn = techniques or {}, enrich, learn
        self.techniques: Mapping[str, str] = {}
        self._losses = Losses(kernel)
        self.canaries = Canaries()
        self.naming = Naming(kernel, engines)
        self.durations: dict[str, Durations] = defaultdict(Durations)
        self.refused: Counter[str] = Counter()
        self.unjudged: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.undelivered: Counter[str] = Counter()
        self._lost: dict[str, int] = {}
        self.losing: frozenset[str] = frozenset()

    async def step(self) -> int:
        """Drain every ring once; returns how many records that were.

        Those of domains that know processes come first: what others tell of was done by one.
        """
        records = 0
        for ring in sorted(self._kernel.rings(), key=self._comes_late):
            rows, canary = self.canaries.sift(ring, self._kernel.drain(ring))
            if len(rows) or canary:
                records += len(rows)
                owner = self._kernel.owner(ring)
                await self._finish(owner, self.feed(owner, ring, rows))
        return records

    def rehearse(self, alert: Alert) -> None:
        """All that becomes of an alert before it goes on, with one that does not go on.

        Raises:
            Exception: it would not, or not whole.
        """
        self._exceptions.sift([alert], alert.timestamp_ns)
        self._add_technique(alert)
        self._name_interfaces([alert])
        self.naming.name([alert])
        if self._enrich is not None:
            self._enrich([alert])

    async def tell(self, alerts: Sequence[Alert]) -> None:
        """The agent itself has something to say; it goes the way of all alerts."""
        await self._tell(Outcome(alerts))

    def _comes_late(self, ring: str) -> bool:
        return not isinstance(self._engines[self._kernel.owner(ring)], DescribesProcesses)

    async def seed(self, domains: Collection[str]) -> None:
        """What was there before us, or was missed: run the iterators of these domains."""
        for program in self._kernel.seeds():
            owner = self._kernel.owner(program)
            if owner in domains:
                rows = self._kernel.seed(program)
                await self._finish(owner, self.feed(owner, program, rows))

    def feed(self, domain: str, source: str, rows: Any) -> Outcome:
        """One batch through its engine, timed.

        A fault in one engine must not blind the others: it is logged, and what the engine did not
        judge is counted in ``unjudged``.
        """
        began = time.perf_counter()
        try:
            return self._engines[domain].feed(source, rows, time.time_ns())
        except Exception:
            logger.exception("domain %s failed on %d records of %s", domain, len(rows), source)
            self.unjudged[domain] += len(rows)
            self.faults[domain] += 1
            return Outcome()
        finally:
            self.durations[domain].observe(time.perf_counter() - began)

    async def tick(self, domains: Sequence[str]) -> None:
        """Time has passed for the engines of these domains."""
        for name in domains:
            outcome = self._ticked(name)
            if outcome.memo is not None:
                self._store.memos.put(name, outcome.memo)
            await self._finish(name, outcome)

    def _ticked(self, domain: str) -> Outcome:
        """As with :meth:`feed`, a fault blinds no other domain; said once, counted always."""
        try:
            return self._engines[domain].tick(time.time_ns())
        except Exception:
            if not self.stopped[domain]:
                logger.exception("domain %s failed at a tick: time stands still for it", domain)
            self.stopped[domain] += 1
            self.faults[domain] += 1
            return Outcome()

    async def sweep(self, *, ending: bool = False) -> None:
        """Let go of what is too old to be kept; tell of what was held back in windows now over."""
        now_ns = time.time_ns()
        await self._deliver(self._fold.close(now_ns, every=ending))
        self._store.sweep(now_ns)

    async def _finish(self, domain: str, outcome: Outcome) -> None:
        """Learn, fold, deliver, act, show; then what the engine wanted to see."""
        if self._learn is not None and outcome.names:
            self._learn(outcome.names)
        await self._tell(outcome)
        for source in outcome.wanted:
            rows = pairs(*self._kernel.read(source))
            await self._finish(domain, self.feed(domain, source, rows))

    async def _tell(self, outcome: Outcome) -> None:
        """Thousands may come at once: others have their turn in between; actions do not wait."""
        alerts: list[Alert] = []
        async for part in _in_turns(outcome.alerts, hurry=bool(outcome.actions)):
            alerts += self._folded(part)
        if outcome.routed:
            self._add_routes(alerts)
        self._act(outcome)
        if alerts:
            self._add_losses(alerts)
        async for part in _in_turns(alerts):
            await self._deliver(part)

    def _folded(self, alerts: Sequence[Alert]) -> Sequence[Alert]:
        """Those that go on, with all that is known of them.

        What is known of a process may make an exception cover what it did not cover before.
        """
        now_ns = time.time_ns()
        alerts, covered = self._exceptions.sift(alerts, now_ns)
        self._fold.dropped["exception"] += sum(alert.count for alert in covered)
        for alert in alerts:
            self._add_technique(alert)
        alerts = self._fold.fold(alerts, now_ns)
        self._name_interfaces(alerts)
        self._name_processes(alerts)
        self._add_more(alerts)
        alerts, covered = self._exceptions.sift(alerts, now_ns)
        for alert in covered:
            self._fold.withdraw(alert, "exception")
        return alerts

    def _add_more(self, alerts: Sequence[Alert]) -> None:
        """An alert goes on without, where that fails."""
        try:
            if self._enrich is not None:
                self._enrich(alerts)
        except Exception:
            logger.exception("%d alerts could not be enriched", len(alerts))

    def _add_technique(self, alert: Alert) -> None:
        """Where the engine names none: what the user says of the rule, else the card."""
        if alert.technique is None:
            known = self._techniques.get(alert.component, {})
            usual = known.get(alert.rule_id, known.get("*"))
            alert.technique = self.techniques.get(alert.rule_id, usual)

    def _add_losses(self, alerts: Sequence[Alert]) -> None:
        """Every alert says what was lost since the alerts before it, if anything was."""
        if lost := self._losses.since_last():
            for alert in alerts:
                alert.context["lost"] = lost

    async def _deliver(self, alerts: Sequence[Alert]) -> None:
        if not alerts:
            return
        self._store.alerts.append(alerts)
        for sink in self._sinks:
            try:
                await sink.deliver(alerts)
            except Exception:
                logger.exception("sink %s took none of %d alerts", sink.name, len(alerts))
                self.undelivered[sink.name] += len(alerts)

    def _name_interfaces(self, alerts: Sequence[Alert]) -> None:
        names = {place.ifindex: place.interface for place in self._kernel.attachments()}
        for alert in alerts:
            if (ifindex := alert.context.get("ifindex")) in names:
                alert.context["interface"] = names[ifindex]

    def _name_processes(self, alerts: Sequence[Alert]) -> None:
        """An alert goes on without, where that fails."""
        try:
            self.naming.name(alerts)
        except Exception:
            logger.exception("processes of %d alerts could not be named", len(alerts))

    def _add_routes(self, alerts: Sequence[Alert]) -> None:
        """Once for each alert that goes on, so a flood asks no more often than it is told of."""
        sent = [alert for alert in alerts if any(alert.dst_addr)]
        ways = [
            Way(str(alert.src_ip), str(alert.dst_ip), alert.context.get("ifindex", 0))
            for alert in sent
        ]
        for alert, route in zip(sent, self._kernel.routes(ways), strict=True):
            found = asdict(route).items()
            alert.context |= {name: value for name, value in found if value is not None}

    def report_losses(self) -> frozenset[str]:
        """Say once for each ring that losses began.

        Returns the domains of which a ring lost records since the last call.
        """
        lost = {ledger.ring: sum(ledger.lost.values()) for ledger in self._kernel.ledgers()}
        worse = frozenset(r for r, count in lost.items() if count > self._lost.get(r, 0))
        for ring in worse - self.losing:
            logger.warning(
                "ring %s is losing records: they are counted in events_dropped_total", ring
            )
        for ring in self.losing - worse:
            logger.info("ring %s loses no more records; %d in all", ring, lost.get(ring, 0))
        self._lost, self.losing = lost, worse
        return frozenset(map(self._kernel.owner, worse))

    def _act(self, outcome: Outcome) -> None:
        for action in outcome.actions:
            try:
                self._kernel.apply([action])
            except KernelError as error:
                self.refused[type(action).__name__] += 1
                logger.warning("an action could not be carried out: %s", error)

    def metrics(self) -> Iterator[Metric]:
        """What passed, what went no further and why, and how long engines took."""
        for (component, severity), count in self._fold.passed.items():
            labels = {"component": component, "severity": severity}
            yield Metric("alerts", "counter", "Alerts raised", labels, count)
        for each in self._exceptions.all():
            text = "Alerts that an exception covered"
            yield Metric("alert_exception_hits", "counter", text, {"exception": each.id}, each.hits)
        for name, text, label, counts in (
            ("alerts_dropped", DROPPED, "reason", self._fold.dropped),
            ("alerts_undelivered", "Alerts a sink did not take", "sink", self.undelivered),
            ("actions_refused", "Actions the kernel refused", "action", self.refused),
            ("events_unjudged", "Records an engine failed on", "domain", self.unjudged),
            ("ticks_failed", "Ticks an engine failed at", "domain", self.stopped),
        ):
            for value, count in counts.items():
                yield Metric(name, "counter", text, {label: value}, count)
        text = "Time an engine took for a batch"
        for domain, durations in self.durations.items():
            yield durations.metric("processing_duration_seconds", text, {"domain": domain})


async def _in_turns(
    alerts: Sequence[Alert], *, hurry: bool = False
) -> AsyncIterator[Sequence[Alert]]:
    """A few at a time; in between, unless in a ``hurry``, others have all the turns they need."""
    for at in range(0, len(alerts), _AT_ONCE):
        yield alerts[at : at + _AT_ONCE]
        for _ in range(0 if hurry else _TURNS):
            await asyncio.sleep(0)


def pairs(keys: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Rows of ``key`` and ``value``."""
    rows = np.empty(len(keys), [("key", keys.dtype), ("value", values.dtype)])
    rows["key"], rows["value"] = keys, values
    return rows
