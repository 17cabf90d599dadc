"""Alerts: what was raised, what is being raised, and what was no alarm after all."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Request, WebSocket, get, post, websocket
from litestar.handlers import send_websocket_stream
from litestar.params import FromPath, HeaderParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from ebpfsentinel.api.actor import actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.query import (
    MOST,
    Flag,
    From,
    Limit,
    Offset,
    To,
    Word,
    instant,
    known_only,
    severity,
)
from ebpfsentinel.model.alert import Alert, Severity, as_json
from ebpfsentinel.store import AlertQuery, AuditEntry

KEEPALIVE_S = 15.0
_FILTERS = (
    "component",
    "min_severity",
    "rule_id",
    "technique",
    "false_positive",
    "from",
    "to",
    "limit",
    "offset",
)
_LIVE_FILTERS = ("severity_min", "min_severity", "component", "last_event_id")


class AlertPage(msgspec.Struct):
    """A page of alerts, newest first; ``total`` is how many match the filters in all."""

    alerts: list[Alert]
    total: int
    limit: int
    offset: int


class Marked(msgspec.Struct):
    """The alert that was marked."""

    alert_id: str
    marked: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which live alerts a listener asks for."""

    least: Severity | None
    component: str | None

    def takes(self, alert: Alert) -> bool:
        """Is it one of those?"""
        if self.component is not None and alert.component != self.component:
            return False
        return self.least is None or alert.severity.ordinal >= self.least.ordinal


def alert_routes(agent: Agent) -> Sequence[Any]:
    """The list, the mark, and the two live streams."""

    @get("/api/v1/alerts", tags=["alerts"], summary="Alerts, newest first")
    async def alerts(  # noqa: PLR0913, PLR0917 -- one argument a filter
        request: Request[Any, Any, Any],
        component: Word = None,
        min_severity: Word = None,
        rule_id: Word = None,
        technique: Word = None,
        false_positive: Flag = None,
        start: From = None,
        end: To = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> AlertPage:
        known_only(request.query_params, _FILTERS)
        wanted = AlertQuery(
            component=component,
            min_severity=severity(min_severity),
            rule_id=rule_id,
            technique=technique,
            false_positive=false_positive,
            from_ns=instant("from", start),
            to_ns=instant("to", end),
            limit=min(limit, MOST),
            offset=offset,
        )
        found, total = agent.store.alerts.query(wanted)
        return AlertPage(found, total, wanted.limit, offset)

    @post(
        "/api/v1/alerts/{alert_id:str}/false-positive",
        status_code=200,
        tags=["alerts"],
        summary="Mark an alert as a false positive",
    )
    async def mark(alert_id: FromPath[str]) -> Marked:
        if not agent.store.alerts.mark_false_positive(alert_id):
            raise Refusal(404, "ALERT_NOT_FOUND", f"There is no alert {alert_id[:256]!r}.")
        _audit(agent, alert_id)
        return Marked(alert_id, marked=True)

    return [alerts, mark, _stream(agent), _socket(agent)]


def _stream(agent: Agent) -> Any:
    @get(
        "/api/v1/alerts/stream",
        tags=["alerts"],
        summary="Alerts as they happen (server-sent events)",
        media_type="text/event-stream",
    )
    async def stream(
        request: Request[Any, Any, Any],
        severity_min: Word = None,
        component: Word = None,
        last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
    ) -> ServerSentEvent:
        known_only(request.query_params, _LIVE_FILTERS)
        least = severity(severity_min or request.query_params.get("min_severity"))
        last = last_event_id or request.query_params.get("last_event_id")
        return ServerSentEvent(_events(agent, last, Wanted(least, component)))

    return stream


def _socket(agent: Agent) -> Any:
    @websocket("/api/v1/alerts/ws")
    async def alerts_socket(socket: WebSocket[Any, Any, Any]) -> None:
        query = socket.query_params
        known_only(query, _LIVE_FILTERS)
        least = severity(query.get("severity_min") or query.get("min_severity"))
        wanted = Wanted(least, query.get("component"))
        await socket.accept()
        texts = _texts(agent, query.get("last_event_id"), wanted)
        await send_websocket_stream(
            socket, texts, listen_for_disconnect=True, warn_on_data_discard=False
        )

    return alerts_socket


async def _events(
    agent: Agent, last: str | None, wanted: Wanted
) -> AsyncIterator[ServerSentEventMessage]:
    async with aclosing(_live(agent, last, wanted)) as found:
        async for alert in found:
            if alert is None:
                yield ServerSentEventMessage(comment="keepalive", data=None)
            else:
                text = as_json(alert).decode()
                yield ServerSentEventMessage(text, event="alert", id=alert.id)


async def _texts(agent: Agent, last: str | None, wanted: Wanted) -> AsyncGenerator[str, None]:
    async with aclosing(_live(agent, last, wanted)) as found:
        async for alert in found:
            if alert is not None:
                yield as_json(alert).decode()


async def _live(agent: Agent, last: str | None, wanted: Wanted) -> Any:
    """Wanted alerts; None at once and then whenever :data:`KEEPALIVE_S` passed without one."""
    feed = aiter(agent.alerts.subscribe(last))
    pending = asyncio.ensure_future(anext(feed))
    due = 0.0
    try:
        while True:
            left = max(0.0, due - time.monotonic())
            done, _ = await asyncio.wait({pending}, timeout=left)
            alert: Alert | None = None
            if done:
                alert = pending.result()
                pending = asyncio.ensure_future(anext(feed))
                if not wanted.takes(alert):
                    continue
            due = time.monotonic() + KEEPALIVE_S
            yield alert
    except StopAsyncIteration:
        return
    finally:
        pending.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await pending
        if close := getattr(feed, "aclose", None):
            await close()


def _audit(agent: Agent, alert_id: str) -> None:
    if not agent.settings.audit.enabled:
        return
    entry = AuditEntry(
        timestamp_ns=time.time_ns(),
        component="alerts",
        action="false_positive",
        actor=actor(),
        detail=alert_id,
    )
    agent.store.audit.append([entry])
