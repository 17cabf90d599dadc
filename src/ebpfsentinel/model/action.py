"""What an engine wants done: plain values that ``kernel/apply.py`` carries out.

Actions are the only way from a decision back to the kernel. They hold no handles, so they can
cross a process border, be logged, and be replayed on the in-memory kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ebpfsentinel.model.flows import FlowFilter, PacketFilter


@dataclass(frozen=True, slots=True)
class MapWrite:
    """Write ``values[i]`` under ``keys[i]`` of the map, in one batch; shapes ``(n,)``."""

    map: str
    keys: NDArray[Any]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class MapDelete:
    """Delete ``keys`` (shape ``(n,)``) of the map; a key that is not there is no error."""

    map: str
    keys: NDArray[Any]


@dataclass(frozen=True, slots=True)
class MapReplace:
    """Make the map hold exactly these pairs: what else is in it is deleted after the write."""

    map: str
    keys: NDArray[Any]
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Swap:
    """Put a new generation behind slot ``slot`` of a map-in-map, by one pointer.

    ``value`` is one element of the inner map's value dtype (shape ``()`` or ``(1,)``). No packet
    sees half of each generation.
    """

    map: str
    slot: int
    value: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Lend:
    """Put the map ``inner`` itself behind slot ``slot`` of a map-in-map, for others to read.

    So readers have it while there is something to read, and it costs nothing where there is not.
    """

    map: str
    slot: int
    inner: str


@dataclass(frozen=True, slots=True)
class Switch:
    """Put new values behind several places of a map-in-map in force at one moment.

    Place ``p`` of ``map`` has the slots ``2 p`` and ``2 p + 1``; bit ``p`` of the field ``current``
    of the head says which of them programs use. The head is a value behind slot 0 of the map-in-map
    ``head_map``. The values of ``places`` go into the slots not in use; then ``head``, with its
    ``current`` set right, is swapped in by one pointer; then places that are not used are emptied.

    ``kept`` maps places that stay as they are to their ``serial`` in the head; raises on
    application, before anything is in force, where the head has another one.
    """

    map: str
    places: Mapping[int, NDArray[Any]]
    kept: Mapping[int, int]
    head_map: str
    head: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Patch:
    """Write into the value in force at a place of a :class:`Switch`, while programs read it.

    ``writes`` are pairs of an offset and bytes, and are done in this order: what programs go by
    comes last, and has four or eight bytes, which are one store. ``head`` is the dtype of the head.
    Raises on application, with nothing written, where the place has another ``serial`` there.
    """

    map: str
    place: int
    serial: int
    head_map: str
    head: np.dtype[Any]
    writes: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Engage:
    """Have a TC program that stands in for an XDP one run behind it too; or no more.

    TC then looks at what XDP has let through, which costs every such packet something: for work
    that XDP cannot do, while there is some.
    """

    program: str
    on: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Run a loaded program ``repeat`` times over a frame, for what it does to maps."""

    program: str
    repeat: int = 1
    frame: bytes = bytes(64)


@dataclass(frozen=True, slots=True)
class FlowTable:
    """Have a flow table with this head (``struct flow_head``, shape ``()``); None: have none.

    A table that has as many sets stays, with its flows and its ``hash_keys``, and takes the rest of
    the head. Otherwise there is a new one, and the flows move over.
    """

    head: NDArray[Any] | None


@dataclass(frozen=True, slots=True)
class EndFlows:
    """End the flows that any of the filters means: they are not there any more.

    A packet that comes after that begins a flow anew, or is invalid. Where they are ``barred``,
    only a SYN does, or a packet of who opened the flow that came in and was let in; while others
    come, it stays so.
    """

    filters: tuple[FlowFilter | PacketFilter, ...]
    barred: bool = False


@dataclass(frozen=True, slots=True)
class Kill:
    """Send SIGKILL to the process that has ``pid`` and started at ``start_ns`` (boot clock).

    Raises on application when the pid belongs to another process by now: nothing is sent then.
    """

    pid: int
    start_ns: int


Action = (
    MapWrite
    | MapDelete
    | MapReplace
    | Swap
    | Lend
    | Switch
    | Patch
    | Engage
    | Run
    | FlowTable
    | EndFlows
    | Kill
)
