"""Generate every domain's ``events.py`` from the BTF of its built object (``make gen``).

C headers stay the single source of truth: dtypes of records, map keys and values, the enums, and a
typed :class:`~ebpfsentinel.model.batch.Batch` per record are written from what clang put into the
object. ``--check`` writes nothing and fails where a file is not fresh.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from ebpfsentinel.kernel.btf import STRUCT, Btf
from ebpfsentinel.kernel.build import PACKAGE, build
from ebpfsentinel.kernel.libbpf import raw_btf

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

_HEAD = '''"""Records, keys and values of the {domain} domain. Generated from BTF by `make gen`: do not edit."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

'''  # noqa: E501


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _format(dtype: np.dtype[Any], structs: dict[str, str]) -> str:
    """A field's format as Python source; structs that have a constant go by its name."""
    if dtype.subdtype:
        inner, shape = dtype.subdtype
        return f"({_format(inner, structs)}, {shape})"
    if dtype.names:
        return structs[str(dtype)]
    return f'"{dtype.str}"'


def _dtype_source(name: str, dtype: np.dtype[Any], structs: dict[str, str]) -> str:
    fields: Any = dtype.fields or {}
    rows = [
        f'            ("{field}", {_format(kind[0], structs)}, {kind[1]}),'
        for field, kind in fields.items()
    ]
    names = f"{name.upper()} = _record(\n    {dtype.itemsize},\n    (\n"
    return names + "\n".join(row[4:] for row in rows) + "\n    ),\n)\n"


_RECORD = """
def _record(itemsize: int, fields: tuple[tuple[str, Any, int], ...]) -> np.dtype[Any]:
    names, formats, offsets = zip(*fields, strict=True)
    return np.dtype(
        {
            "names": list(names),
            "formats": list(formats),
            "offsets": list(offsets),
            "itemsize": itemsize,
        }
    )


"""


def _column_type(dtype: np.dtype[Any]) -> str:
    inner = dtype.subdtype[0] if dtype.subdtype else dtype
    if inner.names or inner.kind == "S":
        return "Any"
    return f"np.{inner.name}"


def _batch_source(name: str, dtype: np.dtype[Any]) -> Iterator[str]:
    yield f"\n\nclass {_camel(name)}s(Batch):"
    yield f'    """Rows of C ``struct {name}``."""\n'
    yield f"    record = {name.upper()}\n    __slots__ = ()"
    for field, kind in (dtype.fields or {}).items():
        if field.startswith("pad"):
            continue
        yield "\n    @property"
        yield f"    def {field}(self) -> NDArray[{_column_type(kind[0])}]:"
        yield f'        return self.rows["{field}"]'


def _in_order(btf: Btf, wanted: list[int]) -> list[int]:
    """Struct types, each behind those that it contains."""
    done: list[int] = []

    def visit(number: int) -> None:
        number = btf.strip(number)
        found = btf.types[number]
        if found.kind == STRUCT and number not in done:
            for _, member, _ in btf.members(number):
                visit(btf.element(member))
            if number not in done:
                done.append(number)

    for number in wanted:
        visit(number)
    return done


def source(domain: str, btf: Btf) -> str:
    """The text of ``events.py``."""
    records = btf.records()
    pairs = [number for pair in btf.maps().values() for number in pair if number]
    order = _in_order(btf, [*records.values(), *pairs, *btf.emitted()])
    structs: dict[str, str] = {}
    parts = [_HEAD.format(domain=domain), _RECORD.lstrip("\n")]
    for number in order:
        name, dtype = btf.types[number].name, btf.dtype(number)
        parts.append(_dtype_source(name, dtype, structs) + "\n")
        structs[str(dtype)] = name.upper()
    rings = "".join(f'    "{ring}": {btf.types[n].name.upper()},\n' for ring, n in records.items())
    parts.append(f"RECORDS = {{\n{rings}}}\n")
    for name, values in btf.enums():
        parts.append(f'\n\nclass {_camel(name)}(enum.IntEnum):\n    """C ``enum {name}``."""\n')
        parts += [f"\n    {value} = {number}" for value, number in values.items()]
        parts.append("\n")
    for name in dict.fromkeys(btf.types[number].name for number in records.values()):
        parts.append("\n".join(_batch_source(name, btf.dtype(btf.find(STRUCT, name)))) + "\n")
    return re.sub(r"\n{4,}", "\n\n\n", "".join(parts))


def main(check: bool) -> int:
    """Write, or check; returns the exit code."""
    build()
    stale = 0
    for path in sorted(PACKAGE.glob("domains/*/*.bpf.o")):
        target = path.parent / "events.py"
        text = source(path.parent.name, Btf(raw_btf(str(path))))
        if not target.exists() or target.read_text() != text:
            stale += 1
            sys.stderr.write(f"{target.relative_to(PACKAGE)} is not fresh\n")
            if not check:
                target.write_text(text)
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
