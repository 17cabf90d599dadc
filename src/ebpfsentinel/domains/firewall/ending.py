"""Which flows a new rule that denies ends: those that have packets it would deny.

A rule set with states lets packets of flows in that are there already. So what a new rule denies
goes on until the flow is forgotten, which is why the flow table is told to forget it. Rules that
ask for what a flow does not have (MAC addresses, VLANs, flags and the like) end none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.events import FlowState, FwField
from ebpfsentinel.domains.firewall.settings import RuleAction
from ebpfsentinel.model.action import EndFlows
from ebpfsentinel.model.flows import PacketFilter
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.domains.firewall.compile import RankedRule
    from ebpfsentinel.domains.firewall.ranking import CheckedRule
    from ebpfsentinel.domains.firewall.settings import FirewallSettings

AT_ONCE = 32
"""So many rules are worked out at a time; a table of flows takes milliseconds for each."""

_DENIES = (RuleAction.DENY, RuleAction.REJECT)
_KNOWN = {
    FwField.FW_SRC_ADDR,
    FwField.FW_DST_ADDR,
    FwField.FW_SRC_PORT,
    FwField.FW_DST_PORT,
    FwField.FW_PROTOCOL,
    FwField.FW_STATE,
}
_ESTABLISHED = FlowState.FLOW_ESTABLISHED


def is_ending(settings: FirewallSettings) -> bool:
    """Do new rules end flows?"""
    return settings.enabled and settings.end_flows and settings.mode is Mode.BLOCK


def filters_of(found: CheckedRule) -> Iterator[PacketFilter]:
    """The flows that the rule covers, by address family; none, where it cannot be told."""
    if found.rule.enabled and found.rule.action in _DENIES:
        for family, ranked in found.ranked.items():
            if _can_tell(found, ranked):
                asks = ranked.asks
                yield PacketFilter(
                    family,
                    src=asks.get(FwField.FW_SRC_ADDR),
                    dst=asks.get(FwField.FW_DST_ADDR),
                    src_ports=asks.get(FwField.FW_SRC_PORT),
                    dst_ports=asks.get(FwField.FW_DST_PORT),
                    protocols=asks.get(FwField.FW_PROTOCOL),
                )


def _can_tell(found: CheckedRule, ranked: RankedRule) -> bool:
    known = _KNOWN | {FwField.FW_TIME} if found.rule.schedule is None else _KNOWN
    states = ranked.asks.get(FwField.FW_STATE, ((_ESTABLISHED, _ESTABLISHED),))
    return known.issuperset(ranked.asks) and any(
        low <= _ESTABLISHED <= high for low, high in states
    )


def end_flows(rules: Sequence[CheckedRule]) -> Iterator[EndFlows]:
    """End what these rules cover."""
    filters = tuple(each for found in rules for each in filters_of(found))
    if filters:
        yield EndFlows(filters, barred=True)
