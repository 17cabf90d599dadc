"""Capture files as frames: pcap and pcapng, Ethernet, without an object per frame.

A replay takes a frame through the kernel in a microsecond, so reading may not take several. The
file is mapped; what is read of it in Python is one header per record, and what comes out is where
each frame lies (:class:`~ebpfsentinel.model.kernel.Frames`). A file that is cut off or damaged is
refused with the offset where it goes wrong, never read past.

Formats: ``draft-ietf-opsawg-pcap`` and ``draft-ietf-opsawg-pcapng``.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.model.kernel import CaptureError, Frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ETHERNET = 1
_LINKS = {0: "NULL", 101: "RAW", 105: "IEEE802_11", 113: "LINUX_SLL", 276: "LINUX_SLL2"}
_MAGICS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\x3c\x4d": ">",
}
_SECTION = b"\x0a\x0d\x0d\x0a"
_ORDERS = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION_BLOCK, _INTERFACE, _OLD_PACKET, _SIMPLE, _PACKET = 0x0A0D0D0A, 1, 2, 3, 6
_MOST_BYTES = 262_144  # of one frame: what libpcap takes
_MOST_BLOCK = 16 << 20
_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some frames of a file, in order, and where reading has come to (``at`` of ``size`` bytes).

    ``cut`` counts frames of which the file holds only the beginning.
    """

    frames: Frames
    at: int
    size: int
    cut: int


Place = tuple[int, int, int]
"""Offset and length of a frame in the file, and its length on the wire."""


def read_capture(path: Path) -> Iterator[Chunk]:
    """The frames of a capture file, some 65,000 at a time.

    Raises:
        CaptureError: it cannot be read, is no capture, not Ethernet, cut off or damaged; raised
            where it is met, so what came before has been handed out.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if not size:
                raise CaptureError(f"{path}: empty, not even a file header")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror}") from None
    yield from _chunks(data, _places(data, str(path)))


def _chunks(data: mmap.mmap, places: Iterator[Place]) -> Iterator[Chunk]:
    buffer = np.frombuffer(data, np.uint8)
    some: list[Place] = []
    for place in places:
        some.append(place)
        if len(some) == _CHUNK:
            yield _chunk(buffer, some)
            some = []
    if some:
        yield _chunk(buffer, some)


def _chunk(buffer: np.ndarray[tuple[int], np.dtype[np.uint8]], some: list[Place]) -> Chunk:
    table = np.array(some, np.int64)
    frames = Frames(buffer, table[:, 0].copy(), table[:, 1].copy())
    at = int(table[-1, 0] + table[-1, 1])
    return Chunk(frames, at, len(buffer), int((table[:, 2] > table[:, 1]).sum()))


def _places(data: mmap.mmap, name: str) -> Iterator[Place]:
    magic = data[:4]
    if magic in _MAGICS:
        return _pcap(data, name, _MAGICS[magic])
    if magic == _SECTION:
        return _pcapng(data, name)
    if magic[:2] == b"\x1f\x8b" or magic == b"\x28\xb5\x2f\xfd":
        raise CaptureError(f"{name}: compressed; unpack it first (gunzip, zstd -d)")
    raise CaptureError(f"{name}: offset 0: neither pcap nor pcapng (it begins {magic.hex()})")


def _check_link(link: int, name: str, at: int) -> None:
    if link != ETHERNET:
        called = _LINKS.get(link, "?")
        raise CaptureError(
            f"{name}: offset {at}: link type {link} ({called}) is not Ethernet (1). "
            "Capture on one interface instead of 'any': tcpdump -i eth0 -w FILE"
        )


def _pcap(data: mmap.mmap, name: str, order: str) -> Iterator[Place]:
    size = len(data)
    if size < 24:
        raise CaptureError(f"{name}: offset {size}: the file header is cut off")
    _check_link(struct.unpack_from(order + "I", data, 20)[0] & 0xFFFF, name, 20)
    lengths = struct.Struct(order + "II").unpack_from
    at = 24
    while at < size:
        if at + 16 > size:
            raise CaptureError(f"{name}: offset {at}: a record header is cut off")
        held, wire = lengths(data, at + 8)
        if held > _MOST_BYTES:
            raise CaptureError(f"{name}: offset {at}: a frame of {held} bytes: damaged")
        at += 16
        if at + held > size:
            raise CaptureError(f"{name}: offset {at}: {held} bytes of frame, {size - at} there")
        yield at, held, wire
        at += held


def _pcapng(data: mmap.mmap, name: str) -> Iterator[Place]:
    """Blocks one after another; each ends with its length again."""
    size, at, order = len(data), 0, "<"
    snaps: list[int] = []
    while at < size:
        if at + 12 > size:
            raise CaptureError(f"{name}: offset {at}: a block header is cut off")
        if data[at : at + 4] == _SECTION:
            order, snaps = _order(data, name, at), []
        kind, length = struct.unpack_from(order + "II", data, at)
        if length < 12 or length % 4 or length > _MOST_BLOCK:
            raise CaptureError(f"{name}: offset {at}: a block of {length} bytes: damaged")
        if at + length > size:
            raise CaptureError(f"{name}: offset {at}: {length} bytes of block, {size - at} there")
        if struct.unpack_from(order + "I", data, at + length - 4)[0] != length:
            raise CaptureError(f"{name}: offset {at + length - 4}: the block's lengths differ")
        if kind == _INTERFACE:
            snaps.append(_interface(data, name, order, at, length))
        elif place := _frame(data, name, order, (kind, at, length), snaps):
            yield place
        at += length


def _order(data: mmap.mmap, name: str, at: int) -> str:
    order = _ORDERS.get(data[at + 8 : at + 12])
    if order is None:
        raise CaptureError(f"{name}: offset {at + 8}: no byte order of a section: damaged")
    return order


def _interface(data: mmap.mmap, name: str, order: str, at: int, length: int) -> int:
    if length < 20:
        raise CaptureError(f"{name}: offset {at}: an interface block of {length} bytes: damaged")
    link, _, snap = struct.unpack_from(order + "HHI", data, at + 8)
    _check_link(link, name, at + 8)
    return int(snap)


def _frame(
    data: mmap.mmap, name: str, order: str, block: tuple[int, int, int], snaps: list[int]
) -> Place | None:
    """The frame of a block; None for a block that holds none."""
    kind, at, length = block
    head = {_PACKET: 28, _OLD_PACKET: 28, _SIMPLE: 12}.get(kind)
    if head is None:
        return None
    if length < head + 4:
        raise CaptureError(f"{name}: offset {at}: a packet block of {length} bytes: damaged")
    if kind == _SIMPLE:
        interface, wire = 0, struct.unpack_from(order + "I", data, at + 8)[0]
        held = min(wire, length - head - 4, snaps[0] or wire) if snaps else 0
    else:
        width = "I" if kind == _PACKET else "H"
        interface = struct.unpack_from(order + width, data, at + 8)[0]
        held, wire = struct.unpack_from(order + "II", data, at + 20)
    if interface >= len(snaps):
        raise CaptureError(f"{name}: offset {at}: interface {interface} was never described")
    if held > length - head - 4:
        raise CaptureError(f"{name}: offset {at}: {held} bytes of frame in a block of {length}")
    return at + head, held, wire
