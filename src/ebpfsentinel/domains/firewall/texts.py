"""What a rule's texts say, field by field: the part that needs no look around."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.compile import TCP_FLAGS
from ebpfsentinel.domains.firewall.events import FlowState, FwField, FwFragment
from ebpfsentinel.domains.firewall.groups import joined
from ebpfsentinel.domains.firewall.settings import (
    FirewallRule,
    Fragment,
    Protocol,
    RuleAction,
    State,
)
from ebpfsentinel.model.settings import SettingsError, parse_moment, parse_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.domains.firewall.groups import Ranges

_ICMP = (Protocol.ICMP, Protocol.ICMPV6)
_NEVER = 2
"""Of the two bits of a fragment, what no packet has; with it, one value and mask says each set."""
_FRAGMENTS = {
    None: (*FwFragment, _NEVER),
    Fragment.NONE: (FwFragment.FW_WHOLE, _NEVER),
    Fragment.FIRST: (FwFragment.FW_FIRST,),
    Fragment.LATER: (FwFragment.FW_LATER,),
    Fragment.ANY: (FwFragment.FW_FIRST, FwFragment.FW_LATER),
}
_FLAGS = "FSRPAUEC"
_MAC = re.compile(r"[0-9a-f]{2}([:-][0-9a-f]{2}){5}")
ports_of = attrgetter("src_port", "dst_port", "src_port_alias", "dst_port_alias")
_rarer = attrgetter(
    "flags",
    "icmp_type",
    "dscp_match",
    "fragment",
    "vlan_id",
    "inner_vlan_id",
    "src_mac",
    "dst_mac",
    "state",
)
_COMMON: tuple[Any, ...] = (*(None,) * 8, [])
_NO_PORTS = (None,) * 4
_STATES = {
    State.NEW: FlowState.FLOW_NEW,
    State.ESTABLISHED: FlowState.FLOW_ESTABLISHED,
    State.RELATED: FlowState.FLOW_RELATED,
    State.INVALID: FlowState.FLOW_INVALID,
}


def has_rare_conditions(rule: FirewallRule) -> bool:
    """Has it conditions that few rules have?"""
    return bool(_rarer(rule) != _COMMON)


def rare_conditions(rule: FirewallRule, place: str) -> Iterator[tuple[int, Ranges]]:
    """Conditions that few rules have."""
    if rule.flags is not None:
        yield FwField.FW_DETAIL, _flags(f"{place}.flags", rule.flags)
    if rule.icmp_type is not None:
        codes = (0, 255) if rule.icmp_code is None else (rule.icmp_code, rule.icmp_code)
        kind = rule.icmp_type << 8
        yield FwField.FW_DETAIL, ((kind | codes[0], kind | codes[1]),)
    if rule.dscp_match is not None or rule.fragment is not None:
        yield FwField.FW_SERVICE, _service(rule)
    if rule.state:
        found = (_STATES[each] for each in rule.state)
        yield FwField.FW_STATE, joined((state, state) for state in found)
    for field, value in (
        (FwField.FW_VLAN, rule.vlan_id),
        (FwField.FW_INNER_VLAN, rule.inner_vlan_id),
        (FwField.FW_SRC_MAC, _mac(f"{place}.src_mac", rule.src_mac)),
        (FwField.FW_DST_MAC, _mac(f"{place}.dst_mac", rule.dst_mac)),
    ):
        if value is not None:
            yield field, only(value)


def check_protocol(rule: FirewallRule, place: str) -> None:
    """Ports, flags and types only where packets have them."""
    if rule.protocol in _ICMP and ports_of(rule) != _NO_PORTS:
        raise SettingsError(place, f"{rule.protocol} has no ports", "Leave the ports out.")
    if rule.flags is not None and rule.protocol is not Protocol.TCP:
        raise SettingsError(f"{place}.flags", "only TCP has flags", "Write protocol: tcp.")
    if rule.icmp_type is not None and rule.protocol not in _ICMP:
        raise SettingsError(
            f"{place}.icmp_type", f"{rule.protocol} has no types", "Write protocol: icmp or icmpv6."
        )
    if rule.icmp_code is not None and rule.icmp_type is None:
        raise SettingsError(f"{place}.icmp_code", "codes are of a type", "Add icmp_type.")


def cpu_of(rule: FirewallRule, place: str, cpus: int) -> int:
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


def expiry_of(rule: FirewallRule, place: str) -> int | None:
    """Wall nanoseconds; None: it does not lapse."""
    if rule.ttl is not None:
        raise SettingsError(
            f"{place}.ttl", "a rule of the configuration has no start to count from",
            "Write expires_at, or add the rule while the agent runs.",
        )  # fmt: skip
    return parse_moment(f"{place}.expires_at", rule.expires_at) if rule.expires_at else None


def only(value: int) -> Ranges:
    """One value as ranges."""
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


def ports_text(value: int | str | dict[str, int] | None) -> str | None:
    """``80`` or ``80-443``."""
    if value is None:
        return None
    low, high = parse_ports("", value)
    return str(low) if low == high else f"{low}-{high}"
