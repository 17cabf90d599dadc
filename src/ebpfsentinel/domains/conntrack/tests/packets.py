"""Frames of the tests, by scapy: both families, both directions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
    from scapy.layers.inet6 import (
        ICMPv6DestUnreach,
        ICMPv6EchoReply,
        ICMPv6EchoRequest,
        ICMPv6ND_NS,
        IPv6,
        IPv6ExtHdrFragment,
        fragment6,
    )
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.packet import Raw, raw

HERE, THERE = ("10.0.0.1", "10.0.0.2")
HERE6, THERE6 = ("2001:db8::1", "2001:db8::2")


def frame(*layers: Any, vlan: int = 0) -> bytes:
    """An Ethernet frame of these layers."""
    whole = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    if vlan:
        whole /= Dot1Q(vlan=vlan)
    for layer in layers:
        whole /= layer
    return raw(whole)


def ip(src: str, dst: str, **fields: Any) -> Any:
    """The IP header of either family."""
    return IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst, **fields)


@dataclass(frozen=True)
class Ends:
    """Two ends, one of which (the client) opens; frames of both."""

    client: str = THERE
    server: str = HERE
    sport: int = 40000
    dport: int = 80

    def six(self) -> Ends:
        return replace(self, client=THERE6, server=HERE6)

    def tcp(self, flags: str, payload: bytes = b"", **fields: Any) -> bytes:
        """From the client."""
        segment = TCP(sport=self.sport, dport=self.dport, flags=flags, **fields)
        return frame(ip(self.client, self.server), segment, Raw(payload))

    def back(self, flags: str, payload: bytes = b"", **fields: Any) -> bytes:
        """From the server."""
        segment = TCP(sport=self.dport, dport=self.sport, flags=flags, **fields)
        return frame(ip(self.server, self.client), segment, Raw(payload))

    def udp(self, payload: bytes = b"x") -> bytes:
        datagram = UDP(sport=self.sport, dport=self.dport)
        return frame(ip(self.client, self.server), datagram, Raw(payload))

    def udp_back(self, payload: bytes = b"x") -> bytes:
        datagram = UDP(sport=self.dport, dport=self.sport)
        return frame(ip(self.server, self.client), datagram, Raw(payload))

    def other(self, protocol: int = 47) -> bytes:
        if ":" in self.client:
            return frame(IPv6(src=self.client, dst=self.server, nh=protocol), Raw(b"x" * 20))
        return frame(IP(src=self.client, dst=self.server, proto=protocol), Raw(b"x" * 20))

    def turned(self) -> Ends:
        return replace(self, client=self.server, server=self.client)

    def echo(self, number: int = 7) -> bytes:
        if ":" in self.client:
            return frame(ip(self.client, self.server), ICMPv6EchoRequest(id=number))
        return frame(ip(self.client, self.server), ICMP(type=8, id=number))

    def echo_back(self, number: int = 7) -> bytes:
        if ":" in self.client:
            return frame(ip(self.server, self.client), ICMPv6EchoReply(id=number))
        return frame(ip(self.server, self.client), ICMP(type=0, id=number))

    def error(self, of: bytes, sender: str = "") -> bytes:
        """The server's (or another's) ICMP error about a frame of the client."""
        quoted = Raw(of[14 : 14 + 80])
        if ":" in self.client:
            return frame(ip(sender or self.server, self.client), ICMPv6DestUnreach(code=4), quoted)
        return frame(ip(sender or self.server, self.client), ICMP(type=3, code=3), quoted)

    def fragments(self, payload: bytes = b"x" * 3000) -> list[bytes]:
        datagram = UDP(sport=self.sport, dport=self.dport) / Raw(payload)
        if ":" in self.client:
            whole = IPv6(src=self.client, dst=self.server) / IPv6ExtHdrFragment(id=77) / datagram
            return [frame(piece) for piece in fragment6(whole, 1280)]
        whole = IP(src=self.client, dst=self.server, id=77) / datagram
        return [frame(piece) for piece in fragment(whole, 1200)]


def solicitation() -> bytes:
    return frame(IPv6(src=THERE6, dst="ff02::1:ff00:1", hlim=255), ICMPv6ND_NS(tgt=HERE6))
