"""Listening for gRPC: bound before anything runs, ended with all its streams."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from grpclib.events import RecvRequest, listen
from grpclib.health.check import ServiceCheck
from grpclib.health.service import OVERALL, Health
from grpclib.reflection.service import ServerReflection

from ebpfsentinel.api.grpc.server import BoundedServer
from ebpfsentinel.api.grpc.service import AlertStream, Door
from ebpfsentinel.api.trail import Trail

if TYPE_CHECKING:
    import socket
    import ssl

    from ebpfsentinel.api.agent import Agent
    from ebpfsentinel.model.identity import Authenticator

_HEALTH_S = 1.0
_LAST_WORDS_S = 0.05
"""Streams may say that they ended well, before connections are closed."""
_NOISY = ("grpclib.server", "grpclib.protocol")
"""They log clients that leave and requests that are refused as our errors."""


class GrpcListener:
    """The gRPC services of ``agent``; without an ``authenticator`` nobody is asked."""

    def __init__(
        self,
        agent: Agent,
        bound: socket.socket,
        authenticator: Authenticator | None = None,
    ) -> None:
        self._agent, self._bound = agent, bound
        self._alerts = AlertStream(agent)
        self._door = Door(authenticator, Trail(agent))
        self._server: BoundedServer | None = None
        self.port: int = bound.getsockname()[1]

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Begin to answer; over ``tls``, which offers HTTP/2, where that is given."""
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        alerts = self._alerts
        ready = ServiceCheck(self._is_ready, check_ttl=_HEALTH_S)
        services: list[Any] = [alerts, Health({alerts: [ready], OVERALL: [ready]})]
        if self._agent.settings.agent.grpc_reflection:
            services = ServerReflection.extend(services)
        self._server = BoundedServer(services)
        listen(self._server, RecvRequest, self._door.on_request)
        await self._server.start(sock=self._bound, ssl=tls)

    async def _is_ready(self) -> bool:
        return self._agent.ready

    async def stop(self) -> None:
        """End every stream and every connection."""
        if self._server is not None:
            self._alerts.end()
            await asyncio.sleep(_LAST_WORDS_S)
            self._server.close()
            self._server.hang_up()
            await self._server.wait_closed()
            self._server = None
        self._bound.close()
