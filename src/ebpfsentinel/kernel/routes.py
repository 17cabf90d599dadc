"""Where the routing tables lead a packet that came in: rtnetlink(7), RTM_GETROUTE with RTA_IIF.

The kernel's own input routing answers, with its rules, its check of the source and whether it
forwards at all. A martian and a blackhole it refuses alike (EINVAL): of a
way that only input routing refuses, the addresses are at fault.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

from ebpfsentinel.model.kernel import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.model.kernel import Way

_NEW_ROUTE, _GET_ROUTE, _REQUEST = 24, 26, 1
_DST, _SRC, _IIF, _OIF, _GATEWAY, _VIA = 1, 2, 3, 4, 5, 18
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast"}
_MARTIAN = {errno.EXDEV, errno.EINVAL}
_NOWHERE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES}
_NO_ROUTE = Route("none", anomaly="no_route")
_HEADER, _ROUTE = struct.Struct("=IHHII"), struct.Struct("=8BI")
_ANSWER_S = 1.0


def routes(ways: Sequence[Way]) -> list[Route]:
    """The route of each; ``unknown`` where the kernel does not say."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
            asked.settimeout(_ANSWER_S)
            return [_route(asked, way) for way in ways]
    except OSError:
        return [Route("unknown")] * len(ways)


def _route(asked: socket.socket, way: Way) -> Route:
    answer, refusal = _ask(asked, way, coming_in=True)
    if refusal in _MARTIAN:
        _, otherwise = _ask(asked, way, coming_in=False)
        return _NO_ROUTE if otherwise else Route("none", anomaly="martian")
    if refusal:
        return _NO_ROUTE if refusal in _NOWHERE else Route("unknown")
    return _read(answer)


def _ask(asked: socket.socket, way: Way, *, coming_in: bool) -> tuple[bytes, int]:
    """The answer, and the number of the error if it is one."""
    asked.send(_question(way, coming_in=coming_in))
    answer = asked.recv(1 << 14)
    if _HEADER.unpack_from(answer)[1] == _NEW_ROUTE:
        return answer, 0
    return answer, -int(struct.unpack_from("=i", answer, _HEADER.size)[0])


def _question(way: Way, *, coming_in: bool) -> bytes:
    source, target = (ipaddress.ip_address(text) for text in (way.src_ip, way.dst_ip))
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    bits = target.max_prefixlen
    body = _ROUTE.pack(family, bits, bits * coming_in, 0, 0, 0, 0, 0, 0)
    body += _attribute(_DST, target.packed)
    if coming_in:
        body += _attribute(_SRC, source.packed) + _attribute(_IIF, struct.pack("=I", way.ifindex))
    return _HEADER.pack(_HEADER.size + len(body), _GET_ROUTE, _REQUEST, 1, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value  # all values are whole words


def _read(answer: bytes) -> Route:
    kind = _KINDS.get(_ROUTE.unpack_from(answer, _HEADER.size)[7])
    if kind is None:  # unreachable, blackhole, prohibit
        return _NO_ROUTE
    found = dict(_attributes(answer[_HEADER.size + _ROUTE.size :]))
    if kind != "unicast":
        return Route(kind)
    hop = found.get(_GATEWAY) or found.get(_VIA, b"")[2:]  # of another family: RTA_VIA
    (egress,) = struct.unpack("=I", found.get(_OIF, bytes(4)))
    return Route(kind, str(ipaddress.ip_address(hop)) if hop else None, _name(egress))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _name(ifindex: int) -> str | None:
    try:
        return socket.if_indextoname(ifindex) if ifindex else None
    except OSError:
        return None
