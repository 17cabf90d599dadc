"""Where rules stand in the kernel.

Each place of ``fw_banks`` holds rules of a family, best first, bank by bank; ``fw_head`` has those
that are tried before all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.compile import (
    BANK_RULES,
    RankedRule,
    TooManyIntervalsError,
    compile_bank,
)
from ebpfsentinel.domains.firewall.events import FW_HEAD, FW_REST, FW_RULE, FwField
from ebpfsentinel.domains.firewall.settings import MAX_RULES
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.firewall.ranking import CheckedRule

BANKS = MAX_RULES // BANK_RULES
FIRST_PLACE = {4: 0, 6: BANKS}
OUT_PLACE = {4: 2 * BANKS, 6: 2 * BANKS + 1}
"""``FWOUT_PLACE``: the rules for packets that leave."""
WIDE = (*range(BANKS, 2 * BANKS), OUT_PLACE[6])
HEAD_ASKS: dict[int, int] = {
    FwField.FW_SRC_MAC: 1,
    FwField.FW_DST_MAC: 1,
    FwField.FW_STATE: 2,
    FwField.FW_OWNER: 4,
}
"""``FW_HEAD_...`` by the fields that they are for."""
FIRST_RULES = FW_HEAD["first"].shape[0]
"""``FW_AHEAD``."""
Bank = tuple[tuple[RankedRule, int], ...]


def first_of(rules: Sequence[CheckedRule]) -> tuple[CheckedRule, ...]:
    """The rules that the head has: those that keep the owner in, where they are not too many.

    They rank before all others, and ask for a TCP port; some for an interface too.
    """
    found = tuple(rule for rule in rules if rule.origin == "system" and rule.ranked)
    return found if len(found) <= FIRST_RULES else ()


def put_first(head: NDArray[Any], first: Sequence[CheckedRule], numbers: Mapping[str, int]) -> None:
    """Put them into the head, shape ``(1,)``."""
    ports = {0}
    for at, found in enumerate(first):
        ranked = next(iter(found.ranked.values()))  # without addresses, all families have the same
        alone = ranked.alone(numbers[found.rule.id])
        assert alone  # noqa: S101 (a port and an interface fit into a record)
        head["first"][0, at] = np.frombuffer(alone[0], FW_RULE)[0]
        head["first_rests"][0, at] = np.frombuffer(alone[1], FW_REST)[0]
        (low, _), *_ = ranked.asks[FwField.FW_DST_PORT]
        ports.add(1 << low % 64)
    head["first_ports"], head["first_count"] = sum(ports), len(first)


def places_of(rules: Sequence[CheckedRule], numbers: Mapping[str, int]) -> dict[int, Bank]:
    """What each place of ``fw_banks`` shall hold.

    Raises:
        SettingsError: there are too many.
    """
    places = {}
    ahead = {found.rule.id for found in first_of(rules)}
    for family, first in FIRST_PLACE.items():
        ranked = tuple(
            (found.ranked[family], numbers[found.rule.id])
            for found in rules
            if family in found.ranked and found.rule.enabled and found.rule.id not in ahead
        )
        if len(ranked) > MAX_RULES:
            raise SettingsError(
                "firewall.rules",
                f"{len(ranked)} rules for IPv{family}; {MAX_RULES} is the most",
                "Join neighbouring CIDRs or port ranges, or use aliases.",
            )
        for bank, start in enumerate(range(0, len(ranked), BANK_RULES)):
            places[first + bank] = ranked[start : start + BANK_RULES]
        if leaving := tuple(each for each in ranked if FwField.FW_OWNER in each[0].asks):
            places[OUT_PLACE[family]] = leaving[:BANK_RULES]
            _check_leaving(len(leaving))
    return places


def _check_leaving(count: int) -> None:
    if count > BANK_RULES:
        raise SettingsError(
            "firewall.rules", f"{count} rules name processes; {BANK_RULES} is the most"
        )


def asks_of(places: Mapping[int, Bank]) -> int:
    """What only some rule sets ask for, as ``FW_HEAD_...`` of ``firewall.h``."""
    rules = [rule for bank in places.values() for rule, _ in bank]
    asked = set().union(*(rule.asks for rule in rules))
    if any(rule.limited for rule in rules):
        asked.add(FwField.FW_STATE)
    return sum({bit for name, bit in HEAD_ASKS.items() if name in asked})


def tables_of(places: Mapping[int, Bank], kept: Mapping[int, int]) -> dict[int, NDArray[Any]]:
    """The tables of the places that are not kept.

    Raises:
        SettingsError: rules differ in too many places.
    """
    try:
        return {
            place: compile_bank(bank, wide=place in WIDE)
            for place, bank in places.items()
            if place not in kept
        }
    except TooManyIntervalsError as error:
        raise SettingsError("firewall.rules", str(error), "Use fewer or wider ranges.") from None
