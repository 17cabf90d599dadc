"""Step 7 of the journey: actions become map updates and signals."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ebpfsentinel.kernel import clock
from ebpfsentinel.model.action import (
    EndFlows,
    Engage,
    FlowTable,
    Kill,
    Lend,
    MapDelete,
    MapReplace,
    MapWrite,
    Patch,
    Run,
    Swap,
    Switch,
)
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.kernel.flows import Flows
    from ebpfsentinel.model.action import Action

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Target(Protocol):
    """What actions want of a map, the kernel's or the fake's."""

    @property
    def name(self) -> str:
        """The map's."""

    def write(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write pairs."""

    def delete(self, keys: NDArray[Any]) -> None:
        """Delete entries."""

    def replace(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Hold exactly these pairs."""

    def behind(self, slot: int, value: np.dtype[Any]) -> NDArray[Any] | None:
        """The value behind a slot of a map-in-map."""

    def swap(self, slot: int, value: NDArray[Any]) -> None:
        """Put a value behind a slot."""

    def lend(self, slot: int, inner: Any) -> None:
        """Put another map, as it is, behind a slot."""

    def fill(self, values: Mapping[int, NDArray[Any]]) -> None:
        """Put values behind slots that no program uses."""

    def patch(self, slot: int, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write at offsets of the value behind a slot, in order."""

    def empty(self, slot: int) -> None:
        """Leave nothing behind a slot."""


@dataclass(frozen=True, slots=True)
class Others:
    """What a kernel does that is not done to a map."""

    kill: Callable[[Kill], None]
    engage: Callable[[Engage], None]
    run: Callable[[Run], None]
    flows: Callable[[], Flows]

    def carry_out(self, action: Engage | Run | FlowTable | EndFlows | Kill) -> None:
        """Carry out one."""
        match action:
            case Engage():
                self.engage(action)
            case Run():
                self.run(action)
            case FlowTable():
                self.flows().put(action)
            case EndFlows():
                self.flows().end(action)
            case Kill():
                self.kill(action)


def apply_actions(
    actions: Sequence[Action],
    maps: Mapping[str, Target],
    others: Others,
) -> None:
    """Carry out the actions in order; ``others`` does what is not done to a map.

    Raises:
        KeyError: no loaded object has the map.
        KernelError: the kernel refused one; those before it are in force.
    """
    for action in actions:
        match action:
            case MapWrite():
                maps[action.map].write(action.keys, action.values)
            case MapDelete():
                maps[action.map].delete(action.keys)
            case MapReplace():
                maps[action.map].replace(action.keys, action.values)
            case Swap():
                maps[action.map].swap(action.slot, action.value)
            case Lend():
                maps[action.map].lend(action.slot, maps[action.inner])
            case Switch():
                switch(action, maps[action.map], maps[action.head_map])
            case Patch():
                patch(action, maps[action.map], maps[action.head_map])
            case _:
                others.carry_out(action)


def touched(actions: Sequence[Action]) -> set[str]:
    """The maps that the actions write."""
    named = ("map", "head_map")
    return {getattr(each, name) for each in actions for name in named if hasattr(each, name)}


def switch(action: Switch, places: Target, head: Target) -> None:
    """Carry out a :class:`~ebpfsentinel.model.action.Switch`.

    The kernel waits, when the head is swapped, until no program uses the old one any more (some
    milliseconds, the price of any change to a map-in-map). So what the old head pointed to may be
    written over the next time; it is kept for that.

    Raises:
        KernelError: refused, or a kept place holds something else; what was in force still is.
    """
    value = np.array(action.head).reshape(1)
    before = head.behind(0, value.dtype)
    if before is None:
        before = np.zeros(1, value.dtype)
    for place, serial in action.kept.items():
        if before["serial"][0, place] != serial:
            raise _other_than_planned(places, place)
    current = int(before["current"][0])
    for place in action.places:
        current ^= 1 << place
    places.fill({_slot(place, current): content for place, content in action.places.items()})
    value["current"] = current
    head.swap(0, value)
    used = {*action.places, *action.kept}
    for place in set(range(value["serial"].shape[1])) - used:
        places.empty(2 * place)
        places.empty(2 * place + 1)


def patch(action: Patch, places: Target, head: Target) -> None:
    """Carry out a :class:`~ebpfsentinel.model.action.Patch`.

    Raises:
        KernelError: refused, or the place holds something else; nothing has changed.
    """
    before = head.behind(0, action.head)
    if before is None or before["serial"][0, action.place] != action.serial:
        raise _other_than_planned(places, action.place)
    places.patch(_slot(action.place, int(before["current"][0])), action.writes)


def _other_than_planned(places: Target, place: int) -> KernelError:
    return KernelError(f"map {places.name}: place {place} is not what the plan thinks")


def _slot(place: int, current: int) -> int:
    return 2 * place + (current >> place & 1)


def started_ns(pid: int) -> int | None:
    """When the process started (boot clock, to one clock tick); None if there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return None
    return int(after_name.split()[19]) * _TICK_NS - clock.namespace_ns()


def kill(action: Kill) -> None:
    """SIGKILL through a pidfd, which no reuse of the pid can redirect (pidfd_open(2)).

    Raises:
        KernelError: the process has ended, or the pid is another process by now.
    """
    try:
        handle = os.pidfd_open(action.pid)
    except OSError as error:
        raise KernelError(f"process {action.pid} cannot be killed: {error.strerror}") from None
    try:
        found = started_ns(action.pid)
        if found is None or not 0 <= action.start_ns - found < 2 * _TICK_NS:
            raise KernelError(
                f"process {action.pid} is not the one that was judged: it is left alone"
            )
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
