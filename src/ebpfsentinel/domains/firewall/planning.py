"""What a reload would change: rule by rule, and packet by packet of those sampled lately."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.domains.firewall.replay import Difference
from ebpfsentinel.model.kernel import Frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.domains.firewall.replay import Judge
    from ebpfsentinel.domains.firewall.rulesets import RuleSource
    from ebpfsentinel.domains.firewall.settings import FirewallRule


def changes(now: RuleSource, then: RuleSource) -> dict[str, Any]:
    """Rules added, removed, changed and moved, and settings that differ."""
    before, after = (_ranked(each) for each in (now, then))
    both = [name for name in after if name in before]
    changed = {name: _fields(before[name], after[name]) for name in both}
    return {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": {name: fields for name, fields in changed.items() if fields},
        "moved": _moved([name for name in before if name in after], both),
        "settings": _settings(now, then),
    }


def _ranked(source: RuleSource) -> dict[str, FirewallRule]:
    """By id, in the order in which they are tried."""
    rules = [*source.settings.rules, *source.runtime]
    return {rule.id: rule for rule in sorted(rules, key=lambda rule: rule.priority)}


def _fields(before: msgspec.Struct, after: msgspec.Struct) -> dict[str, list[Any]]:
    """Field to its value before and after."""
    pairs = {
        name: [getattr(before, name), getattr(after, name)] for name in before.__struct_fields__
    }
    told: dict[str, list[Any]] = msgspec.to_builtins(pairs)
    return {name: pair for name, pair in told.items() if pair[0] != pair[1]}


def _settings(now: RuleSource, then: RuleSource) -> dict[str, list[Any]]:
    found = _fields(now.settings, then.settings)
    found.pop("rules", None)
    return found


def _moved(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Rules that have another place among the others: those off a longest run in the old order."""
    place = {name: at for at, name in enumerate(before)}
    kept = set(_longest_rise([place[name] for name in after]))
    return [name for name in after if place[name] not in kept]


def _longest_rise(values: Sequence[int]) -> list[int]:
    """A longest rising run within the values (Fredman 1975)."""
    ends: list[int] = []
    behind: list[int] = []
    for at, value in enumerate(values):
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if values[ends[middle]] < value else (low, middle)
        behind.append(ends[low - 1] if low else -1)
        ends[low : low + 1] = [at]
    found: list[int] = []
    at = ends[-1] if ends else -1
    while at >= 0:
        found.append(values[at])
        at = behind[at]
    return found


def judge_samples(
    samples: Sequence[Mapping[str, Any]], judges: tuple[Judge, Judge], most: int
) -> Difference:
    """Sampled headers through both rule sets, each on the interface where it was seen."""
    difference, first = Difference(most), 1
    for interface in dict.fromkeys(each["interface"] for each in samples):
        own = [each["frame"] for each in samples if each["interface"] == interface]
        frames = Frames.of([bytes.fromhex(each) for each in own])
        for judge in judges:
            judge.come_in_on(interface or "")
        answers = judges[0].judge(frames), judges[1].judge(frames)
        difference.add(first, frames, judges, answers)
        first += len(own)
    return difference
