"""Values as plain text for a terminal: columns of fixed width, within 80.

What an agent tells may come from an attacker (a path, a host name), so nothing but printable
characters reaches the terminal.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WIDTH = 80
_GAP = 2
_NARROWEST = 5


def printable(text: str) -> str:
    """``text`` with escapes for what a terminal could act upon."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def cell(value: Any) -> str:
    """A value as one cell."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(cell(each) for each in value) or "-"
    return printable(json.dumps(value) if isinstance(value, dict) else str(value))


def time_of(timestamp_ns: int) -> str:
    """Wall nanoseconds as local time, without the year."""
    when = dt.datetime.fromtimestamp(timestamp_ns / 1e9, dt.UTC).astimezone()
    return f"{when:%m-%d %H:%M:%S}"


def date_of(timestamp_ns: int) -> str:
    """Wall nanoseconds as local time, to the minute."""
    when = dt.datetime.fromtimestamp(timestamp_ns / 1e9, dt.UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M}"


def table(
    headings: Sequence[str], rows: Sequence[Sequence[Any]], *, whole: Sequence[str] = ()
) -> str:
    """Rows under headings, within the terminal's width (80 where there is none).

    Where it is tight, columns move together; then the widest are cut first, with an ellipsis, and
    those named in ``whole`` never.
    """
    cells = [[cell(value) for value in row] for row in rows]
    widths = [
        max(len(heading), *(len(row[at]) for row in cells), 0)
        for at, heading in enumerate(headings)
    ]
    room = _terminal_width()
    gap = _GAP if sum(widths) + _GAP * (len(widths) - 1) <= room else 1
    _shrink(widths, headings, whole, room - gap * (len(widths) - 1))
    return "\n".join(_line(row, widths, gap) for row in [list(headings), *cells])


def _shrink(widths: list[int], headings: Sequence[str], whole: Sequence[str], room: int) -> None:
    least = [
        width if heading in whole else min(width, max(len(heading), _NARROWEST))
        for width, heading in zip(widths, headings, strict=True)
    ]
    over = sum(widths) - room
    while over > 0:
        slack = [width - floor for width, floor in zip(widths, least, strict=True)]
        if not any(slack):
            return
        at = max((at for at, free in enumerate(slack) if free), key=widths.__getitem__)
        widths[at] -= 1
        over -= 1


def _terminal_width() -> int:
    return max(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH


def _line(cells: Sequence[str], widths: Sequence[int], gap: int) -> str:
    padded = [
        (text if len(text) <= width else text[: width - 1] + "…").ljust(width)
        for text, width in zip(cells, widths, strict=True)
    ]
    return (" " * gap).join(padded).rstrip()


def pairs(values: Mapping[str, Any]) -> str:
    """One line a key; a mapping within is indented below its key."""
    return "\n".join(_pairs(values, 0))


def _pairs(values: Mapping[str, Any], depth: int) -> Iterable[str]:
    width = max((len(key) for key in values), default=0)
    for key, value in values.items():
        name = "  " * depth + printable(key)
        if isinstance(value, dict) and value:
            yield f"{name}:"
            yield from _pairs(value, depth + 1)
        elif isinstance(value, list) and any(isinstance(each, str | dict) for each in value):
            yield f"{name}:"
            yield from (f"{'  ' * depth}  - {cell(each)}" for each in value)
        else:
            yield f"{name + ':':{width + 2 * depth + 1}} {cell(value)}"


def total(count: int, singular: str) -> str:
    """The line below a table."""
    return f"{count} {singular}(s) total."
