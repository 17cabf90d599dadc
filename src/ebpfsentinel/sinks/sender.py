"""The contract of a sender: the last few metres of a destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ebpfsentinel.sinks.backlog import Item


class SendError(Exception):
    """It did not arrive; another try may help. The text holds no secret."""


class Rejected(Exception):  # noqa: N818 -- an answer, not a fault
    """The receiver will never take these; the others of the batch have arrived.

    ``items`` are the indices of those within the batch; None: one or more of them, it does not say
    which, and none has arrived.
    """

    def __init__(self, why: str, items: Collection[int] | None = None) -> None:
        self.why, self.items = why, items
        super().__init__(why)


class Sender(Protocol):
    """Sends batches, one at a time. ``place`` says where to, without secrets."""

    place: str

    async def send(self, batch: Sequence[Item]) -> None:
        """Returns once all of ``batch`` has arrived.

        Raises:
            SendError, OSError: another try may help.
            Rejected: it will not.
        """

    async def aclose(self) -> None:
        """Let go of connections and files."""
