"""Flows and their processes: how many are named right, and what it costs.

``named``: 10,000 short TCP connections by 50 processes to a pre-forked server; both ends count. And
connections that were there before the programs.

``cost``: socket, connect, close of TCP and of UDP, and a datagram sent by an unconnected socket,
with the hooks by without, in turn.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bench_enforce import _row
from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.domains.sockets.tests.tracked import Tracked
from ebpfsentinel.kernel.load import LinuxKernel
from tests.lab import GUARDED, SENDER, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TCP, PORT, RUNS, PAIRS = 6, 8080, 3, 7
CONNECTS, DATAGRAMS = 3000, 30_000


@contextlib.contextmanager
def laboratory() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            yield lab
        finally:
            lab.close()


def named() -> Iterator[dict[str, Any]]:
    """Shares of the flows that name the right process at both ends."""
    after, before = [], []
    for _ in range(RUNS):
        after.append(_after())
        before.append(_before())
    yield _row("10,000 connections by 50 processes: both ends named right", "ratio", after, 1, 1)
    yield _row("1,000 connections older than the agent: named right", "ratio", before, 0.99, 1)


def _after() -> float:
    with laboratory() as lab:
        tracked = Tracked(lab)
        tracked.start()
        try:
            with tracked.crowd(lab.sender, "serves", SENDER, PORT, 4) as server:
                server.line()
                with tracked.crowd(lab.guarded, "asks", SENDER, PORT, 50, 200) as clients:
                    made = sorted(clients.lines(), key=lambda line: int(line[3]))
            found = tracked.owners(TCP, PORT)
            wanted = {int(port): (int(pid), int(by)) for pid, port, by, _ in made}
            return sum(found.get(port) == pids for port, pids in wanted.items()) / len(wanted)
        finally:
            tracked.close()


def _before() -> float:
    """Those of the guarded host, by their first packet."""
    with laboratory() as lab:
        tracked, go = Tracked(lab), lab.tmp / "go"
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(tracked.crowd(lab.guarded, "keeps", GUARDED, PORT, 4))
            server.line()
            held = "holds", GUARDED, PORT, 50, 20, str(go)
            clients = stack.enter_context(tracked.crowd(lab.sender, *held))
            lines = (server.line() for _ in range(1000))
            accepted = {int(port): int(pid) for pid, port in lines}
            _await(clients.line, "held")
            tracked.start()
            go.write_text("")
            _await(clients.line, "sent")
            found = tracked.owners(TCP, PORT)
            tracked.close()
        right = sum(found.get(port, (0, 0))[1] == pid for port, pid in accepted.items())
        return right / len(accepted)


def _await(line: Callable[[], list[str]], word: str) -> None:
    heard = 0
    while heard < 50:
        heard += line() == [word]


def cost() -> Iterator[dict[str, Any]]:
    """Time with the hooks by time without."""
    found: dict[str, list[float]] = {}
    with laboratory() as lab, lab.inside(lab.guarded), _listening() as port:
        works: dict[str, Callable[[], float]] = {
            "TCP: socket, connect, close": lambda: _connects(port, socket.SOCK_STREAM),
            "UDP: socket, connect, close": lambda: _connects(port, socket.SOCK_DGRAM),
            "UDP: sendto": lambda: _sends(port),
        }
        for _ in range(PAIRS):
            off = {name: work() for name, work in works.items()}
            kernel = LinuxKernel()
            kernel.load([card for card in discover(domains) if card.name == "sockets"])
            kernel.attach([])
            for name, work in works.items():
                found.setdefault(name, []).append(work() / off[name])
            kernel.detach()
    for name, ratios in found.items():
        yield _row(f"{name}: hooks on / off", "ratio", ratios)


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    """A server that accepts and closes."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _connects(port: int, kind: int) -> float:
    """Seconds for one."""
    began = time.perf_counter()
    for _ in range(CONNECTS):
        with socket.socket(socket.AF_INET, kind) as client:
            client.connect(("127.0.0.1", port))
    return (time.perf_counter() - began) / CONNECTS


def _sends(port: int) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        began = time.perf_counter()
        for _ in range(DATAGRAMS):
            with contextlib.suppress(ConnectionRefusedError):
                sender.sendto(b"x", ("127.0.0.1", port))
    return (time.perf_counter() - began) / DATAGRAMS


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*named(), *cost()]


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
