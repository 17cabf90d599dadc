"""Is what we left in the kernel still as we left it?

The problem: root can detach a program, put another into a link, take one out of a chain, unpin, or
write a map, and everything that asks only itself goes on as if nothing had happened.

The way: the kernel is asked, object by object. A link tells which program runs in it and on what; a
program array tells the ids in its slots; a pin is opened and compared by id. Of a map that programs
only read, a digest is taken after each change of ours and compared later, in turns: what is looked
at in one call is bounded, so a table of many megabytes takes several.

Rejected: freezing maps (we have to write them), a tracepoint on bpf(2) (it sees descriptors, and
whoever may call it may detach the tracepoint first), reading back every value at every write.

Limits: what is changed between a write of ours and the digest after it, a call later, is taken for
ours where the map is large; and whoever runs code in the kernel can answer whatever he likes.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.libbpf import ffi, lib
from ebpfsentinel.kernel.maps import ARRAY, ARRAY_OF_MAPS, DEVMAP_HASH, HASH_OF_MAPS, facts
from ebpfsentinel.model.health import Breach

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from ebpfsentinel.kernel.maps import Map

Part = tuple[str, int]
"""A map, or of a map of maps a slot."""

_INFO_BYTES = 256
_ID_AT, _PROGRAM_AT, _TARGET_AT = 4, 8, 16
BYTES_A_CALL = 2 << 20
_MOST_INNER = 64 << 20
_SLOTS = 64
_SMALL, _MMAPABLE = 16 << 10, 1 << 10


def info(fd: int) -> bytes:
    """How the ``struct bpf_link_info`` (``bpf_prog_info`` ...) of an object begins; empty: none."""
    found, size = ffi.new("char[]", _INFO_BYTES), ffi.new("uint32_t *", _INFO_BYTES)
    if lib().bpf_obj_get_info_by_fd(fd, found, size):
        return b""
    return bytes(ffi.buffer(found))


def identity(fd: int) -> int:
    """The kernel's id of a link, program or map; 0: it is none."""
    found = info(fd)
    return int(struct.unpack_from("I", found, _ID_AT)[0]) if found else 0


def link_breach(subject: str, link: int, program: int, ifindex: int) -> Breach | None:
    """Is the link still on the interface, and does our program run in it?"""
    found = info(link)
    if not found:
        return Breach("hook", subject, "the link is gone")
    running, target = (struct.unpack_from("I", found, at)[0] for at in (_PROGRAM_AT, _TARGET_AT))
    if target != ifindex:
        return Breach("hook", subject, "our program was detached")
    ours = identity(program)
    if running != ours:
        return Breach("hook", subject, f"program {running} runs in the place of ours ({ours})")
    return None


def tracing_breach(subject: str, link: int, program: int, *, cgroup: bool) -> Breach | None:
    """As :func:`link_breach`, for hooks of the whole host; the kernel calls a detached one 0."""
    found = info(link)
    if not found:
        return None  # a tracepoint before Linux 5.15 has no link that tells
    running, target = (struct.unpack_from("I", found, at)[0] for at in (_PROGRAM_AT, _TARGET_AT))
    if running != identity(program):
        return Breach("hook", subject, f"program {running} runs in the place of ours")
    if cgroup and not target:
        return Breach("hook", subject, "our program was detached")
    return None


def put_back(link: int, program: int) -> bool:
    """Our program into its link again; False: the link is on nothing any more."""
    return not lib().bpf_link_update(link, program, ffi.NULL)


def slot_breach(table: Map, slot: int, program: int, name: str) -> Breach | None:
    """Does this slot of a program array hold our program? 0 stands for none."""
    key, value = ffi.new("uint32_t *", slot), ffi.new("uint32_t *")
    missing = lib().bpf_map_lookup_elem(table.fd, key, value)
    found = 0 if missing else int(value[0])
    ours = identity(program) if program else 0
    if found == ours:
        return None
    text = f"slot {slot} holds program {found or 'none'}, not {name or 'none'} ({ours or 'none'})"
    return Breach("chain", table.name, text)


