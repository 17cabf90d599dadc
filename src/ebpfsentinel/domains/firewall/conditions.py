"""What a rule asks of a packet, for those who explain: the classifier's own view of it.

A rule asks for ranges of values in some fields (:class:`~.compile.RankedRule`), groups, negations
and names already worked out. A packet is a value in each field. So what matches what is said here
in the words of the classifier, for every field that it knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.compile import NOTHING, TCP_FLAGS
from ebpfsentinel.domains.firewall.events import FwField, FwFragment
from ebpfsentinel.domains.firewall.settings import AliasType, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.domains.firewall.asking import Asked
    from ebpfsentinel.domains.firewall.compile import Ranges
    from ebpfsentinel.domains.firewall.ranking import CheckedRule
    from ebpfsentinel.domains.firewall.settings import Alias

DIMENSIONS = tuple(each for each in FwField if each not in (FwField.FW_TIME, FwField.FW_FIELDS))
_ADDRESSES = (FwField.FW_SRC_ADDR, FwField.FW_DST_ADDR)
_WIDEST = (1 << 48) - 1  # a MAC address; all but addresses are narrower
_BITS = {4: 32, 6: 128}
_PORTS = (FwField.FW_SRC_PORT, FwField.FW_DST_PORT)
_ALL_PORTS = ((0, 0xFFFF),)
_FRAGMENTS = {"": FwFragment.FW_WHOLE, "first": FwFragment.FW_FIRST, "later": FwFragment.FW_LATER}

Box = tuple[tuple[int, int], ...]
Opaque = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Conditions:
    """One rule's conditions: by family, ranges of the fields it asks about.

    ``lapses``: it ends by itself. ``changes``: what it asks for follows something outside, such as
    a DNS name. ``schedule`` is when it holds.
    """

    id: str
    asks: Mapping[int, Mapping[int, Ranges]]
    lapses: bool = False
    changes: bool = False
    schedule: str = ""

    def boxes(self, family: int, most: int) -> tuple[list[Box], Opaque]:
        """The rule as at most so many boxes: a range for each of :data:`DIMENSIONS`.

        A field with too many ranges for that is one that spans them all, and its ranges are
        *opaque*: a further condition that equals only itself. So is a schedule.
        """
        asks: dict[FwField, Ranges | None] = {
            name: self.asks[family].get(name) for name in DIMENSIONS
        }
        if any(asks[port] for port in _PORTS):  # who has one has both
            asks |= {port: asks[port] or _ALL_PORTS for port in _PORTS}
        opaque = {("schedule", self.schedule)} if self.schedule else set()
        counts = {name: len(ranges) for name, ranges in asks.items() if ranges}
        while math.prod(counts.values()) > most:
            name = max(counts, key=counts.__getitem__)
            ranges = asks[name] or ()
            opaque.add((name.name, repr(ranges)))
            asks[name] = ((ranges[0][0], ranges[-1][1]),)
            counts[name] = 1
        sides = [ranges or (_whole(name, family),) for name, ranges in asks.items()]
        return list(product(*sides)), frozenset(opaque)


def _whole(name: FwField, family: int) -> tuple[int, int]:
    return 0, (1 << _BITS[family]) - 1 if name in _ADDRESSES else _WIDEST


def conditions_of(found: CheckedRule, aliases: Mapping[str, Alias]) -> Conditions:
    """What the rule asks, and what of it may change without it."""
    rule = found.rule
    scope = rule.scope
    changes = isinstance(scope, Scope) and scope.namespace is not None
    for name in (rule.src_alias, rule.dst_alias, rule.src_port_alias, rule.dst_port_alias):
        changes = changes or (name is not None and _follows(name, aliases, 0))
    return Conditions(
        rule.id,
        {family: ranked.asks for family, ranked in found.ranked.items()},
        lapses=found.expires_ns is not None,
        changes=changes,
        schedule=rule.schedule or "",
    )


def _follows(name: str, aliases: Mapping[str, Alias], depth: int) -> bool:
    """Does the group follow DNS, by itself or by one within?"""
    alias = aliases.get(name)
    if alias is None or alias.type is AliasType.DYNAMIC_DNS or depth > len(aliases):
        return True
    nested = alias.values if alias.type is AliasType.NESTED else ()
    return any(_follows(str(each), aliases, depth + 1) for each in nested)


@dataclass(frozen=True, slots=True)
class Point:
    """A packet as a value in each field, for one moment and one place."""

    family: int
    keys: Mapping[int, int] = field(default_factory=dict)


def point_of(asked: Asked, slots: Mapping[str, int], boot_s: int) -> Point:
    """The packet at ``boot_s`` (boot clock, seconds)."""
    keys: dict[int, int] = {
        FwField.FW_SRC_ADDR: int(asked.src),
        FwField.FW_DST_ADDR: int(asked.dst),
        FwField.FW_SRC_PORT: NOTHING if asked.src_port is None else asked.src_port,
        FwField.FW_DST_PORT: NOTHING if asked.dst_port is None else asked.dst_port,
        FwField.FW_PROTOCOL: asked.protocol,
        FwField.FW_DETAIL: _detail(asked),
        FwField.FW_SERVICE: _FRAGMENTS[asked.fragment] << 6 | asked.dscp,
        FwField.FW_VLAN: asked.vlan_id,
        FwField.FW_INNER_VLAN: asked.inner_vlan_id,
        FwField.FW_INTERFACE: slots.get(asked.interface, 0),
        FwField.FW_SRC_MAC: int(asked.src_mac.replace(":", ""), 16),
        FwField.FW_DST_MAC: int(asked.dst_mac.replace(":", ""), 16),
        FwField.FW_TIME: boot_s,
    }
    return Point(asked.family, keys)


def _detail(asked: Asked) -> int:
    if asked.icmp_type is not None:
        return asked.icmp_type << 8 | asked.icmp_code
    if asked.protocol == 6 and asked.fragment != "later":
        return TCP_FLAGS | asked.flags
    return NOTHING


def matches(found: CheckedRule, point: Point) -> bool:
    """Does the rule match the packet?"""
    if not found.rule.enabled or point.family not in found.ranked:
        return False
    return all(
        any(low <= point.keys[name] <= high for low, high in ranges)
        for name, ranges in found.ranked[point.family].asks.items()
    )
