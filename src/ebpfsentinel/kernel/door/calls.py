"""Every call over the door and its answer, typed and bounded: what there is to say.

A call is one of the structures of :data:`Call`, by its tag; what it may hold, and how much, stands
in its types, and both ends decode by them. An answer is :class:`Refused`, or :class:`Done` with
what :data:`ANSWERS` says of the call. Values of the contract that are plain dataclasses go as they
are; those with arrays, networks or mixtures have a structure of their own here.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from ebpfsentinel.model.flows import Ends  # noqa: TC001 (msgspec reads the types)
from ebpfsentinel.model.health import Breach
from ebpfsentinel.model.kernel import (
    Attachment,
    InterfaceCounters,
    Ledger,
    ProgramStatus,
    RunResult,
)

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Interface = Annotated[str, Meta(min_length=1, max_length=15)]
Interfaces = Annotated[list[Interface], Meta(max_length=256)]
Domains = Annotated[list[Name], Meta(max_length=64)]
Word = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Moment = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Port = Annotated[int, Meta(ge=0, le=0xFFFF)]
Text = Annotated[str, Meta(max_length=64)]
Frame = Annotated[bytes, Meta(max_length=1 << 16)]
Repeat = Annotated[int, Meta(ge=1, le=1 << 20)]
Path = Annotated[str, Meta(min_length=1, max_length=4096)]
Number = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] | Text
"""Addresses as numbers have up to 128 bits, and msgpack 64: larger ones go as text."""
Span = tuple[Number, Number]
Spans = Annotated[list[Span], Meta(max_length=1 << 16)]


class Part(msgspec.Struct, array_like=True, tag=True, forbid_unknown_fields=True):
    """What goes over the door."""


class FlowsLike(Part):
    """:class:`~ebpfsentinel.model.flows.FlowFilter`."""

    address: Text | None
    source: Text | None
    destination: Text | None
    port: Port | None
    source_ports: tuple[Port, Port] | None
    ports: tuple[Port, Port] | None
    protocol: Word | None
    family: Word | None
    state: Text | None


class FlowsOf(Part):
    """:class:`~ebpfsentinel.model.flows.PacketFilter`."""

    family: Word
    src: Spans | None
    dst: Spans | None
    src_ports: Spans | None
    dst_ports: Spans | None
    protocols: Spans | None


class MapWrite(Part):
    """See :class:`ebpfsentinel.model.action.MapWrite`; those below are called so, too."""

    map: Name
    keys: np.ndarray
    values: np.ndarray


class MapDelete(Part):
    """Delete entries."""

    map: Name
    keys: np.ndarray


class MapReplace(Part):
    """Hold exactly these."""

    map: Name
    keys: np.ndarray
    values: np.ndarray


class Swap(Part):
    """A new generation behind a slot."""

    map: Name
    slot: Word
    value: np.ndarray


class Lend(Part):
    """A map behind a slot."""

    map: Name
    slot: Word
    inner: Name


class Switch(Part):
    """New values at places."""

    map: Name
    places: Annotated[dict[Word, np.ndarray], Meta(max_length=1024)]
    kept: Annotated[dict[Word, Moment], Meta(max_length=1024)]
    head_map: Name
    head: np.ndarray


class Patch(Part):
    """Write within a value."""

    map: Name
    place: Word
    serial: Moment
    head_map: Name
    head: np.dtype
    writes: Annotated[tuple[tuple[Word, bytes], ...], Meta(max_length=1 << 16)]


class Engage(Part):
    """Have a stand-in run."""

    program: Name
    on: bool


class Run(Part):
    """Run a program for what it does."""

    program: Name
    repeat: Repeat
    frame: Frame


class FlowTable(Part):
    """Have a flow table."""

    head: np.ndarray | None


class EndFlows(Part):
    """End flows."""

    filters: Annotated[tuple[FlowsLike | FlowsOf, ...], Meta(max_length=1 << 16)]
    barred: bool


class Kill(Part):
    """End a process."""

    pid: Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
    start_ns: Moment


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


class WireFloor(Part):
    """:class:`~ebpfsentinel.model.floor.Floor`; listeners and connections as text and numbers."""

    loopback: bool
    networks: Annotated[list[Text], Meta(max_length=4096)]
    ports: Annotated[list[Port], Meta(max_length=1024)]
    listeners: Annotated[list[tuple[Text, Port]], Meta(max_length=1024)]
    connections: Annotated[list[tuple[Text, Port, Port]], Meta(max_length=4096)]


class Greet(Part):
    """Who calls; answered with the keeper's version. It comes first."""

    version: Text


