"""One generation of rules, and the way to it: planned whole, or as one rule more or less.

A whole plan looks at every rule and compiles every bank that differs. That is some 50 ms of 4,096
rules: too much for one rule that is added by hand or, one after another, by a script. Such a rule
is put into the list of fresh ones of the bank that it ranks in (``fw_tables.fresh``), in force at
once by one store, at a cost that does not depend on how many there are. Each packet pays for the
list, so a whole plan takes it up as soon as no more rules come, or when it is full. A rule that is
removed is passed over by programs, from one store on, until then.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.firewall.compile import BANK
from ebpfsentinel.domains.firewall.ending import AT_ONCE, end_flows, is_ending
from ebpfsentinel.domains.firewall.events import (
    FW_HEAD,
    FW_REST,
    FW_RULE,
    FwField,
    FwMode,
    PacketAction,
)
from ebpfsentinel.domains.firewall.limits import Limit, check_count, drop_limits, write_limits
from ebpfsentinel.domains.firewall.mirrors import mirrors_before, mirrors_behind
from ebpfsentinel.domains.firewall.owners import Owners, asks_for_owner
from ebpfsentinel.domains.firewall.places import (
    BANKS,
    FIRST_PLACE,
    HEAD_ASKS,
    OUT_PLACE,
    Bank,
    asks_of,
    first_of,
    places_of,
    put_first,
    tables_of,
)
from ebpfsentinel.domains.firewall.ranking import CheckedRule, priority_of
from ebpfsentinel.domains.firewall.settings import MAX_RULES, FirewallSettings, Policy
from ebpfsentinel.model.action import Engage, MapDelete, MapWrite, Patch, Switch
from ebpfsentinel.model.domain import Surroundings
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec

    from ebpfsentinel.domains.firewall.compile import RankedRule
    from ebpfsentinel.model.action import Action

NUMBERS = 32768
FRESH_RULES, GONE_RULES = BANK["fresh"].shape[0], 4
"""``FW_FRESH`` and ``FW_GONE``."""
_QUEUE = 2048
"""Packets that may wait for a CPU; what comes when it is full is lost, as on a full device."""
_LEAVING = "egress_firewall"
_KEPT = HEAD_ASKS[FwField.FW_STATE]


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One generation: ranked rules, and the number that each is counted under.

    ``names`` also keeps the ids of rules that are gone, for events still on their way; no number
    below ``free`` is free. ``new`` has the rules that were not there before. ``places`` has what
    each place of ``fw_banks`` was compiled from, ``serials`` what it is called in ``fw_head``, and
    ``fresh`` the numbers of rules that were added there since; of those, ``gone`` names the place
    of each that was removed again. The first of both was at ``since_ns`` (wall time).
    ``runtime`` are the rules of the API, as handed in. ``cpus`` are those that rules steer to,
    ``mirrors`` has, by the numbers of rules whose packets are copied, the interface for that; none
    of what is not enabled, which the kernel is not given. ``ending`` are rules whose flows are
    still to be ended, a few at a time. ``limits`` are of rules that have some, by number,
    ``owners`` the classes of processes that rules name.
    """

    settings: FirewallSettings
    rules: tuple[CheckedRule, ...]
    numbers: dict[str, int]
    names: dict[int, str]
    boot_offset_ns: int = 0
    places: dict[int, Bank] = field(default_factory=dict)
    serials: dict[int, int] = field(default_factory=dict)
    fresh: dict[int, tuple[int, ...]] = field(default_factory=dict)
    gone: tuple[int, ...] = ()
    since_ns: int = 0
    runtime: tuple[msgspec.Struct, ...] = ()
    new: dict[str, int] = field(default_factory=dict)
    free: int = 1
    asks: int = 0
    cpus: frozenset[int] = frozenset()
    mirrors: dict[int, str] = field(default_factory=dict)
    ending: tuple[CheckedRule, ...] = ()
    limits: dict[int, Limit] = field(default_factory=dict)
    owners: Owners | None = None

    @property
    def leaving(self) -> int:
        """For which packets that leave there are rules: ``fw_head.out``."""
        return sum(1 << bit for bit, at in enumerate(OUT_PLACE.values()) if at in self.places)

    def size(self, family: int) -> int:
        """Rules of the family in the kernel."""
        mine = range(FIRST_PLACE[family], FIRST_PLACE[family] + BANKS)
        return sum(len(self.places.get(at, ())) + len(self.fresh.get(at, ())) for at in mine)

    def place_of(self, family: int, priority: int) -> int | None:
        """The bank that a rule ranks in: the first whose last rule comes behind it, or the last."""
        first = FIRST_PLACE[family]
        mine = [at for at in range(first, first + BANKS) if at in self.places]
        behind = (at for at in mine if self.places[at][-1][0].priority > priority)
        return next(behind, mine[-1] if mine else None)

    def gone_from_kernel(self) -> RuleSet:
        """The same, of which the kernel was given nothing."""
        return replace(self, places={}, serials={}, fresh={}, gone=())


