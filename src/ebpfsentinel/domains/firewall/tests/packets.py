"""Frames: built with scapy where a test names what it sends, packed by hand where speed counts."""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (
        ICMPv6EchoRequest,
        ICMPv6ND_NS,
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
    )
    from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
    from scapy.packet import Raw, raw

__all__ = [
    "ARP",
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "Dot1AD",
    "Dot1Q",
    "ICMPv6EchoRequest",
    "ICMPv6ND_NS",
    "IPv6",
    "IPv6ExtHdrDestOpt",
    "IPv6ExtHdrFragment",
    "IPv6ExtHdrHopByHop",
    "IPv6ExtHdrRouting",
    "Packet",
    "Raw",
    "ether",
    "frame",
    "tcp4",
    "tcp6",
    "udp4",
    "udp6",
]

TCP_NUMBER, UDP_NUMBER, ICMP_NUMBER, ICMPV6_NUMBER = 6, 17, 1, 58
WITH_PORTS = {6, 17, 33, 132, 136}
_L4 = {TCP_NUMBER: 20, UDP_NUMBER: 8}


WHOLE, FIRST, LATER = range(3)
SRC_MAC, DST_MAC = 0x0200_0000_00FF, 0x0200_0000_0001


@dataclasses.dataclass(frozen=True, slots=True)
class Packet:
    """What a rule can ask of a packet; ``ports``, ``icmp`` and flags are None where it has none."""

    family: int
    src: int
    dst: int
    protocol: int
    ports: tuple[int, int] | None
    vlan: int = 0
    interface: str | None = None
    inner_vlan: int = 0
    icmp: tuple[int, int] | None = None
    tcp_flags: int | None = None
    dscp: int = 0
    fragment: int = WHOLE
    src_mac: int = SRC_MAC
    dst_mac: int = DST_MAC


def ether(payload, *tags) -> bytes:
    """Ethernet, tags (``Dot1Q``, ``Dot1AD``) and payload as bytes, checksums and lengths right."""
    layers = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:ff")
    for tag in tags:
        layers /= tag
    return raw(layers / payload)


def tcp4(src="10.0.0.1", dst="10.0.0.2", sport=1234, dport=80, tags=(), flags="S") -> bytes:
    return ether(IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags), *tags)


def udp4(src="10.0.0.1", dst="10.0.0.2", sport=1234, dport=53, tags=(), data=b"x") -> bytes:
    return ether(IP(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(data), *tags)


def tcp6(src="2001:db8::1", dst="2001:db8::2", sport=1234, dport=80, tags=()) -> bytes:
    return ether(IPv6(src=src, dst=dst) / TCP(sport=sport, dport=dport), *tags)


def udp6(src="2001:db8::1", dst="2001:db8::2", sport=1234, dport=53, tags=(), data=b"x") -> bytes:
    return ether(IPv6(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(data), *tags)


def frame(packet: Packet) -> bytes:
    """The frame of a packet; behind the header of a later fragment is what looks like ports."""
    macs = packet.dst_mac.to_bytes(6, "big") + packet.src_mac.to_bytes(6, "big")
    tags = b""
    if packet.vlan or packet.inner_vlan:
        tags += struct.pack(">HH", 0x88A8 if packet.inner_vlan else 0x8100, packet.vlan)
    if packet.inner_vlan:
        tags += struct.pack(">HH", 0x8100, packet.inner_vlan)
    payload = _payload(packet)
    build = _ipv4 if packet.family == 4 else _ipv6
    return macs + tags + build(packet, payload) + payload


def _payload(packet: Packet) -> bytes:
    if packet.icmp:
        return bytes(packet.icmp).ljust(8, b"\0")
    ports = struct.pack(">HH", *packet.ports) if packet.ports else b"\x08\x00\x00\x00"
    body = bytearray(ports.ljust(_L4.get(packet.protocol, 8), b"\0"))
    if packet.tcp_flags is not None:
        body[13] = packet.tcp_flags
    return bytes(body)


def _ipv4(packet: Packet, payload: bytes) -> bytes:
    return struct.pack(
        ">HBBHHHBBHII",
        0x0800,
        0x45,
        packet.dscp << 2,
        20 + len(payload),
        1,
        (0, 0x2000, 185)[packet.fragment],
        64,
        packet.protocol,
        0,
        packet.src,
        packet.dst,
    )


def _ipv6(packet: Packet, payload: bytes) -> bytes:
    offset = (0, 1, 185 << 3)[packet.fragment]
    fragment = struct.pack(">BBHI", packet.protocol, 0, offset, 7) if packet.fragment else b""
    return (
        struct.pack(
            ">HIHBB",
            0x86DD,
            6 << 28 | packet.dscp << 22,
            len(fragment) + len(payload),
            44 if packet.fragment else packet.protocol,
            64,
        )
        + packet.src.to_bytes(16, "big")
        + packet.dst.to_bytes(16, "big")
        + fragment
    )


def number(address: str) -> int:
    """An address as an integer."""
    return int(ipaddress.ip_address(address))
