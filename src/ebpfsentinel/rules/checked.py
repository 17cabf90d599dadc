"""The checked expression as the CEL library hands it out.

``Expression.serialize()`` gives ``cel.expr.CheckedExpr`` of cel-spec (``checked.proto`` and
``syntax.proto`` in ``proto/cel/expr``), a published and stable protobuf message, inside an ``Any``.
Some twenty of its fields are needed, so they are read here by number from the wire format rather
than through a protobuf runtime: https://protobuf.dev/programming-guides/encoding/.

Macros have been expanded by the library: ``exists`` and ``all`` arrive as :class:`Fold`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

Wire = dict[int, list[int | bytes]]
"""Field number to its values: varints and fixed numbers as unsigned ints, the rest as bytes."""


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; ``value`` is bool, int, float or str, and None for any other literal type."""

    id: int
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Ident:
    """A field (its full dotted name) or a loop variable."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, operator or, with ``target``, a method."""

    id: int
    function: str
    target: Expr | None
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """A list literal."""

    id: int
    elements: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """A comprehension.

    ``accumulator`` starts as ``start`` and becomes ``step`` for each element ``variable`` of
    ``over``; ``result`` is its value.
    """

    id: int
    variable: str
    over: Expr
    accumulator: str
    start: Expr
    step: Expr
    result: Expr


@dataclass(frozen=True, slots=True)
class Other:
    """A form that only the library evaluates: selection from a map, a map, a message."""

    id: int
    children: tuple[Expr, ...] = ()


Expr = Const | Ident | Call | Items | Fold | Other


@dataclass(frozen=True, slots=True)
class Checked:
    """An expression, and the offset in code points of each of its nodes by id."""

    root: Expr
    positions: dict[int, int]


def read(serialized: bytes) -> Checked:
    """Read what ``Expression.serialize()`` gave.

    Raises:
        ValueError: these bytes are no such message.
    """
    message = _fields(_bytes(_fields(serialized), 2))
    pairs = [_fields(_as_bytes(pair)) for pair in _fields(_bytes(message, 5)).get(4, [])]
    positions = {_int(pair, 1): _int(pair, 2) for pair in pairs}
    return Checked(_expression(_bytes(message, 4)), positions)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise ValueError("the message ends within a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data: bytes) -> Wire:
    fields: Wire = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in {1, 5}:
            length = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at : at + length], "little"), at + length
        else:
            raise ValueError(f"wire type {kind} is not in use")
        if at > len(data):
            raise ValueError("the message ends within a field")
        fields.setdefault(number, []).append(value)
    return fields


def _as_bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number stands where a message belongs")  # noqa: TRY004 - of the data
    return value


def _bytes(fields: Wire, number: int) -> bytes:
    return _as_bytes(fields[number][-1]) if number in fields else b""


def _text(fields: Wire, number: int) -> str:
    return _bytes(fields, number).decode()


def _int(fields: Wire, number: int) -> int:
    value = fields.get(number, [0])[-1]
    if not isinstance(value, int):
        raise ValueError("a message stands where a number belongs")  # noqa: TRY004 - of the data
    return value


def _constant(number: int, data: bytes) -> Const:
    fields = _fields(data)
    kind = next(iter(fields), 0)
    if kind == 2:
        return Const(number, bool(_int(fields, 2)))
    if kind == 3:
        return Const(number, (_int(fields, 3) ^ 1 << 63) - (1 << 63))
    if kind == 5:
        return Const(number, float(struct.unpack("<d", _int(fields, 5).to_bytes(8, "little"))[0]))
    if kind == 6:
        return Const(number, _text(fields, 6))
    return Const(number, None)


def _call(number: int, data: bytes) -> Call:
    fields = _fields(data)
    target = _expression(_bytes(fields, 1)) if 1 in fields else None
    arguments = tuple(_expression(_as_bytes(argument)) for argument in fields.get(3, []))
    return Call(number, _text(fields, 2), target, arguments)


def _fold(number: int, data: bytes) -> Expr:
    fields = _fields(data)
    if 8 in fields:  # the two-variable comprehensions of an extension
        parts = (_bytes(fields, part) for part in (2, 4, 6, 7))
        return Other(number, tuple(map(_expression, parts)))
    return Fold(
        number,
        variable=_text(fields, 1),
        over=_expression(_bytes(fields, 2)),
        accumulator=_text(fields, 3),
        start=_expression(_bytes(fields, 4)),
        step=_expression(_bytes(fields, 6)),
        result=_expression(_bytes(fields, 7)),
    )


def _items(number: int, data: bytes) -> Items:
    elements = _fields(data).get(1, [])
    return Items(number, tuple(_expression(_as_bytes(element)) for element in elements))


def _expression(data: bytes) -> Expr:  # noqa: PLR0911 - a return per kind of expression
    fields = _fields(data)
    number = _int(fields, 2)
    if 3 in fields:
        return _constant(number, _bytes(fields, 3))
    if 4 in fields:
        return Ident(number, _text(_fields(_bytes(fields, 4)), 1))
    if 6 in fields:
        return _call(number, _bytes(fields, 6))
    if 7 in fields:
        return _items(number, _bytes(fields, 7))
    if 9 in fields:
        return _fold(number, _bytes(fields, 9))
    if 5 in fields:
        return Other(number, (_expression(_bytes(_fields(_bytes(fields, 5)), 1)),))
    return Other(number, tuple(_entries(_bytes(fields, 8))))


def _entries(data: bytes) -> Iterator[Expr]:
    """Keys and values of a map or message literal."""
    for entry in _fields(data).get(2, []):
        fields = _fields(_as_bytes(entry))
        yield from (_expression(_bytes(fields, part)) for part in (3, 4) if part in fields)