def whole(
    before: RuleSet,
    settings: FirewallSettings,
    runtime: tuple[msgspec.Struct, ...],
    rules: Sequence[CheckedRule],
    around: Surroundings,
) -> tuple[RuleSet, tuple[Action, ...]]:
    """All rules, ranked, after those that were in force ``before``.

    Raises:
        SettingsError: there are too many.
    """
    new, free = _numbered(before, rules)
    numbers = {found.rule.id: before.numbers.get(found.rule.id, 0) for found in rules} | new
    names = before.names | {number: name for name, number in numbers.items()}
    places = places_of(rules, numbers)
    kept = {
        place: before.serials[place]
        for place, bank in places.items()
        if not around.anew
        and before.places.get(place) == bank
        and place not in (*before.fresh, *before.gone)
    }
    serial = max(before.serials.values(), default=0) + 1
    enabled = [found.rule for found in rules if found.rule.enabled and settings.enabled]
    after = RuleSet(
        settings,
        tuple(rules),
        numbers,
        names,
        around.boot_offset_ns,
        places,
        {place: kept.get(place, serial) for place in places},
        runtime=runtime,
        new=new,
        free=free,
        asks=asks_of(places) | _KEPT * _keeps_state(settings, around),
        cpus=frozenset(rule.cpu for rule in enabled if rule.cpu is not None),
        mirrors={numbers[rule.id]: rule.mirror for rule in enabled if rule.mirror is not None},
        limits={numbers[each.rule.id]: each.limit for each in rules if each.limit is not None},
        owners=Owners(around) if around.executables or around.cgroups else None,
    )
    check_count(after.limits)
    fresh = _denying_anew(before, after)
    waiting = (found for found in before.ending if found.rule.id in numbers)
    after = replace(after, ending=(*fresh[AT_ONCE:], *waiting))
    return after, (*_changes(before, after, kept, around), *end_flows(fresh[:AT_ONCE]))


def _keeps_state(settings: FirewallSettings, around: Surroundings) -> bool:
    """Do flows matter to packets that no rule matches?"""
    drops = settings.default_policy is Policy.DROP
    return settings.keep_state and drops and "flows" in around.provided


def _denying_anew(before: RuleSet, after: RuleSet) -> tuple[CheckedRule, ...]:
    """Rules that may end flows: those that are new, or none of which ended any before.

    Of a run before this one only the names of the rules are known.
    """
    if not is_ending(after.settings):
        return ()
    known = {found.rule.id: found.rule for found in before.rules}
    if not before.rules:
        return tuple(found for found in after.rules if found.rule.id not in before.numbers)
    if not is_ending(before.settings):
        return after.rules
    return tuple(found for found in after.rules if known.get(found.rule.id) != found.rule)


