"""Sections and functions of a BPF object file, read without libbpf and without privilege.

ELF-64, little endian (ELF specification, TIS 1995, and the System V ABI). Only what the in-memory
kernel needs: section contents by name, and which function stands in which section.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16x2HI3QI6H")
_SECTION = struct.Struct("<2I4Q2I2Q")
_SYMBOL = struct.Struct("<I2BH2Q")
_GLOBAL_FUNCTION = 0x12
_NO_BITS = 8


class ElfError(ValueError):
    """The file is no ELF-64 object, is damaged, or has no such section."""


@dataclass(frozen=True, slots=True)
class Elf:
    """An object's sections, in order: ``(name, bytes)``."""

    sections: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, path: Path) -> Elf:
        """Read an object file.

        Raises:
            ElfError: it is not a little-endian ELF-64 file, or truncated.
            OSError: it cannot be read.
        """
        raw = path.read_bytes()
        try:
            return cls(tuple(_sections(raw)))
        except (struct.error, ValueError, IndexError, OverflowError) as error:
            raise ElfError(f"{path} is no BPF object, build it again: {error}") from None

    def section(self, name: str) -> bytes:
        """The contents of the section; :class:`ElfError` when there is none."""
        for found, content in self.sections:
            if found == name:
                return content
        raise ElfError(f"no section {name}: compile with 'clang -g -target bpf'")

    def functions(self) -> dict[str, str]:
        """Global functions, which are the programs, to the name of their section, in order."""
        names, found = self.section(".strtab"), []
        try:
            for name, info, _, section, value, _ in _SYMBOL.iter_unpack(self.section(".symtab")):
                if info == _GLOBAL_FUNCTION and section < len(self.sections):
                    found.append((section, value, _string(names, name)))
        except (struct.error, ValueError) as error:
            raise ElfError(
                f"the symbol table is damaged, build the object again: {error}"
            ) from None
        return {name: self.sections[section][0] for section, _, name in sorted(found)}


def section(path: Path, name: str) -> bytes:
    """The contents of one section of an object file; see :meth:`Elf.read`."""
    return Elf.read(path).section(name)


def _sections(raw: bytes) -> list[tuple[str, bytes]]:
    if not raw.startswith(_MAGIC):
        raise ElfError("not a little-endian ELF-64 file")
    header = _HEADER.unpack_from(raw)
    start, entry_bytes, count, names_at = header[5], *header[-3:]
    table = [_SECTION.unpack_from(raw, start + number * entry_bytes) for number in range(count)]
    names = _content(raw, table[names_at])
    return [(_string(names, row[0]), _content(raw, row)) for row in table]


def _content(raw: bytes, row: tuple[int, ...]) -> bytes:
    if row[1] == _NO_BITS:
        return b""
    offset, size = row[4:6]
    if offset + size > len(raw):
        raise ElfError("a section lies beyond the end of the file")
    return raw[offset : offset + size]


def _string(names: bytes, offset: int) -> str:
    return names[offset : names.index(b"\0", offset)].decode()
