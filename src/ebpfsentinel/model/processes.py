"""Whose packets these are: what engines may know of processes, for alerts and rows of others.

No engine has to. One with :meth:`NamesProcesses.processes_of` says which processes are at the ends
of a flow; one with :meth:`DescribesProcesses.describe_process` says what it knows of a process.
Neither is asked on the way of a packet: once for an alert that goes on, and once for a row that is
shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ebpfsentinel.model.flows import Ends


@dataclass(frozen=True, slots=True)
class Process:
    """A process, for ever: no other has this pid and this start (boot clock)."""

    pid: int
    start_ns: int
    uid: int
    cgroup_id: int


class Peek(Protocol):
    """Look-ups of one thing each, answered by the kernel at once."""

    def find_flow(self, ends: Ends) -> NDArray[Any]:
        """The flow between these ends, whichever opened it, shape ``(0,)`` or ``(1,)``."""

    def look_up(self, map_name: str, key: NDArray[Any]) -> NDArray[Any] | None:
        """The value of a hash map, shape ``(1,)``; None: the key is not there."""


@runtime_checkable
class NamesProcesses(Protocol):
    """An engine that knows who is at the ends of flows."""

    def processes_of(self, ends: Ends, peek: Peek) -> tuple[Process | None, Process | None]:
        """Whose the packet's source and its destination are; None: not known, or not here."""


@runtime_checkable
class DescribesProcesses(Protocol):
    """An engine that knows processes."""

    def describe_process(self, pid: int, start_ns: int, peek: Peek) -> Mapping[str, Any] | None:
        """What is known of it, by the words of the documentation; None: nothing."""
