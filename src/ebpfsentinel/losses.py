"""What was lost between two batches of alerts, as the kernel's ledgers have it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfsentinel.model.kernel import Kernel

_READ_S = 0.1
"""Ledgers are read no more often; what is lost meanwhile stands in the alerts after that."""


class Losses:
    """Reads the ledgers of ``kernel``; their counts begin with this agent."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._told: dict[str, int] = {}
        self._read_s = -_READ_S

    def since_last(self) -> dict[str, int]:
        """Records lost by ring since the last answer; rings that lost none are left out."""
        now_s = time.monotonic()
        if now_s - self._read_s < _READ_S:
            return {}
        self._read_s = now_s
        total = {ledger.ring: sum(ledger.lost.values()) for ledger in self._kernel.ledgers()}
        fresh = {ring: count - self._told.get(ring, 0) for ring, count in total.items()}
        self._told = total
        return {ring: count for ring, count in fresh.items() if count > 0}
