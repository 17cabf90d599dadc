"""A frame from its description: headers with right lengths and checksums.

RFC 791 and 8200 (IP), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP), 1071 (the checksum).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfsentinel.domains.firewall.asking import Asked

_UDP, _ICMP = 17, 1
_TAG, _SERVICE_TAG, _IPV4, _IPV6 = 0x8100, 0x88A8, 0x0800, 0x86DD
_FRAGMENT_HEADER = 44
_LATER_UNITS = 185  # 1,480 bytes: behind a first fragment of a full Ethernet frame
_PAYLOAD = bytes(8)


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def build(asked: Asked) -> bytes:
    """The frame."""
    payload = _PAYLOAD if asked.fragment == "later" else _transport(asked)
    network = _ipv4(asked, payload) if asked.family == 4 else _ipv6(asked, payload)
    return _link(asked) + network


def _link(asked: Asked) -> bytes:
    macs = bytes.fromhex((asked.dst_mac + asked.src_mac).replace(":", ""))
    ethertype = struct.pack(">H", _IPV4 if asked.family == 4 else _IPV6)
    if "inner" in asked.said:
        tags = (_SERVICE_TAG, asked.vlan_id, _TAG, asked.inner_vlan_id)
        return macs + struct.pack(">HHHH", *tags) + ethertype
    if asked.vlan_id:
        return macs + struct.pack(">HH", _TAG, asked.vlan_id) + ethertype
    return macs + ethertype


def _ipv4(asked: Asked, payload: bytes) -> bytes:
    more = 0x2000 if asked.fragment == "first" else 0
    offset = _LATER_UNITS if asked.fragment == "later" else 0
    fields = (0x45, asked.dscp << 2, 20 + len(payload), 1, more | offset, 64, asked.protocol)
    addresses = asked.src.packed + asked.dst.packed
    first = struct.pack(">BBHHHBB", *fields)
    return first + struct.pack(">H", checksum(first + addresses)) + addresses + payload


def _ipv6(asked: Asked, payload: bytes) -> bytes:
    following = asked.protocol
    if asked.fragment:
        offset = _LATER_UNITS << 3 if asked.fragment == "later" else 1
        payload = struct.pack(">BBHI", asked.protocol, 0, offset, 1) + payload
        following = _FRAGMENT_HEADER
    first = struct.pack(">IHBB", 6 << 28 | asked.dscp << 22, len(payload), following, 64)
    return first + asked.src.packed + asked.dst.packed + payload


def _transport(asked: Asked) -> bytes:
    ports = struct.pack(">HH", asked.src_port or 0, asked.dst_port or 0)
    match asked.protocol:
        case 6:
            head = struct.pack(">IIBBHHH", 1, 0, 0x50, asked.flags, 64240, 0, 0)
            return _summed(asked, ports + head, 16)
        case 17:
            return _summed(asked, ports + struct.pack(">HH", 8 + len(_PAYLOAD), 0) + _PAYLOAD, 6)
        case 1 | 58:
            message = bytes([asked.icmp_type or 0, asked.icmp_code]) + bytes(2) + _PAYLOAD
            return _summed(asked, message, 2)
        case 132:
            return ports + _PAYLOAD  # verification tag and CRC32c: nobody looks at them here
        case 33 | 136:
            return ports + bytes(4) + _PAYLOAD
        case _:
            return _PAYLOAD


def _summed(asked: Asked, segment: bytes, at: int) -> bytes:
    """The segment with its checksum in place; ICMP has no pseudo header, ICMPv6 has."""
    pseudo = b""
    if asked.protocol != _ICMP:
        addresses = asked.src.packed + asked.dst.packed
        pseudo = addresses + struct.pack(">II", len(segment), asked.protocol)
    found = checksum(pseudo + segment)
    if asked.protocol == _UDP:
        found = found or 0xFFFF
    return segment[:at] + struct.pack(">H", found) + segment[at + 2 :]
