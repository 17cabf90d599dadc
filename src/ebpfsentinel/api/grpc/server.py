"""grpclib's server, with what it leaves open closed: message sizes, and connections at the end.

Two seams of grpclib 0.4 are used that its documentation does not name: the protocol of a connection
comes from ``Server._protocol_factory``, and ``Handler.accept`` is given every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Handler, Server

if TYPE_CHECKING:
    from asyncio import BaseTransport
    from collections.abc import Awaitable, Callable

MOST_BYTES = 64 << 10
"""Of one message to us: as bodies of REST."""


class _Calls(Handler):
    """Refuses messages that are too long before they are read."""

    def accept(self, stream: Any, headers: Any, release_stream: Any) -> None:
        """Answer a call."""
        stream.recv_data = _bounded(stream.recv_data)
        super().accept(stream, headers, release_stream)


def _bounded(receive: Callable[[int], Awaitable[bytes]]) -> Callable[[int], Awaitable[bytes]]:
    async def receive_little(size: int) -> bytes:
        if size > MOST_BYTES:
            problem = f"The message has {size} bytes; at most {MOST_BYTES} are read."
            raise GRPCError(Status.RESOURCE_EXHAUSTED, problem)
        return await receive(size)

    return receive_little


class _Connection(H2Protocol):
    """Is known to its server while it lasts."""

    def __init__(self, known: set[_Connection], *settings: Any) -> None:
        super().__init__(*settings)
        self._known = known

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._known.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._known.discard(self)


class BoundedServer(Server):
    """A server that reads no more than it must, and leaves no connection behind."""

    def __init__(self, services: Any) -> None:
        super().__init__(services)
        self._connections: set[_Connection] = set()

    def _protocol_factory(self) -> H2Protocol:
        calls = _Calls(self._mapping, self._codec, self._status_details_codec, self.__dispatch__)
        return _Connection(self._connections, calls, self._config, self._h2_config)

    def hang_up(self) -> None:
        """Close every connection, after what was sent already."""
        for connection in tuple(self._connections):
            connection.processor.close("The agent ends.")
