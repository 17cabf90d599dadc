"""The gap in a stream: what a listener that was too slow is told instead of alerts."""

from __future__ import annotations

import msgspec


class Missed(msgspec.Struct, frozen=True):
    """So many alerts that the listener asked for came while it was too far behind to take them."""

    missed: int
