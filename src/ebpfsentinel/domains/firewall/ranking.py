"""Rules as users write them to rules as the classifier ranks them: checked, numbered, sorted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.compile import RankedRule
from ebpfsentinel.domains.firewall.events import FwField, PacketAction
from ebpfsentinel.domains.firewall.groups import Group, Groups, joined, without
from ebpfsentinel.domains.firewall.limits import Limit, limit_of
from ebpfsentinel.domains.firewall.mirrors import check_mirror
from ebpfsentinel.domains.firewall.owners import Owners, asks_for_owner
from ebpfsentinel.domains.firewall.schedules import next_day_ns, spans_of
from ebpfsentinel.domains.firewall.settings import (
    FirewallRule,
    FirewallSettings,
    Port,
    Protocol,
    RuleAction,
    Scope,
)
from ebpfsentinel.domains.firewall.texts import (
    check_protocol,
    cpu_of,
    expiry_of,
    has_rare_conditions,
    only,
    ports_of,
    rare_conditions,
)
from ebpfsentinel.model.settings import (
    SettingsError,
    check_rule_id,
    nearest,
    parse_ports,
    parse_span,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ebpfsentinel.domains.firewall.groups import Ranges
    from ebpfsentinel.model.domain import Surroundings

_PROTOCOLS = {
    Protocol.TCP: only(6),
    Protocol.UDP: only(17),
    Protocol.ICMP: only(1),
    Protocol.ICMPV6: only(58),
}
_PROTOCOL = FwField.FW_PROTOCOL
_SRC_ADDR, _DST_ADDR = FwField.FW_SRC_ADDR, FwField.FW_DST_ADDR
_SRC_PORT, _DST_PORT = FwField.FW_SRC_PORT, FwField.FW_DST_PORT
_ACTIONS = {
    RuleAction.ALLOW: PacketAction.ACTION_PASS,
    RuleAction.DENY: PacketAction.ACTION_DROP,
    RuleAction.LOG: PacketAction.ACTION_LOG,
    RuleAction.REJECT: PacketAction.ACTION_REJECT,
}
_BITS = {4: 32, 6: 128}
_NS = 1_000_000_000
_EVER = (1 << 63) - 1
_MATTERS = (
    "interfaces",
    "namespaces",
    "files",
    "addresses",
    "utc_offset_s",
    "cpus",
    "provided",
    "executables",
    "cgroups",
)
"""What rules are understood by, of the surroundings."""


@dataclass(slots=True)
class CheckedRule:
    """A rule whose texts have been understood; not to be changed (see :class:`RankedRule`).

    ``origin`` is system, config or runtime.
    ``ranked`` has the rule as the classifier of a family sees it; a family that is not there has no
    packet that could match.
    """

    rule: FirewallRule
    origin: str
    ranked: dict[int, RankedRule]
    expires_ns: int | None
    limit: Limit | None = None

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
        self.owners = Owners(around)
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
        check_protocol(rule, place)
        expires_ns = expiry_of(rule, place)
        cpu, mirror = cpu_of(rule, place, self.around.cpus), check_mirror(rule, place)
        action, priority = _ACTIONS[rule.action], _priority(rule, origin)
        limit = limit_of(rule, place)
        asks = self._asks(rule, place, expires_ns, limit)
        src = self._addresses(
            f"{place}.src", rule.src_ip, rule.src_alias, negate=rule.negate_source
        )
        dst = self._addresses(
            f"{place}.dst", rule.dst_ip, rule.dst_alias, negate=rule.negate_destination
        )
        if rule.src_ip and rule.dst_ip and (":" in rule.src_ip) != (":" in rule.dst_ip):
            raise SettingsError(
                f"{place}.dst_ip",
                "one address is IPv4, the other IPv6",
                "Write one rule per family.",
            )
        ranked = {}
        for family in _BITS if all(asks.values()) else ():
            if (src is None or family in src) and (dst is None or family in dst):
                found = asks.copy()
                if src is not None:
                    found[_SRC_ADDR] = src[family]
                if dst is not None:
                    found[_DST_ADDR] = dst[family]
                ranked[family] = RankedRule(
                    action, found, family == 6, cpu, mirror, priority, limit is not None
                )
        return CheckedRule(rule, origin, ranked, expires_ns, limit)

    def _asks(
        self, rule: FirewallRule, place: str, expires_ns: int | None, limit: Limit | None
    ) -> dict[int, Ranges]:
        """The rule's conditions but those on addresses; an empty one never holds."""
        asks: dict[int, Ranges] = {}
        if rule.protocol is not Protocol.ANY:
            asks[_PROTOCOL] = _PROTOCOLS[rule.protocol]
        src, dst, src_alias, dst_alias = ports_of(rule)
        if src is not None or src_alias is not None:
            asks[_SRC_PORT] = self._port(f"{place}.src_port", src, src_alias)
        if dst is not None or dst_alias is not None:
            asks[_DST_PORT] = self._port(f"{place}.dst_port", dst, dst_alias)
        if has_rare_conditions(rule):
            asks.update(rare_conditions(rule, place))
        if asks_for_owner(rule):
            self._check_provided(place, "owners", "process names")
            asks[FwField.FW_OWNER] = self.owners.ranges(rule, place)
        if rule.state or limit is not None:
            where = f"{place}.state" if rule.state else place
            self._check_provided(where, "flows", "connection tracking")
        if rule.scope != "global":
            asks[FwField.FW_INTERFACE] = self._interfaces(rule.scope, f"{place}.scope")
        if rule.schedule is not None or expires_ns is not None:
            asks[FwField.FW_TIME] = self._times(rule, place, expires_ns)
        return asks

    def _check_provided(self, place: str, what: str, name: str) -> None:
        """A rule on what nobody finds out would never match, and so might lock out."""
        if what not in self.around.provided:
            raise SettingsError(
                place, f"it takes {what}, and none are tracked", f"Switch {name} on."
            )

    def _port(self, place: str, value: Port | None, alias: str | None) -> Ranges:
        if alias is None:
            return (parse_ports(place, value or 0),)
        if value is not None:
            raise SettingsError(
                place, f"there is {place.rpartition('.')[2]}_alias too", "Keep one."
            )
        group = self._group(f"{place}_alias", alias)
        if group.networks or group.waiting:
            raise SettingsError(f"{place}_alias", f"{alias} is of addresses")
        return group.ports

    def _group(self, place: str, name: str) -> Group:
        return self.groups.find(name, place)

    def _addresses(
        self, place: str, text: str | None, alias: str | None, *, negate: bool
    ) -> dict[int, Ranges] | None:
        """Ranges by family, without one that cannot match; None: any address."""
        if text is None and alias is None:
            if negate:
                raise SettingsError(place, "negates no address", "Add one, or leave negate out.")
            return None
        if text is not None and alias is not None:
            raise SettingsError(f"{place}_ip", f"there is {place[-3:]}_alias too", "Keep one.")
        if text is not None:
            version, span = parse_span(f"{place}_ip", text)
            found: dict[int, Ranges] = {version: (span,)}
        else:
            group = self._group(f"{place}_alias", str(alias))
            if group.ports:
                raise SettingsError(f"{place}_alias", f"{alias} is of ports, not of addresses")
            found = {family: ranges for family, ranges in group.addresses.items() if ranges}
        if not negate:
            return found
        rest = {family: without(found[family], 1 << _BITS[family]) for family in found}
        return {family: ranges for family, ranges in rest.items() if ranges}

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
        return only(slots[name])

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


def _priority(rule: FirewallRule, origin: str) -> int:
    return 0 if origin == "system" else rule.priority
