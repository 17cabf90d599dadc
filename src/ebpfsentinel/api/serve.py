"""Listening: the API's port and the metrics port, bound before anything runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ebpfsentinel.api.app import create_app, create_metrics_app
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ebpfsentinel.api.agent import Agent
    from ebpfsentinel.api.grpc import GrpcListener

GRACE_S = 2
HEAD_BYTES = 64 << 10


class _Server(uvicorn.Server):
    """Leaves signals to the agent."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(HttpToolsProtocol):
    """Tells the app of itself in ``state``; bounds the head of a request, as uvicorn does not.

    ``connected_ns`` is when it was accepted (monotonic), ``certificate`` the client's, verified.
    """

    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {
            **self.app_state,
            "connected_ns": time.monotonic_ns(),
            "certificate": (tls.getpeercert() or None) if tls else None,
        }
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes > HEAD_BYTES:
            self.send_400_response(f"The head of a request has at most {HEAD_BYTES} bytes.")
            return
        self._head_bytes += len(data)
        super().data_received(data)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        super().on_message_complete()


class Listeners:
    """The listeners of ``agent``: REST, metrics and, where it is on, gRPC.

    The sockets are bound on construction, so that a port in use is told before anything is
    attached; the ports here are the real ones, also where 0 was asked for.

    Raises:
        SettingsError: a port cannot be bound.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        settings = agent.settings.agent
        address = settings.bind_address
        with contextlib.ExitStack() as undo:
            self._http = _bind(address, settings.http_port, "agent.http_port")
            undo.callback(self._http.close)
            self._metrics = _bind(address, settings.metrics_port, "agent.metrics_port")
            undo.callback(self._metrics.close)
            self._grpc = self._bind_grpc(address) if settings.grpc_enabled else None
            undo.pop_all()
        self.http_port: int = self._http.getsockname()[1]
        self.metrics_port: int = self._metrics.getsockname()[1]
        self.grpc_port: int = self._grpc.port if self._grpc else 0
        self._running: list[tuple[_Server, asyncio.Task[None]]] = []

    def _bind_grpc(self, address: str) -> GrpcListener:
        from ebpfsentinel.api.grpc import GrpcListener  # noqa: PLC0415 - memory, where it is on

        bound = _bind(address, self._agent.settings.agent.grpc_port, "agent.grpc_port")
        return GrpcListener(self._agent, bound, self._agent.gatekeeper)

    async def start(self) -> None:
        """Begin to answer; returns when all listeners do."""
        pairs = (
            (create_app(self._agent), self._http),
            (create_metrics_app(self._agent), self._metrics),
        )
        for app, bound in pairs:
            server = _Server(_config(app, self._agent.tls.context))
            task = asyncio.create_task(server.serve([bound]))
            self._running.append((server, task))
        if self._grpc is not None:
            await self._grpc.start(self._agent.tls.grpc_context)
        while not all(server.started for server, _ in self._running):
            if any(task.done() for _, task in self._running):
                break
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End within :data:`GRACE_S` seconds, open streams included."""
        for server, _ in self._running:
            server.should_exit = True
        if self._grpc is not None:
            await self._grpc.stop()
        for _, task in self._running:
            await task
        self._running.clear()
        self._http.close()
        self._metrics.close()


def _config(app: Any, tls: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=1 << 16,
        http=_Connection,
        loop="asyncio",
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
        server_header=False,
        proxy_headers=False,  # a header does not say where a caller is
        date_header=True,
        timeout_graceful_shutdown=GRACE_S,
        limit_concurrency=512,
        timeout_keep_alive=15,
    )


def _bind(address: str, port: int, place: str) -> socket.socket:
    host = "127.0.0.1" if address == "localhost" else address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's delay off only where the protocol is named: 40 ms an answer else.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        problem = f"cannot listen on {host} port {port}: {error.strerror}"
        raise SettingsError(place, problem, "End what uses it, or set another port.") from None
    bound.setblocking(False)
    return bound
