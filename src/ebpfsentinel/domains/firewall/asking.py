"""A packet described in one line, for ``would`` and ``why``.

::

    tcp 10.0.0.1:4242 -> 10.0.0.2:22 syn vlan 7 on eth0
    udp [2001:db8::1]:53 -> [2001:db8::2]:4000 dscp 46
    icmp 10.0.0.1 -> 10.0.0.2 type 8 code 0
    47 10.0.0.1 -> 10.0.0.2 fragment later

Protocol, source, arrow, destination; then, in any order, what else there is to say. A line that is
not understood whole is refused, with the place: a guess would answer another question.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOLS = {
    "tcp": 6,
    "udp": 17,
    "icmp": 1,
    "icmpv6": 58,
    "sctp": 132,
    "dccp": 33,
    "udplite": 136,
}
WITH_PORTS = frozenset({6, 17, 33, 132, 136})
FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}
FRAGMENTS = ("first", "later")
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
_EXAMPLE = "tcp 10.0.0.1:4242 -> 10.0.0.2:22 syn vlan 7 on eth0"
_WORDS = ("vlan", "inner", "type", "code", "dscp", "fragment", "from", "to", "on")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(slots=True)
class Asked:
    """A packet to ask about. ``vlan_id`` 0 is untagged; ``interface`` is empty for none."""

    protocol: int
    src: Address
    dst: Address
    src_port: int | None = None
    dst_port: int | None = None
    flags: int = 0
    vlan_id: int = 0
    inner_vlan_id: int = 0
    icmp_type: int | None = None
    icmp_code: int = 0
    dscp: int = 0
    fragment: str = ""
    src_mac: str = "02:00:00:00:00:01"
    dst_mac: str = "02:00:00:00:00:02"
    interface: str = ""
    said: set[str] = field(default_factory=set)

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.src.version

    def text(self) -> str:
        """The line that describes it."""
        sides = [_side(*each) for each in ((self.src, self.src_port), (self.dst, self.dst_port))]
        words = [_NAMES.get(self.protocol, str(self.protocol)), sides[0], "->", sides[1]]
        words += [name for name, bit in FLAGS.items() if self.flags & bit]
        if self.icmp_type is not None:
            words += ["type", str(self.icmp_type), "code", str(self.icmp_code)]
        for name, value in (
            ("vlan", self.vlan_id),
            ("inner", self.inner_vlan_id),
            ("dscp", self.dscp),
            ("fragment", self.fragment),
            ("on", self.interface),
        ):
            words += [name, str(value)] if value else []
        return " ".join(words)


def _side(address: Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class _Line:
    """The words of a line with their places, read one after another."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._words = [(found.start() + 1, found[0]) for found in re.finditer(r"\S+", line)]
        self._at = 0

    def next(self, wanted: str) -> str:
        """The next word.

        Raises:
            SettingsError: there is none.
        """
        if self._at >= len(self._words):
            place = f"column {len(self._line) + 1}"
            raise SettingsError(place, f"{wanted} is missing", f"Write it as in {_EXAMPLE!r}.")
        self._at += 1
        return self._words[self._at - 1][1]

    def more(self) -> bool:
        """Is there another word?"""
        return self._at < len(self._words)

    def fault(self, problem: str, remedy: str = "") -> SettingsError:
        """An error at the last word."""
        place, word = self._words[self._at - 1]
        return SettingsError(f"column {place}, {word!r}", problem, remedy)

    def number(self, what: str, most: int) -> int:
        """A number of 0 to ``most``."""
        word = self.next(f"the number of {what!r}")
        if not (word.isascii() and word.isdecimal() and int(word) <= most):
            raise self.fault(f"is no {what}", f"Write a number, 0 to {most}.")
        return int(word)


def parse(text: str) -> Asked:
    """Understand a line.

    Raises:
        SettingsError: with the column, the word, and what is wanted there.
    """
    line = _Line(text)
    protocol = _protocol(line)
    src, src_port = _end(line, "a source")
    if line.next("an arrow") not in ("->", ">"):
        raise line.fault("an arrow is wanted here", "Write '->' between source and destination.")
    dst, dst_port = _end(line, "a destination")
    if src.version != dst.version:
        raise line.fault("one address is IPv4, the other IPv6", "Write two of one family.")
    asked = Asked(protocol, src, dst, src_port, dst_port)
    while line.more():
        _option(line, asked)
    return _complete(line, asked)


