"""Connection tracking's own routes: the flows there are, ending them, and what becomes of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
import numpy as np
from litestar import get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, Parameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from ebpfsentinel.domains.conntrack.changes import told
from ebpfsentinel.domains.conntrack.connections import filter_of, order, views
from ebpfsentinel.domains.conntrack.engine import ConntrackEngine
from ebpfsentinel.domains.conntrack.owners import describe
from ebpfsentinel.model.access import Running
from ebpfsentinel.model.action import EndFlows, MapWrite

LISTEN_NS = 5_000_000_000
"""So long the kernel goes on telling after a listener was heard of last."""
_PAUSE_S = 0.2
_KEEPALIVE_S = 15.0

Word = Annotated[str | None, Parameter(description="See the documentation of the domain.")]
Port = Annotated[int | None, Parameter(ge=0, le=65_535, description="Of either end.")]
Limit = Annotated[int, Parameter(ge=1, le=100_000, description="At most so many.")]


class Connections(msgspec.Struct):
    """Flows; ``total`` is how many match in all."""

    connections: list[dict[str, Any]]
    total: int


class FlushBody(msgspec.Struct, forbid_unknown_fields=True):
    """Which flows to end: those for which all that is given holds; nothing given: all."""

    address: str | None = None
    source: str | None = None
    destination: str | None = None
    port: int | None = None
    src_port: int | str | None = None
    dst_port: int | str | None = None
    protocol: str | None = None
    state: str | None = None


class Flushed(msgspec.Struct):
    """How many flows were ended."""

    flushed: int


def routes(engine: ConntrackEngine, running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine and its agent."""
    return [_connections(engine, running), _flush(running), _events(engine, running)]


def _connections(engine: ConntrackEngine, running: Running) -> HTTPRouteHandler:
    @get(
        "connections",
        summary="Flows there are, those seen last first",
        operation_id="conntrack_connections",
        sync_to_thread=True,
    )
    def connections(  # noqa: PLR0913, PLR0917 -- one argument a filter
        address: Word = None,
        source: Word = None,
        destination: Word = None,
        port: Port = None,
        src_port: Word = None,
        dst_port: Word = None,
        protocol: Word = None,
        in_state: Annotated[
            str | None, Parameter(query="state", description="established ...")
        ] = None,
        sort: Annotated[str, Parameter(description="last_seen, start, bytes or packets.")] = (
            "last_seen"
        ),
        limit: Limit = 100,
    ) -> Connections:
        wanted = filter_of(
            {
                "address": address,
                "source": source,
                "destination": destination,
                "port": port,
                "src_port": src_port,
                "dst_port": dst_port,
                "protocol": protocol,
                "state": in_state,
            }
        )
        rows = running.kernel.flows()
        rows = rows[wanted.mask(rows)]
        shown = views(order(rows, sort, limit), engine.boot_offset_ns)
        describe(shown, running.process)
        return Connections(list(shown), len(rows))

    return connections


def _flush(running: Running) -> HTTPRouteHandler:
    @post(
        "flush",
        status_code=200,
        summary="End flows: all, or those that match",
        operation_id="conntrack_flush",
        sync_to_thread=True,
    )
    def flush(data: JSONBody[FlushBody]) -> Flushed:
        given = {name: value for name, value in msgspec.structs.asdict(data).items() if value}
        wanted = filter_of(given)
        meant = int(wanted.mask(running.kernel.flows()).sum())
        running.kernel.apply([EndFlows((wanted,))])
        asked = ", ".join(f"{name} {value}" for name, value in given.items())
        running.audit("flush", f"{meant} flows: {asked or 'all'}")
        return Flushed(meant)

    return flush


def _events(engine: ConntrackEngine, running: Running) -> HTTPRouteHandler:
    @get(
        "events",
        summary="Flows as they begin, are established, close and go (server-sent events)",
        operation_id="conntrack_events",
        media_type="text/event-stream",
    )
    async def events() -> ServerSentEvent:
        return ServerSentEvent(_live(engine, running))

    return events


async def _live(engine: ConntrackEngine, running: Running) -> AsyncIterator[ServerSentEventMessage]:
    """What becomes of flows from now on; the kernel tells of it while this runs."""
    number, heard, due = engine.changes.next, 0.0, 0.0
    while True:
        now = time.monotonic()
        if now - heard > LISTEN_NS / 4e9:
            await asyncio.to_thread(listen, running)
            heard = now
        number, found = engine.changes.since(number)
        if found or now >= due:
            due = now + _KEEPALIVE_S
        if not found and due == now + _KEEPALIVE_S:
            yield ServerSentEventMessage(comment="keepalive", data=None)
        for rows in found:
            for each in told(rows, engine.boot_offset_ns):
                text = msgspec.json.encode(each).decode()
                yield ServerSentEventMessage(text, event="flow")
        await asyncio.sleep(_PAUSE_S)


def listen(running: Running) -> None:
    """Have the kernel tell of flows for :data:`LISTEN_NS` from now on."""
    until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + LISTEN_NS
    write = MapWrite("ct_listen", np.zeros(1, np.uint32), np.array([until], np.uint64))
    running.kernel.apply([write])
