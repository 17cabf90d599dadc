"""Ranked rules to banks of bit-vector tables (see ``firewall.bpf.c`` for the idea).

Every condition of a rule is a set of intervals of one field's values. The borders of all rules'
intervals cut the field into elementary intervals, within which the set of satisfied rules is
constant; at each border some rules begin or end: a toggle.

A bitmap of 4,096 rules is eight leaves of 512. Within one leaf's rules, the toggles in the order
of their borders make its versions: a running XOR over a small matrix. An elementary interval then
refers to the version of each leaf that is current there. No loop over rules and values, whatever
the rules look like, and memory grows with the number of toggles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_BANK, FW_FEW, FW_RULE, FwField
from ebpfsentinel.domains.firewall.record import MORE, record_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

BANK_RULES = FW_BANK["rules"].shape[0]
NOTHING, TCP_FLAGS = 0x10000, 0x20000
"""``FW_NOTHING`` and ``FW_TCP_FLAGS`` of ``firewall.h``."""

_LEAVES, _LEAF_WORDS = 8, 8
_LEAF_RULES = 64 * _LEAF_WORDS
_BYTES = np.arange(0, 64, 8, dtype=np.uint64)
_TOP = (1 << 64) - 1
_EDGES = (0.0, 0.02, 0.06, 0.12, 0.2)
"""Shares of the borders that may lie below the buckets, and as many above."""
_ASKS_AT = FW_RULE.fields["asks"][1] if FW_RULE.fields else 0
_ADDRESSES = (FwField.FW_SRC_ADDR, FwField.FW_DST_ADDR)
_COMMON = (*_ADDRESSES, FwField.FW_DST_PORT, FwField.FW_SRC_PORT, FwField.FW_PROTOCOL)
"""Fields that are always looked at."""
_BUCKET_BITS = {
    FwField.FW_SRC_ADDR: 15,
    FwField.FW_DST_ADDR: 15,
    FwField.FW_DST_PORT: 16,
    FwField.FW_SRC_PORT: 16,
    FwField.FW_SRC_MAC: 11,
    FwField.FW_DST_MAC: 11,
    FwField.FW_VLAN: 12,
    FwField.FW_INNER_VLAN: 12,
    FwField.FW_DETAIL: 10,
}
_FEW_BUCKETS = 8
"""Bits of the index of other fields. All buckets together are fewer than there is room for."""

FEW, MANY = FW_FEW["rule"].shape[0], 0xFFFF
Ranges = tuple[tuple[int, int], ...]


class TooManyIntervalsError(ValueError):
    """The rules differ in more places than the tables have room for."""


@dataclass(frozen=True, slots=True)
class RankedRule:
    """A rule as the classifier sees it.

    ``action`` is an ``enum packet_action``. ``asks`` has, for each field that the rule has a
    condition on, inclusive ranges of the values that satisfy it, in order and apart from each
    other; IPv6 addresses are 128 bits wide, all other values at most 64.
    """

    action: int
    asks: Mapping[int, Ranges] = field(default_factory=dict)
    record: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "record", record_of(self.action, self.asks))


class _Pool:
    """What is used of a bank's arrays."""

    def __init__(self, bank: NDArray[Any]) -> None:
        self.bank = bank
        self._used = {"intervals": 0, "leaves": 0, "base": 0}

    def take(self, name: str, count: int) -> slice:
        """The next ``count`` elements of an array."""
        start, room = self._used[name], len(self.bank[name])
        if start + count > room:
            raise TooManyIntervalsError(
                f"addresses and ports differ in too many places: {room} {name} are all there is"
            )
        self._used[name] = start + count
        return slice(start, start + count)


