"""All conditions of a rule set over a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.conditions import FieldType, Table, Words
from ebpfsentinel.rules.arithmetic import INT_MAX
from ebpfsentinel.rules.columns import Evaluation
from ebpfsentinel.rules.form import Text
from ebpfsentinel.rules.texts import Panel, clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.rules.form import Node, Pool, Source

    Evaluator = Callable[[dict[str, Any]], bool | None]
    """The rule language's own evaluator of one row; None is an error."""


_NO_ROWS = np.empty(0, np.intp)


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition: its form, the fields it reads, and the language's own evaluator."""

    form: Node
    fields: frozenset[str]
    evaluate: Evaluator


class ColumnMatcher:
    """The :class:`~ebpfsentinel.model.conditions.Matcher` of conditions in the columnar form.

    Raises:
        ValueError: a regular expression is too long or not valid.
    """

    def __init__(
        self, conditions: Sequence[Condition], pool: Pool, fields: Mapping[str, FieldType]
    ) -> None:
        self.fields = frozenset[str]().union(*(condition.fields for condition in conditions))
        self._conditions = conditions
        self._types = fields
        self._errors: Counter[int] = Counter()
        self._pool = pool  # keeps every node alive, and with it its id
        asked: dict[Source, list[Text]] = {}
        for node in pool:
            if isinstance(node, Text):
                asked.setdefault(node.source, []).append(node)
        self._tests: dict[int, tuple[Panel, int]] = {}
        for tests in asked.values():
            panel = Panel(tests)
            self._tests |= {id(test): (panel, row) for row, test in enumerate(tests)}

    def match(self, table: Table) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and condition indexes of every match, sorted by row and then by condition.

        Raises:
            KeyError: the table lacks a column that a condition reads.
        """
        if missing := self.fields - table.columns.keys():
            raise KeyError(f"the table lacks the column {min(missing)!r}")
        evaluation = Evaluation(table, self._tests)
        rows = [self._rows(index, evaluation, table) for index in range(len(self._conditions))]
        row = np.concatenate([_NO_ROWS, *rows])
        which = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        order = np.lexsort((which, row))
        return row[order], which[order]

    def possible(self, field: str, value: object) -> bool:
        """May any condition be true of a row whose ``field`` is ``value``? Never wrongly False."""
        table = _single(field, value, self._types[field])
        evaluation = Evaluation(table, self._tests)
        for condition in self._conditions:
            truth = evaluation.truth(condition.form)
            if truth.true[0]:
                return True
            if truth.unknown is not None and truth.unknown[0]:
                alone = condition.fields <= {field}
                if not alone or condition.evaluate(_row(table, 0, condition.fields)):
                    return True
        return False

    def errors(self) -> Mapping[int, int]:
        """Condition index to how often its evaluation failed."""
        return dict(self._errors)

    def _rows(self, index: int, evaluation: Evaluation, table: Table) -> NDArray[np.intp]:
        """The rows of which the condition is true; counts those of which it failed."""
        condition = self._conditions[index]
        true, error, unknown = evaluation.truth(condition.form)
        if true is evaluation.none and error is None and unknown is None:
            return _NO_ROWS
        failed = 0 if error is None else np.count_nonzero(error)
        if unknown is not None and unknown.any():
            undecided = np.flatnonzero(unknown)
            verdicts = _one_by_one(condition, table, undecided)
            true = true.copy()
            true[undecided[verdicts == 1]] = True
            failed += np.count_nonzero(verdicts < 0)
        if failed:
            self._errors[index] += int(failed)
        return true.nonzero()[0]


def _one_by_one(condition: Condition, table: Table, rows: NDArray[np.intp]) -> NDArray[np.int8]:
    """The language's own verdict, once per distinct combination: 1 true, 0 false, -1 an error."""
    combination = np.zeros(len(rows), np.intp)
    for name in sorted(condition.fields):
        column = table.columns[name]
        values = (column.codes if isinstance(column, Words) else np.asarray(column))[rows]
        _, codes = np.unique(values, return_inverse=True)
        combination = combination * (int(codes.max(initial=0)) + 1) + codes
        _, combination = np.unique(combination, return_inverse=True)
    _, firsts = np.unique(combination, return_index=True)
    verdicts = [condition.evaluate(_row(table, rows[at], condition.fields)) for at in firsts]
    numbers = [-1 if verdict is None else int(verdict) for verdict in verdicts]
    return np.array(numbers, np.int8)[combination]


def _row(table: Table, row: int | np.intp, fields: frozenset[str]) -> dict[str, Any]:
    """One row as plain values by field name."""
    return {name: _plain(table.columns[name], row) for name in fields}


def _plain(column: Words | NDArray[Any], row: int | np.intp) -> Any:
    if not isinstance(column, Words):
        return column[row].item()
    value = column.values[column.codes[row]]
    return clean(value) if isinstance(value, str) else [clean(each) for each in value]


def _single(field: str, value: Any, type_: FieldType) -> Table:
    """A table of one row that has one column only."""
    if type_ in {FieldType.STRING, FieldType.STRINGS}:
        words = [value if type_ is FieldType.STRING else tuple(value)]
        return Table(1, {field: Words(np.zeros(1, np.int32), words)})
    if type_ is FieldType.INT:
        dtype: Any = np.uint64 if value > INT_MAX else np.int64
    else:
        dtype = np.float64 if type_ is FieldType.DOUBLE else np.bool_
    return Table(1, {field: np.array([value], dtype)})
