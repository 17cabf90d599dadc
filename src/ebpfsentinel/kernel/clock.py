"""Boot clock to wall clock, in one place."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

_OFFSETS = Path("/proc/self/timens_offsets")


@cache
def namespace_ns() -> int:
    """What our time namespace adds to the boot clock (time_namespaces(7)); programs know none."""
    try:
        lines = _OFFSETS.read_text().splitlines()
    except OSError:  # a kernel before 5.6, or without time namespaces
        return 0
    words = next((line.split() for line in lines if line.startswith("boottime")), ["", "0", "0"])
    return int(words[1]) * 1_000_000_000 + int(words[2])


def boot_ns() -> int:
    """The boot clock as programs in the kernel read it (``bpf_ktime_get_boot_ns``)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - namespace_ns()


def boot_offset_ns() -> int:
    """What to add to a boot-clock time (``bpf_ktime_get_boot_ns``) to get Unix time."""
    return time.time_ns() - boot_ns()
