"""The flow table of ``include/flow_table.h`` from user space: read it, size it, end flows of it.

The table may have hundreds of thousands of flows of 192 bytes. It is mapped, and looked through by
its tags, of which a set has one cache line; only entries that are there are copied. Programs write
meanwhile: a row whose tag has changed by the time it was copied is left out.

A table of another size is a new one. The old one goes behind slot 1, where a program takes its
flows from, set by set, and puts them into the new one with all that they have; programs that miss a
flow in the new table find it in the old one until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.btf import STRUCT
from ebpfsentinel.model.action import Run
from ebpfsentinel.model.flows import CLASS_BITS, TICK_SHIFT, WAYS
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ebpfsentinel.kernel.btf import Btf
    from ebpfsentinel.model.action import EndFlows, FlowTable
    from ebpfsentinel.model.flows import Ends

MAP = "flow_tables"
COUNTS = "flow_sources", "flow_count"
MOVE, END = "flow_move", "flow_end"
_USED, _BUSY = 1, 2
_ENDED = 1 << 15
_HEADER_BYTES = 14
_KEYS_A_RUN = 32
_MIX, _GOLDEN = 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15
_WORDS = ((0, 0), (1, 0)), ((0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3))


class Map(Protocol):
    """What is wanted of maps: of the map of maps, and of those that count flows."""

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys and values."""

    def delete(self, keys: NDArray[Any]) -> None:
        """Delete entries."""

    def table(
        self, slot: int, element: np.dtype[Any], part: tuple[int, int] | None = None
    ) -> NDArray[Any] | None:
        """What is behind the slot as memory, or ``part`` (first, count) of it; None: nothing."""

    def swap(self, slot: int, value: NDArray[Any]) -> None:
        """Put a value behind a slot."""

    def link(self, slot: int, other: int) -> None:
        """Put behind a slot what is behind another."""

    def empty(self, slot: int) -> None:
        """Leave nothing behind a slot."""


@dataclass(frozen=True, slots=True)
class Layout:
    """``set`` and ``head`` of a table, and ``flow``: an entry with ``lapse_ns`` in front."""

    set: np.dtype[Any]
    head: np.dtype[Any]
    flow: np.dtype[Any]

    @classmethod
    @cache
    def of(cls, btf: Btf) -> Layout:
        """As the object declares them."""
        found = btf.dtype(btf.find(STRUCT, "flow_set"))
        entry = btf.dtype(btf.find(STRUCT, "flow_entry"))
        flow = np.dtype([("lapse_ns", "<u8"), *((n, entry[n]) for n in entry.names or ())])
        return cls(found, btf.dtype(btf.find(STRUCT, "flow_head")), flow)


