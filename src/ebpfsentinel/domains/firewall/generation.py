"""One generation of rules, and how it comes in force: banks of rules, and the head of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.firewall.compile import (
    BANK_RULES,
    RankedRule,
    TooManyIntervalsError,
    compile_bank,
)
from ebpfsentinel.domains.firewall.events import FW_HEAD, FwField, FwMode, PacketAction
from ebpfsentinel.domains.firewall.mirrors import mirrors_before, mirrors_behind
from ebpfsentinel.domains.firewall.settings import MAX_RULES, FirewallSettings, Policy
from ebpfsentinel.model.action import MapDelete, MapWrite, Switch
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.domains.firewall.ranking import CheckedRule
    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.domain import Surroundings

_QUEUE = 2048
"""Packets that may wait for a CPU; what comes when it is full is lost, as on a full device."""
_PLACES = FW_HEAD["serial"].shape[0]
FIRST_PLACE = {4: 0, 6: _PLACES // 2}
_MAC_FIELDS = (FwField.FW_SRC_MAC, FwField.FW_DST_MAC)
Bank = tuple[tuple[RankedRule, int], ...]
_KEEP_FROM, _TAIL_RULES = 512, 512
"""A first bank of so many rules is kept when at most so many are added behind it."""


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

    def mirrors(self) -> dict[int, str]:
        """By their numbers, rules whose packets are copied, and the interface for that."""
        if not self.settings.enabled:
            return {}
        found = (checked.rule for checked in self.rules if checked.rule.enabled)
        return {self.numbers[rule.id]: rule.mirror for rule in found if rule.mirror is not None}


def places_of(
    rules: Sequence[CheckedRule], numbers: Mapping[str, int], firsts: Mapping[int, Bank]
) -> dict[int, Bank]:
    """What each place of ``fw_banks`` shall hold; ``firsts`` are banks to be kept if they fit.

    Raises:
        SettingsError: there are too many.
    """
    places = {}
    for family, first in FIRST_PLACE.items():
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


def changes(
    fresh: Sequence[int],
    before: RuleSet,
    after: RuleSet,
    kept: Mapping[int, int],
    around: Surroundings,
) -> Iterator[Action]:
    """What rules send to is there before the first of them, until behind the last."""
    anew, links = around.anew, around.links or {}
    mirrors, had = after.mirrors(), before.mirrors()
    if fresh:
        yield MapDelete("fw_count", np.array(fresh, np.uint32))
    coming = np.array(sorted(after.cpus() - (set() if anew else before.cpus())), np.uint32)
    if len(coming):
        yield MapWrite("steer_cpus", coming, np.full(len(coming), _QUEUE, np.uint32))
    yield from mirrors_before(mirrors, had, links, anew=anew)
    yield _switch(after, kept)
    yield from mirrors_behind(mirrors, had, links, anew=anew)
    if gone := before.cpus() - after.cpus():
        yield MapDelete("steer_cpus", np.array(sorted(gone), np.uint32))


def _switch(state: RuleSet, kept: Mapping[int, int]) -> Switch:
    """The tables of what has changed, and the head of all."""
    settings, places = state.settings, state.places
    head = np.zeros(1, FW_HEAD)
    wide = sum(place >= FIRST_PLACE[6] for place in places)
    head["banks"] = len(places) - wide, wide
    block = settings.mode is Mode.BLOCK
    drop = settings.default_policy is Policy.DROP
    head["mode"] = FwMode.FW_MODE_BLOCK if block else FwMode.FW_MODE_ALERT
    head["default_action"] = PacketAction.ACTION_DROP if drop else PacketAction.ACTION_PASS
    asked = set().union(*(rule.asks for bank in places.values() for rule, _ in bank))
    head["asks_macs"] = any(name in asked for name in _MAC_FIELDS)
    head["mirrors"] = bool(state.mirrors())
    head["sample_every"] = settings.sample_every
    for place, serial in state.serials.items():
        head["serial"][0, place] = serial
    try:
        tables = {
            place: compile_bank(bank, wide=place >= FIRST_PLACE[6])
            for place, bank in places.items()
            if place not in kept
        }
    except TooManyIntervalsError as error:
        raise SettingsError("firewall.rules", str(error), "Use fewer or wider ranges.") from None
    return Switch("fw_banks", tables, kept, "fw_head", head)
