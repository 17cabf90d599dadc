"""Routes: which alert goes to which destinations. Nothing here waits for any of them."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, as_json
from ebpfsentinel.model.alerting import Alerting, Route
from ebpfsentinel.model.destinations import Kind
from ebpfsentinel.model.domain import Metric
from ebpfsentinel.sinks.backlog import Backlog, Item
from ebpfsentinel.sinks.destination import Destination
from ebpfsentinel.sinks.formats.origin import Origin
from ebpfsentinel.sinks.log import LogSink
from ebpfsentinel.sinks.senders import sender_of
from ebpfsentinel.sinks.spool import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ebpfsentinel.sinks.breaker import Pace

logger = logging.getLogger(__name__)

_SYNC_S = 0.5
_LAST_S = 2.0
"""How long destinations may go on when the agent ends; what is left then waits on disk."""


class DestinationView(msgspec.Struct, kw_only=True):
    """One destination as operators see it."""

    name: str
    kind: str
    place: str
    state: str
    sequence: int
    acknowledged: int
    waiting: int
    spooled_bytes: int
    oldest_age_secs: float
    exported: int
    dropped: dict[str, int]
    failures: int
    last_error: str
    last_success_ns: int
    spool_trouble: str
    canary: bool
    failing_secs: float


class Router:
    """A sink that sends alerts the ways their routes say.

    ``folder`` is where spools are. ``dropped`` counts alerts by reason: ``no_route``, and what
    destinations could not keep.
    """

    name = "routes"

    def __init__(self, folder: Path, version: str, pace: Pace | None = None) -> None:
        self._folder, self._pace = folder, pace
        self._origin = Origin(socket.gethostname(), version)
        self._alerting = Alerting()
        self._log = LogSink()
        self._destinations: dict[str, Destination] = {}
        self._unrouted = 0
        self._logged: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()
        self._refused: dict[str, int] = {}
        self._running = False
        self._retiring: set[asyncio.Task[None]] = set()
        self._syncing: asyncio.Task[None] | None = None

    async def deliver(self, alerts: Sequence[Alert]) -> None:
        """Queue the alerts at each destination that a route leads them to."""
        bodies: dict[int, bytes] = {}
        routed: set[int] = set()
        for route in self._alerting.routes:
            taken = [alert for alert in alerts if route.takes(alert.component, alert.severity)]
            routed |= {id(alert) for alert in taken}
            if not taken:
                continue
            if route.destination is Kind.LOG:
                await self._log.deliver(taken)
                self._logged[route.name] += len(taken)
            else:
                new = [alert for alert in taken if id(alert) not in bodies]
                bodies |= {id(alert): as_json(alert) for alert in new}
                self._put(route.name, [bodies[id(alert)] for alert in taken])
        self._unrouted += sum(alert.count for alert in alerts if id(alert) not in routed)

    def _put(self, name: str, bodies: list[bytes]) -> None:
        """What did not fit is told of by an alert in its place, as soon as one fits again."""
        destination = self._destinations[name]
        refused = self._refused.get(name, 0)
        if refused and not destination.backlog.put([as_json(_lost(name, refused))]):
            destination.backlog.refuse(len(bodies))
            self._refused[name] = refused + len(bodies)
            return
        left = len(bodies) - destination.put(bodies)
        destination.backlog.refuse(left)
        self._refused[name] = left
        if left:
            logger.error("destination %s keeps no more alerts: its queue is full", name)

    def configure(self, alerting: Alerting) -> None:
        """Put the routes in force. What waits at a destination stays with its route's name."""
        before, self._alerting = self._alerting, alerting
        wanted = {r.name: r for r in alerting.routes if r.destination is not Kind.LOG}
        old = {route.name: route for route in before.routes}
        backlogs: dict[str, Backlog] = {}
        for name, destination in list(self._destinations.items()):
            same = name in wanted and wanted[name] == old.get(name)
            if same and _around(before) == _around(alerting):
                continue
            del self._destinations[name]
            self._retire(destination)
            if name in wanted:
                backlogs[name] = destination.backlog
            else:
                self._let_go(destination)
        for name, route in wanted.items():
            if name not in self._destinations:
                self._add(route, backlogs.get(name))

    def _add(self, route: Route, backlog: Backlog | None) -> None:
        found = backlog or Backlog(self._folder / route.name, route.spool_bytes)
        found.spool.most_bytes = route.spool_bytes
        destination = Destination(
            route.name,
            found,
            sender_of(route, self._alerting, self._origin),
            most=route.most,
            timeout_s=route.timeout_ms / 1000,
            pace=self._pace,
            hide=_hiding(route, self._alerting),
        )
        self._destinations[route.name] = destination
        if self._running:
            destination.start()

    def _retire(self, destination: Destination) -> None:
        """A destination sends no more; its counts stay."""
        self._gone += destination.dropped
        destination.cancel()
        if self._running:
            task = asyncio.ensure_future(destination.stop())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    def _let_go(self, destination: Destination) -> None:
        backlog = destination.backlog
        if backlog.depth:
            logger.warning(
                "destination %s is gone from the routes: %d alerts wait in %s for its return",
                destination.name,
                backlog.depth,
                backlog.spool.folder,
            )
        backlog.close()
        self._gone += backlog.dropped

    def start(self) -> None:
        """Begin to send; needs a running loop."""
        self._running = True
        self._syncing = asyncio.create_task(self._sync(), name="spools to disk")
        for destination in self._destinations.values():
            destination.start()

    async def stop(self) -> None:
        """Send what goes at once, then no more; the rest waits on disk."""
        self._running = False
        every = list(self._destinations.values())
        with_time = [asyncio.wait_for(each.drain(), _LAST_S) for each in every]
        await asyncio.gather(*with_time, return_exceptions=True)
        await asyncio.gather(*(each.stop() for each in every), *self._retiring)
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.gather(self._syncing, return_exceptions=True)
        for each in every:
            each.backlog.close()

    async def _sync(self) -> None:
        """Bring the spools to disk, twice a second, in a thread."""
        while True:
            await asyncio.sleep(_SYNC_S)
            found = [fd for each in self._destinations.values() for fd in each.backlog.unsynced()]
            if found:
                await asyncio.to_thread(sync, found)

    async def test(self, name: str) -> str | None:
        """Send one alert at once; what went wrong. None: there is no destination of this name."""
        destination = self._destinations.get(name)
        if destination is None:
            route = next((r for r in self._alerting.routes if r.name == name), None)
            if route is None:
                return None
            await self._log.deliver([_test(name)])
            return ""
        return await destination.test(Item(0, as_json(_test(name))))

    def canary(self, name: str) -> int:
        """Queue a canary like any alert; its number there. 0: no room, or no such destination."""
        destination = self._destinations.get(name)
        if destination is None or not destination.put([as_json(_canary(name))]):
            return 0
        return destination.backlog.spool.sequence

    @property
    def dropped(self) -> Counter[str]:
        """Alerts that went no further here, by reason."""
        found = self._gone + Counter(no_route=self._unrouted)
        for each in self._destinations.values():
            found += each.backlog.dropped + each.dropped
            found["spool_damaged"] += each.backlog.spool.damaged
        return +found

    def views(self) -> list[DestinationView]:
        """Every destination, in the order of the routes."""
        return [self._view(route) for route in self._alerting.routes]

    def _view(self, route: Route) -> DestinationView:
        destination = self._destinations.get(route.name)
        if destination is None:
            return DestinationView(
                name=route.name, kind=route.destination.value, place="the agent's log",
                state="closed", sequence=0, acknowledged=0, waiting=0, spooled_bytes=0,
                oldest_age_secs=0.0, exported=self._logged[route.name], dropped={}, failures=0,
                last_error="", last_success_ns=0, spool_trouble="", canary=False, failing_secs=0.0,
            )  # fmt: skip
        backlog, spool = destination.backlog, destination.backlog.spool
        since = destination.failing_since_s
        return DestinationView(
            name=route.name,
            kind=route.destination.value,
            place=destination.sender.place,
            state=destination.breaker.state(time.monotonic()).word,
            sequence=spool.sequence,
            acknowledged=spool.acknowledged,
            waiting=backlog.depth,
            spooled_bytes=spool.used_bytes,
            oldest_age_secs=round(backlog.oldest_age_s(), 3),
            exported=destination.exported,
            dropped=dict(backlog.dropped + destination.dropped),
            failures=destination.breaker.failures,
            last_error=destination.last_error,
            last_success_ns=destination.last_success_ns,
            spool_trouble=spool.trouble,
            canary=route.sings,
            failing_secs=round(time.monotonic() - since, 1) if since else 0.0,
        )

    def metrics(self) -> Iterator[Metric]:
        """What was sent, what waits, what was dropped, and how each destination is."""
        now_s = time.monotonic()
        for name, count in self._logged.items():
            yield _metric("alerts_exported", "counter", name, count)
        for name, each in self._destinations.items():
            yield _metric("alerts_exported", "counter", name, each.exported)
            state = each.breaker.state(now_s)
            yield _metric("alert_sender_circuit_state", "gauge", name, state)
            yield _metric("alert_queue_depth", "gauge", name, each.backlog.depth)
            yield _metric("alert_queue_bytes", "gauge", name, each.backlog.spool.used_bytes)
            age_s = each.backlog.oldest_age_s()
            yield _metric("alert_queue_oldest_age_seconds", "gauge", name, age_s)