class Flows:
    """The flow table of one kernel. ``run`` carries out a :class:`~...model.action.Run`."""

    def __init__(self, maps: Mapping[str, Map], layout: Layout, run: Callable[[Run], None]) -> None:
        self._maps, self.layout, self._run = maps, layout, run
        self._behind = maps[MAP]

    def read(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """The flows that are there, of all sets or of ``count`` from ``first`` on."""
        now = clock.boot_ns() >> TICK_SHIFT
        found = []
        for slot in (0, 1):
            table = self._behind.table(slot, self.layout.set)
            if table is not None:
                last = None if count is None else 1 + first + count
                found.append(self._rows(table[1 + first : last], now))
        return np.concatenate(found) if found else np.empty(0, self.layout.flow)

    def find(self, ends: Ends) -> NDArray[Any]:
        """The flow between these ends, shape ``(1,)``; ``(0,)``: it is not there."""
        now = clock.boot_ns() >> TICK_SHIFT
        key = ends.key(self.layout.flow["key"])
        for slot in (0, 1):
            head = self._behind.table(slot, self.layout.set, (0, 1))
            for at in () if head is None else place(key, self._head_in(head))[1][0].tolist():
                part = self._behind.table(slot, self.layout.set, (1 + at, 1))
                rows = np.empty(0, self.layout.flow) if part is None else self._rows(part, now)
                found = rows[rows["key"] == key]
                if len(found):
                    return np.asarray(found[:1])
        return np.empty(0, self.layout.flow)

    def _rows(self, sets: NDArray[Any], now: int) -> NDArray[Any]:
        tags, lapse = sets["tags"], sets["lapse"]
        before = tags.copy()
        there = (before & (_USED | _BUSY)) == _USED
        there &= (lapse >> CLASS_BITS) > now
        at, way = np.nonzero(there)
        rows = np.empty(len(at), self.layout.flow)
        rows["lapse_ns"] = (lapse[at, way].astype(np.uint64) >> CLASS_BITS) << TICK_SHIFT
        whole = rows.view(np.dtype([("lapse_ns", "<u8"), ("entry", sets["entries"].dtype)]))
        whole["entry"] = sets["entries"][at, way]
        still: NDArray[np.bool_] = (tags[at, way] == before[at, way]) & (
            rows["status"] & _ENDED == 0
        )
        return np.asarray(rows[still])

    def head(self) -> NDArray[Any] | None:
        """A copy of the head in force, shape ``()``; None: there is no table."""
        table = self._behind.table(0, self.layout.set)
        return None if table is None else self._head_in(table).copy()

    def _head_in(self, table: NDArray[Any]) -> NDArray[Any]:
        raw = table[:1].view(np.uint8)[: self.layout.head.itemsize]
        return raw.view(self.layout.head)[0:1]

    def put(self, action: FlowTable) -> None:
        """Carry out a :class:`~ebpfsentinel.model.action.FlowTable`."""
        if action.head is None:
            self._drop()
            return
        head = np.array(action.head).reshape(1).view(self.layout.head)
        table = self._behind.table(0, self.layout.set)
        if table is not None:
            known = self._head_in(table)
            if (known["version"], known["sets"]) == (head["version"], head["sets"]):
                head["hash_keys"] = known["hash_keys"]
                known[:] = head
                return
            if known["version"] != head["version"]:
                self._drop()
                table = None
        self._replace(table, head)

    def _drop(self) -> None:
        """Leave no table, and nothing that was counted of its flows."""
        if self._behind.table(0, self.layout.set) is None:
            return
        self._behind.empty(0)
        self._behind.empty(1)
        for name in COUNTS:
            self._maps[name].delete(self._maps[name].read()[0])

    def _replace(self, before: NDArray[Any] | None, head: NDArray[Any]) -> None:
        made = np.zeros(1 + int(head["sets"][0]), self.layout.set)
        self._head_in(made)[:] = head
        if before is not None:
            self._behind.link(1, 0)
        self._behind.swap(0, made)
        if before is not None:
            self.move(len(before) - 1)
            self._behind.empty(1)

    def move(self, sets: int) -> None:
        """Take the flows of the ``sets`` behind slot 1 over into the table in force."""
        self._run(Run(MOVE, repeat=sets))

    def end(self, action: EndFlows) -> int:
        """Carry out a :class:`~ebpfsentinel.model.action.EndFlows`; how many were meant."""
        rows = self.read()
        if not len(rows):
            return 0
        meant = np.zeros(len(rows), np.bool_)
        for each in action.filters:
            meant |= each.mask(rows)
        keys = np.ascontiguousarray(rows["key"][meant])
        self.end_keys(keys, barred=action.barred)
        return len(keys)

    def end_keys(self, keys: NDArray[Any], *, barred: bool = False) -> None:
        """End the flows with these keys; see :class:`~ebpfsentinel.model.action.EndFlows`."""
        header = bytes([barred]) + bytes(_HEADER_BYTES - 1)
        for at in range(0, len(keys), _KEYS_A_RUN):
            part = np.zeros(_KEYS_A_RUN, keys.dtype)
            some = keys[at : at + _KEYS_A_RUN]
            part[: len(some)] = some
            self._run(Run(END, frame=header + part.tobytes()))

    def put_rows(self, rows: NDArray[Any]) -> int:
        """Put flows in while no program does; how many found a place."""
        table, head = self._behind.table(0, self.layout.set), self.head()
        if table is None or head is None:
            raise KernelError("there is no flow table")
        return put_rows(table, rows, head)


def place(keys: NDArray[Any], head: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Tags ``(n,)`` and sets ``(n, 2)`` of keys, as ``flow_place()`` of ``flow_search.h``."""
    mixed = _hash(keys, np.asarray(head["hash_keys"], np.uint64).reshape(-1))
    sets, half = np.uint64(int(np.ravel(head["sets"])[0])), np.uint64(32)
    index = np.stack([mixed >> half, (mixed * np.uint64(_GOLDEN)) >> half], axis=1) * sets >> half
    tags = mixed.astype(np.uint32)
    return (tags & np.uint32(~_BUSY & 0xFFFFFFFF)) | np.uint32(_USED), index


def _hash(keys: NDArray[Any], secret: NDArray[np.uint64]) -> NDArray[np.uint64]:
    def word(values: Any) -> NDArray[np.uint64]:
        return np.asarray(values, np.uint64)

    addr, port = word(keys["addr"]), word(keys["port"])
    ports = (port[:, 0] << np.uint64(16)) | port[:, 1]
    what = word(keys["zone"]) << np.uint64(16) | word(keys["family"]) << np.uint64(8)
    columns = [addr[:, end, at] for end, at in _WORDS[0]] + [ports, what | word(keys["protocol"])]
    total = np.full(len(keys), secret[0])
    for column, key in zip(columns, secret[1:5], strict=True):
        total += key * column
    for (end, at), key in zip(_WORDS[1], secret[5:], strict=True):
        total += key * addr[:, end, at]
    for _ in range(2):
        total = (total ^ total >> np.uint64(32)) * np.uint64(_MIX)
    return np.asarray(total ^ total >> np.uint64(32), np.uint64)


def put_rows(table: NDArray[Any], rows: NDArray[Any], head: NDArray[Any]) -> int:
    """Put flows into a table that no program uses; how many found a place."""
    tags, index = place(rows["key"], head)
    put = 0
    for row, tag, sets in zip(rows, tags, index, strict=True):
        for at in sets:
            free = np.flatnonzero(table[1 + int(at)]["tags"] == 0)
            if len(free):
                _put_row(table[1 + int(at)], int(free[0]), row, int(tag))
                put += 1
                break
    return put


def _put_row(into: Any, way: int, row: Any, tag: int) -> None:
    if way >= WAYS:
        raise KernelError(f"a set has {WAYS} ways, not {way}")
    for name in into["entries"].dtype.names:
        into["entries"][name][way] = row[name]
    into["lapse"][way] = int(row["lapse_ns"]) >> TICK_SHIFT << CLASS_BITS | 3
    into["tags"][way] = tag


class FakeFlows(Flows):
    """The flow table of a kernel in memory: what programs do to it is done here."""

    def move_here(self) -> None:
        """As the program :data:`MOVE`."""
        table, now = self._behind.table(1, self.layout.set), clock.boot_ns() >> TICK_SHIFT
        if table is not None:
            rows = self._rows(table[1:], now)
            table["tags"][1:] = 0
            self.put_rows(rows)

    def end_here(self, action: Run) -> None:
        """As the program :data:`END`."""
        table, head = self._behind.table(0, self.layout.set), self.head()
        if table is None or head is None:
            return
        keys = np.frombuffer(action.frame[_HEADER_BYTES:], self.layout.flow["key"])
        for key, sets in zip(keys, place(keys, head)[1], strict=True):
            for at in sets:
                found = table[1 + int(at)]
                found["tags"][found["entries"]["key"] == key] = 0
