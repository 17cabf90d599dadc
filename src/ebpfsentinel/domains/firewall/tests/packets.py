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
_MACS = bytes.fromhex("0200000000010200000000ff")
_L4 = {TCP_NUMBER: 20, UDP_NUMBER: 8}


@dataclasses.dataclass(frozen=True, slots=True)
class Packet:
    """What a rule can ask of a packet; ``ports`` is None where it has none."""

    family: int
    src: int
    dst: int
    protocol: int
    ports: tuple[int, int] | None
    vlan: int = 0
    interface: str | None = None


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
    """The frame of a packet; one without ports of a protocol that has some is a later fragment."""
    ports = struct.pack(">HH", *packet.ports) if packet.ports else b"\x08\x00\x00\x00"
    payload = ports.ljust(_L4.get(packet.protocol, 8), b"\0")
    later = packet.ports is None and packet.protocol in WITH_PORTS
    tag = struct.pack(">HH", 0x8100, packet.vlan) if packet.vlan else b""
    build = _ipv4 if packet.family == 4 else _ipv6
    return _MACS + tag + build(packet, payload, later) + payload


def _ipv4(packet: Packet, payload: bytes, later: bool) -> bytes:
    return struct.pack(
        ">HBBHHHBBHII",
        0x0800,
        0x45,
        0,
        20 + len(payload),
        1,
        185 if later else 0,
        64,
        packet.protocol,
        0,
        packet.src,
        packet.dst,
    )


def _ipv6(packet: Packet, payload: bytes, later: bool) -> bytes:
    fragment = struct.pack(">BBHI", packet.protocol, 0, 185 << 3, 7) if later else b""
    return (
        struct.pack(
            ">HIHBB",
            0x86DD,
            6 << 28,
            len(fragment) + len(payload),
            44 if later else packet.protocol,
            64,
        )
        + packet.src.to_bytes(16, "big")
        + packet.dst.to_bytes(16, "big")
        + fragment
    )


def number(address: str) -> int:
    """An address as an integer."""
    return int(ipaddress.ip_address(address))
