"""How full the table of buckets is: what ``buckets.h`` would say of each of its places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ratelimit.events import RlAlgorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_USED, _ALGORITHM, _NUMBER = 1 << 18, 15, 0x3FFF
_FIXED_BITS, _SLIDING_BITS = (1 << 40) - 1, (1 << 24) - 1
_FIXED_SECOND, _SLIDING_SECOND = 1_953_125, 125
_SLIDING_UNIT = 15_625


def occupancy(table: NDArray[Any], names: Mapping[int, str], now_ns: int) -> dict[str, Any]:
    """Places of ``rl_table`` (shape ``(sets,)``) by what they hold, and those in use by limit."""
    tags = table["tags"].ravel()
    states = np.ascontiguousarray(table["entries"]["bucket"]["state"]).ravel()
    used = (tags & np.uint64(_USED)) != 0
    busy = used & in_use(tags, states, now_ns)
    numbers, counts = np.unique(tags[busy] & np.uint64(_NUMBER), return_counts=True)
    return {
        "places": len(tags),
        "in_use": int(busy.sum()),
        "idle": int((used & ~busy).sum()),
        "free": int((~used).sum()),
        "by_rule": {
            names.get(number, f"limit-{number}"): count
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True)
        },
    }


def in_use(tags: NDArray[np.uint64], states: NDArray[np.uint64], now_ns: int) -> NDArray[np.bool_]:
    """Does a bucket still know something of its past?"""
    algorithm = (tags >> np.uint64(_ALGORITHM)) & np.uint64(3)
    now_512 = now_ns >> 9
    ahead = (states - np.uint64((now_ns << 8) % (1 << 64))).view(np.int64) > 0
    fixed = _age(states >> np.uint64(24), now_512, _FIXED_BITS, _FIXED_SECOND) < _FIXED_SECOND
    unit = now_512 // _SLIDING_UNIT
    sliding = _age(states >> np.uint64(40), unit, _SLIDING_BITS, _SLIDING_SECOND)
    which = [algorithm == RlAlgorithm.RL_FIXED_WINDOW, algorithm == RlAlgorithm.RL_SLIDING_WINDOW]
    live = np.select(which, [fixed, sliding < 2 * _SLIDING_SECOND], ahead)
    return np.asarray((states != 0) & live, np.bool_)


def _age(start: NDArray[np.uint64], now: int, bits: int, second: int) -> NDArray[np.uint64]:
    """As ``age_of`` in ``windows.h``."""
    age = (np.uint64(now & bits) - start) & np.uint64(bits)
    return np.where(age > bits - second, np.uint64(0), age)
