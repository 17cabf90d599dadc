"""How many CPUs there may ever be: the width of a per-CPU value."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_POSSIBLE = Path("/sys/devices/system/cpu/possible")


@cache
def possible_cpus() -> int:
    """CPUs that may ever be online, as the kernel counts them: ``0-3,8`` is five."""
    spans = (part.partition("-") for part in _POSSIBLE.read_text().strip().split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in spans)
