"""What is to come is waited for, however slow the machine: the test's own timeout ends the wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(look: Callable[[], T], every_s: float = 0.02) -> T:
    """What ``look`` returns, once that is something."""
    while not (found := look()):
        time.sleep(every_s)
    return found