_TEXTS = {
    "alerts_exported": "Alerts that arrived at a destination",
    "alert_sender_circuit_state": "0 closed, 1 half-open, 2 open",
    "alert_queue_depth": "Alerts that wait to be sent",
    "alert_queue_bytes": "Bytes on disk of a destination",
    "alert_queue_oldest_age_seconds": "Age of the first alert that waits",
}


def _metric(name: str, kind: str, destination: str, value: float) -> Metric:
    return Metric(name, kind, _TEXTS[name], {"destination": destination}, float(value))


def _around(alerting: Alerting) -> tuple[object, ...]:
    """What senders are made of, beside their route."""
    return alerting.smtp, alerting.otlp, alerting.allow_private


def _alert(rule_id: str, message: str, count: int, severity: Severity) -> Alert:
    now_ns = time.time_ns()
    return Alert(
        timestamp_ns=now_ns,
        id=f"{now_ns}-{rule_id}-0",
        component="alerts",
        severity=severity,
        rule_id=rule_id,
        action="log",
        message=message,
        count=count,
    )


def _lost(name: str, count: int) -> Alert:
    text = f"{count} alerts for {name} were dropped here: its queue was full"
    return _alert("alerts-dropped", text, count, Severity.HIGH)


def _test(name: str) -> Alert:
    return _alert("test", f"a test of destination {name}: all is well", 1, Severity.LOW)


def _canary(name: str) -> Alert:
    alert = _alert("watch.canary", f"destination {name} is reached", 1, Severity.LOW)
    return msgspec.structs.replace(alert, component="agent")


def _hiding(route: Route, alerting: Alerting) -> Callable[[str], str]:
    """Takes the secrets of a route out of a text."""
    known = [route.webhook_url, route.webhook_secret, route.routing_key]
    known += [*route.webhook_headers.values()]
    known += [route.splunk.token] if route.splunk else []
    known += (
        [route.elasticsearch.password, route.elasticsearch.api_key] if route.elasticsearch else []
    )
    known += [alerting.smtp.password] if alerting.smtp else []
    known += [*alerting.otlp.headers.values()] if alerting.otlp else []
    secrets = sorted({each for each in known if each}, key=len, reverse=True)

    def hide(text: str) -> str:
        for each in secrets:
            text = text.replace(each, "***")
        return text

    return hide
