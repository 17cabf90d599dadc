"""A webhook receiver in a process of its own: ``python -m bench.receiver PORT-FILE [MODE]``.

It answers 200 and keeps count; MODE ``fails`` answers 500, ``hangs`` never answers. A GET gives the
count of alerts, of those seen before, how often their order was broken, the last sequence number,
how many numbers before it never came, and of how many alerts it was told that they were dropped, as
JSON; a GET of /recover, /fails or /hangs also makes it answer so from then on, one of /seen gives
the ids, in order.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

_MODES = {"/recover": "", "/fails": "fails", "/hangs": "hangs"}
_SEQUENCE = re.compile(rb"x-ebpfsentinel-sequence: *(\d+)")


class Receiver:
    """HTTP/1.1 with kept connections, as little of it as a POST needs."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.never = asyncio.Event()
        self.seen: dict[str, None] = {}
        self.numbers: set[int] = set()
        self.again = self.disorder = self.requests = self.last = self.told = self.notices = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 : head.index(b"\r", at)]) if at > 0 else 0
        body = await reader.readexactly(length)
        answer, status = b"", b"200 OK"
        if head.startswith(b"get"):
            path = head.split()[1].decode()
            self.mode = _MODES.get(path, self.mode)
            whole = path == "/seen"
            answer = json.dumps({"ids": list(self.seen)} if whole else self.count()).encode()
        elif self.mode == "hangs":
            await self.never.wait()
        elif self.mode == "fails":
            status = b"500 No"
        else:
            found = _SEQUENCE.search(head)
            self._take(body, int(found[1]) if found else None)
        writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status, len(answer), answer))
        await writer.drain()

    def count(self) -> dict[str, int]:
        return {
            "alerts": len(self.seen),
            "again": self.again,
            "disorder": self.disorder,
            "requests": self.requests,
            "last": self.last,
            "missing": self.last - len(self.numbers),
            "told_dropped": self.told,
            "notices": self.notices,
        }

    def _take(self, body: bytes, sequence: int | None) -> None:
        """Alerts in a request are numbered on from ``sequence``."""
        self.requests += 1
        found: Any = msgspec.json.decode(body)
        for at, alert in enumerate(found if isinstance(found, list) else [found]):
            number = int(alert["id"].rpartition("-")[2]) if sequence is None else sequence + at
            if alert["id"] in self.seen:
                self.again += 1
                continue
            self.seen[alert["id"]] = None
            self.numbers.add(number)
            self.disorder += number < self.last
            self.last = max(number, self.last)
            if alert["rule_id"] == "alerts-dropped":
                self.notices, self.told = self.notices + 1, self.told + alert["count"]


async def main(port_file: Path, mode: str) -> None:
    server = await asyncio.start_server(Receiver(mode).serve, "127.0.0.1", 0)
    fresh = port_file.with_suffix(".new")
    fresh.write_text(str(server.sockets[0].getsockname()[1]))
    fresh.rename(port_file)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
