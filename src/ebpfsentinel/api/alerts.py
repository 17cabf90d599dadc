"""Alerts: what was raised, what is being raised, and what was no alarm after all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
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
from ebpfsentinel.api.trail import note
from ebpfsentinel.api.wanted import Wanted, wanted
from ebpfsentinel.model.alert import Alert, as_json
from ebpfsentinel.model.missed import Missed
from ebpfsentinel.store import AlertQuery

KEEPALIVE_S = 15.0
_json = msgspec.json.encode
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
_LIVE_FILTERS = (
    "severity_min",
    "min_severity",
    "component",
    "mitre_tactic",
    "mitre_technique_id",
    "last_event_id",
)


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
        note(agent, "alerts", "false_positive", actor=actor(), detail=alert_id)
        return Marked(alert_id, marked=True)

    return [alerts, mark, _stream(agent), _socket(agent)]


def _stream(agent: Agent) -> Any:
    @get(
        "/api/v1/alerts/stream",
        tags=["alerts"],
        summary="Alerts as they happen (server-sent events)",
        media_type="text/event-stream",
    )
    async def stream(  # noqa: PLR0913, PLR0917 -- one argument a filter
        request: Request[Any, Any, Any],
        severity_min: Word = None,
        component: Word = None,
        mitre_tactic: Word = None,
        mitre_technique_id: Word = None,
        last_event_id: Annotated[str | None, HeaderParameter(name="Last-Event-ID")] = None,
    ) -> ServerSentEvent:
        query = request.query_params
        known_only(query, _LIVE_FILTERS)
        least = severity_min or query.get("min_severity")
        asked = wanted(least, component, mitre_tactic, mitre_technique_id)
        last = last_event_id or query.get("last_event_id")
        return ServerSentEvent(_events(agent, last, asked))

    return stream


def _socket(agent: Agent) -> Any:
    @websocket("/api/v1/alerts/ws")
    async def alerts_socket(socket: WebSocket[Any, Any, Any]) -> None:
        query = socket.query_params
        known_only(query, _LIVE_FILTERS)
        least = query.get("severity_min") or query.get("min_severity")
        attack = query.get("mitre_tactic"), query.get("mitre_technique_id")
        asked = wanted(least, query.get("component"), *attack)
        await socket.accept()
        texts = _texts(agent, query.get("last_event_id"), asked)
        await send_websocket_stream(
            socket, texts, listen_for_disconnect=True, warn_on_data_discard=False
        )

    return alerts_socket


async def _events(
    agent: Agent, last: str | None, asked: Wanted
) -> AsyncIterator[ServerSentEventMessage]:
    async with aclosing(_live(agent, last, asked)) as found:
        async for told in found:
            if told is None:
                yield ServerSentEventMessage(comment="keepalive", data=None)
            elif isinstance(told, Missed):
                yield ServerSentEventMessage(_json(told).decode(), event="missed")
            else:
                yield ServerSentEventMessage(as_json(told).decode(), event="alert", id=told.id)


async def _texts(agent: Agent, last: str | None, asked: Wanted) -> AsyncGenerator[str, None]:
    async with aclosing(_live(agent, last, asked)) as found:
        async for told in found:
            if told is not None:
                yield (_json(told) if isinstance(told, Missed) else as_json(told)).decode()


async def _live(
    agent: Agent, last: str | None, asked: Wanted
) -> AsyncGenerator[Alert | Missed | None, None]:
    """What was asked for; None at once and then whenever :data:`KEEPALIVE_S` passed without."""
    async with aclosing(agent.alerts.subscribe(last, asked.takes)) as feed:
        yield None
        while True:
            try:
                async with asyncio.timeout(KEEPALIVE_S):
                    told = await anext(feed)
            except TimeoutError:
                yield None
            except StopAsyncIteration:
                return
            else:
                yield told
