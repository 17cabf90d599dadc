"""Rules as users write them to rules as the classifier ranks them: checked, numbered, sorted."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.compile import TCP_FLAGS, RankedRule
from ebpfsentinel.domains.firewall.events import FwField, FwFragment, PacketAction
from ebpfsentinel.domains.firewall.groups import Group, Groups, joined, without
from ebpfsentinel.domains.firewall.mirrors import check_mirror
from ebpfsentinel.domains.firewall.schedules import next_day_ns, spans_of
from ebpfsentinel.domains.firewall.settings import (
    FirewallRule,
    FirewallSettings,
    Fragment,
    Protocol,
    RuleAction,
    Scope,
)
from ebpfsentinel.model.settings import (
    SettingsError,
    check_rule_id,
    nearest,
    parse_moment,
    parse_ports,
    parse_span,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebpfsentinel.domains.firewall.groups import Ranges
    from ebpfsentinel.model.domain import Surroundings

_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.ICMP: 1, Protocol.ICMPV6: 58}
_ICMP = (Protocol.ICMP, Protocol.ICMPV6)
_ACTIONS = {
    RuleAction.ALLOW: PacketAction.ACTION_PASS,
    RuleAction.DENY: PacketAction.ACTION_DROP,
    RuleAction.LOG: PacketAction.ACTION_LOG,
    RuleAction.REJECT: PacketAction.ACTION_REJECT,
}
_FRAGMENTS = {
    None: tuple(FwFragment),
    Fragment.NONE: (FwFragment.FW_WHOLE,),
    Fragment.FIRST: (FwFragment.FW_FIRST,),
    Fragment.LATER: (FwFragment.FW_LATER,),
    Fragment.ANY: (FwFragment.FW_FIRST, FwFragment.FW_LATER),
}
_FLAGS = "FSRPAUEC"
_BITS = {4: 32, 6: 128}
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
_NS = 1_000_000_000
_EVER = (1 << 63) - 1
_MATTERS = ("interfaces", "namespaces", "files", "addresses", "utc_offset_s", "cpus")
"""What rules are understood by, of the surroundings."""


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """A rule whose texts have been understood. ``origin`` is system, config or runtime.

    ``ranked`` has the rule as the classifier of a family sees it; a family that is not there has no
    packet that could match.
    """

    rule: FirewallRule
    origin: str
    ranked: dict[int, RankedRule]
    expires_ns: int | None

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both."""
        return tuple(self.ranked)

    def is_of(self, rule: FirewallRule, origin: str) -> bool:
        """Was it understood from such a rule?"""
        return self.origin == origin and (self.rule is rule or self.rule == rule)

    @property
    def scope(self) -> str:
        """``global``, an interface, or ``namespace:`` and its name."""
        scope = self.rule.scope
        if isinstance(scope, Scope):
            return scope.interface or f"namespace:{scope.namespace}"
        return scope


def priority_of(found: CheckedRule) -> int:
    """What rules are ranked by; of equal ones the earlier comes first."""
    return _priority(found.rule, found.origin)


