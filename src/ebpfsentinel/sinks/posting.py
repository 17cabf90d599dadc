"""HTTP/1.1 for senders: one kept connection, no redirects, no proxy.

The connection is ours, so that it goes to the very address that was looked at
(:mod:`ebpfsentinel.sinks.addresses`); the protocol is h11's. httpx would do both, at nine times the
cost of a request (1.1 ms against 0.12 ms), which decides how many alerts a second one by one are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import h11

from ebpfsentinel.sinks.addresses import check_name, chosen
from ebpfsentinel.sinks.sender import Rejected, SendError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTENT_REFUSED = frozenset({400, 413, 415, 422})
_RESOLVED_S = 30.0
_MOST_ANSWER = 16 << 20
_CHUNK = 1 << 16


def tls_context(ca_path: str, cert_path: str = "", key_path: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, certificates checked against ``ca_path`` or the system's.

    Raises:
        SendError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_path or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert_path:
            context.load_cert_chain(cert_path, key_path or None)
    except OSError as error:
        path = cert_path or ca_path
        raise SendError(f"{path}: {error.strerror or 'is no PEM file'}") from None
    return context


class Post:
    """Posts to one URL. ``guarded``: only to addresses that :mod:`.addresses` lets through."""

    def __init__(
        self, url: str, ca_path: str = "", *, guarded: bool = False, allow_private: bool = False
    ) -> None:
        split = urlsplit(url)
        self._host, self._netloc, self._ca_path = split.hostname or "", split.netloc, ca_path
        self._target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        self._secure = split.scheme == "https"
        self._port = split.port or (443 if self._secure else 80)
        self.place = f"{split.scheme}://{split.netloc}"
        self._guarded, self._allow_private = guarded, allow_private
        self._tls: ssl.SSLContext | None = None
        self._pinned: tuple[float, str] = (-_RESOLVED_S, "")
        self._line: _Line | None = None

    async def __call__(
        self, content: bytes, content_type: str, headers: Mapping[str, str], path: str = ""
    ) -> bytes:
        """The body of the answer, if that is one of 200 to 299.

        Raises:
            SendError: there is none, or another try may get another.
            Rejected: it is about what was sent.
        """
        named = {"host": self._netloc, "content-type": content_type}
        target = (self._target.rstrip("/") + path) if path else self._target
        request = h11.Request(
            method="POST",
            target=target.encode("ascii", "replace"),
            headers=[
                *{name.lower(): value for name, value in {**headers, **named}.items()}.items(),
                ("content-length", str(len(content))),
            ],
        )
        try:
            line = await self._connected()
            status, body = await line.exchange(request, content)
        except (OSError, h11.ProtocolError) as error:
            await self.aclose()
            self._pinned = (-_RESOLVED_S, "")
            raise SendError(f"{self.place}: {_reason(error)}") from None
        except BaseException:
            await self.aclose()
            raise
        if line.ended:
            await self.aclose()
        return self._judged(status, body)

    def _judged(self, status: int, body: bytes) -> bytes:
        if 200 <= status < 300:
            return body
        note = " (redirects are not followed)" if 300 <= status < 400 else ""
        text = f"{self.place} answered {status}{note}"
        if status in _CONTENT_REFUSED:
            raise Rejected(text)
        raise SendError(text)

    async def _connected(self) -> _Line:
        if self._line is not None and not self._line.ended:
            return self._line
        await self.aclose()
        address = await self._pin() if self._guarded else self._host
        if self._secure and self._tls is None:
            self._tls = tls_context(self._ca_path)
        reader, writer = await asyncio.open_connection(
            address,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._secure else None,
        )
        self._line = _Line(reader, writer)
        return self._line

    async def _pin(self) -> str:
        """An address of the host that may be connected to, looked up at most each half minute."""
        found_s, address = self._pinned
        if address and time.monotonic() - found_s < _RESOLVED_S:
            return address
        check_name(self._host, allow_private=self._allow_private)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "is no name"
            raise SendError(f"{self._host} cannot be resolved: {why}") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        address = chosen(self._host, addresses, allow_private=self._allow_private)
        self._pinned = (time.monotonic(), address)
        return address

    async def aclose(self) -> None:
        """Close the connection."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()


class _Line:
    """One connection, kept from request to request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT)

    @property
    def ended(self) -> bool:
        """Can no further request be made?"""
        return self._reader.at_eof() or self._http.our_state is not h11.IDLE

    async def exchange(self, request: h11.Request, content: bytes) -> tuple[int, bytes]:
        """Send, and the status and body of what comes back.

        Raises:
            OSError, h11.ProtocolError: the connection is of no more use.
        """
        http = self._http
        parts = [
            http.send(request),
            http.send(h11.Data(data=content)),
            http.send(h11.EndOfMessage()),
        ]
        self._writer.write(b"".join(part for part in parts if part))
        await self._writer.drain()
        status, body = 0, bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed) or len(body) > _MOST_ANSWER:
                raise ConnectionResetError("no whole answer came")
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
        return status, bytes(body)

    async def _event(self) -> h11.Event:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]
            self._http.receive_data(await self._reader.read(_CHUNK))

    async def aclose(self) -> None:
        """Close it."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _reason(error: OSError | h11.ProtocolError) -> str:
    """What the system, TLS or the protocol says; none of them knows a secret."""
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or error.reason or "TLS failed"
    if isinstance(error, h11.ProtocolError):
        return "this is no HTTP" if isinstance(error, h11.RemoteProtocolError) else "bad request"
    return error.strerror or str(error) or type(error).__name__
