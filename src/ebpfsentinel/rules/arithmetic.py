"""Arithmetic and comparison as CEL has them, on numpy arrays.

Ints are signed 64 bits wide: what overflows, and division by zero, is an error of that row. Doubles
are IEEE 754 and never fail. An int compares with a double as a double, as in Google's library:
beyond 2**53 neighbouring ints are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.rules.form import Relation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1

COMPARE: dict[Relation, Any] = {
    Relation.EQ: np.equal,
    Relation.NE: np.not_equal,
    Relation.LT: np.less,
    Relation.LE: np.less_equal,
    Relation.GT: np.greater,
    Relation.GE: np.greater_equal,
}
"""The numpy comparison of each relation."""


def _add(a: Ints, b: Ints) -> tuple[Ints, Mask]:
    total = a + b
    return total, ((a ^ total) & (b ^ total)) < 0


def _subtract(a: Ints, b: Ints) -> tuple[Ints, Mask]:
    rest = a - b
    return rest, ((a ^ b) & (a ^ rest)) < 0


def _multiply(a: Ints, b: Ints) -> tuple[Ints, Mask]:
    product = a * b
    divisor = np.where(b == 0, 1, b)
    least = (a == INT_MIN) & (b == -1)
    return product, least | ((b != 0) & (_truncated(product, divisor) != a))


def _truncated(a: Ints, b: Ints) -> Ints:
    quotient = a // b
    rounded_down = (quotient < 0) & (quotient * b != a)
    truncated: Ints = quotient + rounded_down
    return truncated


def _divide(a: Ints, b: Ints) -> tuple[Ints, Mask]:
    failed = (b == 0) | ((a == INT_MIN) & (b == -1))
    return _truncated(a, np.where(failed, 1, b)), failed


def _remainder(a: Ints, b: Ints) -> tuple[Ints, Mask]:
    quotient, failed = _divide(a, b)
    return a - quotient * np.where(failed, 1, b), failed


INT_ARITHMETIC = {"+": _add, "-": _subtract, "*": _multiply, "/": _divide, "%": _remainder}
"""Operator to a function of two int64 arrays that gives values and the mask of failed rows."""

DOUBLE_ARITHMETIC = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
"""Operator to the numpy function of two float64 arrays."""
