"""What differs between two configurations, without secrets: for the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.config.masking import masked

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 100
"""Items of a list that are told, of each side; the others are counted."""


Side = dict[str, Any]


def differing(before: msgspec.Struct, after: msgspec.Struct) -> tuple[Side, Side]:
    """By section, what only ``before`` has, and what only ``after`` has, secrets as ``***``."""
    sides: tuple[Side, Side] = ({}, {})
    for name in after.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            for side, found in zip(sides, _apart(_plain(old), _plain(new)), strict=True):
                side[name] = found
    return sides


def _plain(section: Any) -> Any:
    if isinstance(section, msgspec.Struct):
        return masked(section)
    return section if section is None else "set"


def _apart(old: Any, new: Any) -> tuple[Any, Any]:
    """The parts of both that the other has not got."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        parts = {key: _apart(old.get(key), new.get(key)) for key in keys}
        return {key: part[0] for key, part in parts.items()}, {
            key: part[1] for key, part in parts.items()
        }
    if isinstance(old, list) and isinstance(new, list):
        return list(_without(old, new)), list(_without(new, old))
    return old, new


def _without(found: list[Any], other: list[Any]) -> Iterator[Any]:
    """Items that the other list has not, in order, and how many more there are."""
    known = {msgspec.json.encode(each) for each in other}
    left = [each for each in found if msgspec.json.encode(each) not in known]
    yield from left[:MOST]
    if len(left) > MOST:
        yield f"and {len(left) - MOST} more"
