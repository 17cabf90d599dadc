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
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_BANK, FW_FEW, FW_NEAR, FwField
from ebpfsentinel.domains.firewall.record import ADDRESSES, MORE, RECORD, SPAN, pack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def _flat(bank: np.dtype[Any]) -> np.dtype[Any]:
    """The fields of a bank's parts as fields of the bank: no two have one of the same name."""
    fields = [
        (name, part.fields[name][0], start + part.fields[name][1])
        for part, start in (found[:2] for found in (bank.fields or {}).values())
        for name in part.names or ()
        if part.fields
    ]
    names, formats, offsets = zip(*fields, strict=True)
    return np.dtype(
        {
            "names": names,
            "formats": formats,
            "offsets": offsets,
            "itemsize": bank.itemsize,
        }
    )


BANK = _flat(FW_BANK)
"""``struct fw_bank`` without its parts."""
BANK_RULES = BANK["rules"].shape[0]
NOTHING, TCP_FLAGS = 0x10000, 0x20000
"""``FW_NOTHING`` and ``FW_TCP_FLAGS`` of ``firewall.h``."""
_MIRROR_AT, _PRIORITY_AT = 8, 10
"""``FW_MIRROR_AT`` and ``FW_PRIORITY_AT``."""
_LIMITED = 0x80
"""``FW_LIMITED``."""

_LEAVES, _LEAF_WORDS = 8, 8
_LEAF_RULES = 64 * _LEAF_WORDS
_EDGES = (0.0, 0.06, 0.15)
"""Shares of the borders that may lie below the buckets, and as many above."""
_COMMON = (*ADDRESSES, FwField.FW_DST_PORT, FwField.FW_SRC_PORT, FwField.FW_PROTOCOL)
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

FEW, NEAR, MANY = FW_FEW["rule"].shape[0], FW_NEAR["rule"].shape[0], 0xFFFF
Ranges = tuple[tuple[int, int], ...]


class TooManyIntervalsError(ValueError):
    """The rules differ in more places than the tables have room for."""


@dataclass(slots=True)
class RankedRule:
    """A rule as the classifier sees it; not to be changed (``frozen`` makes it slow to make).

    ``action`` is an ``enum packet_action``, ``cpu`` 1 + the CPU to steer to, or 0; where ``mirror``
    is not 0, ``fw_mirrors`` has where its packets are copied to. A rule of lower ``priority`` is
    tried first. One that is ``limited`` has a place in ``fw_limits``.

    ``asks`` has, for each field that the rule has a condition on, inclusive ranges of the values
    that satisfy it, in order and apart from each other; the addresses of a rule that is ``wide``
    (IPv6) have 128 bits, all other values at most 64. ``record`` (:data:`RECORD`) and ``spans``
    (:data:`SPAN`) say the same in bytes, once the rule has been packed.
    """

    action: int
    asks: Mapping[int, Ranges] = field(default_factory=dict)
    wide: bool = False
    cpu: int = 0
    mirror: int = 0
    priority: int = 0
    limited: bool = False
    record: bytes = field(default=b"", init=False, repr=False, compare=False)
    spans: bytes = field(default=b"", init=False, repr=False, compare=False)

    @property
    def order(self) -> int:
        """Priority, mirror and action, as ``fw_rule.order``."""
        return (
            self.priority << _PRIORITY_AT
            | self.mirror << _MIRROR_AT
            | self.action
            | _LIMITED * self.limited
        )

    def alone(self, number: int) -> tuple[bytes, bytes] | None:
        """The rule as a ``struct fw_rule`` of this number, and its rest; None: bitmaps say more."""
        _pack([self])
        record = np.frombuffer(self.record, RECORD).copy()
        if record["rule"]["asks"][0] & MORE:
            return None
        record["rule"]["rule_id"] = number
        return record["rule"].tobytes(), record["rest"].tobytes()


