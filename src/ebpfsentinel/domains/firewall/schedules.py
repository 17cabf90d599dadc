"""Schedules: days and times of day as spans of wall time, worked out some days ahead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.groups import joined
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from ebpfsentinel.domains.firewall.groups import Ranges
    from ebpfsentinel.domains.firewall.settings import Schedule, Window

DAY_S = 86400
AHEAD_DAYS = 8
"""So many days a schedule goes on without an agent; with one it is worked out anew each day."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EPOCH_DAY = 3
"""1970-01-01 was a Thursday."""
_TIME = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)")


def spans_of(name: str, schedule: Schedule, now_s: int, utc_offset_s: int) -> Ranges:
    """When the schedule holds: inclusive spans of wall time in seconds, from yesterday on.

    Raises:
        SettingsError: a day or a time cannot be read.
    """
    today = (now_s + utc_offset_s) // DAY_S
    found = []
    for index, window in enumerate(schedule.entries):
        place = f"firewall.schedules.{name}.entries[{index}]"
        days, (start, end) = _days(window, place), _times(window, place)
        for day in range(today - 1, today + AHEAD_DAYS):
            if (day + _EPOCH_DAY) % 7 in days:
                midnight = day * DAY_S - utc_offset_s
                found.append((midnight + start, midnight + end - 1))
    return joined(found)


def next_day_ns(now_s: int, utc_offset_s: int) -> int:
    """The next local midnight, wall time."""
    today = (now_s + utc_offset_s) // DAY_S
    return ((today + 1) * DAY_S - utc_offset_s) * 1_000_000_000


def _days(window: Window, place: str) -> set[int]:
    unknown = [day for day in window.days if day.lower()[:3] not in _DAYS]
    if unknown:
        raise SettingsError(
            f"{place}.days", f"{unknown[0]!r} is not a day", f"Write {', '.join(_DAYS)}."
        )
    return {_DAYS.index(day.lower()[:3]) for day in window.days} or set(range(7))


def _times(window: Window, place: str) -> tuple[int, int]:
    """Seconds after midnight; the end is exclusive, and behind midnight where it comes first."""
    found = _TIME.fullmatch(window.time.replace(" ", ""))
    hours = [int(part) for part in found.groups()] if found else [99] * 4
    start, end = hours[0] * 3600 + hours[1] * 60, hours[2] * 3600 + hours[3] * 60
    if max(hours[1], hours[3]) > 59 or start >= DAY_S or end > DAY_S or start == end:
        raise SettingsError(
            f"{place}.time", f"{window.time!r} is not a span of a day", "Write it as 08:00-17:30."
        )
    return start, end if end > start else end + DAY_S
