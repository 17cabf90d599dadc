"""Rules as users write them to rules as the classifier ranks them: checked, numbered, sorted."""

from __future__ import annotations

import difflib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.compile import RankedRule
from ebpfsentinel.domains.firewall.events import PacketAction
from ebpfsentinel.domains.firewall.settings import FirewallRule, Protocol, RuleAction, Scope
from ebpfsentinel.model.settings import (
    SettingsError,
    check_rule_id,
    parse_network,
    parse_ports,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROTOCOLS = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.ICMP: 1, Protocol.ICMPV6: 58}
_ACTIONS = {
    RuleAction.ALLOW: PacketAction.ACTION_PASS,
    RuleAction.DENY: PacketAction.ACTION_DROP,
    RuleAction.LOG: PacketAction.ACTION_LOG,
}
_ALL_PORTS = (0, 0xFFFF)
_BITS = {4: 32, 6: 128}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """A rule whose texts have been understood. ``origin`` is system, config or runtime."""

    rule: FirewallRule
    origin: str
    src: Network | None
    dst: Network | None
    src_port: tuple[int, int] | None
    dst_port: tuple[int, int] | None
    interface: str | None

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both: the family of its addresses, both where it names none."""
        named = {network.version for network in (self.src, self.dst) if network}
        return tuple(sorted(named)) or (4, 6)

    def ranked(self, family: int, number: int, slots: Mapping[str, int]) -> RankedRule:
        """As the classifier of ``family`` sees it."""
        rule = self.rule
        protocol = _PROTOCOLS.get(rule.protocol)
        slot = slots[self.interface] if self.interface else None
        return RankedRule(
            number=number,
            action=_ACTIONS[rule.action],
            src=_range(self.src, family),
            dst=_range(self.dst, family),
            src_port=self.src_port or _ALL_PORTS,
            dst_port=self.dst_port or _ALL_PORTS,
            ports=bool(self.src_port or self.dst_port),
            protocol=(0, 255) if protocol is None else (protocol, protocol),
            vlan=(0, 4095) if rule.vlan_id is None else (rule.vlan_id, rule.vlan_id),
            interface=(0, 63) if slot is None else (slot, slot),
        )


def _range(network: Network | None, family: int) -> tuple[int, int]:
    if network is None:
        return 0, (1 << _BITS[family]) - 1
    return int(network.network_address), int(network.broadcast_address)


def check_rule(
    rule: FirewallRule, place: str, origin: str, interfaces: Mapping[str, int]
) -> CheckedRule:
    """Understand one rule.

    Raises:
        SettingsError: with the place of the field and the remedy.
    """
    check_rule_id(f"{place}.id", rule.id)
    src = parse_network(f"{place}.src_ip", rule.src_ip) if rule.src_ip else None
    dst = parse_network(f"{place}.dst_ip", rule.dst_ip) if rule.dst_ip else None
    if src and dst and src.version != dst.version:
        raise SettingsError(
            f"{place}.dst_ip", "one address is IPv4, the other IPv6", "Write one rule per family."
        )
    ports = [
        None if value is None else parse_ports(f"{place}.{name}", value)
        for name, value in (("src_port", rule.src_port), ("dst_port", rule.dst_port))
    ]
    if any(ports) and rule.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        raise SettingsError(place, f"{rule.protocol} has no ports", "Leave the ports out.")
    interface = _interface(rule, place, interfaces)
    return CheckedRule(rule, origin, src, dst, ports[0], ports[1], interface)


def _interface(rule: FirewallRule, place: str, interfaces: Mapping[str, int]) -> str | None:
    name = rule.scope.interface if isinstance(rule.scope, Scope) else rule.scope
    if name == "global":
        return None
    if name not in interfaces:
        near = difflib.get_close_matches(name, [*interfaces, "global"], 1)
        known = ", ".join(interfaces) or "none"
        raise SettingsError(
            f"{place}.scope",
            f"the agent is on no interface {name!r}",
            f"Did you mean {near[0]!r}?" if near else f"agent.interfaces has: {known}.",
        )
    return name


def check_rules(
    rules: Iterable[tuple[FirewallRule, str, str]], interfaces: Mapping[str, int]
) -> list[CheckedRule]:
    """Understand all ``(rule, place, origin)`` and rank them; ids are unique.

    Raises:
        SettingsError: the first fault.
    """
    checked: list[CheckedRule] = []
    seen: dict[str, str] = {}
    for rule, place, origin in rules:
        found = check_rule(rule, place, origin, interfaces)
        if rule.id in seen:
            raise SettingsError(
                f"{place}.id", f"{rule.id!r} is the id of {seen[rule.id]} too", "Rename one."
            )
        seen[rule.id] = place
        checked.append(found)
    return sorted(checked, key=lambda found: 0 if found.origin == "system" else found.rule.priority)


def ports_text(ports: tuple[int, int] | None) -> str | None:
    """``80`` or ``80-443``."""
    if ports is None:
        return None
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"
