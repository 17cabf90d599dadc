"""BTF to numpy: the C structs of a loaded object as dtypes.

BTF is the type information that clang puts into every object (kernel doc ``bpf/btf.rst``). We
read it for three things: the dtype of every map key and value, the record type of every ring, and
the enums, so that user space never repeats a layout by hand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)
_MODIFIERS = {TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG}
_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")


class BtfError(ValueError):
    """The bytes are not BTF, or a type has no fixed-size numpy equivalent."""


_P = ParamSpec("_P")
_R = TypeVar("_R")
_DAMAGE = (struct.error, LookupError, ValueError, TypeError, OverflowError, RecursionError)


def guarded(read: Callable[_P, _R]) -> Callable[_P, _R]:
    """Let damage that only shows while types are followed be a :class:`BtfError` as well."""

    @wraps(read)
    def reading(*args: _P.args, **more: _P.kwargs) -> _R:
        try:
            return read(*args, **more)
        except BtfError:
            raise
        except _DAMAGE as error:
            raise BtfError(f"BTF is damaged, build the object again: {error}") from None

    return reading


@dataclass(frozen=True, slots=True)
class Type:
    """One BTF type: ``size_or_type`` and ``extra`` mean what their kind says."""

    kind: int
    name: str
    vlen: int
    flag: bool
    size_or_type: int
    extra: bytes


_EXTRA_PER_ITEM = {STRUCT: 12, UNION: 12, ENUM: 8, FUNC_PROTO: 8, DATASEC: 12, ENUM64: 12}
_EXTRA_FIXED = {INT: 4, ARRAY: 12, VAR: 4, DECL_TAG: 4}


class Btf:
    """The types of one object, by id; parsed from the raw ``.BTF`` section.

    Raises:
        BtfError: wrong magic or byte order, or a truncated section.
    """

    @guarded
    def __init__(self, raw: bytes) -> None:
        magic, _, _, header_len, type_off, type_len, str_off, str_len = _HEADER.unpack_from(raw)
        if magic != _MAGIC:
            raise BtfError("no BTF: compile with 'clang -g -target bpf'")
        self._strings = raw[header_len + str_off : header_len + str_off + str_len]
        types = raw[header_len + type_off : header_len + type_off + type_len]
        self.types = [Type(0, "void", 0, False, 0, b""), *self._parse(types)]

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _parse(self, types: bytes) -> Iterator[Type]:
        position = 0
        while position < len(types):
            name, info, size_or_type = struct.unpack_from("<III", types, position)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            length = _EXTRA_FIXED.get(kind, _EXTRA_PER_ITEM.get(kind, 0) * vlen)
            start = position + 12
            extra = types[start : start + length]
            yield Type(kind, self._string(name), vlen, bool(info >> 31), size_or_type, extra)
            position = start + length

    @cached_property
    def _by_name(self) -> dict[tuple[int, str], int]:
        return {(found.kind, found.name): number for number, found in enumerate(self.types)}

    def find(self, kind: int, name: str) -> int:
        """The id of the type; ``KeyError`` when there is none."""
        return self._by_name[kind, name]

    @guarded
    def strip(self, number: int) -> int:
        """The type behind typedefs and qualifiers."""
        for _ in self.types:
            if self.types[number].kind not in _MODIFIERS:
                return number
            number = self.types[number].size_or_type
        raise BtfError(f"type {number} is a typedef of itself")

    @guarded
    def members(self, number: int) -> list[tuple[str, int, int]]:
        """``(name, type, offset in bits)`` of a struct or union."""
        rows = struct.iter_unpack("<III", self.types[number].extra)
        mask = 0xFFFFFF if self.types[number].flag else 0xFFFFFFFF
        return [(self._string(name), member, offset & mask) for name, member, offset in rows]

    @guarded
    def size(self, number: int) -> int:
        """Bytes of a value of the type."""
        found = self.types[number := self.strip(number)]
        if found.kind == PTR:
            return 8
        if found.kind == ARRAY:
            element, _, count = struct.unpack("<III", found.extra)
            return self.size(element) * int(count)
        return found.size_or_type

    @guarded
    def dtype(self, number: int) -> np.dtype[Any]:
        """The numpy dtype of a type: integers, enums, fixed arrays, structs; ``char[n]`` is ``Sn``.

        Raises:
            BtfError: the type is a bit field, a pointer or a function.
        """
        found = self.types[number := self.strip(number)]
        if found.kind == INT:
            signed = found.extra[3] & 1
            return np.dtype(f"<{'i' if signed else 'u'}{found.size_or_type}")
        if found.kind in (ENUM, ENUM64):
            return np.dtype(f"<u{found.size_or_type}")
        if found.kind == ARRAY:
            return self._array(found)
        if found.kind == STRUCT:
            return self._struct(number)
        raise BtfError(f"{found.name or 'a type'} (BTF kind {found.kind}) has no numpy equivalent")

    def _array(self, found: Type) -> np.dtype[Any]:
        element, _, count = struct.unpack("<III", found.extra)
        inner = self.types[self.strip(element)]
        if inner.kind == INT and inner.name == "char":
            return np.dtype(f"S{count}")
        return np.dtype((self.dtype(element), (count,)))

    def _struct(self, number: int) -> np.dtype[Any]:
        members = self.members(number)
        if any(offset % 8 for _, _, offset in members):
            raise BtfError(f"struct {self.types[number].name} has bit fields")
        return np.dtype(
            {
                "names": [name for name, _, _ in members],
                "formats": [self.dtype(member) for _, member, _ in members],
                "offsets": [offset // 8 for _, _, offset in members],
                "itemsize": self.types[number].size_or_type,
            }
        )

    @guarded
    def enums(self) -> list[tuple[str, dict[str, int]]]:
        """Enums marked by ``EMIT_TYPE``, with their values."""
        found = [self.types[number] for number in self.emitted()]
        return [(each.name, self._values(each)) for each in found if each.kind == ENUM]

    def _values(self, enum: Type) -> dict[str, int]:
        pairs = struct.iter_unpack("<Ii", enum.extra)
        return {self._string(name): value for name, value in pairs}

    @guarded
    def records(self) -> dict[str, int]:
        """Ring or iterator name to the id of its record type (see ``record.h``)."""
        suffix = "_record"
        return {
            found.name.removesuffix(suffix): self._pointee(found.size_or_type)
            for found in self.types
            if found.kind == VAR and found.name.endswith(suffix)
        }

    @guarded
    def emitted(self) -> list[int]:
        """Types marked by ``EMIT_TYPE``."""
        suffix = "_emitted"
        return [
            self._pointee(found.size_or_type)
            for found in self.types
            if found.kind == VAR and found.name.endswith(suffix)
        ]

    @guarded
    def element(self, number: int) -> int:
        """The type of an array's elements; any other type is its own."""
        for _ in self.types:
            if self.types[number := self.strip(number)].kind != ARRAY:
                return number
            number = struct.unpack("<III", self.types[number].extra)[0]
        raise BtfError(f"type {number} is an array of itself")

    def _pointee(self, number: int) -> int:
        return self.strip(self.types[self.strip(number)].size_or_type)

    @guarded
    def maps(self) -> dict[str, tuple[int, int]]:
        """Map name to the ids of its key and value types (0 where the map declares none)."""
        found = {}
        for variable in self._section(".maps"):
            kinds = dict.fromkeys(("key", "value"), 0)
            for name, member, _ in self.members(self.strip(variable.size_or_type)):
                if name in kinds:
                    kinds[name] = self._pointee(member)
            found[variable.name] = (kinds["key"], kinds["value"])
        return found

    def _section(self, name: str) -> Iterator[Type]:
        try:
            section = self.types[self.find(DATASEC, name)]
        except KeyError:
            return
        for variable, _, _ in struct.iter_unpack("<III", section.extra):
            yield self.types[variable]
