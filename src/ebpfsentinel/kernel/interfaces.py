"""Interfaces: which there are, which are up, and a wake-up when that changes.

Netlink only says *that* something changed (rtnetlink(7)), a link or an address; what is there now
is then read afresh, so a lost or misread message can cost time but never correctness.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections import defaultdict
from pathlib import Path

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x1, 0x10, 0x100
_GLOBAL = 0
_PASSING = 0x01 | 0x08 | 0x20 | 0x40
"""IFA_F_TEMPORARY, DADFAILED, DEPRECATED and TENTATIVE: no address to be known by."""


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


def addresses() -> dict[str, tuple[str, ...]]:
    """The addresses that each interface's own packets have: see ``Surroundings.own_addresses``."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in present():
        with contextlib.suppress(OSError):
            found[name].append(_ipv4(name))
    for line in _inet6():
        packed, _, _, scope, flags, name = line.split()
        if int(scope, 16) == _GLOBAL and not int(flags, 16) & _PASSING:
            found[name].append(str(ipaddress.IPv6Address(bytes.fromhex(packed))))
    return {name: tuple(all_of) for name, all_of in found.items()}


def _ipv4(name: str) -> str:
    request = struct.pack("16s16x", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        return socket.inet_ntoa(fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24])


def _inet6() -> list[str]:
    """``/proc/net/if_inet6`` of this thread's namespace; nothing where there is no IPv6."""
    try:
        return sorted(Path("/proc/thread-self/net/if_inet6").read_text().splitlines())
    except OSError:
        return []


def watch() -> socket.socket:
    """A socket that polls readable whenever a link or an address comes, goes, or changes."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    listener.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
    return listener


def settle(listener: socket.socket) -> None:
    """Read what is waiting; an overrun (ENOBUFS) is one more reason to look afresh."""
    with contextlib.suppress(BlockingIOError, OSError):
        while listener.recv(65536):
            pass
