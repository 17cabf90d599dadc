"""What malloc keeps of the memory that a process has let go of (mallopt(3), malloc_trim(3)).

Of glibc; where another libc has neither, nothing happens.
"""

from __future__ import annotations

import ctypes

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3


def one_arena(large_bytes: int | None = None) -> None:
    """One arena for all threads, before there are any; what is large is given back once free.

    Each thread would have its own, and none gives back what lies below its top: a leak in all but
    name, of some megabytes within hours.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_ARENA_MAX, 1)
        if large_bytes is not None:
            mallopt(_M_MMAP_THRESHOLD, large_bytes)


def give_back() -> None:
    """What malloc holds on to goes back to the kernel."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
