"""The firewall's pure half: plans rule sets, keeps their counters, turns events into alerts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.alerting import alerts_of
from ebpfsentinel.domains.firewall.compile import (
    BANK_RULES,
    RankedRule,
    TooManyIntervalsError,
    compile_bank,
)
from ebpfsentinel.domains.firewall.events import (
    FW_COUNT,
    FW_HEAD,
    FW_REJECTS,
    FwField,
    FwMode,
    PacketAction,
    PacketEvents,
)
from ebpfsentinel.domains.firewall.ranking import CheckedRule, Checker, ports_text
from ebpfsentinel.domains.firewall.samples import Samples
from ebpfsentinel.domains.firewall.settings import (
    MAX_RULES,
    FirewallRuleView,
    FirewallSettings,
    Policy,
)
from ebpfsentinel.domains.firewall.sources import sources
from ebpfsentinel.domains.firewall.usage import Usage
from ebpfsentinel.model.action import MapDelete, MapWrite, Switch
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.domain import Tools

_NUMBERS = 32768
_QUEUE = 2048
"""Packets that may wait for a CPU; what comes when it is full is lost, as on a full device."""
_PLACES = FW_HEAD["serial"].shape[0]
_FIRST_PLACE = {4: 0, 6: _PLACES // 2}
_MAC_FIELDS = (FwField.FW_SRC_MAC, FwField.FW_DST_MAC)
_SHOWN = (
    "vlan_id",
    "src_alias",
    "dst_alias",
    "src_port_alias",
    "dst_port_alias",
    "negate_source",
    "negate_destination",
    "icmp_type",
    "icmp_code",
    "flags",
    "dscp_match",
    "fragment",
    "inner_vlan_id",
    "src_mac",
    "dst_mac",
    "cpu",
    "schedule",
    "expires_at",
)
Bank = tuple[tuple[RankedRule, int], ...]
_KEEP_FROM, _TAIL_RULES = 512, 512
"""A first bank of so many rules is kept when at most so many are added behind it."""
DEFAULT_RULE = "default-policy"
"""The rule id that events carry when no rule matched."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One generation: ranked rules, and the number that each is counted under.

    ``names`` also keeps the ids of rules that are gone, for events still on their way. ``places``
    has what each place of ``fw_banks`` holds, ``serials`` what it is called in ``fw_head``.
    """

    settings: FirewallSettings
    rules: tuple[CheckedRule, ...]
    numbers: dict[str, int]
    names: dict[int, str]
    boot_offset_ns: int = 0
    places: dict[int, Bank] = field(default_factory=dict)
    serials: dict[int, int] = field(default_factory=dict)

    def cpus(self) -> set[int]:
        """Those that rules steer to, in the kernel: it is not given what is not enabled."""
        if not self.settings.enabled:
            return set()
        found = (checked.rule for checked in self.rules if checked.rule.enabled)
        return {rule.cpu for rule in found if rule.cpu is not None}


class FirewallEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._set = RuleSet(FirewallSettings(), (), {}, {})
        self._checker = Checker(FirewallSettings(), Surroundings())
        self._counts = np.zeros(_NUMBERS, FW_COUNT)
        self.usage = Usage()
        self.samples = Samples()
        self._polled = False
        self._unreported = 0
        self._rejects = np.zeros(1, FW_REJECTS)

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
            SettingsError: a rule cannot be taken, or there are more than 16,384 for a family.
        """
        if not self._checker.fits(settings, around):
            self._checker = Checker(settings, around)
        rules = self._checker.check_all(sources(settings, runtime.get("rules", ()), around))
        numbers = self._numbered(rules)
        fresh = sorted(set(numbers.values()) - set(self._set.numbers.values()))
        names = self._set.names | {number: name for name, number in numbers.items()}
        places = _places(rules, numbers, self._tails(settings))
        kept = {
            place: self._set.serials[place]
            for place, bank in places.items()
            if not around.anew and self._set.places.get(place) == bank
        }
        serial = max(self._set.serials.values(), default=0) + 1
        serials = {place: kept.get(place, serial) for place in places}
        state = RuleSet(
            settings, tuple(rules), numbers, names, around.boot_offset_ns, places, serials
        )
        actions = tuple(_changes(fresh, self._set, state, kept, anew=around.anew))
        return Plan(state, actions, self._memo(numbers), self._checker.until_ns)

    def _tails(self, settings: FirewallSettings) -> Mapping[int, Bank]:
        """First banks that may stay as they are when rules are added behind them.

        Rules added one by one then cost a small bank each time, not a large one. A reload packs
        all anew, so that packets are not looked up in more banks than they must be.
        """
        same = settings is self._set.settings
        return {place: self._set.places.get(place, ()) for place in _FIRST_PLACE.values() if same}

    def _memo(self, numbers: Mapping[str, int]) -> dict[str, Any]:
        return {"numbers": dict(numbers), "usage": self.usage.memo()}

    def _numbered(self, rules: Sequence[CheckedRule]) -> dict[str, int]:
        """Rules keep their number; new ones get one that no event on its way can carry."""
        known, names = self._set.numbers, self._set.names
        fresh = (n for n in range(1, _NUMBERS) if n not in names)
        reused = self._reusable(rules)
        numbers = {found.rule.id: known.get(found.rule.id, 0) for found in rules}
        for name in [name for name, number in numbers.items() if not number]:
            numbers[name] = next(fresh, 0) or next(reused, 0)
            if not numbers[name]:
                raise SettingsError("firewall.rules", f"more than {_NUMBERS - 1} rules")
        return numbers

    def _reusable(self, rules: Sequence[CheckedRule]) -> Iterator[int]:
        """Numbers of rules that are gone; asked for only when there are no others."""
        known = self._set.numbers
        used = {known[found.rule.id] for found in rules if found.rule.id in known}
        yield from (n for n in sorted(self._set.names) if n and n not in used)

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        for number in set(plan.state.numbers.values()) - set(self._set.numbers.values()):
            self._counts[number] = 0
        self._set = plan.state
        if not plan.state.settings.enabled:  # the kernel was not given it
            self._set = replace(plan.state, places={}, serials={})
        self.usage.keep(plan.state.numbers)

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Events to alerts, one for all equal ones; counters are kept for views."""
        if source == "fw_count":
            self._take_counts(rows, now_ns)
            return Outcome()
        if source == "fw_samples":
            self.samples.take(rows, self._set.boot_offset_ns)
            return Outcome()
        if source == "fw_rejects":
            self._rejects = rows.copy()
            return Outcome()
        alerts, unreported = alerts_of(PacketEvents(rows), self._name, self._set.boot_offset_ns)
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
        """Now and then, when rules were hit last is written down."""
        if not self.usage.tick(now_ns):
            return Outcome()
        return Outcome(memo=self._memo(self._set.numbers))

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
            "unresolved": list(self._checker.groups.waiting()),
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


def _places(
    rules: Sequence[CheckedRule], numbers: Mapping[str, int], firsts: Mapping[int, Bank]
) -> dict[int, Bank]:
    """What each place of ``fw_banks`` shall hold; ``firsts`` are banks to be kept if they fit.

    Raises:
        SettingsError: there are too many.
    """
    places = {}
    for family, first in _FIRST_PLACE.items():
        ranked = tuple(
            (found.ranked[family], numbers[found.rule.id])
            for found in rules
            if family in found.ranked and found.rule.enabled
        )
        if len(ranked) > MAX_RULES:
            raise SettingsError(
                "firewall.rules",
                f"{len(ranked)} rules for IPv{family}; {MAX_RULES} is the most",
                "Join neighbouring CIDRs or port ranges, or use aliases.",
            )
        for bank, part in enumerate(_banks(ranked, firsts.get(first, ()))):
            places[first + bank] = part
    return places


def _banks(ranked: Bank, kept: Bank) -> Iterator[Bank]:
    """Banks in order: ``kept`` and a short one, where the rules are that; else full ones."""
    more = len(ranked) - len(kept)
    if len(kept) >= _KEEP_FROM and 0 < more <= _TAIL_RULES and ranked[: len(kept)] == kept:
        yield kept
        yield ranked[len(kept) :]
        return
    for start in range(0, len(ranked), BANK_RULES):
        yield ranked[start : start + BANK_RULES]


def _changes(
    fresh: Sequence[int], before: RuleSet, after: RuleSet, kept: Mapping[int, int], *, anew: bool
) -> Iterator[Action]:
    """CPUs have their queue before the first rule that steers there, until behind the last."""
    if fresh:
        yield MapDelete("fw_count", np.array(fresh, np.uint32))
    coming = np.array(sorted(after.cpus() - (set() if anew else before.cpus())), np.uint32)
    if len(coming):
        yield MapWrite("steer_cpus", coming, np.full(len(coming), _QUEUE, np.uint32))
    yield _switch(after, kept)
    if gone := before.cpus() - after.cpus():
        yield MapDelete("steer_cpus", np.array(sorted(gone), np.uint32))


def _switch(state: RuleSet, kept: Mapping[int, int]) -> Switch:
    """The tables of what has changed, and the head of all."""
    settings, places = state.settings, state.places
    head = np.zeros(1, FW_HEAD)
    wide = sum(place >= _FIRST_PLACE[6] for place in places)
    head["banks"] = len(places) - wide, wide
    block = settings.mode is Mode.BLOCK
    drop = settings.default_policy is Policy.DROP
    head["mode"] = FwMode.FW_MODE_BLOCK if block else FwMode.FW_MODE_ALERT
    head["default_action"] = PacketAction.ACTION_DROP if drop else PacketAction.ACTION_PASS
    asked = set().union(*(rule.asks for bank in places.values() for rule, _ in bank))
    head["asks_macs"] = any(name in asked for name in _MAC_FIELDS)
    head["sample_every"] = settings.sample_every
    for place, serial in state.serials.items():
        head["serial"][0, place] = serial
    try:
        tables = {
            place: compile_bank(bank, wide=place >= _FIRST_PLACE[6])
            for place, bank in places.items()
            if place not in kept
        }
    except TooManyIntervalsError as error:
        raise SettingsError("firewall.rules", str(error), "Use fewer or wider ranges.") from None
    return Switch("fw_banks", tables, kept, "fw_head", head)
