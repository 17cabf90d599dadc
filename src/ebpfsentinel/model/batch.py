"""Rows of one record type, as typed columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Batch:
    """Records of one ring as a structured array; subclasses are generated from BTF.

    ``rows`` is a one-dimensional structured array of dtype :attr:`record`, whose field names are
    those of the C struct. A generated subclass adds one property per field.

    Raises:
        TypeError: the rows have another dtype than the record.
    """

    record: ClassVar[np.dtype[Any]]
    __slots__ = ("rows",)

    def __init__(self, rows: NDArray[Any]) -> None:
        if rows.dtype != self.record:
            msg = f"{type(self).__name__} wants rows of {self.record}, got {rows.dtype}"
            raise TypeError(msg)
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """The rows of ``mask`` (bool, one per row), as a batch of the same type."""
        return type(self)(self.rows[mask])

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls(np.empty(0, cls.record))