def more(
    before: RuleSet, runtime: tuple[msgspec.Struct, ...], found: CheckedRule, now_ns: int
) -> tuple[RuleSet, tuple[Action, ...]] | None:
    """One rule more of the API, the last; None: it is not to be had without a whole plan."""
    number = before.free
    while number in before.names:
        number += 1
    ranked = found.ranked if found.rule.enabled else {}
    patches = [_patch(before, family, rule, number) for family, rule in ranked.items()]
    if number >= NUMBERS or _sends(found) or not all(patches):
        return None
    taken = {p.place: (*before.fresh.get(p.place, ()), number) for p in patches if p}
    at = bisect_right(before.rules, priority_of(found), key=priority_of)
    after = replace(
        before,
        rules=(*before.rules[:at], found, *before.rules[at:]),
        numbers=before.numbers | {found.rule.id: number},
        names=before.names | {number: found.rule.id},
        fresh=before.fresh | taken,
        since_ns=before.since_ns or now_ns,
        runtime=runtime,
        new={found.rule.id: number},
        free=number + 1,
    )
    clean = MapDelete("fw_count", np.array([number], np.uint32))
    ends = end_flows([found]) if is_ending(before.settings) else ()
    return after, (clean, *(patch for patch in patches if patch), *ends)


def less(
    before: RuleSet, runtime: tuple[msgspec.Struct, ...], name: str, now_ns: int
) -> tuple[RuleSet, tuple[Action, ...]] | None:
    """Without one rule of the API; None: it is not to be had without a whole plan."""
    number = before.numbers[name]
    at = next(at for at, each in enumerate(before.rules) if each.rule.id == name)
    found = before.rules[at]
    families = found.ranked if found.rule.enabled else {}
    patches = [_removal(before, family, number) for family in families]
    if _sends(found) or not all(patches):
        return None
    after = replace(
        before,
        rules=before.rules[:at] + before.rules[at + 1 :],
        numbers={each: n for each, n in before.numbers.items() if n != number},
        gone=(*before.gone, *(patch.place for patch in patches if patch)),
        since_ns=before.since_ns or now_ns,
        runtime=runtime,
        new={},
    )
    return after, tuple(patch for patch in patches if patch)


def _uncounted(numbers: Sequence[int]) -> Iterator[Action]:
    """Nothing has been counted under these numbers yet."""
    for name in ("fw_count", "fw_over"):
        yield MapDelete(name, np.array(numbers, np.uint32))


def _sends(found: CheckedRule) -> bool:
    """Does the rule need more than its tables?"""
    more = (found.rule.cpu, found.rule.mirror, found.limit) != (None, None, None)
    return more or asks_for_owner(found.rule)


def _removal(state: RuleSet, family: int, number: int) -> Patch | None:
    """The rule's number taken away; None: too many of its bank have gone."""
    first = FIRST_PLACE[family]
    for place in range(first, first + BANKS):
        compiled = [each for _, each in state.places.get(place, ())]
        fresh = state.fresh.get(place, ())
        for name, numbers in (("rules", compiled), ("fresh", fresh)):
            if number in numbers and state.gone.count(place) < GONE_RULES:
                at = _offset(name) + numbers.index(number) * FW_RULE.itemsize
                return _in_force(state, place, ((at, bytes(8)),))
    return None


def _in_force(state: RuleSet, place: int, writes: tuple[tuple[int, bytes], ...]) -> Patch:
    return Patch("fw_banks", place, state.serials[place], "fw_head", FW_HEAD, writes)


def _patch(state: RuleSet, family: int, ranked: RankedRule, number: int) -> Patch | None:
    """The rule behind the other fresh ones of its bank; None: it cannot stand there."""
    place, alone = state.place_of(family, ranked.priority), ranked.alone(number)
    asks = sum({HEAD_ASKS[name] for name in ranked.asks if name in HEAD_ASKS})
    if place is None or alone is None or asks & ~state.asks:
        return None
    at = len(state.fresh.get(place, ()))
    if at == FRESH_RULES or state.size(family) >= MAX_RULES:
        return None
    rule, rest = alone
    writes = (
        (_offset("fresh") + at * FW_RULE.itemsize, rule),
        (_offset("fresh_rests") + at * FW_REST.itemsize, rest),
        (_offset("fresh_count"), (at + 1).to_bytes(4, "little")),
    )
    return _in_force(state, place, writes)


