"""The firewall's pure half: plans rule sets, keeps their counters, turns events into alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.alerting import alerts_of
from ebpfsentinel.domains.firewall.compile import TooManyRowsError, compile_tables
from ebpfsentinel.domains.firewall.events import (
    FW_COUNT,
    FwMode,
    PacketAction,
    PacketEvents,
)
from ebpfsentinel.domains.firewall.ranking import CheckedRule, check_rules, ports_text
from ebpfsentinel.domains.firewall.settings import (
    MAX_RULES,
    AntiLockout,
    FirewallRule,
    FirewallRuleView,
    FirewallSettings,
    Policy,
    Protocol,
    RuleAction,
)
from ebpfsentinel.domains.firewall.usage import Usage
from ebpfsentinel.model.action import MapDelete, Swap
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.domain import Tools

_NUMBERS = 16384
_MAPS = {4: "fw_ipv4", 6: "fw_ipv6"}
DEFAULT_RULE = "default-policy"
"""The rule id that events carry when no rule matched."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One generation: ranked rules, and the number that each is counted under.

    ``names`` also keeps the ids of rules that are gone, for events still on their way.
    """

    settings: FirewallSettings
    rules: tuple[CheckedRule, ...]
    numbers: dict[str, int]
    names: dict[int, str]
    boot_offset_ns: int = 0


class FirewallEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._set = RuleSet(FirewallSettings(), (), {}, {})
        self._counts = np.zeros(_NUMBERS, FW_COUNT)
        self.usage = Usage()
        self._polled = False
        self._unreported = 0

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Numbers of the last run, under which adopted counters are kept."""
        numbers = {str(name): int(number) for name, number in memo.get("numbers", {}).items()}
        names = {number: name for name, number in numbers.items()}
        self._set = RuleSet(FirewallSettings(), (), numbers, names)
        self.usage.recall(memo.get("usage", {}))

    def plan(
        self,
        settings: FirewallSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Compile the rules of both families.

        Raises:
            SettingsError: a rule cannot be taken, or there are more than 4,096 for a family.
        """
        rules = check_rules(_sources(settings, runtime.get("rules", ()), around), around.interfaces)
        numbers = self._numbered(rules)
        fresh = sorted(set(numbers.values()) - set(self._set.numbers.values()))
        names = self._set.names | {number: name for name, number in numbers.items()}
        state = RuleSet(settings, tuple(rules), numbers, names, around.boot_offset_ns)
        swaps = tuple(self._swap(state, family, around) for family in _MAPS)
        forget = MapDelete("fw_count", np.array(fresh, np.uint32))
        return Plan(state, (forget, *swaps) if fresh else swaps, self._memo(numbers))

    def _memo(self, numbers: Mapping[str, int]) -> dict[str, Any]:
        return {"numbers": dict(numbers), "usage": self.usage.memo()}

    def _numbered(self, rules: Sequence[CheckedRule]) -> dict[str, int]:
        """Rules keep their number; new ones get one that no event on its way can carry."""
        known, names = self._set.numbers, self._set.names
        fresh = iter([n for n in range(1, _NUMBERS) if n not in names])
        used = {known[found.rule.id] for found in rules if found.rule.id in known}
        reused = iter([n for n in sorted(names) if n and n not in used])
        numbers: dict[str, int] = {}
        for found in rules:
            number = known.get(found.rule.id) or next(fresh, 0) or next(reused, 0)
            if not number:
                raise SettingsError("firewall.rules", f"more than {_NUMBERS - 1} rules")
            numbers[found.rule.id] = number
        return numbers

    def _swap(self, state: RuleSet, family: int, around: Surroundings) -> Swap:
        ranked = [
            found.ranked(family, state.numbers[found.rule.id], around.interfaces)
            for found in state.rules
            if family in found.families and found.rule.enabled
        ]
        if len(ranked) > MAX_RULES:
            raise SettingsError(
                "firewall.rules",
                f"{len(ranked)} rules for IPv{family}; {MAX_RULES} is the most",
                "Join neighbouring CIDRs or port ranges.",
            )
        settings = state.settings
        drop = settings.default_policy is Policy.DROP
        try:
            tables = compile_tables(
                ranked,
                wide=family == 6,
                mode=FwMode.FW_MODE_BLOCK if settings.mode is Mode.BLOCK else FwMode.FW_MODE_ALERT,
                default_action=PacketAction.ACTION_DROP if drop else PacketAction.ACTION_PASS,
            )
        except TooManyRowsError as error:
            raise SettingsError("firewall.rules", str(error)) from None
        return Swap(_MAPS[family], 0, tables)

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        for number in set(plan.state.numbers.values()) - set(self._set.numbers.values()):
            self._counts[number] = 0
        self._set = plan.state
        self.usage.keep(plan.state.numbers)

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Events to alerts, one for all equal ones; counters are kept for views."""
        if source == "fw_count":
            self._take_counts(rows, now_ns)
            return Outcome()
        alerts, unreported = alerts_of(PacketEvents(rows), self._name, self._set.boot_offset_ns)
        self._unreported += unreported
        return Outcome(alerts)

    def _take_counts(self, counts: NDArray[Any], now_ns: int) -> None:
        """Counters that rose were hit since the last look; what the first look finds may be old."""
        if self._polled:
            rose = np.flatnonzero(counts["packets"] > self._counts["packets"]).tolist()
            self.usage.hit((self._name(number) for number in rose), now_ns)
        self._counts, self._polled = counts.copy(), True

    def _name(self, number: int) -> str:
        return self._set.names.get(number, f"rule-{number}") if number else DEFAULT_RULE

    def tick(self, now_ns: int) -> Outcome:
        """Now and then, when rules were hit last is written down."""
        if not self.usage.tick(now_ns):
            return Outcome()
        return Outcome(memo=self._memo(self._set.numbers))

    def items(self, collection: str) -> Sequence[FirewallRuleView]:
        """The rules in the order in which they are tried, with their hits."""
        return [self._view(found) for found in self._set.rules]

    def _view(self, found: CheckedRule) -> FirewallRuleView:
        rule = found.rule
        number = self._set.numbers[rule.id]
        hits = self._counts[number]
        return FirewallRuleView(
            id=rule.id,
            priority=0 if found.origin == "system" else rule.priority,
            action=rule.action.value,
            protocol=rule.protocol.value,
            enabled=rule.enabled,
            scope=found.interface or "global",
            src_ip=str(found.src) if found.src else None,
            dst_ip=str(found.dst) if found.dst else None,
            src_port=ports_text(found.src_port),
            dst_port=ports_text(found.dst_port),
            vlan_id=rule.vlan_id,
            system=found.origin == "system",
            origin=found.origin,
            packets=int(hits["packets"]),
            bytes=int(hits["bytes"]),
            last_hit_ns=self.usage.of(rule.id).last_ns or None,
        )

    def names(self) -> dict[int, str]:
        """The ids of rules by the numbers that programs know them by."""
        return dict(self._set.names)

    def in_force(self) -> tuple[FirewallSettings, tuple[CheckedRule, ...]]:
        """The settings, and all rules in the order in which they are tried."""
        return self._set.settings, self._set.rules

    def status(self) -> dict[str, Any]:
        """Mode, policy and size."""
        settings = self._set.settings
        return {
            "enabled": settings.enabled,
            "mode": settings.mode.value,
            "default_policy": settings.default_policy.value,
            "rule_count": len(self._set.rules),
        }

    def metrics(self) -> Sequence[Metric]:
        """Packets per rule that was hit, and records that were folded away."""
        return list(self._samples())

    def _samples(self) -> Iterator[Metric]:
        for number in np.flatnonzero(self._counts["packets"]):
            labels = {"rule_id": self._name(int(number))}
            packets = float(self._counts["packets"][number])
            yield Metric("rule_packets", "counter", "Packets a rule decided", labels, packets)
        yield Metric(
            "rule_events_unreported",
            "counter",
            "Events beyond the alerts one batch may make",
            {},
            float(self._unreported),
        )


def _sources(
    settings: FirewallSettings, runtime: Sequence[msgspec.Struct], around: Surroundings
) -> Iterator[tuple[FirewallRule, str, str]]:
    """Every rule with its place and origin: the system's, the configuration's, the API's."""
    for rule in _anti_lockout(settings.anti_lockout, around.api_ports):
        yield rule, "firewall.anti_lockout", "system"
    for index, rule in enumerate(settings.rules):
        yield rule, f"firewall.rules[{index}]", "config"
    for item in runtime:
        assert isinstance(item, FirewallRule)  # noqa: S101 (the collection's item type)
        yield item, f"rule {item.id}", "runtime"


def _anti_lockout(wanted: AntiLockout, api_ports: Sequence[int]) -> Iterator[FirewallRule]:
    if not wanted.enabled:
        return
    ports = dict.fromkeys([*wanted.ports, *filter(None, api_ports)])
    for interface in wanted.interfaces or ["global"]:
        for port in ports:
            middle = "" if interface == "global" else f"{interface.replace('.', '_')}-"
            yield FirewallRule(
                id=f"anti-lockout-{middle}{port}",
                priority=1,
                action=RuleAction.ALLOW,
                protocol=Protocol.TCP,
                dst_port=port,
                scope=interface,
            )