def _pack(rules: Sequence[RankedRule]) -> None:
    """Pack those that have not been packed."""
    fresh = [rule for rule in rules if not rule.record]
    records, spans, ends = (found.tobytes() for found in pack(fresh))
    begin = 0
    for nth, end in enumerate(memoryview(ends).cast("q")):
        fresh[nth].record = records[nth * RECORD.itemsize : (nth + 1) * RECORD.itemsize]
        fresh[nth].spans = spans[begin * SPAN.itemsize : end * SPAN.itemsize]
        begin = end


class _Pool:
    """What is used of a bank's arrays."""

    def __init__(self, bank: NDArray[Any], *, wide: bool) -> None:
        self.bank, self.wide = bank, wide
        self.used = {"intervals": 0, "leaves": 0, "base": 0}

    def take(self, name: str, count: int) -> slice:
        """The next ``count`` elements of an array."""
        start, room = self.used[name], len(self.bank[name])
        if start + count > room:
            raise TooManyIntervalsError(
                f"addresses and ports differ in too many places: {room} {name} are all there is"
            )
        self.used[name] = start + count
        return slice(start, start + count)


def compile_bank(ranked: Sequence[tuple[RankedRule, int]], *, wide: bool) -> NDArray[Any]:
    """At most 4,096 rules, best first, to a value of ``struct fw_bank``, shape ``(1,)``.

    Each comes with its number, which is its slot in ``fw_count``.

    Raises:
        TooManyIntervalsError: more borders than a bank has room for.
    """
    value = np.zeros(1, BANK)
    bank = value[0]
    pool = _Pool(bank, wide=wide)
    rules = [rule for rule, _ in ranked]
    _pack(rules)
    records = np.frombuffer(b"".join([rule.record for rule in rules]), RECORD)
    bank["rules"][: len(rules)] = records["rule"]
    bank["rests"][: len(rules)] = records["rest"]
    bank["rules"]["rule_id"][: len(rules)] = [number for _, number in ranked]
    spans = np.frombuffer(b"".join([rule.spans for rule in rules]), SPAN)
    counts = [len(rule.spans) // SPAN.itemsize for rule in rules]
    ranks = np.repeat(np.arange(len(rules)), counts)
    asked = np.bincount(spans["field"], minlength=len(FwField)).tolist()
    others = [name for name in FwField if name not in _COMMON and asked[name]]
    borders = {}
    for name in (*_COMMON, *others):
        mine = np.flatnonzero(spans["field"] == name)
        careless = np.ones(len(rules), bool)
        careless[ranks[mine]] = False
        borders[name] = _field(pool, name, spans[mine], ranks[mine], np.flatnonzero(careless))
    others.sort(key=lambda name: -borders[name] * asked[name])
    bank["asked"][: len(others)] = others
    bank["asked_count"] = len(others)
    narrow = max(ADDRESSES, key=lambda name: asked[name])
    many = _list_few(pool, narrow, borders[narrow])
    only_bitmaps = np.count_nonzero(records["rule"]["asks"] & MORE)
    bank["narrow_field"] = narrow
    bank["sparse"] = many < borders[narrow] and 4 * only_bitmaps <= len(rules)
    return value


def _list_few(pool: _Pool, narrow: int, count: int) -> int:
    """List the rules of ``count`` intervals from their bitmaps; returns how many have many."""
    first = int(pool.bank["index"][narrow]["first"])
    intervals = pool.bank["intervals"][first : first + count]
    leaves = pool.bank["leaves"]["words"][: pool.used["leaves"]]
    size = np.bitwise_count(leaves).sum(axis=1)[intervals["leaf"]].sum(axis=1)
    few = pool.bank["few"][first : first + count]
    few["count"] = np.where(size <= FEW, size, MANY)
    listed = np.flatnonzero(size <= FEW)
    some = intervals["some"][listed].view(np.uint8).reshape(-1, _LEAVES)
    at, word = np.nonzero(np.unpackbits(some, axis=1, bitorder="little"))
    words = leaves[intervals["leaf"][listed[at], word // _LEAF_WORDS], word % _LEAF_WORDS]
    owner, rule = _set_bits(listed[at], word * 64, words)
    nth = np.arange(len(owner)) - np.searchsorted(owner, owner)
    few["rule"][owner, nth] = rule
    _list_near(pool, narrow)
    return int(count - len(listed))


def _list_near(pool: _Pool, narrow: int) -> None:
    """The rules of each bucket: of all its intervals, where they are few altogether."""
    bank, index = pool.bank, pool.bank["index"][narrow]
    start, buckets = int(index["base"]), int(index["last"])
    first = bank["base"][start : start + buckets]
    more = bank["base"][start + 1 : start + buckets + 1] - first
    few, near = bank["few"][first], bank["near"]
    listed = (more == 0) & (few["count"] <= NEAR)
    near["count"] = MANY
    near["count"][:buckets][listed] = few["count"][listed]
    near["rule"][:buckets] = few["rule"][:, :NEAR]
    mixed = np.flatnonzero((more > 0) & (more <= NEAR))
    _list_mixed(bank, mixed, first[mixed], more[mixed])


def _list_mixed(
    bank: NDArray[Any], buckets: NDArray[np.int64], first: NDArray[Any], more: NDArray[Any]
) -> None:
    """The rules of buckets that have ``more`` intervals behind their ``first``."""
    at = np.repeat(np.arange(len(buckets)), more + 1)
    nth = np.arange(len(at)) - np.searchsorted(at, at)
    few = bank["few"][first[at] + nth]
    known = few["count"] <= NEAR
    taken = np.arange(NEAR) < np.where(known, few["count"], 0)[:, None]
    pairs = np.unique((at[:, None] * BANK_RULES + few["rule"][:, :NEAR])[taken])
    owner, rule = pairs // BANK_RULES, pairs % BANK_RULES
    count = np.bincount(owner, minlength=len(buckets))
    nth = np.arange(len(owner)) - np.searchsorted(owner, owner)
    fits = np.ones(len(buckets), bool)
    fits[at[~known]] = False
    fits &= count <= NEAR
    kept = fits[owner]
    bank["near"]["count"][buckets[fits]] = count[fits]
    bank["near"]["rule"][buckets[owner[kept]], nth[kept]] = rule[kept]


def _set_bits(
    owners: NDArray[np.int64], base: NDArray[np.int64], words: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owner, and base plus number, of each bit that is set in the words; in order."""
    found = []
    while len(words):
        lowest = words & (~words + np.uint64(1))
        found.append((owners, base + np.log2(lowest.astype(np.float64)).astype(np.int64)))
        words = words ^ lowest
        left = np.flatnonzero(words)
        owners, base, words = owners[left], base[left], words[left]
    if not found:
        return owners, base
    owner, number = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((number, owner))
    return owner[order], number[order]


def _field(
    pool: _Pool,
    name: int,
    spans: NDArray[Any],
    ranks: NDArray[np.int64],
    careless: NDArray[np.int64],
) -> int:
    """Intervals, leaves and index of one field; returns how many intervals.

    ``ranks`` are the rules of ``spans``; those that are ``careless`` hold everywhere.
    """
    wide = pool.wide and name in ADDRESSES
    halves = np.concatenate([np.zeros((1, 2), np.uint64), spans["low"], spans["behind"]])
    borders, inverse = _unique(halves, wide=wide)
    begin, behind = inverse[1 : 1 + len(spans)], inverse[1 + len(spans) :]
    closed = spans["open"] == 0
    places = np.concatenate([np.zeros_like(careless), begin, behind[closed]])
    toggled = np.concatenate([careless, ranks, ranks[closed]])
    at = pool.take("intervals", len(borders))
    pool.bank["begins"][at], pool.bank["low"][at] = borders[:, 0], borders[:, 1]
    _leaves(pool, pool.bank["intervals"][at], places, toggled)
    _index(pool, name, at.start, borders)
    return len(borders)


def _leaves(
    pool: _Pool, intervals: NDArray[Any], places: NDArray[np.int64], ranks: NDArray[np.int64]
) -> None:
    """Refer each interval to leaves; rule ``ranks[i]`` changes at interval ``places[i]``.

    A leaf has a version for the first interval and for each at which one of its rules changes.
    """
    count = len(intervals)
    changes = np.zeros((_LEAVES, count), bool)
    changes[:, 0] = True
    changes[ranks // _LEAF_RULES, places] = True
    current = np.cumsum(changes.ravel()).reshape(_LEAVES, count) - 1
    toggles = np.zeros((current[-1, -1] + 1, _LEAF_WORDS), np.uint64)
    bits = np.uint64(1) << (ranks % 64).astype(np.uint64)
    words = ranks // 64 % _LEAF_WORDS
    np.bitwise_xor.at(toggles, (current[ranks // _LEAF_RULES, places], words), bits)
    for leaf in range(_LEAVES):
        mine = slice(current[leaf, 0], current[leaf, -1] + 1)
        toggles[mine] = np.bitwise_xor.accumulate(toggles[mine], axis=0)
    at = pool.take("leaves", len(toggles))
    pool.bank["leaves"]["words"][at] = toggles
    intervals["leaf"] = at.start + current.T
    some = np.packbits(toggles != 0, axis=1, bitorder="little")[:, 0]
    intervals["some"] = np.ascontiguousarray(some[current.T]).view("<u8")[:, 0]


def _sortable(halves: NDArray[np.uint64], *, wide: bool) -> NDArray[Any]:
    """As one value whose order is that of the numbers: 16 bytes for two halves."""
    if not wide:
        return halves[:, 0]
    return np.ascontiguousarray(halves.astype(">u8")).view("S16")[:, 0]


def _unique(
    halves: NDArray[np.uint64], *, wide: bool
) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """The borders in order, and the border of each value."""
    _, first, inverse = np.unique(
        _sortable(halves, wide=wide), return_index=True, return_inverse=True
    )
    return halves[first], inverse


def _span(keys: NDArray[np.uint64], bits: int) -> tuple[int, int]:
    """Origin and shift of the buckets that leave the fewest steps of search, over all borders."""
    if not len(keys):
        return (1 << 64) - 1, 0
    found = []
    for edge in _EDGES:
        cut = int(len(keys) * edge)
        origin, last = int(keys[cut]), int(keys[-1 - cut])
        shift = max((last - origin).bit_length() - bits, 0)
        within = np.minimum((keys[cut:] - np.uint64(origin)) >> np.uint64(shift), (1 << bits) - 1)
        sizes = np.bincount(within.astype(np.int64))
        steps = (sizes * np.log2(sizes + 1)).sum() + cut * np.log2(cut + 1)
        found.append((steps, origin, shift))
        if not shift:
            break
    _, origin, shift = min(found)
    return origin, shift


def _below(borders: NDArray[np.uint64], origin: int, shift: int, buckets: int) -> NDArray[np.int64]:
    """How many borders are at or below the start of each bucket and above that of the one before.

    One that lies inside a bucket counts for the next.
    """
    high, low = borders[:, 0], borders[:, 1]
    above = high - np.minimum(high, np.uint64(origin))
    bucket = above >> np.uint64(shift)
    within = ((bucket << np.uint64(shift)) != above) | ((low != 0) & (high >= np.uint64(origin)))
    first = np.minimum(bucket, np.uint64(buckets)).astype(np.int64) + within
    return np.bincount(np.minimum(first, buckets), minlength=buckets + 1)[:buckets]


def _index(pool: _Pool, name: int, first: int, borders: NDArray[np.uint64]) -> None:
    """From the high bits of a key to the interval that its bucket begins in."""
    most = _BUCKET_BITS.get(FwField(name), _FEW_BUCKETS)
    bits = min(most, len(borders).bit_length() + 4)  # few rules touch few cache lines
    origin, shift = _span(borders[1:, 0], bits)
    found = np.cumsum(_below(borders, origin, shift, 1 << bits)) - 1
    buckets = pool.take("base", (1 << bits) + 1)
    base = pool.bank["base"][buckets]
    base[:-1] = first + found
    base[-1] = first + len(borders) - 1
    index = pool.bank["index"][name]
    index["origin"], index["shift"], index["first"] = origin, shift, first
    index["base"], index["last"] = buckets.start, (1 << bits) - 1
