"""``max_src_states`` and ``max_src_rate`` of a rule: what it lets one source begin."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_LIMIT
from ebpfsentinel.domains.firewall.settings import RuleAction
from ebpfsentinel.model.action import MapDelete, MapWrite
from ebpfsentinel.model.settings import SettingsError, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebpfsentinel.domains.firewall.settings import FirewallRule
    from ebpfsentinel.model.action import Action

MOST = 4096
"""``FW_LIMITS`` of ``firewall.h``."""
_MAP = "fw_limits"
_RATE = re.compile(r"(\d{1,6})/(.+)")
_PER_NS = 256
"""Times are in parts of a nanosecond, see ``gcra.h``."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``flows`` at a time, 0: any number; ``begins`` in ``seconds``, 0: at any rate.

    ``name`` is of the rule and its rate: another one does not inherit what was counted.
    """

    flows: int = 0
    begins: int = 0
    seconds: int = 1
    name: int = 0


def limit_of(rule: FirewallRule, place: str) -> Limit | None:
    """What the rule lets one source begin; None: anything.

    Raises:
        SettingsError: the rule lets nothing in, or the rate is none.
    """
    if rule.max_src_states is None and rule.max_src_rate is None:
        return None
    field = "max_src_rate" if rule.max_src_states is None else "max_src_states"
    if rule.action not in (RuleAction.ALLOW, RuleAction.LOG):
        raise SettingsError(
            f"{place}.{field}", f"a rule that says {rule.action} lets nothing in",
            "Leave it out, or write allow or log.",
        )  # fmt: skip
    begins, seconds = _rate(f"{place}.max_src_rate", rule.max_src_rate)
    name = zlib.crc32(f"{rule.id} {begins}/{seconds}".encode())
    return Limit(rule.max_src_states or 0, begins, seconds, name)


def _rate(place: str, text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    found = _RATE.fullmatch(text.replace(" ", ""))
    if not found or not int(found[1]):
        raise SettingsError(place, f"{text!r} is no rate", "Write how many in how long: 15/5s.")
    return int(found[1]), parse_duration(place, found[2])


def write_limits(limits: Mapping[int, Limit]) -> Iterator[Action]:
    """Limits by the numbers of their rules, before rules come in force that have them."""
    if not limits:
        return
    values = np.zeros(len(limits), FW_LIMIT)
    for value, limit in zip(values, limits.values(), strict=True):
        value["flows"], value["name"] = limit.flows, limit.name
        if limit.begins:
            value["interval"] = limit.seconds * 1_000_000_000 * _PER_NS // limit.begins
            value["tolerance"] = int(value["interval"]) * (limit.begins - 1)
    yield MapWrite(_MAP, np.array(list(limits), np.uint32), values)


def drop_limits(wanted: Mapping[int, Limit], had: Mapping[int, Limit]) -> Iterator[Action]:
    """Those that no rule has any more."""
    gone = sorted(set(had) - set(wanted))
    if gone:
        yield MapDelete(_MAP, np.array(gone, np.uint32))


def check_count(limits: Mapping[int, Limit]) -> None:
    """No more than the kernel has room for.

    Raises:
        SettingsError: there are.
    """
    if len(limits) > MOST:
        raise SettingsError("firewall.rules", f"{len(limits)} have limits; {MOST} is the most")
