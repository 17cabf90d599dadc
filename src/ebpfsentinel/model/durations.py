"""How long things take, as a Prometheus histogram: 1 microsecond to 10 milliseconds."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING

from ebpfsentinel.model.domain import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping

BOUNDS = (1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, math.inf)
"""Upper bounds in seconds."""


class Durations:
    """Counts by bucket and their sum; whoever has a clock calls :meth:`observe`."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def metric(self, name: str, text: str, labels: Mapping[str, str]) -> Metric:
        """The histogram as of now; ``text`` is its help."""
        pairs = zip(BOUNDS, itertools.accumulate(self.counts), strict=True)
        return Metric(name, "histogram", text, labels, self.sum, tuple(pairs))
