"""Rings over plain memory: whatever the bytes say, only complete records come out, in order."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.kernel.ring import Ring, record_stride

RECORD = np.dtype([("serial", "<u8"), ("tail", "<u4", (3,))])
STRIDE = record_stride(RECORD.itemsize)
SIZE = 1024
BUSY, DISCARDED = 1 << 31, 1 << 30


class Memory:
    """A ring as the kernel keeps it, with a producer in Python."""

    def __init__(self, start=0, record=RECORD, size=SIZE):
        self.size = size
        self.consumer, self.producer = (bytearray(struct.pack("<Q", start)) for _ in range(2))
        self.data = bytearray(size)
        self.ring = Ring.over(self.consumer, self.producer, self.data, record)

    @property
    def produced(self):
        return struct.unpack("<Q", self.producer)[0]

    @property
    def consumed(self):
        return struct.unpack("<Q", self.consumer)[0]

    def place(self, position, raw):
        for offset, byte in enumerate(raw):
            self.data[(position + offset) % self.size] = byte

    def put(self, body, flags=0, length=None):
        """Reserve and write one record; False where the ring has no room for it."""
        length = len(body) if length is None else length
        if self.produced + record_stride(length) - self.consumed > self.size:
            return False
        at = self.produced
        self.place(at, struct.pack("<II", length | flags, 0) + body)
        self.producer[:] = struct.pack("<Q", at + record_stride(length))
        return at

    def finish(self, at, length=RECORD.itemsize, flags=0):
        self.place(at, struct.pack("<I", length | flags))


def body(serial):
    return struct.pack("<QIII", serial, serial, 0, serial)


def serials(rows):
    return rows["serial"].tolist()


def test_records_come_out_in_order_and_owned():
    memory = Memory()
    for serial in range(5):
        memory.put(body(serial))
    assert memory.ring.pending_bytes() == 5 * STRIDE
    rows = memory.ring.drain()
    assert rows.dtype == RECORD
    memory.data[:] = bytes(len(memory.data))
    assert serials(rows) == [0, 1, 2, 3, 4]
    assert rows["tail"][4].tolist() == [4, 0, 4]
    assert memory.ring.pending_bytes() == 0
    assert serials(memory.ring.drain()) == []


def test_a_busy_record_holds_back_what_is_behind_it():
    memory = Memory()
    memory.put(body(1))
    busy = memory.put(body(2), BUSY)
    memory.put(body(3))
    assert serials(memory.ring.drain()) == [1]
    assert serials(memory.ring.drain()) == []
    memory.finish(busy)
    assert serials(memory.ring.drain()) == [2, 3]
    assert memory.ring.delivered == 3


def test_discarded_records_are_counted_not_delivered():
    memory = Memory()
    for serial in range(9):
        memory.put(body(serial), DISCARDED if serial % 3 == 0 else 0)
    assert serials(memory.ring.drain()) == [1, 2, 4, 5, 7, 8]
    assert (memory.ring.delivered, memory.ring.discarded, memory.ring.malformed) == (6, 3, 0)


def test_a_record_of_another_length_is_stepped_over():
    memory = Memory()
    memory.put(body(1))
    memory.put(b"x" * 50)
    memory.put(body(2))
    memory.put(b"")
    memory.put(body(3))
    assert serials(memory.ring.drain()) == [1, 2, 3]
    assert memory.ring.malformed == 2


def test_a_length_beyond_the_producer_ends_at_the_producer():
    memory = Memory()
    memory.put(body(1))
    at = memory.put(body(2))
    memory.finish(at, length=1 << 29)
    assert serials(memory.ring.drain()) == [1]
    assert memory.consumed == memory.produced
    memory.put(body(3))
    assert serials(memory.ring.drain()) == [3]


def test_impossible_positions_give_nothing_and_recover():
    memory = Memory()
    memory.producer[:] = struct.pack("<Q", 8 * SIZE)
    assert serials(memory.ring.drain()) == []
    assert memory.ring.malformed == 1
    memory.put(body(1))
    assert serials(memory.ring.drain()) == [1]


def test_a_ring_far_longer_than_a_chunk():
    memory = Memory(size=1 << 20)
    head = np.zeros(20000, [("length", "<u4"), ("page", "<u4"), ("record", RECORD), ("pad", "<u4")])
    head["length"] = RECORD.itemsize
    head["record"]["serial"] = np.arange(20000)
    head["length"][15000] |= np.uint32(BUSY)
    memory.data[: head.nbytes] = head.tobytes()
    memory.producer[:] = struct.pack("<Q", head.nbytes)
    assert serials(memory.ring.drain()) == list(range(15000))
    memory.finish(15000 * STRIDE)
    assert serials(memory.ring.drain()) == list(range(15000, 20000))


def test_a_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        Memory(size=1000)


def test_a_closed_ring_is_empty():
    memory = Memory()
    memory.put(body(1))
    memory.ring.close()
    assert memory.ring.drain().dtype == RECORD
    assert memory.ring.pending_bytes() == 0


STEPS = st.lists(
    st.one_of(
        st.just("drain"),
        st.just("finish"),
        st.tuples(st.sampled_from([0, 0, 0, BUSY, DISCARDED, BUSY | DISCARDED])),
        st.tuples(st.sampled_from([0, BUSY, DISCARDED]), st.integers(0, 60)),
    ),
    max_size=120,
)


@given(STEPS, st.integers(0, 1 << 40).map(lambda start: start * 8))
def test_any_life_of_a_ring_equals_the_list_it_stands_for(steps, start):
    memory = Memory(start)
    waiting, busy, expected, found = [], [], [], []
    for serial, step in enumerate([*steps, "finish", "drain"]):
        if step == "drain":
            found += serials(memory.ring.drain())
            while waiting and waiting[0][1] not in busy:
                expected += waiting.pop(0)[0]
        elif step == "finish":
            for at, length, flags in busy:
                memory.finish(at, length, flags)
            busy.clear()
        else:
            flags, length = step[0], step[1] if len(step) > 1 else RECORD.itemsize
            raw = body(serial) if length == RECORD.itemsize else b"m" * length
            at = memory.put(raw, flags)
            if at is False:
                continue
            slot = (at, length, flags & DISCARDED)
            ours = length == RECORD.itemsize and not flags & DISCARDED
            waiting.append(([serial] if ours else [], slot))
            if flags & BUSY:
                busy.append(slot)
        assert found == expected
    ring = memory.ring
    assert ring.pending_bytes() == 0
    assert ring.delivered == len(expected)


def reference(raw, position, end, itemsize):
    """One record at a time: the bodies, and where the reader stands afterwards."""
    ring, bodies = raw * 2, []
    if end - position > SIZE:
        return bodies, end
    while position < end:
        at, left = position % SIZE, end - position
        header = int.from_bytes(ring[at : at + 4], "little") if left >= 8 else 0
        length = header & (DISCARDED - 1)
        if header & BUSY:
            break
        whole = length == itemsize and record_stride(length) <= left
        if whole and not header & DISCARDED:
            bodies.append(ring[at + 8 : at + 8 + length])
        position += min(record_stride(length), left)
    return bodies, position


@given(
    st.binary(min_size=SIZE, max_size=SIZE),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 2 * SIZE),
    st.sampled_from([RECORD, np.dtype("<u4"), np.dtype("V5"), np.dtype("V600")]),
)
def test_random_bytes_never_crash_and_never_read_beyond_the_producer(raw, start, ahead, record):
    memory = Memory(record=record)
    for offset in range(0, SIZE - 3, 16):  # make lengths likely
        if raw[offset] < 200:
            raw = raw[:offset] + struct.pack("<I", record.itemsize) + raw[offset + 4 :]
    memory.data[:] = raw
    end = min(start + ahead, (1 << 64) - 1)
    memory.consumer[:], memory.producer[:] = struct.pack("<Q", start), struct.pack("<Q", end)
    rows = memory.ring.drain()
    assert len(rows) * record_stride(record.itemsize) <= ahead
    assert start <= memory.consumed <= end
    bodies, behind = reference(raw, start, end, record.itemsize)
    assert [row.tobytes() for row in rows] == bodies
    assert memory.consumed == behind
