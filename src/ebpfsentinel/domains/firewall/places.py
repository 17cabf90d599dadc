"""What each place of ``fw_banks`` holds: the rules of a family, best first, bank by bank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.compile import (
    BANK_RULES,
    RankedRule,
    TooManyIntervalsError,
    compile_bank,
)
from ebpfsentinel.domains.firewall.events import FwField
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
Bank = tuple[tuple[RankedRule, int], ...]


def places_of(rules: Sequence[CheckedRule], numbers: Mapping[str, int]) -> dict[int, Bank]:
    """What each place of ``fw_banks`` shall hold.

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
