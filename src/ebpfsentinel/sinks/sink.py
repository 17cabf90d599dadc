"""The contract of a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alert import Alert


class Sink(Protocol):
    """A destination of alerts. ``name`` is its label in metrics and logs."""

    name: str

    async def deliver(self, alerts: Sequence[Alert]) -> None:
        """Hand the alerts over, in order; whatever is raised means that none arrived."""
