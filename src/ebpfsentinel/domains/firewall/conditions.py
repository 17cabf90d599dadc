"""What a rule asks of a packet, as ranges of numbers, whatever fields rules have.

Every field that is understood here is one inclusive range in one dimension; a dimension that a rule
does not name is whole. A packet is a point. What is not understood (a field that came later, a
negation, a name that stands for a list) is *opaque*: kept as a value that equals only itself. An
opaque condition narrows a rule further than its ranges show, so a rule that has one covers another
only if that one has the very same, and matches a packet only "if".

-1 in a dimension stands for "has none": packets without ports, without an ICMP type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.domains.firewall.settings import FirewallRule, Protocol, Scope
from ebpfsentinel.model.settings import parse_network, parse_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.domains.firewall.asking import Asked

Range = tuple[int, int]
_WHOLE: dict[str, Range] = {
    "src_port": (-1, 0xFFFF),
    "dst_port": (-1, 0xFFFF),
    "protocol": (0, 255),
    "vlan_id": (0, 4095),
    "icmp_type": (-1, 255),
    "icmp_code": (-1, 255),
    "dscp_match": (0, 63),
    "inner_vlan_id": (0, 4095),
}
_ADDRESS = {4: (0, (1 << 32) - 1), 6: (0, (1 << 128) - 1)}
_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.ICMP: 1, Protocol.ICMPV6: 58}
_NUMBERS = ("vlan_id", "icmp_type", "icmp_code", "dscp_match", "inner_vlan_id")
_UNDERSTOOD = {"src_ip", "dst_ip", "src_port", "dst_port", "protocol", "scope"}
_NO_CONDITION = {"id", "priority", "action", "enabled", "comment", "description", "mirror", "cpu"}
_LAPSES = {"ttl", "expires_at"}
_NEGATES = {"negate_source": "src_ip", "negate_destination": "dst_ip"}
_DEFAULTS = FirewallRule(id="any", priority=1, action="log")  # type: ignore[arg-type]
DIMENSIONS = ("src", "dst", *_WHOLE)


@dataclass(frozen=True, slots=True)
class Conditions:
    """One rule's conditions.

    ``families`` are those it can match; ``ranges`` has the dimensions it narrows; ``opaque`` what
    else it asks; ``lapses`` whether it may cease to hold by itself.
    """

    id: str
    families: tuple[int, ...]
    ranges: dict[str, Range] = field(default_factory=dict)
    opaque: frozenset[tuple[str, str]] = frozenset()
    lapses: bool = False

    def box(self, family: int) -> list[Range]:
        """A range for each of :data:`DIMENSIONS`."""
        whole = {"src": _ADDRESS[family], "dst": _ADDRESS[family]} | _WHOLE
        return [self.ranges.get(name, whole[name]) for name in DIMENSIONS]


def conditions_of(rule: FirewallRule) -> Conditions:
    """What the rule asks."""
    ranges: dict[str, Range] = {}
    negated = {of for name, of in _NEGATES.items() if getattr(rule, name, False)}
    opaque = set(_opaque(rule, negated))
    families = set()
    for name, dimension in (("src_ip", "src"), ("dst_ip", "dst")):
        text = getattr(rule, name)
        if isinstance(text, str):
            network = parse_network(name, text)
            families.add(network.version)
            if name not in negated:
                span = (int(network.network_address), int(network.broadcast_address))
                ranges[dimension] = span
        elif text is not None:
            opaque.add((name, _text(text)))
    _others(rule, ranges, opaque)
    lapses = any(getattr(rule, name, None) is not None for name in _LAPSES)
    return Conditions(rule.id, tuple(sorted(families)) or (4, 6), ranges, frozenset(opaque), lapses)


def _others(rule: FirewallRule, ranges: dict[str, Range], opaque: set[tuple[str, str]]) -> None:
    """Ports, protocol, VLAN and scope."""
    for name in ("src_port", "dst_port"):
        value = getattr(rule, name)
        if isinstance(value, int | str | dict):
            ranges[name] = parse_ports(name, value)
        elif value is not None:
            opaque.add((name, _text(value)))
    if "src_port" in ranges or "dst_port" in ranges:  # wants ports: has both
        ranges.setdefault("src_port", (0, 0xFFFF))
        ranges.setdefault("dst_port", (0, 0xFFFF))
    if rule.protocol in _PROTOCOLS:
        ranges["protocol"] = (_PROTOCOLS[rule.protocol],) * 2
    elif rule.protocol != Protocol.ANY:
        opaque.add(("protocol", _text(rule.protocol)))
    for name in _NUMBERS:
        if type(value := getattr(rule, name, None)) is int:
            ranges[name] = (value, value)
    if (scope := scope_of(rule)) != "global":
        opaque.add(("scope", scope))


def scope_of(rule: FirewallRule) -> str:
    """``global``, the interface, or the text of what it is."""
    scope: Any = rule.scope
    if isinstance(scope, Scope) and scope.interface is not None:
        others = set(scope.__struct_fields__) - {"interface"}
        if not any(getattr(scope, name) for name in others):
            return scope.interface
    return scope if isinstance(scope, str) else _text(scope)


def _opaque(rule: FirewallRule, negated: set[str]) -> Iterator[tuple[str, str]]:
    """Conditions in fields that are not understood here, and negations whole."""
    for name in rule.__struct_fields__:
        value = getattr(rule, name)
        if name in _UNDERSTOOD | _NO_CONDITION | _LAPSES or name in _NEGATES:
            continue
        if name in _NUMBERS and type(value) is int:
            continue
        if value != getattr(_DEFAULTS, name):
            yield name, _text(value)
    for name in negated:
        yield f"not {name}", _text(getattr(rule, name))


def _text(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str, order="sorted").decode()


def point_of(asked: Asked) -> dict[str, int]:
    """A packet as a value in each dimension."""
    return {
        "src": int(asked.src),
        "dst": int(asked.dst),
        "src_port": -1 if asked.src_port is None else asked.src_port,
        "dst_port": -1 if asked.dst_port is None else asked.dst_port,
        "protocol": asked.protocol,
        "vlan_id": asked.vlan_id,
        "icmp_type": -1 if asked.icmp_type is None else asked.icmp_type,
        "icmp_code": -1 if asked.icmp_type is None else asked.icmp_code,
        "dscp_match": asked.dscp,
        "inner_vlan_id": asked.inner_vlan_id,
    }


def matches(found: Conditions, asked: Asked) -> tuple[bool, list[str]]:
    """May the packet match, and which conditions would still have to hold for that.

    False is certain; True is certain where nothing is left open.
    """
    if asked.family not in found.families:
        return False, []
    point = point_of(asked)
    if any(not low <= point[name] <= high for name, (low, high) in found.ranges.items()):
        return False, []
    unsure = []
    for name, value in sorted(found.opaque):
        if name == "scope":
            if value != asked.interface:
                return False, []
        else:
            unsure.append(f"{name} {value}")
    return True, unsure
