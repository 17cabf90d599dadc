"""Ranked rules to one generation of bit-vector tables (see ``firewall.bpf.c`` for the idea).

Every field of a rule is an interval of that field's values. The interval borders of all rules cut
the field into elementary intervals, within which the set of satisfied rules is constant. Walking
along the borders, each rule's bit is toggled on at its first value and off behind its last, so the
bitmaps of all elementary intervals are one running XOR over a matrix of toggles: no loop over
rules and values, whatever the rules look like.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

WORDS = 64
ANY_VLAN, ANY_INTERFACE = (0, 4095), (0, 63)
_ROWS = FW_TABLES["rows"].shape[0]
_SPREAD = np.frombuffer(hashlib.shake_128(b"rows").digest(8 * WORDS), "<u8")
_TOP = (1 << 64) - 1


class TooManyRowsError(ValueError):
    """The rules differ in more ways than the tables have room for."""


@dataclass(frozen=True, slots=True)
class RankedRule:
    """A rule as the classifier sees it: inclusive ranges, whole domain where it does not care.

    Addresses are integers of the family's width. ``ports`` says whether the rule wants ports at
    all: then it never matches a packet that has none. ``number`` is its slot in ``fw_count``.
    """

    number: int
    action: int
    src: tuple[int, int]
    dst: tuple[int, int]
    src_port: tuple[int, int]
    dst_port: tuple[int, int]
    ports: bool
    protocol: tuple[int, int]
    vlan: tuple[int, int]
    interface: tuple[int, int]


def _bits(count: int) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """Word and bit of each of ``count`` rules."""
    number = np.arange(count)
    return number // 64, np.uint64(1) << (number % 64).astype(np.uint64)


def _bitmaps(first: NDArray[Any], behind: NDArray[Any], intervals: int) -> NDArray[np.uint64]:
    """Bitmaps ``(intervals, 64)`` of rules that hold from ``first`` to before ``behind``."""
    words, bits = _bits(len(first))
    toggles = np.zeros((intervals + 1, WORDS), np.uint64)
    np.bitwise_xor.at(toggles, (first, words), bits)
    np.bitwise_xor.at(toggles, (behind, words), bits)
    return np.asarray(np.bitwise_xor.accumulate(toggles, axis=0)[:-1])


class _Pool:
    """The rows of a generation; equal rows of one field are stored once."""

    def __init__(self, tables: NDArray[Any]) -> None:
        self._rows = tables["rows"][0]
        self._summaries = tables["summary"][0]
        self._used = 0

    def add(self, bitmaps: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Row numbers of the bitmaps ``(n, 64)``, shape ``(n,)``."""
        _, first, which = np.unique(bitmaps @ _SPREAD, return_index=True, return_inverse=True)
        distinct = bitmaps[first]
        if not np.array_equal(distinct[which], bitmaps):  # a hash collision: store them all
            distinct, which = bitmaps, np.arange(len(bitmaps))
        end = self._used + len(distinct)
        if end > _ROWS:
            raise TooManyRowsError(f"the rules need more than {_ROWS} table rows")
        some = np.packbits(distinct != 0, axis=1, bitorder="little")
        self._rows["words"][self._used : end] = distinct
        self._summaries[self._used : end] = some.view("<u8")[:, 0]
        numbers = (which + self._used).astype(np.uint16)
        self._used = end
        return numbers


def _direct(pool: _Pool, ranges: NDArray[np.int64], size: int) -> NDArray[np.uint16]:
    """The row of each of ``size`` values; ``ranges`` is ``(n, 2)``, inclusive."""
    low, behind = ranges[:, 0], ranges[:, 1] + 1
    borders = np.unique(np.concatenate([[0], low, behind[behind < size]]))
    bitmaps = _bitmaps(
        np.searchsorted(borders, low), np.searchsorted(borders, behind), len(borders)
    )
    return np.repeat(pool.add(bitmaps), np.diff(np.append(borders, size)))


def _halves(values: Sequence[int], wide: bool) -> NDArray[np.uint64]:
    """Integers to ``(n, 2)``: high and low half; IPv4 is all high."""
    if not wide:
        return np.stack([np.array(values, np.uint64), np.zeros(len(values), np.uint64)], axis=1)
    return np.array([(value >> 64, value & _TOP) for value in values], np.uint64).reshape(-1, 2)


