"""Frames packed by hand: Ethernet, tags, IPv4 or IPv6, UDP, TCP or ICMP."""

from __future__ import annotations

import ipaddress
import struct

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58


def frame(src="10.0.0.1", dst="10.0.0.2", dport=53, protocol=UDP, vlan=0, flags=2) -> bytes:
    """One packet; checksums are left at 0, nobody here looks at them."""
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    body = _transport(protocol, dport, flags)
    if source.version == 4:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0)
        kind = 0x0800
    else:
        head = struct.pack(">IHBB", 6 << 28, len(body), protocol, 64)
        kind = 0x86DD
    tag = struct.pack(">HH", 0x8100, vlan) if vlan else b""
    link = b"\x02" + bytes(5) + b"\x02" + bytes(4) + b"\x01" + tag + struct.pack(">H", kind)
    return (link + head + source.packed + destination.packed + body).ljust(80, b"\0")


def _transport(protocol: int, dport: int, flags: int) -> bytes:
    if protocol == TCP:
        return struct.pack(">HHIIBBHHH", 4000, dport, 1, 0, 0x50, flags, 64240, 0, 0)
    if protocol == UDP:
        return struct.pack(">HHHH", 4000, dport, 8, 0)
    return struct.pack(">BBHHH", 128 if protocol == ICMPV6 else 8, 0, 0, 1, 1)
