"""The intermediate form: what a condition asks of a batch, free of any rule language.

A condition is a tree of these nodes. Equal nodes of all conditions of a rule set are one object
(see :class:`Pool`), so what two rules share is computed once per batch. The form says only what
can be computed column by column; the rest is :data:`UNKNOWN`, and rows that depend on it are
given to the rule language's own evaluator.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.model.conditions import FieldType


class Relation(enum.StrEnum):
    """How two values compare."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="

    @property
    def flipped(self) -> Relation:
        """The relation with its sides exchanged."""
        sides = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        return Relation(sides.get(self.value, self.value))


class Look(enum.StrEnum):
    """What a test looks for in one string."""

    IS = "is"
    """The whole string is one of the literals."""
    CONTAINS = "contains"
    PREFIX = "startsWith"
    SUFFIX = "endsWith"
    MATCHES = "matches"
    """An RE2 expression matches somewhere in it."""
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that the condition spells out.

    ``spelled`` tells 1 from 1.0 from true, and 0.0 from -0.0, which Python deems equal.
    """

    value: bool | float | str
    spelled: str

    @classmethod
    def of(cls, value: bool | float | str) -> Literal:
        """The literal of a value."""
        return cls(value, repr(value))


@dataclass(frozen=True, slots=True)
class Column:
    """A field."""

    name: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class Item:
    """Element ``index`` of a list column; an error where the list is shorter."""

    column: Column
    index: int


@dataclass(frozen=True, slots=True)
class Element:
    """The loop variable over the elements of a list column."""

    column: Column


Source = Column | Item | Element
"""Where strings come from."""


@dataclass(frozen=True, slots=True)
class Text:
    """A test of a string: bool."""

    source: Source
    look: Look
    literals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """Code points of a string, or elements of a list: int."""

    source: Source


@dataclass(frozen=True, slots=True)
class Compare:
    """Two numbers or two bools: bool. An int compares with a double as a double."""

    relation: Relation
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Among:
    """An int is one of the values: bool."""

    value: Node
    choices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``+ - * / %`` on two ints (checked 64-bit) or two doubles (IEEE 754)."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class ToDouble:
    """An int as a double."""

    value: Node


@dataclass(frozen=True, slots=True)
class Not:
    """Logical not."""

    value: Node


@dataclass(frozen=True, slots=True)
class And:
    """Logical and: false on either side wins over an error on the other."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Or:
    """Logical or: true on either side wins over an error on the other."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choice:
    """``when ? then : otherwise``, of bools or of numbers."""

    when: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Quantified:
    """``body`` holds for one element of the list column at least (``every``: for all)."""

    column: Column
    every: bool
    body: Node


@dataclass(frozen=True, slots=True)
class Unknown:
    """A bool that the columnar form cannot say."""


UNKNOWN = Unknown()

Node = (
    Literal
    | Column
    | Item
    | Element
    | Text
    | Size
    | Compare
    | Among
    | Arithmetic
    | ToDouble
    | Not
    | And
    | Or
    | Choice
    | Quantified
    | Unknown
)


NodeT = TypeVar("NodeT", bound=Node)


class Pool:
    """Makes equal nodes one object, so that identity is equality."""

    def __init__(self) -> None:
        self._nodes: dict[Node, Node] = {}

    def one(self, node: NodeT) -> NodeT:
        """The one object that stands for every node equal to this."""
        return cast("NodeT", self._nodes.setdefault(node, node))

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)
