"""Do the columns that a domain's Python was written for fit the records that its object emits?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ebpfsentinel.model.domain import Domain


def check_generated(domain: Domain, records: Mapping[str, np.dtype[Any]]) -> None:
    """Refuse to start when ``events.py`` and the object disagree on a record.

    ``records`` are those of the object, by ring or iterator.

    Raises:
        KernelError: they were not made from the same header.
    """
    package = domain.engine.__module__.rpartition(".")[0]
    try:
        generated = importlib.import_module(f"{package}.events")
    except ModuleNotFoundError:
        return
    for name, record in records.items():
        if generated.RECORDS.get(name) != record:
            raise KernelError(
                f"domain {domain.name}: events.py and the object disagree on the records of {name}:"
                " run 'make gen' and build again"
            )