class Checker:
    """Understands rules, in the surroundings of one plan."""

    def __init__(self, settings: FirewallSettings, around: Surroundings) -> None:
        self._settings, self.around = settings, around
        self.groups = Groups(settings.aliases, around)
        now_s = around.now_ns // _NS
        self._schedules = {
            name: spans_of(name, schedule, now_s, around.utc_offset_s)
            for name, schedule in settings.schedules.items()
        }
        self.until_ns = next_day_ns(now_s, around.utc_offset_s) if self._schedules else None
        self._checked: dict[str, CheckedRule] = {}

    def fits(self, settings: FirewallSettings, around: Surroundings) -> bool:
        """Would a new checker understand rules as this one does?"""
        mine, until_ns = self.around, self.until_ns
        return (
            (until_ns is None or around.now_ns < until_ns)
            and self._settings.aliases == settings.aliases
            and self._settings.schedules == settings.schedules
            and mine.boot_offset_ns // _NS == around.boot_offset_ns // _NS
            and all(getattr(mine, name) == getattr(around, name) for name in _MATTERS)
        )

    def check_all(self, rules: Iterable[tuple[FirewallRule, str, str]]) -> list[CheckedRule]:
        """Understand all ``(rule, place, origin)`` and rank them; ids are unique.

        A rule that was understood the last time is not looked at again.

        Raises:
            SettingsError: the first fault.
        """
        checked: dict[str, CheckedRule] = {}
        places: dict[str, str] = {}
        for rule, place, origin in rules:
            if rule.id in checked:
                raise SettingsError(
                    f"{place}.id", f"{rule.id!r} is the id of {places[rule.id]} too", "Rename one."
                )
            places[rule.id] = place
            known = self._checked.get(rule.id)
            if known is None or not known.is_of(rule, origin):
                known = self.check(rule, place, origin)
            checked[rule.id] = known
        self._checked = checked
        return sorted(checked.values(), key=priority_of)

    def check_more(self, rule: FirewallRule, place: str, origin: str) -> CheckedRule:
        """Understand one rule besides those that :meth:`check_all` was given.

        Raises:
            SettingsError: as :meth:`check`.
        """
        found = self._checked[rule.id] = self.check(rule, place, origin)
        return found

    def check(self, rule: FirewallRule, place: str, origin: str) -> CheckedRule:
        """Understand one rule.

        Raises:
            SettingsError: with the place of the field and the remedy.
        """
        check_rule_id(f"{place}.id", rule.id)
        _check_protocol(rule, place)
        expires_ns = _expiry(rule, place)
        cpu = _cpu(rule, place, self.around.cpus)
        mirror, rank = check_mirror(rule, place), _priority(rule, origin)
        asks = dict(self._asks(rule, place, expires_ns))
        ends = {
            FwField.FW_SRC_ADDR: self._addresses(
                f"{place}.src", rule.src_ip, rule.src_alias, negate=rule.negate_source
            ),
            FwField.FW_DST_ADDR: self._addresses(
                f"{place}.dst", rule.dst_ip, rule.dst_alias, negate=rule.negate_destination
            ),
        }
        by_family = {
            family: {field: end[family] for field, end in ends.items() if end is not None}
            for family in _BITS
        }
        possible = {family: found for family, found in by_family.items() if all(found.values())}
        if rule.src_ip and rule.dst_ip and (":" in rule.src_ip) != (":" in rule.dst_ip):
            raise SettingsError(
                f"{place}.dst_ip",
                "one address is IPv4, the other IPv6",
                "Write one rule per family.",
            )
        ranked = {
            family: RankedRule(_ACTIONS[rule.action], found | asks, family == 6, cpu, mirror, rank)
            for family, found in possible.items()
            if all(asks.values())
        }
        return CheckedRule(rule, origin, ranked, expires_ns)

    def _asks(
        self, rule: FirewallRule, place: str, expires_ns: int | None
    ) -> Iterator[tuple[int, Ranges]]:
        """The rule's conditions but those on addresses; an empty one never holds."""
        if rule.protocol in _PROTOCOLS:
            yield FwField.FW_PROTOCOL, _only(_PROTOCOLS[rule.protocol])
        yield from self._ports(rule, place)
        if rule.flags is not None:
            yield FwField.FW_DETAIL, _flags(f"{place}.flags", rule.flags)
        if rule.icmp_type is not None:
            codes = (0, 255) if rule.icmp_code is None else (rule.icmp_code, rule.icmp_code)
            kind = rule.icmp_type << 8
            yield FwField.FW_DETAIL, ((kind | codes[0], kind | codes[1]),)
        if rule.dscp_match is not None or rule.fragment is not None:
            yield FwField.FW_SERVICE, _service(rule)
        for field, value in (
            (FwField.FW_VLAN, rule.vlan_id),
            (FwField.FW_INNER_VLAN, rule.inner_vlan_id),
            (FwField.FW_SRC_MAC, _mac(f"{place}.src_mac", rule.src_mac)),
            (FwField.FW_DST_MAC, _mac(f"{place}.dst_mac", rule.dst_mac)),
        ):
            if value is not None:
                yield field, _only(value)
        if rule.scope != "global":
            yield FwField.FW_INTERFACE, self._interfaces(rule.scope, f"{place}.scope")
        if rule.schedule is not None or expires_ns is not None:
            yield FwField.FW_TIME, self._times(rule, place, expires_ns)

    def _ports(self, rule: FirewallRule, place: str) -> Iterator[tuple[int, Ranges]]:
        for field, end, value, alias in (
            (FwField.FW_SRC_PORT, "src_port", rule.src_port, rule.src_port_alias),
            (FwField.FW_DST_PORT, "dst_port", rule.dst_port, rule.dst_port_alias),
        ):
            if value is not None and alias is not None:
                raise SettingsError(f"{place}.{end}", f"there is {end}_alias too", "Keep one.")
            if value is not None:
                yield field, (parse_ports(f"{place}.{end}", value),)
            if alias is not None:
                group = self._group(f"{place}.{end}_alias", alias)
                if group.networks or group.waiting:
                    raise SettingsError(f"{place}.{end}_alias", f"{alias} is of addresses")
                yield field, group.ports

    def _group(self, place: str, name: str) -> Group:
        return self.groups.find(name, place)

    def _addresses(
        self, place: str, text: str | None, alias: str | None, *, negate: bool
    ) -> dict[int, Ranges] | None:
        """Ranges by family, empty for one that cannot match; None: any address."""
        if text is not None and alias is not None:
            raise SettingsError(f"{place}_ip", f"there is {place[-3:]}_alias too", "Keep one.")
        if text is None and alias is None:
            if negate:
                raise SettingsError(place, "negates no address", "Add one, or leave negate out.")
            return None
        if text is not None:
            version, span = parse_span(f"{place}_ip", text)
            found: dict[int, Ranges] = {4: (), 6: ()}
            found[version] = (span,)
        else:
            group = self._group(f"{place}_alias", str(alias))
            if group.ports:
                raise SettingsError(f"{place}_alias", f"{alias} is of ports, not of addresses")
            found = {family: group.addresses.get(family, ()) for family in _BITS}
        if not negate:
            return found
        return {
            family: without(ranges, 1 << _BITS[family]) if ranges else ()
            for family, ranges in found.items()
        }

    def _interfaces(self, scope: str | Scope, place: str) -> Ranges:
        slots = self.around.interfaces
        if isinstance(scope, Scope):
            if (scope.interface is None) == (scope.namespace is None):
                raise SettingsError(place, "wants an interface or a namespace", "Name one of them.")
            if scope.namespace is not None:
                names = self._namespace(scope.namespace, place)
                return joined((slots[name], slots[name]) for name in names if name in slots)
        name = scope.interface or "" if isinstance(scope, Scope) else scope
        if name not in slots:
            raise SettingsError(
                place,
                f"the agent is on no interface {name!r}",
                nearest(name, [*slots, "global"], "agent.interfaces has"),
            )
        return _only(slots[name])

    def _namespace(self, name: str, place: str) -> tuple[str, ...]:
        known = self.around.namespaces
        if name not in known:
            remedy = nearest(name, known, "Those named under /var/run/netns are")
            raise SettingsError(place, f"there is no network namespace {name!r}", remedy)
        return known[name]

    def _times(self, rule: FirewallRule, place: str, expires_ns: int | None) -> Ranges:
        """Seconds of the boot clock."""
        boot_s = self.around.boot_offset_ns // _NS
        spans: Ranges = ((0, _EVER),)
        if rule.schedule is not None:
            if rule.schedule not in self._schedules:
                remedy = nearest(rule.schedule, self._schedules, "Schedules are")
                raise SettingsError(
                    f"{place}.schedule", f"there is no schedule {rule.schedule!r}", remedy
                )
            spans = self._schedules[rule.schedule]
            spans = tuple((max(low - boot_s, 0), high - boot_s) for low, high in spans)
        if expires_ns is not None:
            last = expires_ns // _NS - boot_s - 1
            spans = tuple((low, min(high, last)) for low, high in spans)
        return tuple((low, high) for low, high in spans if low <= high)