def _offset(name: str) -> int:
    fields = BANK.fields
    return int(fields[name][1]) if fields else 0


def _numbered(before: RuleSet, rules: Sequence[CheckedRule]) -> tuple[dict[str, int], int]:
    """Rules keep their number; new ones get one that no event on its way can carry.

    Returns those of new rules, and the number below which none is free.
    """
    known, names = before.numbers, before.names
    unused = (number for number in range(before.free, NUMBERS) if number not in names)
    reused = _reusable(before, rules)
    new: dict[str, int] = {}
    free = before.free
    for name in (found.rule.id for found in rules if found.rule.id not in known):
        if number := next(unused, 0):
            free = number + 1
        new[name] = number or next(reused, 0)
        if not new[name]:
            raise SettingsError("firewall.rules", f"more than {NUMBERS - 1} rules")
    return new, free


def _reusable(before: RuleSet, rules: Sequence[CheckedRule]) -> Iterator[int]:
    """Numbers of rules that are gone; asked for only when there are no others."""
    known = before.numbers
    used = {known[found.rule.id] for found in rules if found.rule.id in known}
    yield from (n for n in sorted(before.names) if n and n not in used)


def _changes(
    before: RuleSet, after: RuleSet, kept: Mapping[int, int], around: Surroundings
) -> Iterator[Action]:
    """What rules send to is there before the first of them, until behind the last."""
    anew, links = around.anew, around.links or {}
    mirrors, had = after.mirrors, before.mirrors
    if after.new:
        yield from _uncounted(sorted(after.new.values()))
    coming = np.array(sorted(after.cpus - (frozenset() if anew else before.cpus)), np.uint32)
    if len(coming):
        yield MapWrite("steer_cpus", coming, np.full(len(coming), _QUEUE, np.uint32))
    yield from mirrors_before(mirrors, had, links, anew=anew)
    yield from write_limits(after.limits)
    if after.owners != before.owners or (anew and after.leaving):
        yield from (after.owners or Owners(Surroundings())).actions()
    yield _switch(after, kept, around.netns)
    yield from drop_limits(after.limits, before.limits)
    if bool(after.leaving) != bool(before.leaving):
        yield Engage(_LEAVING, on=bool(after.leaving))
    yield from mirrors_behind(mirrors, had, links, anew=anew)
    if gone := before.cpus - after.cpus:
        yield MapDelete("steer_cpus", np.array(sorted(gone), np.uint32))


def _switch(state: RuleSet, kept: Mapping[int, int], netns: int) -> Switch:
    """The tables of what has changed, and the head of all."""
    settings, places = state.settings, state.places
    head = np.zeros(1, FW_HEAD)
    head["banks"] = [
        sum(first <= place < first + BANKS for place in places) for first in FIRST_PLACE.values()
    ]
    head["out"] = state.leaving
    head["netns"] = netns
    block = settings.mode is Mode.BLOCK
    drop = settings.default_policy is Policy.DROP
    head["mode"] = FwMode.FW_MODE_BLOCK if block else FwMode.FW_MODE_ALERT
    head["default_action"] = PacketAction.ACTION_DROP if drop else PacketAction.ACTION_PASS
    head["asks"] = state.asks
    head["keep_state"] = bool(state.asks & _KEPT) and settings.keep_state
    head["mirrors"] = bool(state.mirrors)
    head["sample_every"] = settings.sample_every
    for place, serial in state.serials.items():
        head["serial"][0, place] = serial
    put_first(head, first_of(state.rules), state.numbers)
    return Switch("fw_banks", tables_of(places, kept), kept, "fw_head", head)
