"""The disk spool of one destination: what has not been acknowledged yet, in order.

The problem: alerts must outlive ``kill -9`` and a reboot, in order, without a database between the
pipeline and each of its destinations, and a folder that a crash left in any state must open again.

The way chosen: segments that only grow, named after the first sequence number in them. A record is
its length, a CRC-32 over sequence number and body, the sequence number, and the body; one
``write()`` takes a batch, so the death of the agent tears nothing. What was acknowledged stands in
a file of two slots that are written in turn, each with its own checksum: whatever happens, one of
them is whole. A segment goes when all of it is acknowledged. Data is synced by batch, in a thread
(:meth:`Spool.unsynced`): the death of the agent costs nothing, that of the machine what was not
synced yet, which is less than a second.

When the spool is full the **newest** is refused, not the oldest taken back: what got a sequence
number is delivered, always, so a gap in the numbers is damage and never policy; and whoever floods
cannot push out what was seen of him before (decision 0039).

Rejected: SQLite (a second writer beside the store, and 20 times the cost of a record), one file an
alert (a directory of 100,000 entries), a ring in one file (a torn write then is in the middle).
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

HEAD = struct.Struct("<IIQ")
"""Length of the body, CRC-32 of sequence number and body, sequence number."""
_SLOT = struct.Struct("<QQI")
_SLOT_APART = 512
_SEQUENCE = struct.Struct("<Q")
SEGMENT_BYTES = 4 << 20
MOST_BODY = 1 << 24
_ACKNOWLEDGED = "acknowledged"
_SUFFIX = ".segment"


@dataclass(slots=True)
class Segment:
    """One file: the records ``first`` to ``last`` in ``size`` whole bytes."""

    path: Path
    first: int
    last: int
    size: int


def record(sequence: int, body: bytes) -> bytes:
    """A record as it stands on disk."""
    numbered = _SEQUENCE.pack(sequence) + body
    return HEAD.pack(len(body), zlib.crc32(numbered), sequence) + body


def records(data: bytes, at: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """End, sequence number and body of each whole record, up to the first that is not."""
    while at + HEAD.size <= len(data):
        length, crc, sequence = HEAD.unpack_from(data, at)
        end = at + HEAD.size + length
        if length > MOST_BODY or end > len(data):
            return
        body = data[at + HEAD.size : end]
        if zlib.crc32(body, zlib.crc32(_SEQUENCE.pack(sequence))) != crc:
            return
        yield end, sequence, body
        at = end


class Spool:
    """Records on disk. ``sequence`` is the last one given, ``acknowledged`` the last one done with.

    ``damaged`` counts records that were on disk and cannot be read any more, at least. ``trouble``
    says why nothing can be written now; empty while all is well.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self.sequence = self.acknowledged = 0
        self.damaged = 0
        self.trouble = ""
        self._segments: list[Segment] = []
        self._file = self._slots = -1
        self._turn = 0
        self._torn: int | None = None
        self._at: tuple[int, int, int] = (0, 0, 0)
        self._rolled: list[int] = []
        try:
            self._recover()
        except OSError as error:
            self._fail(error)

    @property
    def used_bytes(self) -> int:
        """On disk, records of begun segments that are done with included."""
        return sum(segment.size for segment in self._segments)

    def count(self) -> int:
        """How many records are not done with, read anew."""
        after, found = self.acknowledged, 0
        for segment in self._segments:
            found += sum(number > after for _, number, _ in records(segment.path.read_bytes()))
        return found

    def append(self, bodies: Sequence[bytes]) -> int:
        """Number and write the bodies; how many of them are on disk, the first so many.

        Fewer than all: the spool is full, or, where :attr:`trouble` says so, the disk fails. The
        others have no number.
        """
        room, data, taken = self.most_bytes - self.used_bytes, bytearray(), 0
        for sequence, body in enumerate(bodies, self.sequence + 1):
            if len(data) + HEAD.size + len(body) > room:
                break
            data += record(sequence, body)
            taken += 1
        if not taken or not self._write(bytes(data), taken):
            return 0
        self.sequence += taken
        return taken

    def give(self) -> int:
        """A sequence number for a body that is kept elsewhere."""
        self.sequence += 1
        return self.sequence

    def read(self, after: int, before: int, most_bytes: int) -> list[tuple[int, bytes]]:
        """Records with ``after < sequence < before``, about ``most_bytes`` of them, in order."""
        found: list[tuple[int, bytes]] = []
        for segment in [each for each in self._segments if each.last > after]:
            if segment.first >= before:
                break
            for sequence, body in self._read(segment, after, most_bytes):
                if sequence >= before:
                    return found
                found.append((sequence, body))
                most_bytes -= len(body) + HEAD.size
                if most_bytes <= 0:
                    return found
            if found:
                break
        return found

    def _read(self, segment: Segment, after: int, most_bytes: int) -> Iterator[tuple[int, bytes]]:
        first, at, last = self._at
        follows = (first, last) == (segment.first, after)
        at = at if follows else 0
        try:
            with segment.path.open("rb") as file:
                file.seek(at)
                data = file.read(min(most_bytes, segment.size - at) if follows else segment.size)
                if next(records(data), None) is None:
                    data += file.read(segment.size - at - len(data))
        except OSError as error:
            self._fail(error)
            data = b""
        sequence = after
        for end, sequence, body in records(data):
            if sequence > after:
                self._at = (segment.first, at + end, sequence)
                yield sequence, body
        if sequence <= after:
            self._give_up(segment, after)

    def _give_up(self, segment: Segment, after: int) -> None:
        """What was whole when it was written cannot be read any more: say so, and go on behind."""
        lost = segment.last - max(after, segment.first - 1)
        self.damaged += lost
        logger.error("%s is damaged: %d alerts in it are lost", segment.path, lost)
        segment.last = min(after, segment.last)

    def acknowledge(self, sequence: int) -> None:
        """All up to ``sequence`` is done with."""
        self.acknowledged = max(self.acknowledged, sequence)
        try:
            if self._slots < 0:
                self._open_slots()
            self._turn ^= 1
            os.pwrite(self._slots, self._slot(), self._turn * _SLOT_APART)
            self._drop_done()
        except OSError as error:
            self._fail(error)

    def _slot(self) -> bytes:
        numbers = struct.pack("<QQ", self.acknowledged, self.sequence)
        return numbers + struct.pack("<I", zlib.crc32(numbers))

    def _drop_done(self) -> None:
        while self._segments and self._segments[0].last <= self.acknowledged:
            segment = self._segments[0]
            if len(self._segments) == 1 and self._file >= 0:
                if segment.size < min(SEGMENT_BYTES, self.most_bytes) // 4:
                    return
                os.close(self._file)
                self._file = -1
            segment.path.unlink(missing_ok=True)
            del self._segments[0]

    def unsynced(self) -> list[int]:
        """Descriptors to hand to :func:`sync`, in any thread."""
        open_now = [each for each in (self._file, self._slots) if each >= 0]
        found, self._rolled = [*self._rolled, *(os.dup(each) for each in open_now)], []
        return found

    def close(self) -> None:
        """Sync and close; what is there stays."""
        if self._slots >= 0 or self._file >= 0:
            sync(self.unsynced())
        for each in (self._file, self._slots):
            if each >= 0:
                os.close(each)
        self._file = self._slots = -1

    def _write(self, data: bytes, count: int) -> bool:
        try:
            segment = self._segment(len(data))
            write_whole(self._file, data, segment.size)
        except OSError as error:
            self._fail(error)
            return False
        segment.size += len(data)
        segment.last = self.sequence + count
        if self.trouble:
            logger.warning("%s takes alerts again", self.folder)
            self.trouble = ""
        return True

    def _segment(self, size: int) -> Segment:
        """The one to append to: the last one, or a new one where that has grown enough."""
        limit = min(SEGMENT_BYTES, max(self.most_bytes // 8, 1 << 14))
        if self._file >= 0 and self._segments and self._segments[-1].size + size <= limit:
            return self._segments[-1]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        first = self.sequence + 1
        path = self.folder / f"{first:020}{_SUFFIX}"
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(file, 0)
        if self._file >= 0:
            self._rolled.append(self._file)
        self._rolled.append(os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._file = file
        self._segments.append(Segment(path, first, first - 1, 0))
        return self._segments[-1]

    def _fail(self, error: OSError) -> None:
        if not self.trouble:
            logger.error("%s takes no alerts, they wait in memory: %s", self.folder, error)
        self.trouble = f"{self.folder}: {error.strerror or error}"

    def _open_slots(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
        self._slots = os.open(self.folder / _ACKNOWLEDGED, flags, 0o600)

    def _recover(self) -> None:
        """Take up what is in the folder, whatever state it was left in."""
        if not self.folder.is_dir():
            return
        self._open_slots()
        given = self._read_slots()
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            self._take_up(path)
        last = self._segments[-1].last if self._segments else 0
        self.sequence = max(given, last, self.acknowledged)
        self.damaged += self._torn is not None and self._torn >= self.acknowledged
        self._drop_done()

    def _read_slots(self) -> int:
        given = 0
        data = os.pread(self._slots, _SLOT_APART + _SLOT.size, 0)
        for turn in (0, 1):
            slot = data[turn * _SLOT_APART :][: _SLOT.size]
            if len(slot) < _SLOT.size:
                continue
            acknowledged, sequence, crc = _SLOT.unpack(slot)
            if zlib.crc32(slot[:16]) == crc and acknowledged >= self.acknowledged:
                self.acknowledged, self._turn = acknowledged, turn
                given = max(given, sequence)
        return given

    def _take_up(self, path: Path) -> None:
        name = path.name.removesuffix(_SUFFIX)
        if not name.isdecimal():
            return
        first = int(name)
        data, size, last = path.read_bytes(), 0, first - 1
        for end, sequence, _ in records(data):
            if sequence <= last:
                break
            size, last = end, sequence
        if self._torn is not None:
            self.damaged += max(first - 1 - max(self._torn, self.acknowledged), 0)
        self._torn = last if size < len(data) else None
        if self._torn is not None:
            logger.error("%s is torn after alert %d: what follows in it is lost", path, last)
        if size:
            self._segments.append(Segment(path, first, last, size))
        else:
            path.unlink()


def write_whole(file: int, data: bytes, size: int) -> None:
    """Append ``data`` to a file of ``size`` bytes: all of it, or nothing.

    Raises:
        OSError: nothing was written.
    """
    try:
        done = os.write(file, data)
    except OSError:
        os.ftruncate(file, size)
        raise
    if done < len(data):
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def sync(descriptors: Sequence[int]) -> None:
    """Bring to disk what was written, and close the descriptors."""
    for each in descriptors:
        try:
            os.fsync(each)
        except OSError as error:
            logger.warning("a spool could not be synced: %s", error)
        finally:
            os.close(each)
