"""Real servers on loopback that tests send to, and that fail as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, as_json
from ebpfsentinel.model.alerting import Route


def alert(number=0, severity=Severity.HIGH, component="moat", **rest):
    given = {"rule_id": "r-1", "action": "alert", "message": f"number {number}"} | rest
    return Alert(
        timestamp_ns=1_700_000_000_000_000_000 + number,
        id=f"{number}-r-1-{number}",
        component=component,
        severity=severity,
        **given,
    )


def route(**given):
    return msgspec.convert(given, Route)


def bodies(*numbers):
    return [as_json(alert(number)) for number in numbers]


class HttpReceiver:
    """Answers each request with the next of ``answers``, then with 200.

    An answer is a status, ``reset`` (the connection is torn down), ``hang`` (nothing comes), a
    number of seconds to wait as a float, or a pair of a status and headers.
    """

    def __init__(self, answers=(), tls: ssl.SSLContext | None = None) -> None:
        self.answers: list[Any] = list(answers)
        self.always: Any = 200
        self.body = b"{}"
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self._tls = tls
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self):
        await self.listen(0)
        return self

    async def listen(self, port):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._tls)
        self.port = self.server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_):
        await self.close()

    async def close(self):
        self.server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self.server.wait_closed()

    @property
    def url(self):
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            while True:
                await self._one(reader, writer)
        self._writers.discard(writer)
        writer.close()

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        request = (head[0].split()[1], headers, body)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        await self._answer(writer, request)

    async def _answer(self, writer, request):
        answer, more = self.answers.pop(0) if self.answers else self.always, {}
        if answer == "hang":
            await asyncio.Event().wait()
        if answer == "reset":
            writer.transport.abort()
            raise ConnectionError
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = 200
        if isinstance(answer, tuple):
            answer, more = answer
        if answer < 300:
            async with self._changed:
                self.taken.append(request)
                self._changed.notify_all()
        lines = "".join(f"{name}: {value}\r\n" for name, value in more.items())
        writer.write(
            f"HTTP/1.1 {answer} X\r\ncontent-length: {len(self.body)}\r\n{lines}\r\n".encode()
            + self.body
        )
        await writer.drain()

    async def wait(self, what):
        """Returns once ``what()`` is true of the receiver."""
        async with self._changed:
            await self._changed.wait_for(what)


async def until(what):
    """Returns once ``what()`` is true; asked again and again."""
    while not what():  # noqa: ASYNC110 -- of several parts, none of which has an event
        await asyncio.sleep(0.002)