def _check_protocol(rule: FirewallRule, place: str) -> None:
    """Ports, flags and types only where packets have them."""
    ports = (rule.src_port, rule.dst_port, rule.src_port_alias, rule.dst_port_alias)
    if rule.protocol in _ICMP and any(found is not None for found in ports):
        raise SettingsError(place, f"{rule.protocol} has no ports", "Leave the ports out.")
    if rule.flags is not None and rule.protocol is not Protocol.TCP:
        raise SettingsError(f"{place}.flags", "only TCP has flags", "Write protocol: tcp.")
    if rule.icmp_type is not None and rule.protocol not in _ICMP:
        raise SettingsError(
            f"{place}.icmp_type", f"{rule.protocol} has no types", "Write protocol: icmp or icmpv6."
        )
    if rule.icmp_code is not None and rule.icmp_type is None:
        raise SettingsError(f"{place}.icmp_code", "codes are of a type", "Add icmp_type.")


def _cpu(rule: FirewallRule, place: str, cpus: int) -> int:
    """As the kernel's half has it: 1 + the CPU, or 0."""
    if rule.cpu is None:
        return 0
    if rule.action not in (RuleAction.ALLOW, RuleAction.LOG):
        raise SettingsError(
            f"{place}.cpu", f"a rule that says {rule.action} lets nothing through to steer",
            "Leave cpu out, or write allow or log.",
        )  # fmt: skip
    if rule.cpu >= cpus:
        raise SettingsError(
            f"{place}.cpu", f"this machine has no CPU {rule.cpu}", f"Write 0 to {cpus - 1}."
        )
    return rule.cpu + 1


