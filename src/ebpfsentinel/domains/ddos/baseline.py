"""What is normal here: a histogram of rates a type, learned while there is no attack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ddos.rates import SECOND_NS
from ebpfsentinel.domains.ddos.settings import AttackType

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from numpy.typing import NDArray

_STEPS = 8
"""Of a doubling: what is proposed is within 9 % of what was seen."""
_BINS = 27 * _STEPS
_LEAST_SECONDS = 600
_LEAST_PPS = 100


class Normal:
    """Seconds by their rate, for each attack type: ``(types, bins)``, logarithmic."""

    def __init__(self) -> None:
        self._seconds = np.zeros((len(AttackType), _BINS), np.int64)
        self._before_ns = 0
        self._peak = np.zeros(len(AttackType))

    def learn(
        self, pps: NDArray[np.float64], attacked: Collection[AttackType], now_ns: int
    ) -> None:
        """Once a second, its highest rate is put down."""
        self._peak = np.maximum(self._peak, pps)
        if 0 <= now_ns - self._before_ns < SECOND_NS:
            return
        if not attacked:  # a flood of one type is in the volume, and disturbs the others
            bins = np.minimum(np.log2(1 + self._peak) * _STEPS, _BINS - 1).astype(int)
            self._seconds[np.arange(len(bins)), bins] += 1
        self._peak[:] = 0
        self._before_ns = now_ns

    def proposal(self, margin: float) -> dict[str, Any]:
        """By attack type: how many seconds were seen, their rates, and a threshold."""
        return {kind.value: self._of(kind, margin) for kind in AttackType}

    def _of(self, kind: AttackType, margin: float) -> dict[str, Any]:
        seconds = self._seconds[kind.number]
        total = int(seconds.sum())
        enough = total >= _LEAST_SECONDS
        highest = self._quantile(seconds, 1.0)
        return {
            "seconds": total,
            "median_pps": self._quantile(seconds, 0.5),
            "p999_pps": self._quantile(seconds, 0.999),
            "highest_pps": highest,
            "proposed_threshold_pps": max(round(highest * margin), _LEAST_PPS) if enough else None,
        }

    def _quantile(self, seconds: NDArray[np.int64], part: float) -> int:
        total = int(seconds.sum())
        if not total:
            return 0
        at = int(np.searchsorted(np.cumsum(seconds), part * total))
        return round(float(2.0 ** ((at + 1) / _STEPS)) - 1)

    def memo(self) -> dict[str, dict[str, int]]:
        """What is not zero, by type and bin."""
        return {
            kind.value: {
                str(at): int(self._seconds[kind.number, at])
                for at in np.flatnonzero(self._seconds[kind.number]).tolist()
            }
            for kind in AttackType
        }

    def recall(self, memo: Mapping[str, Mapping[str, int]]) -> None:
        """Take back a memo; what is not of this shape is left out."""
        for kind in AttackType:
            for at, count in memo.get(kind.value, {}).items():
                if at.isdecimal() and int(at) < _BINS:
                    self._seconds[kind.number, int(at)] = int(count)