def pin_breach(pin: Path, fd: int, *, mend: bool) -> Breach | None:
    """Does the name still lead to our link or map?"""
    opened = lib().bpf_obj_get(os.fsencode(pin))
    if opened < 0:
        found = "it was removed"
    else:
        found = "" if identity(opened) == identity(fd) else "another object has its name"
        os.close(opened)
    if found and mend:
        pin.unlink(missing_ok=True)
        if lib().bpf_obj_pin(fd, os.fsencode(pin)):
            found += ", and it cannot be pinned again"
    return Breach("pin", str(pin), found) if found else None


class Seals:
    """Digests of maps that nobody but us writes. ``names``: which those are.

    A map of maps is as many parts as it has slots, so that a large one is read in several calls.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._known: dict[Part, int] = {}
        self._turn: list[Part] = []

    def written(self, names: Collection[str], maps: Mapping[str, Map]) -> None:
        """We have written these: what they hold now is right. Large ones are read later."""
        for name in self.names.intersection(names):
            for part in [part for part in self._known if part[0] == name]:
                del self._known[part]
            if name in maps and _is_small(maps[name]):
                self._known[name, 0], _ = _digest(maps[name], 0)

    def look(self, maps: Mapping[str, Map], most: int = BYTES_A_CALL) -> Iterator[Breach]:
        """Compare the next parts in turn, about ``most`` bytes of them.

        What was found to be changed is known from then on, so that it is told once.
        """
        left, told = most, set()
        self._turn = self._turn or list(self._parts(maps))
        while self._turn and left > 0:
            part = self._turn.pop(0)
            name, slot = part
            if name not in maps or name not in self.names:
                continue
            digest, size = _digest(maps[name], slot)
            left -= max(size, 1)
            before = self._known.get(part)
            self._known[part] = digest
            if before is not None and before != digest and name not in told:
                told.add(name)
                yield Breach("map", name, "its content was changed by somebody else")

    def _parts(self, maps: Mapping[str, Map]) -> Iterator[Part]:
        for name in sorted(self.names.intersection(maps)):
            slots = maps[name].max_entries if maps[name].inner is not None else 1
            yield from ((name, slot) for slot in range(min(slots, _SLOTS)))


def _is_small(target: Map) -> bool:
    bytes_each = target.key.itemsize + target.value.itemsize
    return target.inner is None and target.max_entries * bytes_each <= _SMALL


def _digest(target: Map, slot: int) -> tuple[int, int]:
    """A digest of what a map holds, in no order, or one slot of it; and how many bytes that is."""
    if target.type in (ARRAY_OF_MAPS, HASH_OF_MAPS):
        return _inner_digest(target, slot)
    keys, values = target.read()
    if target.type == DEVMAP_HASH:
        return zlib.crc32(np.sort(keys, axis=None).tobytes()), keys.nbytes
    rows = [keys.tobytes(), values.tobytes()]
    if len(keys) > 1 and target.type != ARRAY:
        order = np.argsort(np.ascontiguousarray(keys).view(f"V{keys.dtype.itemsize}"), axis=None)
        rows = [keys[order].tobytes(), values[order].tobytes()]
    return zlib.crc32(rows[1], zlib.crc32(rows[0])), keys.nbytes + values.nbytes


def _inner_digest(target: Map, slot: int) -> tuple[int, int]:
    """Of the map behind a slot: which it is, and what it holds."""
    fd = target.inner_fd(slot)
    if fd is None:
        return 0, 0
    try:
        found = facts(fd)
        if found[5] & _MMAPABLE:
            size = -(-found[3] * found[4] // mmap.PAGESIZE) * mmap.PAGESIZE
            with mmap.mmap(fd, size) as memory:
                return zlib.crc32(memory, found[1]), size
        content = _content(fd, found[3], found[4])
    finally:
        os.close(fd)
    return zlib.crc32(content, found[1]), content.nbytes


def _content(fd: int, value_bytes: int, entries: int) -> Any:
    """The values of an array: of its first entries, where it is very large."""
    if value_bytes * entries > _MOST_INNER:
        entries = max(_MOST_INNER // value_bytes, 1)
    width = -(-value_bytes // 8) * 8
    content = np.zeros((entries, width), np.uint8)
    key = np.zeros(1, np.uint32)
    for at in range(entries):
        key[0] = at
        lib().bpf_map_lookup_elem(
            fd,
            ffi.cast("void *", key.ctypes.data),
            ffi.cast("void *", content.ctypes.data + at * width),
        )
    return content
