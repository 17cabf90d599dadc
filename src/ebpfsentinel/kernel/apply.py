"""Step 7 of the journey: actions become map updates and signals."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.model.action import Kill, MapDelete, MapReplace, MapWrite, Swap
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.kernel.maps import Map
    from ebpfsentinel.model.action import Action

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def apply_actions(actions: Sequence[Action], maps: Mapping[str, Map]) -> None:
    """Carry out the actions in order.

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
            case Kill():
                kill(action.pid, action.start_ns)


def started_ns(pid: int) -> int | None:
    """When the process started (boot clock, to one clock tick); None if there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
    except OSError:
        return None
    return int(after_name.split()[19]) * _TICK_NS


def kill(pid: int, start_ns: int) -> None:
    """SIGKILL through a pidfd, which no reuse of the pid can redirect (pidfd_open(2)).

    Raises:
        KernelError: the process has ended, or the pid is another process by now.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise KernelError(f"process {pid} cannot be killed: {error.strerror}") from None
    try:
        found = started_ns(pid)
        if found is None or not 0 <= start_ns - found < 2 * _TICK_NS:
            raise KernelError(f"process {pid} is not the one that was judged: it is left alone")
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)
