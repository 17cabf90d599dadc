"""Frames that nobody means well with: headers built by scapy, then chained, tagged, cut, flipped.

scapy needs a millisecond for a frame. So it builds headers once; frames are put together from
their bytes, and fields are written over.
"""

from __future__ import annotations

import itertools
import struct
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import (
        MIP6MH_BRR,
        ICMPv6EchoRequest,
        ICMPv6ND_NA,
        ICMPv6ND_NS,
        ICMPv6ND_RA,
        ICMPv6ND_Redirect,
        ICMPv6ND_RS,
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        PadN,
    )
    from scapy.layers.ipsec import AH
    from scapy.layers.l2 import ARP, GRE
    from scapy.layers.sctp import SCTP
    from scapy.packet import Raw, raw

from ebpfsentinel.domains.firewall.tests.rulesets import BITS, MACS, address, port

TAGS = (0x8100, 0x88A8)
SHORTEST = 14
"""The kernel runs no frame that lacks part of its Ethernet header."""

IPV4 = [raw(IP(options=b"\x01" * count)) for count in (0, 4, 12, 40)]
IPV6 = raw(IPv6())
EXTENSIONS = {
    0: [raw(IPv6ExtHdrHopByHop()), raw(IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(20))]))],
    43: [raw(IPv6ExtHdrRouting()), raw(IPv6ExtHdrRouting(addresses=["::1", "::2"]))],
    44: [raw(IPv6ExtHdrFragment(id=7))],
    51: [raw(AH(icv=bytes(12))), raw(AH(icv=bytes(4)))],
    60: [raw(IPv6ExtHdrDestOpt()), raw(IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(60))]))],
    135: [raw(IPv6() / MIP6MH_BRR())[40:]],
}
ICMPV6 = (
    ICMPv6EchoRequest(), ICMPv6ND_RS(), ICMPv6ND_RA(), ICMPv6ND_NS(), ICMPv6ND_NA(),
    ICMPv6ND_Redirect(),
)  # fmt: skip
TRANSPORT = {
    6: [raw(TCP()), raw(TCP(options=[("MSS", 1460), ("NOP", None)]) / Raw(b"abc"))],
    17: [raw(UDP() / Raw(b"abcd"))],
    1: [raw(ICMP()), raw(ICMP(type=3, code=1) / IP() / UDP())],
    58: [raw(IPv6() / each)[40:] for each in ICMPV6],
    132: [raw(SCTP())],
    136: [raw(UDP())],
    33: [raw(TCP())],
    47: [raw(GRE() / IP() / TCP())],
    4: [raw(IP() / TCP(dport=80))],
    41: [raw(IPv6() / UDP(dport=53))],
    50: [bytes(range(32))],
    59: [b""],
    255: [bytes(16)],
}
ARPS = [raw(ARP()), raw(ARP(op=2))]
PROTOCOLS = (6, 6, 6, 17, 17, 1, 58, *TRANSPORT)
CHAINS = [c for n in range(4) for c in itertools.product(EXTENSIONS, repeat=n)]
"""All chains of up to three extension headers; longer ones are drawn."""


