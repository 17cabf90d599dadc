"""Who made the request that is being answered.

The guard says it once; routes, those of the domains too, need not hand it on. Each request is
answered in a task of its own, so that the word of one is never read by another.
"""

from __future__ import annotations

from contextvars import ContextVar

from ebpfsentinel.auth import NOBODY_ASKED

CALLER = ContextVar("caller", default=NOBODY_ASKED)
"""The identity behind the request of this task."""


def actor() -> str:
    """What stands in the audit trail for it."""
    return CALLER.get().name
