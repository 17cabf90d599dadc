"""Syslog: RFC 5424 messages with octet counting (RFC 6587) over TCP, or TLS (RFC 5425).

Syslog has no answers, so "arrived" means here: the receiver's kernel has acknowledged every byte
(``SIOCOUTQ`` is 0), and the connection still stands. What a receiver loses after that is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import struct
import termios
from typing import TYPE_CHECKING

from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.destinations import Syslog, Transport
from ebpfsentinel.sinks.formats import write
from ebpfsentinel.sinks.formats.origin import when
from ebpfsentinel.sinks.posting import tls_context
from ebpfsentinel.sinks.sender import SendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_LEVEL = {Severity.LOW: 5, Severity.MEDIUM: 4, Severity.HIGH: 3, Severity.CRITICAL: 2}
"""Notice, warning, error, critical."""
_UNSENT = termios.TIOCOUTQ
_WAIT_S, _LONGEST_WAIT_S = 0.0005, 0.05
_NOT_A_NAME = re.compile(r"[^\x21-\x7e]")


def make(route: Route, _alerting: Alerting, origin: Origin) -> Syslogs:
    """The sender of a route."""
    return Syslogs(route, route.syslog or Syslog(host=""), origin)


def message(item: Item, facility: int, body: bytes, origin: Origin) -> bytes:
    """One framed message: its length, a space, and RFC 5424."""
    alert = item.alert
    priority = facility * 8 + _LEVEL[alert.severity]
    host = _NOT_A_NAME.sub("", origin.host)[:255] or "-"
    identity = _NOT_A_NAME.sub("", alert.component)[:32] or "-"
    head = f"<{priority}>1 {when(alert.timestamp_ns)} {host} ebpfsentinel - {identity} - "
    text = head.encode() + b"\xef\xbb\xbf" + body
    return b"%d %b" % (len(text), text)


class Syslogs:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, settings: Syslog, origin: Origin) -> None:
        self._route, self._settings, self._origin = route, settings, origin
        self.place = f"syslog+{settings.transport.value}://{settings.host}:{settings.port}"
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, batch: Sequence[Item]) -> None:
        """Write the messages, and wait until they are acknowledged."""
        form, origin, facility = self._route.written, self._origin, self._settings.facility
        data = b"".join(
            message(item, facility, write(item, form, origin), origin) for item in batch
        )
        try:
            reader, writer = await self._connected()
            writer.write(data)
            await writer.drain()
            await _acknowledged(reader, writer)
        except BaseException:
            await self.aclose()
            raise

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            await self.aclose()
            settings, tls = self._settings, None
            if settings.transport is Transport.TLS:
                tls = tls_context(self._route.ca_path, settings.cert_path, settings.key_path)
            self._reader, self._writer = await asyncio.open_connection(
                settings.host, settings.port, ssl=tls
            )
        return self._reader, self._writer

    async def aclose(self) -> None:
        """Close the connection."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _acknowledged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    wait_s = _WAIT_S
    while _unsent(writer):
        await asyncio.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
    await asyncio.sleep(0)
    if reader.at_eof():
        raise SendError("the receiver has closed the connection")


def _unsent(writer: asyncio.StreamWriter) -> int:
    """Bytes that the other side has not acknowledged."""
    transport = writer.transport
    if transport.is_closing():
        raise SendError("the connection was closed")
    waiting = fcntl.ioctl(transport.get_extra_info("socket").fileno(), _UNSENT, b"\0" * 4)
    return transport.get_write_buffer_size() + int(struct.unpack("i", waiting)[0])
