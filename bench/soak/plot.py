"""The run as a picture: memory, CPU, latencies and what waits, over time, with the faults."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, LEFT, RIGHT, HEIGHT, GAP, TOP = 960, 70, 150, 130, 46, 40
_COLOURS = ("#1f5fa8", "#c2571a", "#2e7d4f", "#8a3b8f")
_FAULTS = {
    "killed": "#c00000",
    "interface": "#2e7d4f",
    "disk full": "#8a3b8f",
    "broken reload": "#c2571a",
    "sink hangs": "#888888",
}
_TEXT = 'font-family="sans-serif" font-size="11"'


@dataclass
class Panel:
    """One diagram: lines by name, of (second, value) points; ``logarithmic`` where it has to be."""

    title: str
    lines: dict[str, list[tuple[float, float]]]
    logarithmic: bool = False

    def bounds(self) -> tuple[float, float]:
        """Least and most of the axis."""
        values = [value for points in self.lines.values() for _, value in points] or [0.0]
        if self.logarithmic:
            least = 10 ** math.floor(math.log10(max(min(values), 0.1)))
            return least, 10 ** math.ceil(math.log10(max(*values, least * 10)))
        step = 10 ** math.floor(math.log10(max(*values, 1.0)))
        return 0.0, math.ceil(max(values) / step * 2 + 0.001) / 2 * step


def plot(found: dict[str, Any]) -> str:
    """The SVG."""
    panels = _panels(found["samples"])
    height = TOP + len(panels) * (HEIGHT + GAP) + 20
    seconds = max(found["seconds"], found["samples"][-1]["at_s"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_TEXT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _legend(found),
    ]
    for number, panel in enumerate(panels):
        top = TOP + number * (HEIGHT + GAP) + 14
        parts += _marks(found["faults"], top, seconds)
        parts += _panel(panel, top, seconds)
    return "\n".join([*parts, "</svg>", ""])


def _panels(samples: Sequence[dict[str, Any]]) -> list[Panel]:
    def line(value: Any) -> list[tuple[float, float]]:
        found = [(sample["at_s"], value(sample)) for sample in samples]
        return [(at_s, float(what)) for at_s, what in found if what is not None]

    names = list(samples[-1]["destinations"])
    return [
        Panel("resident memory, MB", {"all processes": line(lambda s: s["resident_mb"])}),
        Panel("CPU, % of one core", {"all processes": line(lambda s: s["cpu_percent"])}),
        Panel(
            "latency, ms (median of a sample)",
            {
                "exec to stream": line(lambda s: _median(s["exec_to_stream_ms"])),
                "REST read": line(lambda s: _median(s["rest_read_ms"])),
            },
            logarithmic=True,
        ),
        Panel(
            "alerts that wait for a webhook",
            {name: line(lambda s, n=name: s["destinations"][n]["waiting"]) for name in names},
        ),
        Panel(
            "records and alerts lost, counted",
            {
                "records": line(lambda s: s["records"]["lost"]),
                "alerts": line(
                    lambda s: sum(sum(d["dropped"].values()) for d in s["destinations"].values())
                ),
                "missing at a webhook": line(
                    lambda s: sum(each["missing"] for each in s["webhooks"].values())
                ),
            },
        ),
    ]


def _median(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.median(found) if found else None


def _legend(found: dict[str, Any]) -> str:
    words = []
    for number, (name, colour) in enumerate(_FAULTS.items()):
        at = LEFT + 110 * number
        words.append(f'<rect x="{at}" y="14" width="3" height="12" fill="{colour}"/>')
        words.append(f'<text x="{at + 8}" y="24">{name}</text>')
    hours = found["seconds"] / 3600
    text = f"{hours:.2g} h, Linux {found['machine']['kernel'].partition('-')[0]}"
    words.append(f'<text x="{WIDTH - 12}" y="24" text-anchor="end">{text}</text>')
    return "\n".join(words)


def _across(at_s: float, seconds: float) -> float:
    return LEFT + at_s / seconds * (WIDTH - LEFT - RIGHT)


def _marks(faults: Sequence[dict[str, Any]], top: float, seconds: float) -> list[str]:
    return [
        f'<line x1="{_across(each["at_s"], seconds):.1f}" x2="{_across(each["at_s"], seconds):.1f}"'
        f' y1="{top}" y2="{top + HEIGHT}" stroke="{_FAULTS[each["fault"]]}" stroke-opacity="0.45"/>'
        for each in faults
        if each["fault"] in _FAULTS
    ]


def _panel(panel: Panel, top: float, seconds: float) -> list[str]:
    low, high = panel.bounds()

    def up(value: float) -> float:
        if panel.logarithmic:
            part = math.log10(max(value, low) / low) / math.log10(high / low)
        else:
            part = (value - low) / ((high - low) or 1)
        return top + HEIGHT * (1 - part)

    right = WIDTH - RIGHT
    parts = [
        f'<text x="{LEFT}" y="{top - 5}" font-weight="bold">{panel.title}</text>',
        (
            f'<rect x="{LEFT}" y="{top}" width="{right - LEFT}" height="{HEIGHT}" fill="none" '
            'stroke="#999999"/>'
        ),
    ]
    for value in _ticks(low, high, logarithmic=panel.logarithmic):
        parts.append(
            f'<text x="{LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{value:,g}</text>'
        )
        parts.append(
            f'<line x1="{LEFT}" x2="{right}" y1="{up(value):.1f}" y2="{up(value):.1f}" '
            'stroke="#dddddd"/>'
        )
    for at_s in _times(seconds):
        label = f"{at_s / 60:g} min"
        parts.append(
            f'<text x="{_across(at_s, seconds):.1f}" y="{top + HEIGHT + 14}" '
            f'text-anchor="middle">{label}</text>'
        )
    for number, (name, points) in enumerate(panel.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{_across(at, seconds):.1f},{up(value):.1f}" for at, value in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
        parts.append(
            f'<text x="{right + 8}" y="{top + 14 + 15 * number}" fill="{colour}">{name}</text>'
        )
    return parts


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        count = round(math.log10(high / low))
        return [low * 10**power for power in range(count + 1)]
    return [low + (high - low) * part / 4 for part in range(5)]


def _times(seconds: float) -> list[float]:
    step = next(
        step for step in (30, 60, 300, 600, 900, 1800, 3600, 7200, 86400) if seconds / step <= 12
    )
    return [number * step for number in range(int(seconds // step) + 1)]