def _expiry(rule: FirewallRule, place: str) -> int | None:
    if rule.ttl is not None:
        raise SettingsError(
            f"{place}.ttl", "a rule of the configuration has no start to count from",
            "Write expires_at, or add the rule while the agent runs.",
        )  # fmt: skip
    return parse_moment(f"{place}.expires_at", rule.expires_at) if rule.expires_at else None


def _only(value: int) -> Ranges:
    return ((value, value),)


def _service(rule: FirewallRule) -> Ranges:
    low, high = (0, 63) if rule.dscp_match is None else (rule.dscp_match, rule.dscp_match)
    return joined((kind << 6 | low, kind << 6 | high) for kind in _FRAGMENTS[rule.fragment])


def _mac(place: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not _MAC.fullmatch(text.lower()):
        raise SettingsError(place, f"{text!r} is not a MAC address", "Write aa:bb:cc:dd:ee:ff.")
    return int(text.replace(":", "").replace("-", ""), 16)


def _flags(place: str, text: str) -> Ranges:
    """``S/SA`` to all flag bytes that have SYN but not ACK; ``S`` alone is ``S/S``."""
    wanted, slash, looked_at = text.upper().partition("/")
    mask = looked_at if slash else wanted
    unknown = set(wanted + mask) - set(_FLAGS)
    if not mask or unknown or not set(wanted) <= set(mask):
        raise SettingsError(
            place, f"{text!r} is not a choice of flags",
            f"Write those set of those looked at, as S/SA; letters are {', '.join(_FLAGS)}.",
        )  # fmt: skip
    bits = [sum(1 << _FLAGS.index(flag) for flag in set(flags)) for flags in (wanted, mask)]
    return joined(
        (TCP_FLAGS | value, TCP_FLAGS | value) for value in range(256) if value & bits[1] == bits[0]
    )


def _priority(rule: FirewallRule, origin: str) -> int:
    return 0 if origin == "system" else rule.priority


def ports_text(value: int | str | dict[str, int] | None) -> str | None:
    """``80`` or ``80-443``."""
    if value is None:
        return None
    low, high = parse_ports("", value)
    return str(low) if low == high else f"{low}-{high}"