class Load(Part):
    """Domains by name: what is loaded for them the keeper knows itself."""

    domains: Domains


class Reserve(Part):
    """Slots for interfaces."""

    interfaces: Interfaces


class Claim(Part):
    """Be the one agent there."""

    interfaces: Interfaces


class Attach(Part):
    """To these, and no others."""

    interfaces: Interfaces


class Detach(Part):
    """Leave."""


class Outlive(Part):
    """Let enforcement stay when the agent ends."""

    on: bool


class Apply(Part):
    """Actions, in order."""

    actions: Annotated[list[Action], Meta(max_length=4096)]


class Protect(Part):
    """Add to the floor."""

    floor: WireFloor


class Protected(Part):
    """The floor in force."""


class Lapse(Part):
    """Drop nothing from then on."""

    at_ns: Moment
    domains: Domains


class Read(Part):
    """All pairs of a map."""

    map: Name


class Total(Part):
    """A per-CPU array, summed."""

    map: Name
    most: Word | None


class FlowsIn(Part):
    """Flows of the table."""

    first: Word
    count: Word | None


class FindFlow(Part):
    """One flow."""

    ends: Ends


class LookUp(Part):
    """One value."""

    map: Name
    key: np.ndarray


class Seed(Part):
    """Run an iterator."""

    program: Name


class RunOne(Part):
    """One frame through a program."""

    program: Name
    frame: Frame
    repeat: Repeat
    interface: Annotated[str, Meta(max_length=15)]


class RunMany(Part):
    """Many frames through a program."""

    program: Name
    buffer: np.ndarray
    offset: np.ndarray
    length: np.ndarray
    behind: Text


class Structure(Part):
    """What is loaded; rings come with their descriptors, in this order."""


class Slots(Part):
    """Interfaces and their slots."""


class Attachments(Part):
    """Where we are attached."""


class Programs(Part):
    """Every program."""


class Ledgers(Part):
    """Every ring's ledger."""


class Failures(Part):
    """Failed helper calls."""


class Counters(Part):
    """Packets by interface."""


class Measure(Part):
    """Run statistics."""

    on: bool


class Canary(Part):
    """One into a ring."""

    ring: Name


class Inspect(Part):
    """What is not as it was left."""

    mend: bool


class Locate(Part):
    """Executables by path."""

    paths: Annotated[list[Path], Meta(max_length=4096)]


class Survey(Part):
    """What the card's own look at the machine finds."""

    domain: Name


class WireRing(Part):
    """A ring: its size, and its record type."""

    name: Name
    size_bytes: Word
    record: np.dtype


class Loaded(Part):
    """What is loaded: rings, owners of maps and programs, iterators, record types by domain."""

    rings: list[WireRing]
    owners: dict[str, str]
    seeds: list[str]
    records: dict[str, dict[str, np.dtype]]


class WireAnswers(Part):
    """:class:`~ebpfsentinel.model.kernel.Answers`."""

    retval: np.ndarray
    meta: np.ndarray
    refused: np.ndarray


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=True, forbid_unknown_fields=True):
    """``kind`` says what to raise: ``kernel``, ``not_loaded`` or ``key``."""

    kind: str
    text: str


T = TypeVar("T")


class Done(
    msgspec.Struct,
    Generic[T],
    array_like=True,
    frozen=True,
    tag="Done",
    forbid_unknown_fields=True,
):
    """It is done, and this is the answer."""

    value: T


ANSWERS: dict[type[Part], Any] = {
    Greet: str,
    Load: None,
    Reserve: None,
    Claim: None,
    Attach: None,
    Detach: None,
    Outlive: None,
    Apply: None,
    Protect: None,
    Protected: WireFloor,
    Lapse: None,
    Read: tuple[np.ndarray, np.ndarray],
    Total: np.ndarray,
    FlowsIn: np.ndarray,
    FindFlow: np.ndarray,
    LookUp: np.ndarray | None,
    Seed: np.ndarray,
    RunOne: RunResult,
    RunMany: WireAnswers,
    Structure: Loaded,
    Slots: dict[str, int],
    Attachments: list[Attachment],
    Programs: list[ProgramStatus],
    Ledgers: list[Ledger],
    Failures: dict[str, int],
    Counters: list[InterfaceCounters],
    Measure: None,
    Canary: bool,
    Inspect: list[Breach],
    Locate: dict[str, tuple[int, int]],
    Survey: dict[str, Any],
}
"""What each call is answered with."""
CALLS = tuple(ANSWERS)
