"""Rule conditions over the columns of a batch: the contract between domains and ``rules/``.

A domain says which fields its conditions may name (:class:`Field`) and turns a batch into a
:class:`Table`; the rule language compiles all conditions at once and says which rules match which
rows. Nothing runs per event and per rule in Python.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray


class FieldType(enum.StrEnum):
    """The CEL type of a field."""

    STRING = "string"
    INT = "int"
    DOUBLE = "double"
    BOOL = "bool"
    STRINGS = "list(string)"


@dataclass(frozen=True, slots=True)
class Field:
    """One field a condition may name, such as ``process.path``. ``help`` goes to the docs."""

    name: str
    type: FieldType
    help: str


@dataclass(frozen=True, slots=True)
class Words:
    """A dictionary-encoded column: row ``i`` has ``values[codes[i]]``.

    ``codes`` is ``(n,)`` of an integer dtype; ``values`` are the distinct strings, or tuples of
    strings for a list column.
    """

    codes: NDArray[np.integer[Any]]
    values: Sequence[str] | Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """``length`` rows; every column is :class:`Words` or an array ``(length,)``."""

    length: int
    columns: Mapping[str, Words | NDArray[Any]]


class Matcher(Protocol):
    """Many conditions, compiled once."""

    fields: frozenset[str]
    """Names of the fields that the conditions read."""

    def match(self, table: Table) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and condition indexes of every match, sorted by row and then by condition.

        Two arrays ``(matches,)``.
        """

    def possible(self, field: str, value: object) -> bool:
        """May any condition be true of a row whose ``field`` is ``value``?

        Never wrongly False: what it denies, the kernel need not report.
        """

    def errors(self) -> Mapping[int, int]:
        """Condition index to how often its evaluation failed at run time.

        A failed evaluation, such as division by zero, is no match and is counted.
        """


class RuleLanguage(Protocol):
    """Text of conditions to a matcher."""

    def compile(self, conditions: Sequence[str], fields: Sequence[Field]) -> Matcher:
        """Compile all conditions.

        Raises:
            ConditionError: the first condition that is not valid, with its index and position.
        """


class ConditionError(ValueError):
    """A condition is not valid: ``index`` of the condition, ``line`` and ``column`` (from 1)."""

    def __init__(self, index: int, line: int, column: int, problem: str) -> None:
        self.index, self.line, self.column, self.problem = index, line, column, problem
        super().__init__(f"line {line}, column {column}: {problem}")