def _protocol(line: _Line) -> int:
    word = line.next("a protocol")
    if word.lower() in PROTOCOLS:
        return PROTOCOLS[word.lower()]
    if word.isascii() and word.isdecimal() and int(word) < 256:
        return int(word)
    raise line.fault("is no protocol", f"Write one of {', '.join(PROTOCOLS)}, or a number.")


def _end(line: _Line, what: str) -> tuple[Address, int | None]:
    word = line.next(what)
    address, port = word, ""
    if word.startswith("["):
        address, closed, port = word[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise line.fault("is no address", "Write [2001:db8::1]:443.")
        port = port[1:] if port else ""
    elif word.count(":") == 1:
        address, _, port = word.partition(":")
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        raise line.fault("is no address", "Write 10.0.0.1:80 or [2001:db8::1]:80.") from None
    if word.endswith(":") and word.count(":") == 1:
        raise line.fault("a port is wanted behind the colon", "Write a number, 0 to 65535.")
    if port and not (port.isascii() and port.isdecimal() and int(port) <= 0xFFFF):
        raise line.fault(f"{port!r} is no port", "Write a number, 0 to 65535.")
    return found, int(port) if port else None


def _option(line: _Line, asked: Asked) -> None:
    word = line.next("a word").lower()
    if word in FLAGS:
        asked.flags |= FLAGS[word]
        asked.said.add("flags")
        return
    if word not in _WORDS:
        near = difflib.get_close_matches(word, [*_WORDS, *FLAGS], 1)
        known = f"Known here: {', '.join([*_WORDS, *FLAGS])}."
        raise line.fault("is not known", f"Did you mean {near[0]!r}?" if near else known)
    if word in asked.said:
        raise line.fault("is said twice", "Say it once.")
    asked.said.add(word)
    _SAID[word](line, asked)


def _number(name: str, attribute: str, most: int) -> Callable[[_Line, Asked], None]:
    def said(line: _Line, asked: Asked) -> None:
        setattr(asked, attribute, line.number(name, most))

    return said


def _fragment(line: _Line, asked: Asked) -> None:
    asked.fragment = line.next("'first' or 'later'")
    if asked.fragment not in FRAGMENTS:
        raise line.fault("is no fragment", "Write 'fragment first' or 'fragment later'.")


def _mac(attribute: str) -> Callable[[_Line, Asked], None]:
    def said(line: _Line, asked: Asked) -> None:
        word = line.next("a MAC address")
        if not _MAC.fullmatch(word):
            raise line.fault("is no MAC address", "Write 02:00:00:00:00:01.")
        setattr(asked, attribute, word.lower())

    return said


def _interface(line: _Line, asked: Asked) -> None:
    asked.interface = line.next("an interface")


_SAID: dict[str, Callable[[_Line, Asked], None]] = {
    "vlan": _number("vlan", "vlan_id", 4094),
    "inner": _number("inner vlan", "inner_vlan_id", 4094),
    "type": _number("type", "icmp_type", 255),
    "code": _number("code", "icmp_code", 255),
    "dscp": _number("dscp", "dscp", 63),
    "fragment": _fragment,
    "from": _mac("src_mac"),
    "to": _mac("dst_mac"),
    "on": _interface,
}


def _complete(line: _Line, asked: Asked) -> Asked:
    """What is said must fit together; what is not said gets what such packets mostly have."""
    icmp, later = asked.protocol in (1, 58), asked.fragment == "later"
    ports = (asked.src_port, asked.dst_port)
    wants_ports = asked.protocol in WITH_PORTS and not later
    if later and (asked.said & {"type", "code", "flags"} or ports != (None, None)):
        raise line.fault("a later fragment has neither ports nor flags nor type", "Leave them out.")
    if not wants_ports and ports != (None, None):
        raise line.fault("this protocol has no ports", "Leave the ports out.")
    if wants_ports and None in ports:
        raise line.fault("both ports are wanted", f"Write them as in {_EXAMPLE!r}.")
    if "flags" in asked.said and asked.protocol != 6:
        raise line.fault("only tcp has flags", "Leave them out.")
    if asked.said & {"type", "code"} and not icmp:
        raise line.fault("only icmp and icmpv6 have type and code", "Leave them out.")
    if "inner" in asked.said and not asked.vlan_id:
        raise line.fault("an inner tag without an outer one", "Say 'vlan N' too.")
    if icmp and not later and asked.icmp_type is None:
        asked.icmp_type = 8 if asked.protocol == 1 else 128  # an echo request
    if asked.protocol == 6 and not later and "flags" not in asked.said:
        asked.flags = FLAGS["syn"]
    return asked
