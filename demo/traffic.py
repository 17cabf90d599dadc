"""What the client sends, and what really arrives at the server: counted at a socket, not guessed.

Every port that a rule denies has a listener behind it, so that a packet that should have been
dropped and was not is seen to arrive.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from demo.network import ATTACKER, CLIENT, SERVER, enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WEB, TELNET, SSDP, DATABASE = 8000, 23, 1900, 5432
SWEEP = range(100, 1000, 9)
_PATIENCE_S = 0.4
"""Shorter than the second after which TCP sends a SYN again: one attempt is one packet."""


@dataclass(frozen=True, slots=True)
class Act:
    """One kind of traffic: ``send`` does it once and says whether it was answered."""

    title: str
    rule_id: str
    blocked: bool
    times: int
    send: Callable[[int], bool]


@dataclass(slots=True)
class Tally:
    """``sent`` attempts and how many of them were ``answered`` by the server."""

    sent: int = 0
    answered: int = 0


class Server:
    """Listeners in the server's namespace; ``arrived`` counts what reached each port."""

    def __init__(self) -> None:
        self.arrived: dict[tuple[str, int], int] = {}
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        for port in (WEB, TELNET, DATABASE, *SWEEP):
            self._listen(socket.SOCK_STREAM, port)
        self._listen(socket.SOCK_DGRAM, SSDP)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def _listen(self, kind: socket.SocketKind, port: int) -> None:
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", port))
        if kind is socket.SOCK_STREAM:
            listener.listen(64)
        protocol = "tcp" if kind is socket.SOCK_STREAM else "udp"
        self._selector.register(listener, selectors.EVENT_READ, (protocol, port))

    def _serve(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.1):
                self.arrived[key.data] = self.arrived.get(key.data, 0) + 1
                self._answer(key.fileobj, key.data[0])  # type: ignore[arg-type]

    @staticmethod
    def _answer(listener: socket.socket, protocol: str) -> None:
        if protocol == "udp":
            _, peer = listener.recvfrom(2048)
            listener.sendto(b"here", peer)
            return
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_PATIENCE_S)
            connection.recv(2048)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")


def acts() -> Iterable[Act]:
    """The whole programme, friendly guests first."""
    return (
        Act("web page, IPv4", "allow-web", blocked=False, times=20, send=_web(SERVER.ipv4)),
        Act("web page, IPv6", "allow-web", blocked=False, times=20, send=_web(SERVER.ipv6)),
        Act("ping", "see-pings", blocked=False, times=5, send=_ping),
        Act("telnet", "no-telnet", blocked=True, times=5, send=_connect(SERVER.ipv4, TELNET)),
        Act("port sweep", "no-low-ports", blocked=True, times=len(SWEEP), send=_sweep),
        Act("UDP discovery", "no-ssdp", blocked=True, times=50, send=_discover),
        Act(
            "database, IPv6",
            "no-database-ipv6",
            blocked=True,
            times=5,
            send=_connect(SERVER.ipv6, DATABASE),
        ),
        Act(
            "web, denied source",
            "no-attacker",
            blocked=True,
            times=5,
            send=_web(SERVER.ipv4, ATTACKER),
        ),
    )


def perform(act: Act, tally: Tally, pause_s: float = 0.02) -> None:
    """Do it all, from the client's namespace, in the calling thread."""
    enter(CLIENT)
    for turn in range(act.times):
        tally.sent += 1
        tally.answered += act.send(turn)
        time.sleep(pause_s)


@contextlib.contextmanager
def _dial(address: str, port: int, source: str = "") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(_PATIENCE_S)
        if source:
            client.bind((source, 0))
        client.connect((address, port))
        yield client


def _connect(address: str, port: int) -> Callable[[int], bool]:
    def send(_: int) -> bool:
        try:
            with _dial(address, port):
                return True
        except OSError:
            return False

    return send


def _web(address: str, source: str = "") -> Callable[[int], bool]:
    def send(_: int) -> bool:
        try:
            with _dial(address, WEB, source) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return client.recv(2048).startswith(b"HTTP/1.0 200")
        except OSError:
            return False

    return send


def _sweep(turn: int) -> bool:
    """One SYN; the answer, if there is one, comes at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(0.03)
        return client.connect_ex((SERVER.ipv4, SWEEP[turn])) == 0


def _discover(_: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.03)
        client.sendto(b"M-SEARCH * HTTP/1.1\r\n\r\n", (SERVER.ipv4, SSDP))
        try:
            return bool(client.recv(2048))
        except OSError:
            return False


def _ping(turn: int) -> bool:
    """An echo request (RFC 792) and its reply."""
    body = struct.pack("!HH", 0x5EB9, turn) + b"ebpfsentinel"
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as client:
        client.settimeout(_PATIENCE_S)
        client.sendto(struct.pack("!BBH", 8, 0, _checksum(body)) + body, (SERVER.ipv4, 0))
        try:
            return client.recv(2048)[20:21] == b"\0"
        except OSError:
            return False


def _checksum(body: bytes) -> int:
    """The checksum (RFC 1071) of an echo request with this body."""
    total: int = 0x0800 + sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
