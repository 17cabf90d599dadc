"""What an object declares, read from its file: programs, maps and record types, nothing loaded.

libbpf's BTF-defined maps (``SEC(".maps")``): ``__uint(name, n)`` is a pointer to an array of ``n``
ints, ``__type(name, t)`` a pointer to ``t``, ``__array(values, t)`` an array of pointers to the
inner map's own definition.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.btf import ARRAY, DATASEC, FWD, STRUCT, Btf, BtfError, guarded
from ebpfsentinel.kernel.elf import Elf

if TYPE_CHECKING:
    from pathlib import Path

_ANY_SIZE = 1 << 12
_NOTHING = np.dtype("V4")
_SUBPROGRAMS = ".text"


@dataclass(frozen=True, slots=True)
class DeclaredMap:
    """One map as its object declares it; ``type`` is ``enum bpf_map_type``.

    ``key`` and ``value`` are ``V4`` where the map declares none. ``inner`` is what the maps of a
    map-in-map look like.
    """

    name: str
    type: int
    key: np.dtype[Any]
    value: np.dtype[Any]
    max_entries: int
    inner: DeclaredMap | None = None
    flags: int = 0

    @property
    def any_size(self) -> bool:
        """May such inner maps of one outer map have different numbers of elements?"""
        return bool(self.flags & _ANY_SIZE)


@dataclass(frozen=True, slots=True)
class DeclaredObject:
    """One object file: programs to their sections, maps, and the records of rings and iterators."""

    programs: dict[str, str]
    maps: dict[str, DeclaredMap]
    records: dict[str, np.dtype[Any]]
    btf: Btf


def read_object(path: Path) -> DeclaredObject:
    """Read an object file.

    Raises:
        ElfError: it is no BPF object.
        BtfError: its type information is damaged.
        OSError: it cannot be read.
    """
    elf = Elf.read(path)
    btf = Btf(elf.section(".BTF"))
    records = {name: btf.dtype(number) for name, number in btf.records().items()}
    sections = elf.functions()
    programs = {name: found for name, found in sections.items() if found != _SUBPROGRAMS}
    return DeclaredObject(programs, declared_maps(btf), records, btf)


@guarded
def declared_maps(btf: Btf) -> dict[str, DeclaredMap]:
    """All maps of an object by name.

    Raises:
        BtfError: a definition is not one that libbpf would take.
    """
    try:
        found = btf.types[btf.find(DATASEC, ".maps")]
    except KeyError:
        return {}
    variables = [btf.types[number] for number, _, _ in struct.iter_unpack("<III", found.extra)]
    return {each.name: _map(btf, each.name, each.size_or_type) for each in variables}


def _map(btf: Btf, name: str, definition: int) -> DeclaredMap:
    members = {member: number for member, number, _ in btf.members(btf.strip(definition))}
    number = {
        word: _uint(btf, members[word])
        for word in ("type", "max_entries", "map_flags")
        if word in members
    }
    inner = (
        _map(btf, f"{name}.inner", _inner(btf, members["values"])) if "values" in members else None
    )
    return DeclaredMap(
        name,
        number.get("type", 0),
        _type(btf, members, "key"),
        np.dtype("<u4") if inner else _type(btf, members, "value"),
        number.get("max_entries", 0),
        inner,
        number.get("map_flags", 0),
    )


def _pointee(btf: Btf, number: int) -> int:
    return btf.strip(btf.types[btf.strip(number)].size_or_type)


def _uint(btf: Btf, member: int) -> int:
    found = btf.types[_pointee(btf, member)]
    if found.kind != ARRAY:
        raise BtfError("a map definition is damaged: __uint() is a pointer to an array")
    return int(struct.unpack("<III", found.extra)[2])


def _type(btf: Btf, members: dict[str, int], word: str) -> np.dtype[Any]:
    size = f"{word}_size"
    if size in members:
        return np.dtype(f"V{_uint(btf, members[size])}")
    if word not in members:
        return _NOTHING
    number = _pointee(btf, members[word])
    found = btf.types[number]
    if found.kind == FWD:
        try:
            number = btf.find(STRUCT, found.name)
        except KeyError:
            raise BtfError(f"struct {found.name} is only declared: EMIT_TYPE it") from None
    return btf.dtype(number)


def _inner(btf: Btf, member: int) -> int:
    element = struct.unpack("<III", btf.types[btf.strip(member)].extra)[0]
    return _pointee(btf, element)
