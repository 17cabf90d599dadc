"""Limits as users write them, understood: addresses as numbers, names as slots, all checked."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.ratelimit.settings import (
    DEFAULT_RULE,
    MAX_SLIDING_RATE,
    Algorithm,
    LimitProtocol,
    LimitScope,
    RateLimitRule,
    RateLimitSettings,
)
from ebpfsentinel.model.settings import (
    SettingsError,
    check_rule_id,
    nearest,
    parse_moment,
    parse_network,
    parse_ports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import msgspec

    from ebpfsentinel.model.domain import Surroundings

PROTOCOLS = {
    LimitProtocol.TCP: 6,
    LimitProtocol.UDP: 17,
    LimitProtocol.ICMP: 1,
    LimitProtocol.ICMPV6: 58,
}
_WITH_PORTS = (LimitProtocol.ANY, LimitProtocol.TCP, LimitProtocol.UDP)
_SYNS = (LimitProtocol.ANY, LimitProtocol.TCP)
_BY_SOURCE = (LimitScope.PER_IP, LimitScope.PER_PREFIX)
_MATCH = ("src_ip", "dst_ip", "dst_port", "vlan_id")


@dataclass(frozen=True, slots=True)
class Network:
    """An address range: ``version`` 4 or 6, the first ``bits`` bits of ``address`` count."""

    version: int
    address: int
    bits: int

    @property
    def is_host(self) -> bool:
        """Is it one address?"""
        return self.bits == (32 if self.version == 4 else 128)

    def within(self, bits: int) -> Network:
        """The network of so many bits that it lies in."""
        free = (32 if self.version == 4 else 128) - bits
        return Network(self.version, self.address >> free << free, bits)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit whose texts have been understood. ``origin`` is system, config or runtime.

    ``ports`` is an inclusive range, ``slots`` a bit for each interface, 0 for any. ``identity``
    stays the same as long as its buckets mean the same.
    """

    rule: RateLimitRule
    origin: str
    burst: int
    src: Network | None
    dst: Network | None
    ports: tuple[int, int] | None
    slots: int
    expires_ns: int | None
    identity: str

    @property
    def is_shared(self) -> bool:
        """Does it hold in addition to the limit of the source?"""
        return self.rule.scope not in _BY_SOURCE

    @property
    def has_own_bucket(self) -> bool:
        """Is there but one bucket?"""
        host = self.src is not None and self.src.is_host
        return host if not self.is_shared else self.rule.scope is not LimitScope.PER_DESTINATION

    @property
    def asks(self) -> tuple[object, ...]:
        """All that decides whether it applies to a packet, its time aside."""
        rule = self.rule
        syn = rule.algorithm is Algorithm.SYN_COOKIE
        return (self.src, self.dst, self.ports, self.slots, rule.protocol, rule.vlan_id, syn)


