"""A checked CEL expression to the intermediate form.

Types were checked by the library, so what arrives here is well typed; the only question is what
the columnar form can say. Each bool below ``&&``, ``||``, ``!``, ``?:`` or a quantifier that it
cannot say becomes :data:`~ebpfsentinel.rules.form.UNKNOWN`; the rest of the condition stays
columnar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ebpfsentinel.model.conditions import FieldType
from ebpfsentinel.rules.checked import Call, Const, Fold, Ident, Items
from ebpfsentinel.rules.form import (
    UNKNOWN,
    Among,
    And,
    Arithmetic,
    Choice,
    Column,
    Compare,
    Element,
    Item,
    Literal,
    Look,
    Not,
    Or,
    Quantified,
    Relation,
    Size,
    Text,
    ToDouble,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.rules.checked import Expr
    from ebpfsentinel.rules.form import Node, Pool, Source

MAX_NODES = 4096
"""Nodes of one condition; loops over list literals are unrolled, and stop being columnar here."""

_RELATIONS = {f"_{relation}_": relation for relation in Relation}
_ARITHMETIC = {f"_{operator}_": operator for operator in "+-*/%"}
_LOOKS = {look.value: look for look in (Look.CONTAINS, Look.PREFIX, Look.SUFFIX, Look.MATCHES)}
_NUMBERS = (FieldType.INT, FieldType.DOUBLE)
_LITERAL_TYPES = {
    bool: FieldType.BOOL,
    int: FieldType.INT,
    float: FieldType.DOUBLE,
    str: FieldType.STRING,
}


class _NotColumnar(Exception):  # noqa: N818 - it never leaves this file
    """The columnar form cannot say this."""


def _give_up() -> NoReturn:
    raise _NotColumnar


def type_of(node: Node) -> FieldType:  # noqa: PLR0911 - a return per kind of node
    """The CEL type of a node's value."""
    match node:
        case Literal(value=value):
            return _LITERAL_TYPES[type(value)]
        case Column(type=type_):
            return type_
        case Item() | Element():
            return FieldType.STRING
        case Size():
            return FieldType.INT
        case ToDouble():
            return FieldType.DOUBLE
        case Arithmetic(left=value) | Choice(then=value):
            return type_of(value)
        case _:
            return FieldType.BOOL


