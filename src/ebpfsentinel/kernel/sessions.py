"""Established sessions of administrators: TCP connections to sshd and to the agent's API.

Read by sock_diag(7): the kernel picks by state and local port, so that a host with many connections
to other ports pays little. sshd is who listens, runs as root and is called so.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.model.floor import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.model.floor import Address

MOST = 1024
SSH_PORT = 22
_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP, _ERROR, _DONE = 4, 20, 0x301, 2, 3
_ESTABLISHED, _LISTEN = 1, 10
_SSHD = ("sshd", "sshd-session")


@dataclass(frozen=True, slots=True)
class _Socket:
    local_port: int
    remote: Address
    remote_port: int
    inode: int


def _sockets(state: int, port: int = 0) -> Iterator[_Socket]:
    """TCP sockets of this namespace in ``state``, with this local port where it is not 0."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as asked:
            body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, 1 << state)
            body += struct.pack(">HH40xI8x", port, 0, 0)
            asked.send(
                struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0) + body
            )
            yield from _answers(asked)


def _answers(asked: socket.socket) -> Iterator[_Socket]:
    while True:
        data = asked.recv(1 << 16)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind in (_ERROR, _DONE) or length < 16:
                return
            if length >= 88:
                yield _socket(data[16:length])
            data = data[(length + 3) & ~3 :]


def _socket(message: bytes) -> _Socket:
    """One struct inet_diag_msg."""
    local_port, remote_port = struct.unpack_from(">HH", message, 4)
    raw = message[24:40]
    v6 = message[0] == socket.AF_INET6
    remote: Address = ipaddress.IPv6Address(raw) if v6 else ipaddress.IPv4Address(raw[:4])
    mapped = getattr(remote, "ipv4_mapped", None)
    (inode,) = struct.unpack_from("=I", message, 68)
    return _Socket(local_port, mapped or remote, remote_port, inode)


class Sessions:
    """Knows sshd's ports from look to look; whoever it found once keeps a place among the most."""

    def __init__(self) -> None:
        self._listening: frozenset[tuple[int, int]] = frozenset()
        self._ports = frozenset({SSH_PORT})
        self._known: frozenset[Connection] = frozenset()

    def look(self, *own_ports: int) -> frozenset[Connection]:
        """Those that are there now, at most :data:`MOST`."""
        listening = frozenset((each.inode, each.local_port) for each in _sockets(_LISTEN))
        if listening != self._listening:
            self._listening, self._ports = listening, _sshd_ports(dict(listening))
        found = {
            Connection(each.remote, each.remote_port, each.local_port)
            for port in self._ports.union(filter(None, own_ports))
            for each in _sockets(_ESTABLISHED, port)
            if not each.remote.is_loopback
        }
        kept, fresh = found & self._known, found - self._known
        self._known = frozenset([*kept, *sorted(fresh, key=str)][:MOST])
        return self._known


def _sshd_ports(listening: dict[int, int]) -> frozenset[int]:
    """22, and where root's sshd listens; by inode of the listening sockets."""
    ports = {SSH_PORT}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() in _SSHD and not process.stat().st_uid:
                for handle in (process / "fd").iterdir():
                    name = str(handle.readlink())
                    if name.startswith("socket:["):
                        ports.add(listening.get(int(name[8:-1]), SSH_PORT))
    return frozenset(ports)
