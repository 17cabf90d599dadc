"""Rules of another firewall: conditions as sets of values, and what becomes of the packet."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.settings import State
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Range = tuple[int, int]
_RANGES = ("src_port", "dst_port", "protocol", "vlan_id", "icmp_type")


class ImportedError(SettingsError):
    """The text cannot be read as a rule set at all."""


@dataclass(frozen=True, slots=True)
class Wants:
    """Conditions that all hold: each is a set of alternatives, None where anything will do.

    Ranges are inclusive. A set may be empty: then nothing matches.
    """

    families: frozenset[int] = frozenset({4, 6})
    src: tuple[Network, ...] | None = None
    dst: tuple[Network, ...] | None = None
    src_port: tuple[Range, ...] | None = None
    dst_port: tuple[Range, ...] | None = None
    protocol: tuple[Range, ...] | None = None
    vlan_id: tuple[Range, ...] | None = None
    icmp_type: tuple[Range, ...] | None = None
    interface: str | None = None
    exact: tuple[tuple[str, Any], ...] = ()
    """Fields of our rules, as they are: ``("flags", "S/SA")``; None: more than one can say."""

    def both(self, other: Wants) -> Wants | None:
        """What satisfies both; None where nothing does."""
        families = self.families & other.families
        made: dict[str, object] = {"families": families}
        for name in ("src", "dst"):
            made[name] = _networks(getattr(self, name), getattr(other, name))
        for name in _RANGES:
            made[name] = _ranges(getattr(self, name), getattr(other, name))
        if self.interface and other.interface and self.interface != other.interface:
            return None
        made["interface"] = self.interface or other.interface
        exact = dict(self.exact)
        for name, value in other.exact:
            if exact.setdefault(name, value) != value:
                exact[name] = None
        made["exact"] = tuple(sorted(exact.items(), key=lambda pair: pair[0]))
        found = Wants(**made)  # type: ignore[arg-type]
        found = replace(found, families=families & found._addressed())
        return found if found.possible() else None

    def _addressed(self) -> frozenset[int]:
        """The families of its addresses."""
        found = frozenset({4, 6})
        for networks in (self.src, self.dst):
            if networks is not None:
                found &= {network.version for network in networks}
        return found

    def possible(self) -> bool:
        """Is there a packet that satisfies it?"""
        sets = [getattr(self, name) for name in ("src", "dst", *_RANGES)]
        return bool(self.families) and all(each is None or each for each in sets)

    @property
    def anything(self) -> bool:
        """Does every packet satisfy it?"""
        return self == Wants()


def _networks(
    one: tuple[Network, ...] | None, other: tuple[Network, ...] | None
) -> tuple[Network, ...] | None:
    if one is None or other is None:
        return one if other is None else other
    kept = [
        a if a.prefixlen >= b.prefixlen else b
        for a in one
        for b in other
        if a.version == b.version and a.overlaps(b)
    ]
    return tuple(dict.fromkeys(kept))


def _ranges(
    one: tuple[Range, ...] | None, other: tuple[Range, ...] | None
) -> tuple[Range, ...] | None:
    if one is None or other is None:
        return one if other is None else other
    kept = [(max(a[0], b[0]), min(a[1], b[1])) for a in one for b in other]
    return tuple(dict.fromkeys(each for each in kept if each[0] <= each[1]))


FLAGS = {
    "fin": "F",
    "syn": "S",
    "rst": "R",
    "psh": "P",
    "ack": "A",
    "urg": "U",
    "ece": "E",
    "ecn": "E",
    "cwr": "C",
}
"""TCP flags by the names that other firewalls print, to our letters."""


def states_of(words: Iterable[str]) -> Wants | None:
    """States of connections, in any case; None: one of them has no counterpart."""
    found = sorted({word.lower() for word in words})
    return Wants(exact=(("state", found),)) if set(found) <= set(State) else None


def flags_of(wanted: Iterable[str], mask: Iterable[str]) -> Wants:
    """TCP flags that are set of those that are looked at.

    Raises:
        KeyError: a name is no flag; ValueError: nothing is looked at, or what is not is wanted.
    """
    letters = ["".join(sorted({FLAGS[name.lower()] for name in each})) for each in (wanted, mask)]
    if not letters[1] or not set(letters[0]) <= set(letters[1]):
        raise ValueError(letters)
    return Wants(protocol=((6, 6),), exact=(("flags", "/".join(letters)),))


def ranges_without(ranges: Iterable[Range], most: int) -> tuple[Range, ...]:
    """The rest of 0 to ``most``."""
    rest, at = [], 0
    for low, high in sorted(ranges):
        if at < low:
            rest.append((at, low - 1))
        at = max(at, high + 1)
    return tuple(rest + ([(at, most)] if at <= most else []))


def networks_without(networks: Iterable[Network], version: int) -> tuple[Network, ...]:
    """The rest of all addresses of the family."""
    bits = 32 if version == 4 else 128
    taken = [(int(each[0]), int(each[-1])) for each in networks if each.version == version]
    return tuple(
        network
        for low, high in ranges_without(taken, (1 << bits) - 1)
        for network in networks_between(low, high, version)
    )


def networks_between(low: int, high: int, version: int) -> Iterable[Network]:
    """The networks that make up a range of addresses."""
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return ipaddress.summarize_address_range(kind(low), kind(high))


@dataclass(slots=True)
class ForeignRule:
    """One rule: ``wants`` is what was understood of it, ``missing`` why it cannot be carried over.

    ``verdict`` is accept, drop, reject, return, jump, goto or, where it decides nothing, empty.
    """

    line: int
    text: str
    wants: Wants = field(default_factory=Wants)
    missing: list[str] = field(default_factory=list)
    verdict: str = ""
    target: str = ""
    logs: bool = False
    comment: str = ""

    @property
    def whole(self) -> bool:
        """Does it hold for every packet that comes to it?"""
        return self.wants.anything and not self.missing

    def want(self, more: Wants) -> None:
        """One more condition."""
        both = self.wants.both(more)
        self.wants = Wants(families=frozenset()) if both is None else both


@dataclass(slots=True)
class ForeignChain:
    """A chain: a base chain has a ``hook`` and a ``policy``, accept or drop."""

    table: str
    name: str
    line: int
    families: frozenset[int]
    hook: str = ""
    policy: str = "accept"
    rules: list[ForeignRule] = field(default_factory=list)


@dataclass(slots=True)
class Foreign:
    """A whole rule set, and what of it is not about filtering packets."""

    chains: list[ForeignChain] = field(default_factory=list)
    aside: list[ForeignRule] = field(default_factory=list)

    def chain(self, table: str, name: str) -> ForeignChain | None:
        """A chain by its names."""
        wanted = (table, name)
        return next((each for each in self.chains if (each.table, each.name) == wanted), None)