class Checker:
    """Understands limits, in the surroundings of one plan."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._known: dict[str, Limit] = {}

    def check_all(
        self, settings: RateLimitSettings, runtime: Sequence[msgspec.Struct], around: Surroundings
    ) -> list[Limit]:
        """All limits, the default last.

        Raises:
            SettingsError: one cannot be taken, or two have one id.
        """
        if self._differs(around):
            self._known = {}
        self._around = around
        places: dict[str, str] = {}
        found = []
        for rule, place, origin in sources(settings, runtime):
            if rule.id in places:
                raise SettingsError(
                    f"{place}.id", f"{rule.id!r} is the id of {places[rule.id]} too", "Rename one."
                )
            places[rule.id] = place
            found.append(self._checked(rule, place, origin))
        _check_reachable(found, places)
        self._known = {limit.rule.id: limit for limit in found}
        return found

    def _differs(self, around: Surroundings) -> bool:
        return self._around.interfaces != around.interfaces

    def _checked(self, rule: RateLimitRule, place: str, origin: str) -> Limit:
        known = self._known.get(rule.id)
        if known and known.origin == origin and (known.rule is rule or known.rule == rule):
            return known
        return self._check(rule, place, origin)

    def _check(self, rule: RateLimitRule, place: str, origin: str) -> Limit:
        check_rule_id(f"{place}.id", rule.id)
        if rule.id == DEFAULT_RULE and origin != "system":
            raise SettingsError(
                f"{place}.id",
                f"{DEFAULT_RULE!r} is the limit that ratelimit.default_rate makes",
                "Choose another id, or set ratelimit.default_rate.",
            )
        _check_scope(rule, place)
        _check_algorithm(rule, place)
        src, dst = (_network(f"{place}.{key}", getattr(rule, key)) for key in ("src_ip", "dst_ip"))
        if src and dst and src.version != dst.version:
            raise SettingsError(place, "one address is IPv4, the other IPv6", "Write two rules.")
        expires = parse_moment(f"{place}.expires_at", rule.expires_at) if rule.expires_at else None
        burst = 2 * rule.rate if rule.burst is None else rule.burst
        slots, ports = self._slots(rule.interfaces, place), _ports(rule, place)
        identity = _identity(rule, burst)
        return Limit(rule, origin, burst, src, dst, ports, slots, expires, identity)

    def _slots(self, names: Iterable[str], place: str) -> int:
        found = 0
        for at, name in enumerate(names):
            if name not in self._around.interfaces:
                known = nearest(name, self._around.interfaces, "The agent guards")
                raise SettingsError(f"{place}.interfaces[{at}]", f"no interface {name!r}", known)
            found |= 1 << self._around.interfaces[name]
        return found


def sources(
    settings: RateLimitSettings, runtime: Sequence[msgspec.Struct]
) -> Iterator[tuple[RateLimitRule, str, str]]:
    """Every limit with its place and origin: the configuration's, the API's, the default."""
    for index, rule in enumerate(settings.rules):
        yield rule, f"ratelimit.rules[{index}]", "config"
    for item in runtime:
        assert isinstance(item, RateLimitRule)  # noqa: S101 (the collection's item type)
        yield item, f"rule {item.id}", "runtime"
    if settings.default_rate:
        default = RateLimitRule(
            id=DEFAULT_RULE,
            rate=settings.default_rate,
            burst=settings.default_burst,
            algorithm=settings.default_algorithm,
        )
        yield default, "ratelimit.default_rate", "system"


def _identity(rule: RateLimitRule, burst: int) -> str:
    said = (rule.id, rule.rate, burst, rule.algorithm.value, rule.scope.value)
    asked = (rule.src_ip, rule.dst_ip, rule.dst_port, rule.protocol.value, rule.vlan_id)
    return " ".join(map(str, (*said, *asked, *rule.interfaces)))


def _network(place: str, text: str | None) -> Network | None:
    if text is None:
        return None
    found = parse_network(place, text)
    mapped = isinstance(found, ipaddress.IPv6Network) and found.network_address.ipv4_mapped
    if mapped and found.prefixlen >= 96:
        raise SettingsError(place, f"{text} is no address of packets", f"Write {mapped}.")
    return Network(found.version, int(found.network_address), found.prefixlen)


def _ports(rule: RateLimitRule, place: str) -> tuple[int, int] | None:
    if rule.dst_port is None:
        return None
    if rule.protocol not in _WITH_PORTS:
        raise SettingsError(f"{place}.dst_port", f"{rule.protocol.value} has no ports")
    return parse_ports(f"{place}.dst_port", rule.dst_port)


def _check_scope(rule: RateLimitRule, place: str) -> None:
    if rule.scope is not LimitScope.GLOBAL:
        return
    asked = [name for name in _MATCH if getattr(rule, name) is not None]
    asked += ["protocol"] * (rule.protocol is not LimitProtocol.ANY)
    asked += ["interfaces"] * bool(rule.interfaces)
    if asked:
        raise SettingsError(
            f"{place}.{asked[0]}",
            "a global limit is for all packets",
            "Use scope: per_rule for all packets that a rule matches.",
        )


def _check_algorithm(rule: RateLimitRule, place: str) -> None:
    if rule.algorithm is Algorithm.SYN_COOKIE and rule.protocol not in _SYNS:
        raise SettingsError(
            f"{place}.protocol", "syn_cookie is for TCP", "Write tcp, or leave it out."
        )
    if rule.algorithm is Algorithm.SLIDING_WINDOW and rule.rate > MAX_SLIDING_RATE:
        raise SettingsError(
            f"{place}.rate",
            f"a sliding window counts {MAX_SLIDING_RATE} packets a second at most",
            "Use token_bucket.",
        )


def _check_reachable(limits: Iterable[Limit], places: dict[str, str]) -> None:
    """Two limits of which the first always decides are a mistake, not a choice."""
    first: dict[tuple[object, ...], str] = {}
    for limit in limits:
        if limit.is_shared or not limit.rule.enabled or limit.origin == "system":
            continue
        if limit.expires_ns is not None:
            continue
        known = first.setdefault(limit.asks, limit.rule.id)
        if known != limit.rule.id:
            raise SettingsError(
                places[limit.rule.id],
                f"{known!r} is for the same packets, and comes first",
                "Delete one, or let one expire.",
            )
