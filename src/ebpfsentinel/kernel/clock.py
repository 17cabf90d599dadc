"""Boot clock to wall clock, in one place."""

from __future__ import annotations

import time


def boot_offset_ns() -> int:
    """What to add to a boot-clock time (``bpf_ktime_get_boot_ns``) to get Unix time."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
