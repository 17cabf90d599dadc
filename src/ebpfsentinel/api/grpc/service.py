"""The alert stream, and who may have it."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.grpc.alerts_grpc import AlertStreamServiceBase
from ebpfsentinel.api.grpc.event import event_of
from ebpfsentinel.api.streams import GOOD_NO_MORE, LOOK_S
from ebpfsentinel.api.wanted import Wanted, wanted
from ebpfsentinel.config import nearest
from ebpfsentinel.model.identity import Authenticator, Caller, Unauthenticated
from ebpfsentinel.model.missed import Missed

if TYPE_CHECKING:
    from grpclib.events import RecvRequest
    from grpclib.protocol import Peer
    from grpclib.server import Stream

    from ebpfsentinel.api.agent import Agent, Subscription
    from ebpfsentinel.api.grpc.alerts_pb2 import AlertEvent, StreamAlertsRequest
    from ebpfsentinel.api.trail import Trail
    from ebpfsentinel.model.identity import Identity

logger = logging.getLogger(__name__)

MOST_STREAMS = 100
"""Every stream holds alerts for its client: more than so many are refused."""
_OPEN = "/grpc.health.v1.Health/"
"""As ``/healthz`` and ``/readyz`` of REST: asked by machines that have no key."""


class AlertStream(AlertStreamServiceBase):
    """Alerts of ``agent`` as they happen."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._open: set[Subscription] = set()

    def end(self) -> None:
        """End every stream, as the end of the agent does."""
        for feed in self._open:
            feed.close()

    async def StreamAlerts(self, stream: Stream[StreamAlertsRequest, AlertEvent]) -> None:  # noqa: N802
        """See ``alerts.proto``."""
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "Send one StreamAlertsRequest.")
        asked = self._asked(request)
        if len(self._open) >= MOST_STREAMS:
            problem = f"{MOST_STREAMS} streams are open: end one, or share one."
            raise GRPCError(Status.RESOURCE_EXHAUSTED, problem)
        feed = self._agent.alerts.subscribe(request.after_id or None, asked.takes)
        self._open.add(feed)
        try:
            await stream.send_initial_metadata()
            await _carry(feed, stream)
        finally:
            self._open.discard(feed)
            await feed.aclose()

    def _asked(self, request: StreamAlertsRequest) -> Wanted:
        component = request.component or None
        if component is not None and component not in self._agent.domains:
            problem = (
                f"{component[:100]!r} is no component. {nearest(component, self._agent.domains)}"
            )
            raise GRPCError(Status.INVALID_ARGUMENT, problem)
        try:
            return wanted(
                request.min_severity or None,
                component,
                request.mitre_tactic or None,
                request.mitre_technique_id or None,
            )
        except Refusal as error:
            raise GRPCError(Status.INVALID_ARGUMENT, error.detail) from None


async def _carry(feed: Subscription, stream: Stream[Any, AlertEvent]) -> None:
    """Every alert of the feed; what was missed stands in the alert behind the gap."""
    missed = 0
    async for told in feed:
        if isinstance(told, Missed):
            missed += told.missed
        else:
            await stream.send_message(event_of(told, missed))
            missed = 0


class Door:
    """Lets calls in that show who makes them; without an ``authenticator`` nobody is asked."""

    def __init__(self, authenticator: Authenticator | None, trail: Trail) -> None:
        self._authenticator, self._trail = authenticator, trail

    async def on_request(self, event: RecvRequest) -> None:
        """Refuse the call, or let it go on."""
        if self._authenticator is None or event.method_name.startswith(_OPEN):
            return
        caller = caller_of(event.metadata, event.peer)
        try:
            identity = await self._authenticator.identify(caller)
        except Unauthenticated as error:
            code = 429 if error.retry_after_s else 401
            self._trail.stopped(caller.address, "", code, f"gRPC: {error}")
            status = Status.RESOURCE_EXHAUSTED if error.retry_after_s else Status.UNAUTHENTICATED
            raise GRPCError(status, str(error)) from None
        if wait_s := self._authenticator.spend(identity, caller.address, write=False):
            problem = f"Too many calls by {identity.name}: try again in {math.ceil(wait_s)} s."
            raise GRPCError(Status.RESOURCE_EXHAUSTED, problem)
        event.method_func = _staying(event.method_func, self._authenticator, identity)


def _staying(method: Any, authenticator: Authenticator, identity: Identity) -> Any:
    """The method, ended when what opened the call is good no more."""

    async def call(stream: Any) -> None:
        work = asyncio.ensure_future(method(stream))
        try:
            while not (await asyncio.wait({work}, timeout=LOOK_S))[0]:
                if not authenticator.is_good(identity):
                    raise GRPCError(Status.UNAUTHENTICATED, GOOD_NO_MORE)
            work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    return call


def caller_of(metadata: Any, peer: Peer) -> Caller:
    """Who calls, as REST has it: of keys sent more than once, the first counts."""
    headers: dict[str, str] = {}
    for name, value in metadata.items():
        if isinstance(value, str):
            headers.setdefault(name.lower(), value)
    address = peer.addr()
    return Caller(headers, str(address[0]) if address else "", peer.cert() or None)
