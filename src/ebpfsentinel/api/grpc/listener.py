"""Listening for gRPC: bound before anything runs, ended with all its streams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from grpclib.events import RecvRequest, listen
from grpclib.health.check import ServiceCheck
from grpclib.health.service import OVERALL, Health
from grpclib.reflection.service import ServerReflection
from grpclib.server import Server

from ebpfsentinel.api.grpc.service import AlertStream, Door

if TYPE_CHECKING:
    import socket
    import ssl

    from ebpfsentinel.api.agent import Agent
    from ebpfsentinel.model.identity import Authenticator

_HEALTH_S = 1.0
_GRACE_S = 2.0
_NOISY = ("grpclib.server", "grpclib.protocol")
"""They log clients that leave and requests that are refused as our errors."""


class GrpcListener:
    """The gRPC services of ``agent`` on a bound socket; ``tls`` is for this listener alone."""

    def __init__(
        self,
        agent: Agent,
        bound: socket.socket,
        authenticator: Authenticator | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._agent, self._bound, self._tls = agent, bound, tls
        self._alerts = AlertStream(agent)
        self._door = Door(authenticator)
        self._server: Server | None = None
        self.port: int = bound.getsockname()[1]
        if tls is not None:
            tls.set_alpn_protocols(["h2"])

    async def start(self) -> None:
        """Begin to answer."""
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        alerts = self._alerts
        ready = ServiceCheck(self._is_ready, check_ttl=_HEALTH_S)
        services: list[Any] = [alerts, Health({alerts: [ready], OVERALL: [ready]})]
        if self._agent.settings.agent.grpc_reflection:
            services = ServerReflection.extend(services)
        self._server = Server(services)
        listen(self._server, RecvRequest, self._door.on_request)
        await self._server.start(sock=self._bound, ssl=self._tls)

    async def _is_ready(self) -> bool:
        return self._agent.ready

    async def stop(self) -> None:
        """End every stream and every connection."""
        if self._server is not None:
            self._alerts.end()
            await asyncio.sleep(0)
            self._server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), _GRACE_S)
            self._server = None
        self._bound.close()
