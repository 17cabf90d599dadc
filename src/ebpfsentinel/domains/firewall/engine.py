"""The firewall's pure half: plans rule sets, keeps their counters, turns events into alerts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.alerting import alerts_of
from ebpfsentinel.domains.firewall.ending import AT_ONCE, end_flows
from ebpfsentinel.domains.firewall.events import (
    FW_COPIES,
    FW_COUNT,
    FW_REJECTS,
    PacketEvents,
)
from ebpfsentinel.domains.firewall.generation import NUMBERS, RuleSet, less, more, whole
from ebpfsentinel.domains.firewall.mirrors import absent, check_present, links_of
from ebpfsentinel.domains.firewall.ranking import CheckedRule, Checker
from ebpfsentinel.domains.firewall.samples import Samples
from ebpfsentinel.domains.firewall.settings import (
    FirewallRule,
    FirewallRuleView,
    FirewallSettings,
)
from ebpfsentinel.domains.firewall.sources import added, sources
from ebpfsentinel.domains.firewall.texts import ports_text
from ebpfsentinel.domains.firewall.usage import Usage
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.domain import Tools

_TOLD: tuple[str, ...] = ("id", "priority", "action", "protocol", "enabled", "src_ip", "dst_ip")
_TOLD += ("src_port", "dst_port", "scope")
_SHOWN = tuple(
    name
    for name in FirewallRuleView.__struct_fields__
    if name in FirewallRule.__struct_fields__ and name not in _TOLD
)
"""Fields that a view has as the rule has them."""
_QUIET_NS, _LATEST_NS = 1_000_000_000, 10_000_000_000
"""So long after the last of small changes, or the first, all rules are compiled."""
_LOOK_AGAIN_NS, _FOR_EVER = 5_000_000_000, 1 << 63
"""Executables are replaced, and control groups come and go: so long what was found is believed."""
DEFAULT_RULE = "default-policy"
"""The rule id that events carry when no rule matched."""


class FirewallEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._set = RuleSet(FirewallSettings(), (), {}, {})
        self._checker = Checker(FirewallSettings(), Surroundings())
        self._counts = np.zeros(NUMBERS, FW_COUNT)
        self._over = np.zeros(NUMBERS, np.uint64)
        self.usage = Usage()
        self.samples = Samples()
        self._polled = False
        self._unreported = 0
        self._rejects = np.zeros(1, FW_REJECTS)
        self._copies = np.zeros(1, FW_COPIES)
        self._mirrors: Collection[str] = ()
        self._links: Mapping[str, int] = {}

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Numbers of the last run, under which adopted counters are kept."""
        numbers = {str(name): int(number) for name, number in memo.get("numbers", {}).items()}
        names = {number: name for name, number in numbers.items()}
        self._set = RuleSet(FirewallSettings(), (), numbers, names)
        self._mirrors = [str(name) for name in memo.get("mirrors", ())]
        self.usage.recall(memo.get("usage", {}))

    def plan(
        self,
        settings: FirewallSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Compile the rules of both families.

        Raises:
            SettingsError: a rule cannot be taken, or there are more than 16,384 for a family.
        """
        rules = runtime.get("rules", ())
        if (found := self._small(settings, rules, around)) is not None:
            return found
        if not self._checker.fits(settings, around):
            self._checker = Checker(settings, around)
        written = list(sources(settings, rules, around))
        checked = self._checker.check_all(written)
        if around.links is not None:
            check_present(written, around.links, self._mirrors)
        state, actions = whole(self._set, settings, tuple(rules), checked, around)
        waits = links_of(state.mirrors, around.links)
        until_ns = self._checker.until_ns
        if state.owners is not None:
            until_ns = min(until_ns or _FOR_EVER, around.now_ns + _LOOK_AGAIN_NS)
        return Plan(state, actions, self._memo(state), until_ns, waits)

    def _small(
        self, settings: FirewallSettings, runtime: Sequence[msgspec.Struct], around: Surroundings
    ) -> Plan | None:
        """The plan, where one rule of the API more, the last, or one less is all that differs.

        Raises:
            SettingsError: it cannot be taken.
        """
        if (
            settings is not self._set.settings
            or around.anew
            or not self._checker.fits(settings, around)
        ):
            return None
        now, known, planned = tuple(runtime), self._set.runtime, None
        if now and now[:-1] == known:
            ((rule, *where),) = added(now[-1:])
            if rule.id not in self._set.numbers:
                checked = self._checker.check_more(rule, *where)
                planned = more(self._set, now, checked, around.now_ns)
        elif len(now) == len(known) - 1:
            pairs = enumerate(zip(now, known, strict=False))
            at = next((at for at, (each, other) in pairs if each is not other), len(now))
            if now[at:] == known[at + 1 :]:
                ((rule, *_),) = added(known[at : at + 1])
                planned = less(self._set, now, rule.id, around.now_ns)
        if planned is None:
            return None
        state, actions = planned
        quiet_ns = min(around.now_ns + _QUIET_NS, state.since_ns + _LATEST_NS)
        until_ns = min(quiet_ns, self._checker.until_ns or quiet_ns)
        told = {"numbers": state.new} if state.new else None
        return Plan(state, actions, None, until_ns, self._links, told)

    def _memo(self, state: RuleSet) -> dict[str, Any]:
        mirrors = sorted(set(state.mirrors.values()))
        return {"numbers": state.numbers, "usage": self.usage.memo(), "mirrors": mirrors}

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        state: RuleSet = plan.state
        self._counts[list(state.new.values())] = 0
        self._over[list(state.new.values())] = 0
        self._set = state if state.settings.enabled else state.gone_from_kernel()
        self._mirrors, self._links = set(state.mirrors.values()), plan.links
        self.usage.keep(state.numbers, state.new)

    def in_use(self, source: str) -> int | None:
        """Of counters by rule, those that a rule ever had."""
        by_rule = source in {"fw_count", "fw_over"}
        return max(self._set.names, default=0) + 1 if by_rule else None

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Events to alerts, one for all equal ones; counters are kept for views."""
        if source == "fw_count":
            self._take_counts(rows, now_ns)
            return Outcome()
        if source == "fw_over":
            self._over = rows.copy()
            return Outcome()
        if source == "fw_samples":
            self.samples.take(rows, self._set.boot_offset_ns)
            return Outcome()
        if source == "fw_rejects":
            self._rejects = rows.copy()
            return Outcome()
        if source == "fw_copies":
            self._copies = rows.copy()
            return Outcome()
        alerts, unreported = alerts_of(
            PacketEvents(rows), self._name, self._set.boot_offset_ns, self._set.limits
        )
        self._unreported += unreported
        return Outcome(alerts, routed=self._set.settings.fib)

    def _take_counts(self, counts: NDArray[Any], now_ns: int) -> None:
        """Counters that rose were hit since the last look; what the first look finds may be old."""
        if self._polled:
            rose = np.flatnonzero(counts["packets"] > self._counts["packets"]).tolist()
            self.usage.hit((self._name(number) for number in rose), now_ns)
        self._counts, self._polled = counts.copy(), True

    def _name(self, number: int) -> str:
        return self._set.names.get(number, f"rule-{number}") if number else DEFAULT_RULE

    def tick(self, now_ns: int) -> Outcome:
        """Flows are ended; now and then, when rules were hit last is written down."""
        ending = self._set.ending
        self._set = replace(self._set, ending=ending[AT_ONCE:]) if ending else self._set
        actions = tuple(end_flows(ending[:AT_ONCE]))
        if not self.usage.tick(now_ns):
            return Outcome(actions=actions)
        return Outcome(actions=actions, memo=self._memo(self._set))

    def items(self, collection: str) -> Sequence[FirewallRuleView]:
        """The rules in the order in which they are tried, with their hits."""
        return [self._view(found) for found in self._set.rules]

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return key in self._set.numbers and bool(self._set.rules)

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
            scope=found.scope,
            src_ip=rule.src_ip,
            dst_ip=rule.dst_ip,
            src_port=ports_text(rule.src_port),
            dst_port=ports_text(rule.dst_port),
            **{name: getattr(rule, name) for name in _SHOWN},
            system=found.origin == "system",
            origin=found.origin,
            packets=int(hits["packets"]),
            bytes=int(hits["bytes"]),
            over=int(self._over[number]),
            last_hit_ns=self.usage.of(rule.id).last_ns or None,
        )

    def surroundings(self) -> Surroundings:
        """Of the machine, what the rules in force were understood with."""
        return self._checker.around

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
            "unresolved": [
                *self._checker.groups.waiting(),
                *absent(self._links),
                *self._checker.owners.absent(),
            ],
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
        text = "What became of rejected packets: answered, or why not"
        for result in self._rejects.dtype.names or ():
            count = float(self._rejects[result][0])
            yield Metric("rejects", "counter", text, {"result": result}, count)
        text = "What became of copies for other interfaces: sent, or why not"
        for result in self._copies.dtype.names or ():
            count = float(self._copies[result][0])
            yield Metric("mirrored", "counter", text, {"result": result}, count)