def compile_bank(ranked: Sequence[tuple[RankedRule, int]], *, wide: bool) -> NDArray[Any]:
    """At most 4,096 rules, best first, to a value of ``struct fw_bank``, shape ``(1,)``.

    Each comes with its number, which is its slot in ``fw_count``.

    Raises:
        TooManyIntervalsError: more borders than a bank has room for.
    """
    value = np.zeros(1, FW_BANK)
    bank = value[0]
    pool = _Pool(bank)
    rules = [rule for rule, _ in ranked]
    asked = {
        name: [rank for rank, rule in enumerate(rules) if name in rule.asks] for name in FwField
    }
    others = [name for name in FwField if name not in _COMMON and asked[name]]
    borders = {
        name: _field(pool, name, rules, asked[name], wide=wide and name in _ADDRESSES)
        for name in (*_COMMON, *others)
    }
    others.sort(key=lambda name: -borders[name] * len(asked[name]))
    bank["asked"][: len(others)] = others
    bank["asked_count"] = len(others)
    records = np.frombuffer(b"".join(rule.record for rule in rules), FW_RULE)
    bank["rules"][: len(rules)] = records
    bank["rules"]["rule_id"][: len(rules)] = [number for _, number in ranked]
    _choose_way(bank, rules, asked, borders)
    return value


def _choose_way(
    bank: NDArray[Any],
    rules: Sequence[RankedRule],
    asked: Mapping[FwField, Sequence[int]],
    borders: Mapping[FwField, int],
) -> None:
    """Are the rules that one address leaves mostly few enough to be checked one by one?"""
    narrow = max(_ADDRESSES, key=lambda name: len(asked[name]))
    only_bitmaps = sum(bool(rule.record[_ASKS_AT] & MORE) for rule in rules)
    bank["narrow_field"] = narrow
    many = _list_few(bank, narrow, borders[narrow])
    bank["sparse"] = 4 * many <= borders[narrow] and 4 * only_bitmaps <= len(rules)


def _list_few(bank: NDArray[Any], narrow: int, count: int) -> int:
    """List the rules of ``count`` intervals from their bitmaps; returns how many have many."""
    first = int(bank["index"][narrow]["first"])
    intervals = bank["intervals"][first : first + count]
    leaves = bank["leaves"]["words"]
    size = np.bitwise_count(leaves).sum(axis=1)[intervals["leaf"]].sum(axis=1)
    few = bank["few"][first : first + count]
    few["count"] = np.where(size <= FEW, size, MANY)
    listed = np.flatnonzero(size <= FEW)
    which, leaf = np.nonzero(intervals["some"][listed, None] >> _BYTES & np.uint64(0xFF))
    words = leaves[intervals["leaf"][listed[which], leaf]]
    row, bit = np.nonzero(np.unpackbits(words.view(np.uint8), axis=1, bitorder="little"))
    owner = which[row]
    nth = np.arange(len(owner)) - np.searchsorted(owner, owner)
    few["rule"][listed[owner], nth] = leaf[row] * _LEAF_RULES + bit
    return int(count - len(listed))


def _field(
    pool: _Pool, name: int, rules: Sequence[RankedRule], asking: Sequence[int], *, wide: bool
) -> int:
    """Intervals, leaves and index of one field; returns how many intervals."""
    ranges = [(rank, low, high) for rank in asking for low, high in rules[rank].asks[name]]
    careless = np.ones(len(rules), bool)
    careless[list(asking)] = False
    keys = chain([0], (low for _, low, _ in ranges), (high + 1 for _, _, high in ranges))
    size = 1 << (128 if wide else 64)
    halves = _halves([key % size for key in keys], wide=wide)
    order, borders, inverse = _unique(halves, wide=wide)
    behind = inverse[1 + len(ranges) :].copy()
    behind[[high + 1 == size for _, _, high in ranges]] = len(borders)
    toggled = np.array([rank for rank, _, _ in ranges], np.int64)
    places = np.concatenate(
        [np.zeros(careless.sum(), np.int64), inverse[1 : 1 + len(ranges)], behind]
    )
    ranks = np.concatenate([np.flatnonzero(careless), toggled, toggled])
    at = pool.take("intervals", len(borders))
    intervals = pool.bank["intervals"][at]
    pool.bank["begins"][at], pool.bank["low"][at] = borders[:, 0], borders[:, 1]
    _leaves(pool, intervals, places, ranks)
    _index(pool, name, at.start, order, borders)
    return len(borders)


