"""BPF ring buffers as numpy rows: no copy per event, no callback per event.

The problem. libbpf hands a ring over by one C callback per record; from Python that is a
microsecond each. But a ring that carries one record type has its records at a fixed distance, so
the mapped memory *is* a strided array: headers are one column of it, records another.

The way chosen. The data area is mapped once; the one record of a lap that lies across its end is
put together of two parts. (The kernel would map the area twice, back to back, so that nothing wraps
for the reader, but every page of both counts as ours, and rings are megabytes.)

A drain reads the producer's position once, copies the header column of what lies before it, finds
with one comparison how far the records are complete, copies those out, and gives their room back. A
record whose length is not that of the record type ends such a run; it is
stepped over by its own length. Chunks start small after such a step and then grow, so that even a
ring of nothing but wrong records costs a constant number of looks for each.

Layout (kernel doc ``bpf/ringbuf.rst``): one page with the consumer's position, one with the
producer's, then the data. A record is a header of 8 bytes (``u32`` length with bit 31 busy and bit
30 discarded, ``u32`` page offset) and its bytes, rounded up to 8. A header is written, busy, before
the producer's position moves past it, and becomes final in one store.

Rejected: libbpf's ``ring_buffer__consume`` (callbacks), and a C extension (a compiler on the user's
side, for a loop that is already bound by memory).
"""

from __future__ import annotations

import mmap
import threading
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Memory = bytearray | bytes | memoryview | mmap.mmap

BUSY = np.uint32(1 << 31)
DISCARDED = np.uint32(1 << 30)
HEADER_BYTES = 8
_LENGTH = (1 << 30) - 1
_FIRST_CHUNK, _LARGEST_CHUNK = 64, 4096  # records; 4,096 of 64 bytes stay in a core's cache


def record_stride(length: int) -> int:
    """Bytes that a record of ``length`` bytes takes up in a ring, header included."""
    return HEADER_BYTES + (length + 7 & ~7)


