"""What a frame says, parsed a second time in Python, and what must become of it.

The oracle for ``parse.h`` and, together with ``reference.py``, for the whole program.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ebpfsentinel.domains.firewall.tests.packets import FIRST, WHOLE, Packet
from ebpfsentinel.domains.firewall.tests.packets import LATER as LATER_KIND
from ebpfsentinel.domains.firewall.tests.reference import matches

IPV6, VLAN, TCP, FRAGMENT, LATER, PORTS, MALFORMED = 0x01, 0x02, 0x04, 0x10, 0x20, 0x40, 0x80
EXTENSIONS = {0, 43, 44, 51, 60, 135}
TAGS = {0x8100, 0x88A8}
WITH_PORTS = {6, 17, 33, 132, 136}
ARP = 0x0806
NEIGHBOUR_DISCOVERY = range(133, 137)


@dataclass(slots=True)
class Parsed:
    """As ``struct packet`` has it."""

    family: int = 0
    src: int = 0
    dst: int = 0
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    flags: int = 0
    tcp_flags: int = 0
    vlan: int = 0
    l3: int = 0
    l4: int = 0
    inner_vlan: int = 0
    kind: int = 0
    tos: int = 0
    icmp: tuple[int, int] | None = None


class _CutError(Exception):
    pass


def _take(frame: bytes, at: int, count: int) -> bytes:
    if at + count > len(frame):
        raise _CutError
    return frame[at : at + count]


def parse(frame: bytes) -> Parsed:
    """Read a frame of at least 14 bytes."""
    found = Parsed(l3=14, l4=14)
    (kind,) = struct.unpack(">H", frame[12:14])
    try:
        found.kind = kind = _tags(frame, kind, found)
        if kind in TAGS or not kind:
            raise _CutError  # a third tag, or an ethertype that is none
        if kind == 0x0800:
            _ipv4(frame, found)
        elif kind == 0x86DD:
            _ipv6(frame, found)
        else:
            return found
        _transport(frame, found)
    except _CutError:
        found.flags |= MALFORMED
    return found


def _tags(frame: bytes, kind: int, found: Parsed) -> int:
    for depth in range(2):
        if kind not in TAGS:
            break
        tci, kind = struct.unpack(">HH", _take(frame, found.l3, 4))
        if depth:
            found.inner_vlan = tci & 0xFFF
        else:
            found.vlan = tci & 0xFFF
        found.flags |= VLAN
        found.l3 = found.l4 = found.l3 + 4
    return kind


def _ipv4(frame: bytes, found: Parsed) -> None:
    head = _take(frame, found.l3, 20)
    words = (head[0] & 15) * 4
    if head[0] >> 4 != 4 or words < 20:
        raise _CutError
    _take(frame, found.l3, words)
    fragment = struct.unpack(">H", head[6:8])[0]
    found.flags |= LATER if fragment & 0x1FFF else FRAGMENT if fragment & 0x2000 else 0
    found.family, found.protocol, found.l4 = 4, head[9], found.l3 + words
    found.src, found.dst, found.tos = *struct.unpack(">II", head[12:20]), head[1]


def _ipv6(frame: bytes, found: Parsed) -> None:
    head = _take(frame, found.l3, 40)
    if head[0] >> 4 != 6:
        raise _CutError
    found.family, found.protocol, found.l4 = 6, head[6], found.l3 + 40
    found.src, found.dst = (int.from_bytes(head[at : at + 16], "big") for at in (8, 24))
    found.flags, found.tos = found.flags | IPV6, (head[0] << 4 | head[1] >> 4) & 0xFF
    try:
        for _ in range(8):
            if found.protocol not in EXTENSIONS or found.flags & LATER:
                return
            _extension(frame, found)
        if found.protocol in EXTENSIONS:
            raise _CutError
    except _CutError:
        found.protocol = 59
        raise


def _extension(frame: bytes, found: Parsed) -> None:
    head = _take(frame, found.l4, 8)
    length = {51: (head[1] + 2) * 4, 44: 8}.get(found.protocol, (head[1] + 1) * 8)
    if found.protocol == 44:
        fragment = struct.unpack(">H", head[2:4])[0]
        found.flags |= LATER if fragment & 0xFFF8 else FRAGMENT if fragment & 1 else 0
    found.protocol = head[0]
    found.l4 += length
    if found.l4 > 4095:
        raise _CutError


def _transport(frame: bytes, found: Parsed) -> None:
    if found.flags & LATER:
        return
    if found.protocol in {1, 58}:
        found.icmp = tuple(_take(frame, found.l4, 2))
    if found.protocol not in WITH_PORTS:
        return
    found.src_port, found.dst_port = struct.unpack(">HH", _take(frame, found.l4, 4))
    found.flags |= PORTS
    if found.protocol == 6:
        found.flags |= TCP
        found.tcp_flags = _take(frame, found.l4, 14)[13]


def packet_of(frame: bytes, found: Parsed, interface: str | None = None) -> Packet:
    """A parsed frame as rules see it."""
    kind = LATER_KIND if found.flags & LATER else FIRST if found.flags & FRAGMENT else WHOLE
    tcp = found.flags & TCP and not found.flags & MALFORMED
    return Packet(
        found.family,
        found.src,
        found.dst,
        found.protocol,
        (found.src_port, found.dst_port) if found.flags & PORTS else None,
        found.vlan,
        interface,
        inner_vlan=found.inner_vlan,
        icmp=found.icmp,
        tcp_flags=found.tcp_flags if tcp else None,
        dscp=found.tos >> 2,
        fragment=kind,
        src_mac=int.from_bytes(frame[6:12], "big"),
        dst_mac=int.from_bytes(frame[:6], "big"),
    )


def decides(order, frame: bytes, found: Parsed, interface=None, now_s=0):
    """The first of the ranked rules that holds; None: the default policy, as for all but IP."""
    if not found.family:
        return None
    packet = packet_of(frame, found, interface)
    return next((rule for rule in order if matches(rule, packet, now_s)), None)


def is_exempt(found: Parsed) -> bool:
    """ARP and IPv6 neighbour discovery, which a default drop lets pass."""
    if found.family == 6 and found.icmp and found.protocol == 58:
        return found.icmp[0] in NEIGHBOUR_DISCOVERY
    return found.kind == ARP