def _sortable(halves: NDArray[np.uint64]) -> NDArray[Any]:
    """As 16 bytes whose order is that of the numbers."""
    return np.ascontiguousarray(halves.astype(">u8")).view("S16")[:, 0]


def _addresses(
    pool: _Pool, table: NDArray[Any], ranges: Sequence[tuple[int, int]], wide: bool
) -> None:
    """Fill one ``struct fw_addresses``."""
    size = 1 << (128 if wide else 32)
    lows, behinds = [low for low, _ in ranges], [high + 1 for _, high in ranges]
    ends = [behind if behind < size else 0 for behind in behinds]  # 0: holds to the last interval
    halves = _halves([0, *lows, *ends], wide)
    keys, index, inverse = np.unique(_sortable(halves), return_index=True, return_inverse=True)
    borders = halves[index]
    behind = inverse[1 + len(lows) :].copy()
    behind[[behind_ == size for behind_ in behinds]] = len(keys)
    bitmaps = _bitmaps(inverse[1 : 1 + len(lows)], behind, len(keys))
    count = len(keys)
    table["high"][:count], table["low"][:count] = borders[:, 0], borders[:, 1]
    table["row"][:count] = pool.add(bitmaps)
    _index(table, keys, borders)


def _index(table: NDArray[Any], keys: NDArray[Any], borders: NDArray[np.uint64]) -> None:
    """From the high bits of a key to the interval that its bucket begins in."""
    origin = int(borders[1, 0]) if len(borders) > 1 else _TOP
    span = max(int(borders[-1, 0]) - origin, 0)
    bits = min(16, len(keys).bit_length() + 3)  # few rules touch few cache lines
    used = 1 << bits
    shift = max(span.bit_length() - bits, 0)
    starts = np.uint64(origin) + (np.arange(used, dtype=np.uint64) << np.uint64(shift))
    reached = starts >= np.uint64(origin)  # the rest has wrapped round: behind the last border
    at = np.stack([starts, np.zeros(used, np.uint64)], axis=1)
    base = np.searchsorted(keys, _sortable(at), side="right") - 1
    table["origin"], table["shift"] = origin, shift
    table["base"][:used] = np.where(reached, base, len(keys) - 1)
    table["base"][used:] = len(keys) - 1


def compile_tables(
    rules: Sequence[RankedRule], *, wide: bool, mode: int, default_action: int
) -> NDArray[Any]:
    """One family's rules, best first, to a value of ``struct fw_tables``, shape ``(1,)``.

    Raises:
        TooManyRowsError: more than 4,096 rules, or more distinct rows than fit.
    """
    if len(rules) > WORDS * 64:
        raise TooManyRowsError(f"{len(rules)} rules; {WORDS * 64} is the most per address family")
    tables = np.zeros(1, FW_TABLES)
    table = tables[0]
    pool = _Pool(tables)
    table["mode"], table["default_action"] = mode, default_action

    def ranges(name: str) -> NDArray[np.int64]:
        return np.array([getattr(rule, name) for rule in rules], np.int64).reshape(-1, 2)

    everything = np.array([[0, 0]] * len(rules), np.int64).reshape(-1, 2)
    portless = everything.copy()
    portless[:, 1] = [0 if not rule.ports else -1 for rule in rules]
    table["no_port_row"] = _direct(pool, portless, 1)[0]
    table["protocol_row"] = _direct(pool, ranges("protocol"), 256)
    table["any_vlan"] = all(rule.vlan == ANY_VLAN for rule in rules)
    table["any_interface"] = all(rule.interface == ANY_INTERFACE for rule in rules)
    table["interface_row"] = _direct(pool, ranges("interface"), 64)
    table["vlan_row"] = _direct(pool, ranges("vlan"), 4096)
    table["src_port_row"] = _direct(pool, ranges("src_port"), 65536)
    table["dst_port_row"] = _direct(pool, ranges("dst_port"), 65536)
    _addresses(pool, table["src"], [rule.src for rule in rules], wide)
    _addresses(pool, table["dst"], [rule.dst for rule in rules], wide)
    table["rules"]["rule_id"][: len(rules)] = [rule.number for rule in rules]
    table["rules"]["action"][: len(rules)] = [rule.action for rule in rules]
    return tables