def _leaves(
    pool: _Pool, intervals: NDArray[Any], places: NDArray[np.int64], ranks: NDArray[np.int64]
) -> None:
    """Refer each interval to leaves; rule ``ranks[i]`` changes at interval ``places[i]``."""
    some = np.zeros((len(intervals), _LEAVES), np.uint8)
    everywhere = np.arange(len(intervals))
    for leaf in range(_LEAVES):
        mine = np.flatnonzero(ranks // _LEAF_RULES == leaf)
        versions = np.unique(np.append(places[mine], 0))
        versions = versions[versions < len(intervals)]
        words = _versions(versions, places[mine], ranks[mine] % _LEAF_RULES)
        at = pool.take("leaves", len(versions))
        pool.bank["leaves"]["words"][at] = words
        current = np.searchsorted(versions, everywhere, side="right") - 1
        intervals["leaf"][:, leaf] = at.start + current
        some[:, leaf] = np.packbits(words != 0, axis=1, bitorder="little")[:, 0][current]
    intervals["some"] = some.view("<u8")[:, 0]


def _versions(
    versions: NDArray[np.int64], places: NDArray[np.int64], rules: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """The words ``(n, 8)`` of each version of a leaf, from its toggles."""
    toggles = np.zeros((len(versions) + 1, _LEAF_WORDS), np.uint64)
    bits = np.uint64(1) << (rules % 64).astype(np.uint64)
    np.bitwise_xor.at(toggles, (np.searchsorted(versions, places), rules // 64), bits)
    return np.asarray(np.bitwise_xor.accumulate(toggles[:-1], axis=0))


def _halves(values: Sequence[int], *, wide: bool) -> NDArray[np.uint64]:
    """Integers to ``(n, 2)``: high and low half; what is not wide is all high."""
    if not wide:
        return np.stack([np.array(values, np.uint64), np.zeros(len(values), np.uint64)], axis=1)
    return np.array([(value >> 64, value & _TOP) for value in values], np.uint64).reshape(-1, 2)


def _sortable(halves: NDArray[np.uint64], *, wide: bool) -> NDArray[Any]:
    """As one value whose order is that of the numbers: 16 bytes for two halves."""
    if not wide:
        return halves[:, 0]
    return np.ascontiguousarray(halves.astype(">u8")).view("S16")[:, 0]


def _unique(
    halves: NDArray[np.uint64], *, wide: bool
) -> tuple[NDArray[Any], NDArray[np.uint64], NDArray[np.intp]]:
    """Sortable and plain borders in order, and the border of each value."""
    order, first, inverse = np.unique(
        _sortable(halves, wide=wide), return_index=True, return_inverse=True
    )
    return order, halves[first], inverse


def _span(keys: NDArray[np.uint64], bits: int) -> tuple[int, int]:
    """Origin and shift of the buckets that leave the fewest steps of search, over all borders."""
    if not len(keys):
        return _TOP, 0
    found = []
    for edge in _EDGES:
        cut = int(len(keys) * edge)
        origin, last = int(keys[cut]), int(keys[-1 - cut])
        shift = max((last - origin).bit_length() - bits, 0)
        within = np.minimum((keys[cut:] - np.uint64(origin)) >> np.uint64(shift), (1 << bits) - 1)
        sizes = np.bincount(within.astype(np.int64))
        steps = (sizes * np.log2(sizes + 1)).sum() + cut * np.log2(cut + 1)
        found.append((steps, origin, shift))
    _, origin, shift = min(found)
    return origin, shift


def _index(
    pool: _Pool, name: int, first: int, order: NDArray[Any], borders: NDArray[np.uint64]
) -> None:
    """From the high bits of a key to the interval that its bucket begins in."""
    most = _BUCKET_BITS.get(FwField(name), _FEW_BUCKETS)
    bits = min(most, len(borders).bit_length() + 4)  # few rules touch few cache lines
    origin, shift = _span(borders[1:, 0], bits)
    starts = np.uint64(origin) + (np.arange(1 << bits, dtype=np.uint64) << np.uint64(shift))
    reached = starts >= np.uint64(origin)  # the rest has wrapped round: behind the last border
    wide = order.dtype.kind == "S"
    at = _sortable(np.stack([starts, np.zeros_like(starts)], axis=1), wide=wide)
    found = np.searchsorted(order, at, side="right") - 1
    buckets = pool.take("base", (1 << bits) + 1)
    base = pool.bank["base"][buckets]
    base[:-1] = first + np.where(reached, found, len(borders) - 1)
    base[-1] = first + len(borders) - 1
    index = pool.bank["index"][name]
    index["origin"], index["shift"], index["first"] = origin, shift, first
    index["base"], index["last"] = buckets.start, (1 << bits) - 1