class Translator:
    """Translates the conditions of one rule set over the same fields into one pool."""

    def __init__(self, fields: Mapping[str, FieldType], pool: Pool) -> None:
        self._fields = fields
        self._pool = pool
        self._scope: dict[str, Node] = {}
        self._loops = 0
        self._left = 0

    def translate(self, expression: Expr) -> Node:
        """The form of a condition, a bool."""
        self._left = MAX_NODES
        return self._bool(expression)

    def _bool(self, expression: Expr) -> Node:
        try:
            node = self._node(expression)
        except _NotColumnar:
            return UNKNOWN
        return node if type_of(node) is FieldType.BOOL else UNKNOWN

    def _node(self, expression: Expr) -> Node:
        self._left -= 1
        if self._left < 0:
            _give_up()
        match expression:
            case Const(value=value) if value is not None:
                return self._pool.one(Literal.of(value))
            case Ident(name=name):
                return self._name(name)
            case Call():
                return self._pool.one(self._call(expression))
            case Fold():
                return self._fold(expression)
            case _:
                _give_up()

    def _name(self, name: str) -> Node:
        if name in self._scope:
            return self._scope[name]
        name = name.removeprefix(".")
        if self._loops or name not in self._fields:  # a loop's body sees its variable only
            _give_up()
        return self._pool.one(Column(name, self._fields[name]))

    def _call(self, call: Call) -> Node:
        operands = call.arguments if call.target is None else (call.target, *call.arguments)
        function = call.function
        if function in {"_&&_", "_||_"}:
            left, right = (self._bool(operand) for operand in operands)
            return And(left, right) if function == "_&&_" else Or(left, right)
        if function == "!_":
            return Not(self._bool(operands[0]))
        if function == "_?_:_":
            return self._choice(operands)
        if function == "@in":
            return self._membership(*operands)
        if function in _LOOKS:
            return self._text(self._node(operands[0]), _LOOKS[function], self._node(operands[1]))
        return self._plain(function, [self._node(operand) for operand in operands])

    def _plain(self, function: str, operands: Sequence[Node]) -> Node:  # noqa: PLR0911 - as it says
        """Functions whose operands are values."""
        if function in _RELATIONS:
            return self._relation(_RELATIONS[function], *operands)
        if function in _ARITHMETIC and all(type_of(operand) in _NUMBERS for operand in operands):
            return Arithmetic(_ARITHMETIC[function], *operands)
        if function == "-_":
            zero = 0 if type_of(operands[0]) is FieldType.INT else -0.0
            return Arithmetic("-", self._pool.one(Literal.of(zero)), operands[0])
        if function == "size":
            return Size(_source(operands[0]))
        if function == "_[_]":
            return _item(*operands)
        if function == "double" and type_of(operands[0]) is FieldType.INT:
            return ToDouble(operands[0])
        if function in {"int", "double", "bool"} and type_of(operands[0]).value == function:
            return operands[0]
        _give_up()

    def _choice(self, operands: Sequence[Expr]) -> Node:
        when = self._bool(operands[0])
        then, otherwise = (self._node(operand) for operand in operands[1:])
        if type_of(then) not in {*_NUMBERS, FieldType.BOOL}:
            _give_up()
        return Choice(when, then, otherwise)

    def _relation(self, relation: Relation, left: Node, right: Node) -> Node:
        if isinstance(left, Literal) and not isinstance(right, Literal):
            return self._relation(relation.flipped, right, left)
        if type_of(left) is FieldType.STRING:
            return self._string_relation(relation, left, right)
        if type_of(left) is FieldType.STRINGS:
            _give_up()
        return Compare(relation, left, right)

    def _string_relation(self, relation: Relation, left: Node, right: Node) -> Node:
        if relation is Relation.EQ:
            return self._text(left, Look.IS, right)
        if relation is Relation.NE:
            return Not(self._pool.one(self._text(left, Look.IS, right)))
        return self._text(left, Look(relation.value), right)

    def _text(self, source: Node, look: Look, literal: Node) -> Node:
        if not isinstance(literal, Literal):
            _give_up()
        return Text(_source(source), look, (str(literal.value),))

    def _membership(self, needle: Expr, haystack: Expr) -> Node:
        if isinstance(haystack, Items):
            return self._among(self._node(needle), [self._node(item) for item in haystack.elements])
        inside, wanted = self._node(haystack), self._node(needle)
        if not isinstance(inside, Column):
            _give_up()
        body = self._text(self._pool.one(Element(inside)), Look.IS, wanted)
        return Quantified(inside, every=False, body=self._pool.one(body))

    def _among(self, value: Node, choices: Sequence[Node]) -> Node:
        literals = [choice for choice in choices if isinstance(choice, Literal)]
        alike = all(type_of(choice) is type_of(value) for choice in literals)
        if len(literals) < len(choices) or not alike:
            _give_up()
        if type_of(value) is FieldType.STRING:
            return Text(_source(value), Look.IS, tuple(str(each.value) for each in literals))
        if type_of(value) is FieldType.INT:
            return Among(value, tuple(int(each.value) for each in literals))
        _give_up()

    def _fold(self, fold: Fold) -> Node:
        """``exists`` and ``all``; the other macros build lists, or count."""
        step = fold.step
        every = fold.start == Const(fold.start.id, value=True)
        plain = isinstance(fold.start, Const) and type(fold.start.value) is bool
        if not (plain and isinstance(step, Call) and isinstance(fold.result, Ident)):
            _give_up()
        wanted = "_&&_" if every else "_||_"
        if step.function != wanted or step.arguments[0] != Ident(
            step.arguments[0].id, fold.accumulator
        ):
            _give_up()
        if isinstance(fold.over, Items):
            return self._unroll(fold, step.arguments[1], every=every)
        return self._loop(fold, step.arguments[1], every=every)

    def _loop(self, fold: Fold, body: Expr, *, every: bool) -> Node:
        over = self._node(fold.over)
        if not isinstance(over, Column):
            _give_up()
        outer, self._scope = self._scope, {fold.variable: self._pool.one(Element(over))}
        self._loops += 1
        try:
            return self._pool.one(Quantified(over, every, self._bool(body)))
        finally:
            self._scope = outer
            self._loops -= 1

    def _unroll(self, fold: Fold, body: Expr, *, every: bool) -> Node:
        elements = fold.over.elements if isinstance(fold.over, Items) else ()
        node: Node = self._pool.one(Literal.of(every))
        outer = self._scope
        for element in elements:
            value = self._node(element)
            self._scope = {**outer, fold.variable: value}
            try:
                each = self._bool(body)
            finally:
                self._scope = outer
            node = self._pool.one(And(node, each) if every else Or(node, each))
        return node


def _source(node: Node) -> Source:
    if not isinstance(node, Column | Item | Element):
        _give_up()
    return node


def _item(column: Node, index: Node) -> Node:
    if not (isinstance(column, Column) and isinstance(index, Literal)):
        _give_up()
    return Item(column, int(index.value))