class Ring:
    """The reading end of one ring buffer; there must be no other reader.

    Attributes:
        delivered: records handed out by :meth:`drain`.
        discarded: records that the program reserved and gave back.
        malformed: records of another length than the record type's, or reaching beyond what the
            producer has written; a breach of contract, so a bug on our side.

    Args:
        fd: the ring buffer map; the mappings outlive it.
        size_bytes: its ``max_entries``, a power of two.
        record: dtype of the one record type it carries.

    Raises:
        OSError: the map cannot be mapped: not a ring buffer, or another size.
        ValueError: the size is not a power of two.
    """

    def __init__(self, fd: int, size_bytes: int, record: np.dtype[Any]) -> None:
        page = mmap.PAGESIZE
        consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        rest = mmap.mmap(fd, page + size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._bind(consumer, rest, memoryview(rest)[page:], record)

    @classmethod
    def over(cls, consumer: Memory, producer: Memory, data: Memory, record: np.dtype[Any]) -> Self:
        """A ring over plain memory.

        ``consumer`` (writable) and ``producer`` begin with a little-endian ``u64`` position;
        ``data`` is the data area.
        """
        ring = cls.__new__(cls)
        ring._bind(consumer, producer, data, record)  # noqa: SLF001 (a second constructor)
        return ring

    def _bind(
        self, consumer: Memory, producer: Memory, data: Memory, record: np.dtype[Any]
    ) -> None:
        self._consumer = np.frombuffer(consumer, np.uint64, 1)
        self._producer = np.frombuffer(producer, np.uint64, 1)
        self._data = memoryview(data).cast("B")
        self._size = len(self._data)
        if self._size & (self._size - 1) or not self._size:
            raise ValueError(f"a ring of {self._size} bytes: the size must be a power of two")
        self._record = record
        self._opaque = np.dtype(f"V{record.itemsize}")  # numpy copies a struct field by field
        self._stride = record_stride(record.itemsize)
        self._order = threading.Lock()
        self._order.acquire()
        self.delivered = self.discarded = self.malformed = 0

    def close(self) -> None:
        """Unmap; what was drained stays valid, and drains find nothing any more."""
        self._consumer = self._producer = np.zeros(1, np.uint64)
        self._data = memoryview(bytes(self._size))

    def pending_bytes(self) -> int:
        """Bytes between the consumer and the producer, headers and unfinished records included."""
        return int(self._producer[0]) - int(self._consumer[0])

    def drain(self) -> NDArray[Any]:
        """All complete records, in order, as an owned array of the record dtype, shape ``(n,)``.

        Stops at the first record that its program is still writing; that one and all behind it
        come with a later drain.
        """
        position, end = int(self._consumer[0]), int(self._producer[0])
        self._fence()
        if not 0 <= end - position <= self._size:
            self._malformed_at(end)
            return np.empty(0, self._record)
        rows = np.empty((end - position) // self._stride, self._opaque)
        filled, chunk = 0, _FIRST_CHUNK
        while position < end:
            count, kept = self._take(
                position, min((end - position) // self._stride, chunk), rows, filled
            )
            position, filled = position + count * self._stride, filled + kept
            chunk = min(chunk * 2, _LARGEST_CHUNK) if count else _FIRST_CHUNK
            self._release(position)
            if not count:
                step = self._step_over(position, end)
                if not step:
                    break
                position += step
        self.delivered += filled
        kept_rows = rows[:filled] if 2 * filled >= len(rows) else rows[:filled].copy()
        return kept_rows.view(self._record)

    def nothing(self) -> NDArray[Any]:
        """What a drain gives that finds nothing."""
        return np.empty(0, self._record)

    def _take(self, position: int, limit: int, rows: NDArray[Any], filled: int) -> tuple[int, int]:
        """Copy out the complete records from ``position`` on, ``limit`` at most.

        Returns how many there were, and how many of them were not discarded.
        """
        before_end = (self._size - (position & (self._size - 1))) // self._stride
        if not limit:
            return 0, 0
        if not before_end:
            return self._take_parted(position, rows, filled)
        limit = min(limit, before_end)
        headers = self._column(np.dtype("<u4"), position, 0, limit).copy()
        self._fence()
        whole = headers == self._record.itemsize
        if whole.all():
            rows[filled : filled + limit] = self._column(
                self._opaque, position, HEADER_BYTES, limit
            )
            return limit, limit
        complete = whole | (headers == (DISCARDED | self._record.itemsize))
        count = limit if complete.all() else int(complete.argmin())
        found = self._column(self._opaque, position, HEADER_BYTES, count)[whole[:count]]
        rows[filled : filled + len(found)] = found
        self.discarded += count - len(found)
        return count, len(found)

    def _take_parted(self, position: int, rows: NDArray[Any], filled: int) -> tuple[int, int]:
        """As :meth:`_take`, of the one record that lies across the end of the memory."""
        header, length = self._header(position), self._record.itemsize
        self._fence()
        if header == length:
            parts = self._bytes(position + HEADER_BYTES, length)
            rows[filled : filled + 1] = np.frombuffer(parts, self._opaque)
            return 1, 1
        if header == length | int(DISCARDED):
            self.discarded += 1
            return 1, 0
        return 0, 0

    def _header(self, position: int) -> int:
        return int.from_bytes(self._bytes(position, 4), "little")

    def _bytes(self, position: int, count: int) -> bytes:
        start = position & (self._size - 1)
        first = bytes(self._data[start : start + count])
        return first + bytes(self._data[: count - len(first)])

    def _column(self, dtype: np.dtype[Any], position: int, offset: int, count: int) -> NDArray[Any]:
        start = (position & (self._size - 1)) + offset
        return np.ndarray((count,), dtype, self._data, start, (self._stride,))

    def _step_over(self, position: int, end: int) -> int:
        """Bytes to a place behind the record at ``position``, which is not one of ours; 0: wait.

        One that has become complete since it was looked at waits like a busy one.
        """
        left, length = end - position, 0
        if left >= HEADER_BYTES:
            header = self._header(position)
            length = header & _LENGTH
            if header & int(BUSY) or (length == self._record.itemsize and left >= self._stride):
                return 0
        step = min(record_stride(length), left)
        self._malformed_at(position + step)
        return step

    def _malformed_at(self, behind: int) -> None:
        self.malformed += 1
        self._release(behind)

    def _release(self, position: int) -> None:
        """Give everything before ``position`` back to the producers, once it has been read."""
        self._fence()
        self._consumer[0] = position

    def _fence(self) -> None:
        """Keep what was read or written before this from happening after what follows.

        Processors other than x86 reorder loads, and Python has no fence; letting go of a lock and
        taking it again is one.
        """
        self._order.release()
        self._order.acquire()
