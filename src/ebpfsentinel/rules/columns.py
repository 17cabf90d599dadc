"""The intermediate form evaluated over a table, whole columns at a time.

A bool is a :class:`Truth`: per row true, false, an error, or unknown. CEL's ``&&`` and ``||``
absorb an error when the other side decides, and unknown (a column that is not there, or something
the form cannot say) stands for any of the three others; both are kept apart as masks that are None
nearly always, so the usual ``&&`` is one numpy call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ebpfsentinel.model.conditions import FieldType, Table, Words
from ebpfsentinel.rules.arithmetic import COMPARE, DOUBLE_ARITHMETIC, INT_ARITHMETIC
from ebpfsentinel.rules.form import (
    Among,
    And,
    Arithmetic,
    Choice,
    Column,
    Compare,
    Element,
    Item,
    Literal,
    Not,
    Or,
    Quantified,
    Size,
    Text,
    ToDouble,
    Unknown,
)
from ebpfsentinel.rules.translate import type_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ebpfsentinel.rules.form import Node, Source
    from ebpfsentinel.rules.texts import Panel

    Mask = NDArray[np.bool_]


class Truth(NamedTuple):
    """Bools of all rows; false is what no mask has, and no row is in two masks."""

    true: Mask
    error: Mask | None = None
    unknown: Mask | None = None


class Numbers(NamedTuple):
    """int64 or float64 of all rows; the value means nothing in the rows of the two masks."""

    values: NDArray[Any]
    error: Mask | None = None
    unknown: Mask | None = None


class Strings(NamedTuple):
    """Strings of all rows, dictionary-encoded; ``error`` is per distinct value."""

    words: Words
    error: Mask | None = None


Value = TypeVar("Value", Truth, Numbers)


def either(left: Mask | None, right: Mask | None) -> Mask | None:
    """Rows in any of the two masks."""
    if left is None or right is None:
        return right if left is None else left
    return left | right


def negate(value: Truth) -> Truth:
    """Not: errors and unknowns stay what they are."""
    error, unknown = value.error, value.unknown
    doubtful = either(error, unknown)
    return Truth(~value.true if doubtful is None else ~(value.true | doubtful), error, unknown)


def both(left: Truth, right: Truth) -> Truth:
    """And: false wins over unknown, unknown over an error."""
    true = left.true & right.true
    error, unknown = either(left.error, right.error), either(left.unknown, right.unknown)
    if error is None and unknown is None:
        return Truth(true)
    open_ = ~(negate(left).true | negate(right).true)
    if unknown is not None:
        unknown = unknown & open_
        open_ = open_ & ~unknown
    return Truth(true, None if error is None else error & open_, unknown)


class Evaluation:
    """One table under evaluation; a column that it lacks is unknown.

    ``tests`` says who judges a test of strings: by the id of its node, the panel of its source
    and the row in it. Nodes of a pool are the same where they are equal, so ids stand for nodes
    everywhere here. ``none`` is no row; a bool that is false everywhere is that very array, mostly,
    which saves looking.
    """

    def __init__(self, table: Table, tests: Mapping[int, tuple[Panel, int]]) -> None:
        self.none = np.zeros(table.length, np.bool_)
        self._table = table
        self._tests = tests
        self._memo: dict[int, Any] = {}
        self._judged: dict[int, NDArray[np.bool_]] = {}
        self._sources: dict[int, Strings] = {}

    def truth(self, node: Node) -> Truth:
        """The value of a bool node."""
        known: Truth | None = self._memo.get(id(node))
        if known is None:
            known = self._memo[id(node)] = self._truth(node)
        return known

    def numbers(self, node: Node) -> Numbers:
        """The value of an int or double node."""
        known: Numbers | None = self._memo.get(id(node))
        if known is None:
            with np.errstate(all="ignore"):
                known = self._memo[id(node)] = self._numbers(node)
        return known

    def _truth(self, node: Node) -> Truth:  # noqa: PLR0911 - a return per kind of node
        match node:
            case Text():
                return self._text(node)
            case And(left=first, right=second):
                left = self.truth(first)
                return (
                    Truth(self.none) if self._false(left) else self._and(left, self.truth(second))
                )
            case Or(left=first, right=second):
                return self._or(self.truth(first), second)
            case Not(value=value):
                return negate(self.truth(value))
            case Compare():
                return self._compare(node)
            case Among(value=value, choices=choices):
                number = self.numbers(value)
                return _judged(np.isin(number.values, np.array(choices, np.int64)), number)
            case Choice():
                return self._choice(node, self.truth(node.then), self.truth(node.otherwise))
            case Quantified():
                return self._quantified(node)
            case _:
                return self._bool_leaf(node)

    def _bool_leaf(self, node: Node) -> Truth:
        match node:
            case Column(name=name) if name in self._table.columns:
                return Truth(np.asarray(self._table.columns[name], np.bool_))
            case Literal(value=value):
                return Truth(np.full(self._table.length, value, np.bool_))
            case Column() | Unknown():
                return Truth(self.none, None, ~self.none)
            case _:
                raise TypeError(f"{node} is no bool")

    def _false(self, value: Truth) -> bool:
        if value.error is not None or value.unknown is not None:
            return False
        return value.true is self.none or not value.true.any()

    def _and(self, left: Truth, right: Truth) -> Truth:
        return Truth(self.none) if self._false(right) else both(left, right)

    def _or(self, left: Truth, second: Node) -> Truth:
        right = self.truth(second)
        if self._false(right):
            return left
        if self._false(left):
            return right
        if either(left.error, right.error) is None and either(left.unknown, right.unknown) is None:
            return Truth(left.true | right.true)
        return negate(both(negate(left), negate(right)))

    def _choice(self, node: Choice, then: Value, otherwise: Value) -> Value:
        when = self.truth(node.when)
        parts = [
            None if a is None and b is None else np.where(when.true, _mask(a), _mask(b))
            for a, b in zip(then, otherwise, strict=True)
        ]
        error, unknown = (None if part is None else part & ~self._doubt(when) for part in parts[1:])
        values = np.where(when.true, then[0], otherwise[0])
        if isinstance(then, Truth):
            values = values & ~self._doubt(when)
        return type(then)(values, either(error, when.error), either(unknown, when.unknown))

    def _doubt(self, value: Truth) -> Mask:
        doubtful = either(value.error, value.unknown)
        return self.none if doubtful is None else doubtful

    def _text(self, node: Text) -> Truth:
        strings = self._strings(node.source)
        if strings is None:
            return Truth(self.none, None, ~self.none)
        panel, at = self._tests[id(node)]
        judged = self._judged.get(id(panel))
        if judged is None:
            judged = self._judged[id(panel)] = panel.judge(strings.words.values)  # type: ignore[arg-type]
        row = judged[at]
        if strings.error is None:
            return Truth(row[strings.words.codes] if row.any() else self.none)
        return Truth(
            (row & ~strings.error)[strings.words.codes], strings.error[strings.words.codes]
        )

    def _strings(self, source: Source) -> Strings | None:
        """The strings (or tuples of strings) of a source; None where the table lacks it."""
        if known := self._sources.get(id(source)):
            return known
        name = source.name if isinstance(source, Column) else source.column.name
        words = self._table.columns.get(name)
        if not isinstance(words, Words):
            return None
        made = _item(words, source.index) if isinstance(source, Item) else Strings(words)
        self._sources[id(source)] = made
        return made

    def _quantified(self, node: Quantified) -> Truth:
        """Evaluate the body once per element of the distinct lists, then fold per list."""
        strings = self._strings(node.column)
        if strings is None:
            return Truth(self.none, None, ~self.none)
        inner = self._elements(node.column, strings.words)
        body = inner.truth(node.body)
        if node.every:
            body = negate(body)
        owner: NDArray[np.intp] = inner.owner
        any_ = [_any(mask, owner, len(strings.words.values)) for mask in body]
        true, error, unknown = any_[0], any_[1], any_[2]
        if unknown is not None:
            unknown = unknown & ~true
        if error is not None:
            error = error & ~true & (True if unknown is None else ~unknown)
        codes = strings.words.codes
        found = Truth(
            true[codes],
            None if error is None else error[codes],
            None if unknown is None else unknown[codes],
        )
        return negate(found) if node.every else found

    def _elements(self, column: Column, words: Words) -> _Elements:
        key = id(column)
        inner: _Elements | None = self._memo.get(key)
        if inner is None:
            inner = self._memo[key] = _Elements(column, words, self._tests)
        return inner

    def _compare(self, node: Compare) -> Truth:
        if type_of(node.left) is FieldType.BOOL:
            left, right = self.truth(node.left), self.truth(node.right)
            values = COMPARE[node.relation](left.true, right.true)
            return _judged(values, left, right)
        one, two = self.numbers(node.left), self.numbers(node.right)
        return _judged(COMPARE[node.relation](one.values, two.values), one, two)

    def _numbers(self, node: Node) -> Numbers:  # noqa: PLR0911 - a return per kind of node
        match node:
            case Literal(value=value):
                kind = "int64" if isinstance(value, int) else "float64"
                return Numbers(np.full(self._table.length, value, kind))
            case Column(name=name) if name in self._table.columns:
                return _numeric(np.asarray(self._table.columns[name]), node.type)
            case Column(type=type_):
                kind = "int64" if type_ is FieldType.INT else "float64"
                return Numbers(np.zeros(self._table.length, kind), None, ~self.none)
            case Size(source=source):
                return self._size(source)
            case ToDouble(value=value):
                number = self.numbers(value)
                return number._replace(values=number.values.astype(np.float64))
            case Arithmetic():
                return _arithmetic(node.operator, self.numbers(node.left), self.numbers(node.right))
            case Choice():
                return self._choice(node, self.numbers(node.then), self.numbers(node.otherwise))
            case _:
                raise TypeError(f"{node} is no number")

    def _size(self, source: Source) -> Numbers:
        strings = self._strings(source)
        if strings is None:
            return Numbers(np.zeros(self._table.length, np.int64), None, ~self.none)
        words, error = strings
        sizes = np.fromiter(map(len, words.values), np.int64, len(words.values))
        return Numbers(sizes[words.codes], None if error is None else error[words.codes])


class _Elements(Evaluation):
    """The elements of the distinct lists of a column as a table of their own, a row each.

    ``owner`` is the index of the list that each element is of, ascending.
    """

    def __init__(
        self, column: Column, words: Words, tests: Mapping[int, tuple[Panel, int]]
    ) -> None:
        numbers: dict[str, int] = {}
        flat = [numbers.setdefault(each, len(numbers)) for value in words.values for each in value]
        sizes = [len(value) for value in words.values]
        self.owner = np.repeat(np.arange(len(sizes)), sizes)
        codes = np.array(flat, np.int32)
        table = Table(len(flat), {column.name: Words(codes, list(numbers))})
        super().__init__(table, tests)

    def _strings(self, source: Source) -> Strings | None:
        return super()._strings(source) if isinstance(source, Element) else None


def _mask(values: Any) -> Any:
    return False if values is None else values


def _any(mask: Mask | None, owner: NDArray[np.intp], lists: int) -> Any:
    return None if mask is None else np.bincount(owner[mask], minlength=lists) > 0


def _judged(values: Mask, *operands: Truth | Numbers) -> Truth:
    """Strict: an unknown operand makes the result unknown, else an error operand an error."""
    error = unknown = None
    for operand in operands:
        error, unknown = either(error, operand.error), either(unknown, operand.unknown)
    if unknown is not None and error is not None:
        error = error & ~unknown
    doubtful = either(error, unknown)
    return Truth(values if doubtful is None else values & ~doubtful, error, unknown)


def _item(words: Words, index: int) -> Strings:
    inside = [0 <= index < len(value) for value in words.values]
    values = [value[index] if ok else "" for value, ok in zip(words.values, inside, strict=True)]
    error = None if all(inside) else ~np.array(inside, np.bool_)
    return Strings(Words(words.codes, values), error)


def _numeric(values: NDArray[Any], type_: FieldType) -> Numbers:
    """A column as CEL numbers: what int64 cannot hold is an error."""
    if type_ is FieldType.DOUBLE:
        return Numbers(values.astype(np.float64, copy=False))
    number = values.astype(np.int64, copy=False)
    if values.dtype == np.uint64 and (number < 0).any():
        return Numbers(number, number < 0)
    return Numbers(number)


def _arithmetic(operator: str, left: Numbers, right: Numbers) -> Numbers:
    a, b = left.values, right.values
    error, unknown = either(left.error, right.error), either(left.unknown, right.unknown)
    if a.dtype == np.float64:
        values = DOUBLE_ARITHMETIC[operator](a, b)
        return Numbers(values, error, unknown)
    values, failed = INT_ARITHMETIC[operator](a, b)
    return Numbers(values, either(error, failed) if failed.any() else error, unknown)
