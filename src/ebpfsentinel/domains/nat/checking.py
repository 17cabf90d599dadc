"""Rules as users write them, understood: addresses as numbers, names as slots, all checked."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsentinel.domains.nat.settings import (
    DESTINATION_TYPES,
    HAIRPIN,
    MAX_PREFIXES,
    MAX_RULES,
    SOURCE_TYPES,
    Hairpin,
    NatProtocol,
    NatRule,
    NatSettings,
    NatType,
    PrefixRule,
)
from ebpfsentinel.model.settings import (
    SettingsError,
    check_rule_id,
    nearest,
    parse_network,
    parse_ports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import msgspec

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ports = tuple[int, int]

PROTOCOLS = {
    NatProtocol.TCP: 6,
    NatProtocol.UDP: 17,
    NatProtocol.ICMP: 1,
    NatProtocol.ICMPV6: 58,
}
_FAMILIES = {NatProtocol.ICMP: 4, NatProtocol.ICMPV6: 6}
_WITH_PORTS = (NatProtocol.ANY, NatProtocol.TCP, NatProtocol.UDP)
_NEEDS: dict[NatType, tuple[str, ...]] = {
    NatType.SNAT: ("translated_addr",),
    NatType.MASQUERADE: ("interface",),
    NatType.ONE_TO_ONE: ("external", "internal"),
    NatType.DNAT: ("translated_addr",),
    NatType.PORT_FORWARD: ("ext_port", "internal_addr"),
    NatType.REDIRECT: ("port",),
}
_MAY: dict[NatType, tuple[str, ...]] = {
    NatType.SNAT: ("translated_port", "src", "dst", "dst_port"),
    NatType.MASQUERADE: ("translated_port", "src", "dst", "dst_port"),
    NatType.ONE_TO_ONE: (),
    NatType.DNAT: ("translated_port", "src", "dst", "dst_port"),
    NatType.PORT_FORWARD: ("int_port", "src", "dst"),
    NatType.REDIRECT: ("src", "dst", "dst_port"),
}
_FIELDS = (
    *("src", "dst", "dst_port", "translated_addr", "translated_port"),
    *("external", "internal", "port", "ext_port", "internal_addr", "int_port"),
)
_LONG = 64


@dataclass(frozen=True, slots=True)
class Translation:
    """A rule whose texts have been understood.

    ``origin`` is system, config or runtime. ``to`` is the new address or network; None: an
    interface's. ``slots`` is a bit for each interface, 0 for any. ``family`` 0 is any.
    """

    rule: NatRule
    origin: str
    src: Network | None = None
    dst: Network | None = None
    ports: Ports | None = None
    to: Network | None = None
    to_ports: Ports | None = None
    slots: int = 0
    family: int = 0

    @property
    def is_source(self) -> bool:
        """Is there a half of it at egress?"""
        return self.rule.type in SOURCE_TYPES

    @property
    def is_destination(self) -> bool:
        """Is there a half of it at ingress?"""
        return self.rule.type in DESTINATION_TYPES


@dataclass(frozen=True, slots=True)
class Prefix:
    """An NPTv6 rule, understood."""

    rule: PrefixRule
    origin: str
    inside: ipaddress.IPv6Network
    outside: ipaddress.IPv6Network
    slots: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """All rules; ``translations`` by priority, those of hairpin first."""

    translations: tuple[Translation, ...] = ()
    prefixes: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class Checker:
    """Understands the rules of one plan; ``interfaces`` are names and slots."""

    interfaces: Mapping[str, int]
    _places: dict[str, str] = field(default_factory=dict)

    def check_all(
        self, settings: NatSettings, runtime: Mapping[str, Sequence[msgspec.Struct]]
    ) -> Checked:
        """All of it.

        Raises:
            SettingsError: a rule cannot be taken, or there are too many.
        """
        found = [self._checked(*each) for each in _rules(settings, runtime.get("rules", ()))]
        _check_count(found)
        found.sort(key=lambda each: each.rule.priority)
        hairpin = list(self._hairpin(settings.hairpin)) if settings.hairpin.enabled else []
        prefixes = [self._prefix(*each) for each in _prefixes(settings, runtime.get("nptv6", ()))]
        if len(prefixes) > MAX_PREFIXES:
            raise SettingsError(
                "nat.nptv6_rules", f"{len(prefixes)} prefixes; {MAX_PREFIXES} is the most"
            )
        _check_overlap(prefixes)
        return Checked((*hairpin, *found), tuple(prefixes))

    def _claim_id(self, rule_id: str, place: str) -> None:
        check_rule_id(f"{place}.id", rule_id)
        taken = "nat.hairpin" if rule_id == HAIRPIN else self._places.get(rule_id)
        if taken:
            raise SettingsError(
                f"{place}.id", f"{rule_id!r} is the id of {taken} too", "Rename one."
            )
        self._places[rule_id] = place

    def _checked(self, rule: NatRule, place: str, origin: str) -> Translation:
        self._claim_id(rule.id, place)
        _check_fields(rule, place)
        _check_ports(rule, place)
        src, dst = (_network(f"{place}.{key}", getattr(rule, key)) for key in ("src", "dst"))
        to = _target(rule, place)
        if rule.type is NatType.ONE_TO_ONE:
            src, dst = parse_network(f"{place}.internal", rule.internal or ""), to
        ports = _ports(f"{place}.dst_port", rule.dst_port or rule.ext_port)
        return Translation(
            rule,
            origin,
            src=src,
            dst=dst,
            ports=ports,
            to=to,
            to_ports=_target_ports(rule, place, ports),
            slots=self._slot(f"{place}.interface", rule.interface),
            family=_family(place, (src, dst, to), _FAMILIES.get(rule.protocol, 0)),
        )

    def _slot(self, place: str, name: str | None) -> int:
        if name is None:
            return 0
        if name not in self.interfaces:
            known = nearest(name, self.interfaces, "The agent guards")
            raise SettingsError(place, f"no interface {name!r}", known)
        return 1 << self.interfaces[name]

    def _hairpin(self, hairpin: Hairpin) -> Iterator[Translation]:
        place = "nat.hairpin"
        subnets = _several(f"{place}.internal_subnet", hairpin.internal_subnet)
        sources = _several(f"{place}.hairpin_snat_ip", hairpin.hairpin_snat_ip)
        if not subnets:
            raise SettingsError(
                f"{place}.internal_subnet", "is needed", "Write the inside network."
            )
        for version, subnet in subnets.items():
            to = _one(f"{place}.hairpin_snat_ip", sources.pop(version, None))
            kind = NatType.SNAT if to else NatType.MASQUERADE
            rule = NatRule(id=HAIRPIN, type=kind, src=str(subnet), dst=str(subnet))
            if to:
                rule.translated_addr = str(to.network_address)
            yield Translation(rule, "system", subnet, subnet, to=to, family=version)
        if sources:
            raise SettingsError(
                f"{place}.hairpin_snat_ip",
                "there is no internal_subnet of its address family",
                "Add one.",
            )

    def _prefix(self, rule: PrefixRule, place: str, origin: str) -> Prefix:
        self._claim_id(rule.id, place)
        inside = _prefix_of(f"{place}.internal_prefix", rule.internal_prefix)
        outside = _prefix_of(f"{place}.external_prefix", rule.external_prefix)
        if inside.prefixlen != outside.prefixlen:
            raise SettingsError(
                place,
                f"the prefixes have {inside.prefixlen} and {outside.prefixlen} bits",
                "Write them with the same length: the longer one's (RFC 6296 section 3.1).",
            )
        slots = self._slot(f"{place}.interface", rule.interface)
        return Prefix(rule, origin, inside, outside, slots)


def _rules(
    settings: NatSettings, runtime: Sequence[msgspec.Struct]
) -> Iterator[tuple[NatRule, str, str]]:
    """Every rule with its place and origin."""
    for name, types in (("snat_rules", SOURCE_TYPES), ("dnat_rules", DESTINATION_TYPES)):
        for index, rule in enumerate(getattr(settings, name)):
            place = f"nat.{name}[{index}]"
            if rule.type not in types:
                words = ", ".join(types)
                raise SettingsError(
                    f"{place}.type", f"{rule.type.value} does not belong here", f"Write {words}."
                )
            yield rule, place, "config"
    for item in runtime:
        assert isinstance(item, NatRule)  # noqa: S101 (the collection's item type)
        yield item, f"rule {item.id}", "runtime"


def _prefixes(
    settings: NatSettings, runtime: Sequence[msgspec.Struct]
) -> Iterator[tuple[PrefixRule, str, str]]:
    for index, rule in enumerate(settings.nptv6_rules):
        yield rule, f"nat.nptv6_rules[{index}]", "config"
    for item in runtime:
        assert isinstance(item, PrefixRule)  # noqa: S101 (the collection's item type)
        yield item, f"nptv6 rule {item.id}", "runtime"


def _check_count(found: Sequence[Translation]) -> None:
    for half, name in (("is_source", "snat_rules"), ("is_destination", "dnat_rules")):
        count = sum(getattr(each, half) for each in found)
        if count > MAX_RULES:
            raise SettingsError(f"nat.{name}", f"{count} rules; {MAX_RULES} is the most")


def _check_fields(rule: NatRule, place: str) -> None:
    kind = rule.type
    for name in _NEEDS[kind]:
        if getattr(rule, name) is None:
            raise SettingsError(f"{place}.{name}", f"{kind.value} needs it")
    for name in _FIELDS:
        if getattr(rule, name) is not None and name not in (*_NEEDS[kind], *_MAY[kind]):
            known = ", ".join((*_NEEDS[kind], *_MAY[kind]))
            raise SettingsError(
                f"{place}.{name}", f"{kind.value} has no such key", f"It has {known}."
            )


def _check_ports(rule: NatRule, place: str) -> None:
    for name in ("dst_port", "translated_port", "port", "ext_port", "int_port"):
        if getattr(rule, name) is not None and rule.protocol not in _WITH_PORTS:
            raise SettingsError(f"{place}.{name}", f"{rule.protocol.value} has no ports")


def _network(place: str, text: str | None) -> Network | None:
    return None if text is None else parse_network(place, text)


def _ports(place: str, value: int | str | dict[str, int] | None) -> Ports | None:
    if value is None:
        return None
    low, high = parse_ports(place, value)
    if not low:
        raise SettingsError(place, "port 0 is nobody's", "Write 1-65535.")
    return low, high


def _host(place: str, text: str) -> Network:
    found = parse_network(place, text)
    if found.prefixlen != found.max_prefixlen:
        raise SettingsError(place, f"{text} is a network", "Write one address.")
    return found


def _one(place: str, found: Network | None) -> Network | None:
    return found and _host(place, str(found))


def _target(rule: NatRule, place: str) -> Network | None:
    """What the address becomes; of one_to_one the outside, which is as long as the inside."""
    if rule.type is NatType.ONE_TO_ONE:
        found = parse_network(f"{place}.external", rule.external or "")
        inside = parse_network(f"{place}.internal", rule.internal or "")
        if (found.version, found.prefixlen) != (inside.version, inside.prefixlen):
            raise SettingsError(place, "external and internal are not of one size")
        return found
    name = "internal_addr" if rule.type is NatType.PORT_FORWARD else "translated_addr"
    text = getattr(rule, name)
    return None if text is None else _host(f"{place}.{name}", text)


def _target_ports(rule: NatRule, place: str, ports: Ports | None) -> Ports | None:
    if rule.port is not None:
        return rule.port, rule.port
    name = "int_port" if rule.type is NatType.PORT_FORWARD else "translated_port"
    found = _ports(f"{place}.{name}", getattr(rule, name))
    if rule.type is NatType.PORT_FORWARD and ports and found:
        many, there = ports[1] - ports[0], found[1] - found[0]
        if there not in (0, many):
            raise SettingsError(
                f"{place}.int_port", f"{many + 1} ports are forwarded to {there + 1}"
            )
    return found


def _family(place: str, networks: Iterable[Network | None], wanted: int) -> int:
    """4 or 6; 0: the rule is for both."""
    found = {network.version for network in networks if network} | ({wanted} if wanted else set())
    if len(found) > 1:
        raise SettingsError(
            place, "IPv4 and IPv6 in one rule", "Write two rules: neither becomes the other."
        )
    return found.pop() if found else 0


def _several(place: str, value: str | list[str] | None) -> dict[int, Network]:
    """One network of each address family at most."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    found: dict[int, Network] = {}
    for text in texts:
        network = parse_network(place, text)
        if network.version in found:
            raise SettingsError(place, f"there are two of IPv{network.version}", "Keep one.")
        found[network.version] = network
    return found


def _prefix_of(place: str, text: str) -> ipaddress.IPv6Network:
    found = parse_network(place, text)
    if isinstance(found, ipaddress.IPv4Network):
        raise SettingsError(place, f"{text} is IPv4", "NPTv6 is for IPv6 prefixes.")
    if not 1 <= found.prefixlen <= _LONG:
        raise SettingsError(place, f"{text} has {found.prefixlen} bits", "Write 1 to 64.")
    return found


def _check_overlap(prefixes: Sequence[Prefix]) -> None:
    """Two rules of one interface that share an end would each undo what the other did."""
    for at, one in enumerate(prefixes):
        for other in prefixes[:at]:
            if one.slots and other.slots and not one.slots & other.slots:
                continue
            if one.inside.overlaps(other.inside) or one.outside.overlaps(other.outside):
                raise SettingsError(
                    f"nptv6 rule {one.rule.id}",
                    f"its prefix overlaps with that of {other.rule.id}",
                    "Name another interface, or another prefix.",
                )
