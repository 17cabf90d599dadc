"""How often somebody may call: a token bucket each for reads and for writes.

Reads are generous, because one person with a dashboard reads a great deal; writes are what could
keep the agent busy. Each identity has buckets of its own, so that nobody is throttled for another.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfsentinel.model.security import ApiRateLimit

IDENTITIES = 4096


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen_s: float


class Limits:
    """Buckets by identity and kind; the one that was quiet for longest is forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[tuple[str, bool], _Bucket] = OrderedDict()
        self.refused = {"read": 0, "write": 0}

    def __len__(self) -> int:
        return len(self._buckets)

    def spend(self, who: str, limit: ApiRateLimit, now_s: float, *, write: bool) -> float:
        """Take one; 0: it is granted, else the seconds until it would be. Time is monotonic."""
        rate = limit.write_per_second if write else limit.read_per_second
        burst = limit.write_burst if write else limit.read_burst
        bucket = self._buckets.pop((who, write), None) or _Bucket(burst, now_s)
        grown = bucket.tokens + (now_s - bucket.seen_s) * rate
        bucket.tokens, bucket.seen_s = min(burst, grown), now_s
        self._buckets[who, write] = bucket
        while len(self._buckets) > IDENTITIES:
            self._buckets.popitem(last=False)
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        self.refused["write" if write else "read"] += 1
        return (1 - bucket.tokens) / rate
