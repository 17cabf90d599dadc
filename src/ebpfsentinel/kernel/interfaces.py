"""Interfaces: which there are, which are up, and a wake-up when that changes.

Netlink only says *that* something changed (rtnetlink(7), group RTMGRP_LINK); what is there now is
then read afresh, so a lost or misread message can cost time but never correctness.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

_SIOCGIFFLAGS = 0x8913
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_RTMGRP_LINK = 1


def present() -> dict[str, int]:
    """Interface name to index, of this network namespace."""
    return {name: index for index, name in socket.if_nameindex()}


def _flags(name: str) -> int:
    request = struct.pack("16sH14x", name.encode()[:15], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
    return int(struct.unpack_from("H", answer, 16)[0])


def up() -> list[str]:
    """Interfaces that are up, but for loopback."""
    found = []
    for name in present():
        with contextlib.suppress(OSError):
            flags = _flags(name)
            if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                found.append(name)
    return found


def watch() -> socket.socket:
    """A socket that polls readable whenever a link comes, goes, or changes."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    listener.bind((0, _RTMGRP_LINK))
    return listener


def settle(listener: socket.socket) -> None:
    """Read what is waiting; an overrun (ENOBUFS) is one more reason to look afresh."""
    with contextlib.suppress(BlockingIOError, OSError):
        while listener.recv(65536):
            pass