class Fuzz:
    """An endless source of frames. ``near`` has the addresses that rules gather around."""

    def __init__(self, pick) -> None:
        self.pick, self.near = pick, {4: [], 6: []}
        self._ethertypes = itertools.cycle(range(65536))
        self._chains = itertools.cycle(CHAINS)

    def __iter__(self):
        for kind in itertools.cycle(
            (self.plain, self.cut, self.ethertypes, self.tagged, self.chained, self.deep,
             self.fragments, self.flipped)
        ):  # fmt: skip
            yield kind()

    def plain(self):
        """Whole frames as they should be."""
        return [bytes(self._frame()) for _ in range(16)]

    def cut(self):
        """One frame, truncated at every byte."""
        frame = bytes(self.pick.choice((self._frame, self._chain, self._tagged))())
        return [frame[:count] for count in range(SHORTEST, min(len(frame) + 1, 200))]

    def ethertypes(self):
        """The same frame under other ether types, all in turn; also behind tags."""
        frame, tags = self._frame(), self.pick.choice((0, 0, 1, 2))
        made = []
        for _ in range(64):
            kind = struct.pack(">H", next(self._ethertypes))
            made.append(bytes(frame[:12] + self._tags(tags) + kind + frame[14:]))
        return made

    def tagged(self):
        """None to four tags, VLAN and QinQ in any order."""
        return [bytes(self._tagged()) for _ in range(16)]

    def chained(self):
        """Every chain of extension headers up to three, then what they carry."""
        return [bytes(self._chain(next(self._chains))) for _ in range(32)]

    def deep(self):
        """Longer chains, around the depth at which the program gives up."""
        return [bytes(self._chain()) for _ in range(16)]

    def fragments(self):
        """First, later and overlapping fragments of one datagram, also tiny ones."""
        made = []
        for offset, more in ((0, 1), (0, 0), (1, 1), (1, 0), (2, 1), (5, 0), (185, 1), (8191, 0)):
            frame = self._frame(offset=offset, more=more)
            made += [bytes(frame), bytes(frame[: self.pick.randrange(SHORTEST, len(frame) + 1)])]
        return made

    def flipped(self):
        """Random bytes over, into and out of frames."""
        made = []
        for _ in range(32):
            frame = self.pick.choice((self._frame, self._chain, self._tagged))()
            for _ in range(self.pick.randrange(1, 6)):
                self._mutate(frame)
            made.append(bytes(frame[:600]).ljust(SHORTEST, b"\0"))
        return made

    def _mutate(self, frame) -> None:
        pick, at = self.pick, self.pick.randrange(min(len(frame), 90))
        how = pick.randrange(8)
        if how == 0:
            frame[at:at] = pick.randbytes(pick.randrange(1, 5))
        elif how == 1 and len(frame) > SHORTEST + 4:
            del frame[at : at + pick.randrange(1, 5)]
        elif how == 2:
            frame[at] = pick.choice((0, 255, 6, 17, 44, 51, 60, 0x45, 0x60, 0x81))
        else:
            frame[at] ^= 1 << pick.randrange(8)

    # Whole frames

    def _frame(self, offset=0, more=0):
        pick = self.pick
        if pick.random() < 0.02:
            return bytearray(self._link(0x0806) + pick.choice(ARPS))
        protocol = pick.choice(PROTOCOLS)
        body = self._transport(protocol)
        if pick.random() < 0.5:
            return bytearray(self._link(0x0800) + self._ipv4(protocol, offset, more) + body)
        if not (offset or more):
            return bytearray(self._link(0x86DD) + self._ipv6(protocol) + body)
        head = struct.pack(">BBHI", protocol, 0, offset << 3 | more, 7)
        return bytearray(self._link(0x86DD) + self._ipv6(44) + head + body)

    def _tagged(self):
        frame = self._frame()
        frame[12:12] = self._tags(self.pick.randrange(5))
        return frame

    def _chain(self, kinds=None):
        pick = self.pick
        if kinds is None:
            kinds = pick.choices(list(EXTENSIONS), k=pick.choice((1, 2, 4, 6, 7, 8, 9, 10)))
        protocol = pick.choice(PROTOCOLS)
        headers = []
        for kind, following in zip(kinds, [*kinds, protocol][1:], strict=True):
            header = bytearray(pick.choice(EXTENSIONS[kind]))
            header[0] = following
            if kind == 44:
                field = pick.choice((0, 0, 1, 6, 8, 9, 1480))
                header[2:4] = field.to_bytes(2, "big")
            headers.append(header)
        head = self._ipv6(kinds[0] if kinds else protocol)
        body = self._transport(protocol)
        return bytearray(self._link(0x86DD) + head + b"".join(headers) + body)

    # Headers

    def _link(self, ethertype) -> bytes:
        macs = b"".join(self.pick.choice(MACS).to_bytes(6, "big") for _ in "ab")
        return macs + ethertype.to_bytes(2, "big")

    def _tags(self, count) -> bytes:
        pick = self.pick
        vlans = [pick.choice((0, 1, 5, 100, 4094, 4095)) | pick.choice((0, 0xE000)) for _ in "abcd"]
        return b"".join(struct.pack(">HH", pick.choice(TAGS), vlans[at]) for at in range(count))

    def _ipv4(self, protocol, offset, more) -> bytes:
        pick = self.pick
        head = bytearray(pick.choice(IPV4[:1] * 3 + IPV4))
        head[1] = pick.choice((0, 0, 46, 63)) << 2 | pick.randrange(4)
        field = offset | more << 13 | pick.choice((0, 0x4000, 0x8000))
        struct.pack_into(">H", head, 6, field)
        head[9] = protocol
        near = self.near[4]
        struct.pack_into(">II", head, 12, address(pick, 4, near), address(pick, 4, near))
        return bytes(head)

    def _ipv6(self, protocol) -> bytes:
        pick, head = self.pick, bytearray(IPV6)
        traffic = pick.choice((0, 0, 46, 63)) << 2 | pick.randrange(4)
        struct.pack_into(">I", head, 0, 6 << 28 | traffic << 20 | pick.getrandbits(20))
        head[6] = protocol
        for at in (8, 24):
            found = address(pick, 6, self.near[6])
            head[at : at + 16] = found.to_bytes(BITS[6] // 8, "big")
        return bytes(head)

    def _transport(self, protocol) -> bytes:
        pick = self.pick
        body = bytearray(pick.choice(TRANSPORT[protocol]))
        if protocol in {6, 17, 33, 132, 136}:
            struct.pack_into(">HH", body, 0, port(pick), port(pick))
        if protocol == 6:
            body[13] = pick.choice((2, 16, 18, 0, 4, 255))
        if protocol in {1, 58} and pick.random() < 0.5:
            body[0], body[1] = pick.choice((0, 3, 8, 128, 135, 255)), pick.choice((0, 1, 255))
        return bytes(body)
