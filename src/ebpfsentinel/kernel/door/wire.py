"""Every call over the door and its answer, as typed and bounded msgpack.

A call is one of the structures of :data:`Call`, by its tag; what it may hold, and how much, stands
in its types, and both ends decode by them. An answer is :class:`Refused`, or :class:`Done` with
what :data:`ANSWERS` says of the call. Values of the contract that are plain dataclasses go as they
are; those with arrays, networks or mixtures have a structure of their own here.
"""

from __future__ import annotations

import functools
import ipaddress
import operator
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Meta

from ebpfsentinel.kernel.door.arrays import WireArray, describe, described, packed, unpacked
from ebpfsentinel.model import action as model
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.flows import Ends, FlowFilter, PacketFilter
from ebpfsentinel.model.kernel import (
    Attachment,
    InterfaceCounters,
    KernelError,
    Ledger,
    NotLoaded,
    ProgramStatus,
    RunResult,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_CALL_BYTES, MOST_ANSWER_BYTES = 1 << 28, 1 << 30
"""A generation of rules is some tens of megabytes; all flows of a full table some hundreds."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Interface = Annotated[str, Meta(min_length=1, max_length=15)]
Interfaces = Annotated[list[Interface], Meta(max_length=256)]
Domains = Annotated[list[Name], Meta(max_length=64)]
Word = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Moment = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Port = Annotated[int, Meta(ge=0, le=0xFFFF)]
Text = Annotated[str, Meta(max_length=64)]
Frame = Annotated[bytes, Meta(max_length=1 << 16)]
Repeat = Annotated[int, Meta(ge=1, le=1 << 24)]
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
    Load: None,
    Reserve: None,
    Claim: None,
    Attach: None,
    Detach: None,
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
    Locate: dict[str, tuple[int, int]],
    Survey: dict[str, Any],
}
"""What each call is answered with."""
CALLS = tuple(ANSWERS)

_ACTIONS = {
    MapWrite: model.MapWrite,
    MapDelete: model.MapDelete,
    MapReplace: model.MapReplace,
    Swap: model.Swap,
    Lend: model.Lend,
    Switch: model.Switch,
    Patch: model.Patch,
    Engage: model.Engage,
    Run: model.Run,
    FlowTable: model.FlowTable,
    Kill: model.Kill,
}
_WIRED = {found: wire for wire, found in _ACTIONS.items()}


def _encoded(found: Any) -> Any:
    """What msgspec does not know itself."""
    if isinstance(found, np.ndarray):
        return packed(found)
    if isinstance(found, np.dtype):
        return describe(found)
    if isinstance(found, np.generic):
        return found.item()
    raise NotImplementedError(f"{type(found).__name__} does not go over the door")


def _decoded(kind: type, found: Any) -> Any:
    if kind is np.ndarray:
        return unpacked(msgspec.convert(found, WireArray))
    if kind is np.dtype and isinstance(found, bytes):
        return described(found)
    raise TypeError(f"no {kind.__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encoded)
_calls: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    functools.reduce(operator.or_, CALLS), dec_hook=_decoded
)
_answers: dict[type[Part], msgspec.msgpack.Decoder[Any]] = {
    call: msgspec.msgpack.Decoder(Refused | Done[kind], dec_hook=_decoded)  # type: ignore[valid-type]
    for call, kind in ANSWERS.items()
}


class WireError(Exception):
    """What came over the door is not what both ends speak."""


def encode(found: Part | Refused | Done[Any]) -> bytes:
    """A call or an answer as bytes.

    Raises:
        WireError: it is larger than the other end takes, or holds what has no place there.
    """
    most = MOST_CALL_BYTES if isinstance(found, Part) else MOST_ANSWER_BYTES
    try:
        data = _encoder.encode(found)
    except (NotImplementedError, OverflowError, TypeError, ValueError) as error:
        raise WireError(str(error)) from None
    if len(data) > most:
        raise WireError(f"{type(found).__name__}: {len(data)} bytes, {most} is the most")
    return data


def decode_call(data: bytes) -> Part:
    """The call that :func:`encode` wrote.

    Raises:
        WireError: it is none.
    """
    return _decode(_calls, data)  # type: ignore[no-any-return]


def decode_answer(call: Part, data: bytes) -> Refused | Done[Any]:
    """What a call is answered with.

    Raises:
        WireError: it is no such answer.
    """
    return _decode(_answers[type(call)], data)  # type: ignore[no-any-return]


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise WireError(str(error)) from None


def refusal(error: Exception) -> Refused:
    """What to raise at the other end."""
    if isinstance(error, NotLoaded):
        return Refused("not_loaded", error.map_name)
    if isinstance(error, KeyError):
        return Refused("key", str(error.args[0] if error.args else ""))
    return Refused("kernel", str(error))


def error_of(refused: Refused) -> Exception:
    """What was raised at the other end."""
    kinds: dict[str, type[Exception]] = {"not_loaded": NotLoaded, "key": KeyError}
    return kinds.get(refused.kind, KernelError)(refused.text)


def to_wire(action: model.Action) -> Part:
    """An action for the wire.

    Raises:
        WireError: it cannot be written.
    """
    if isinstance(action, model.EndFlows):
        return EndFlows(tuple(_filter_to_wire(each) for each in action.filters), action.barred)
    found = {each.name: getattr(action, each.name) for each in fields(action)}
    for name in ("value", "head"):
        if found.get(name) is not None and not isinstance(found[name], np.dtype):
            found[name] = np.asarray(found[name])
    return _WIRED[type(action)](**found)  # type: ignore[no-any-return]


def to_action(wire: Part) -> model.Action:
    """The action that :func:`to_wire` wrote.

    Raises:
        ValueError: a network is none.
    """
    if isinstance(wire, EndFlows):
        return model.EndFlows(tuple(_filter_of(each) for each in wire.filters), wire.barred)
    found = {name: getattr(wire, name) for name in wire.__struct_fields__}
    return _ACTIONS[type(wire)](**found)  # type: ignore[no-any-return]


def _filter_to_wire(found: FlowFilter | PacketFilter) -> FlowsLike | FlowsOf:
    if isinstance(found, PacketFilter):
        spans = (found.src, found.dst, found.src_ports, found.dst_ports, found.protocols)
        return FlowsOf(found.family, *map(_spans_to_wire, spans))
    values = {each.name: getattr(found, each.name) for each in fields(found)}
    for name in ("address", "source", "destination"):
        values[name] = None if values[name] is None else str(values[name])
    return FlowsLike(**values)


def _filter_of(wire: FlowsLike | FlowsOf) -> FlowFilter | PacketFilter:
    if isinstance(wire, FlowsOf):
        spans = (wire.src, wire.dst, wire.src_ports, wire.dst_ports, wire.protocols)
        return PacketFilter(wire.family, *map(_spans_of, spans))
    values = {name: getattr(wire, name) for name in wire.__struct_fields__}
    for name in ("address", "source", "destination"):
        if values[name] is not None:
            values[name] = ipaddress.ip_network(values[name])
    return FlowFilter(**values)


def _spans_to_wire(spans: Sequence[tuple[int, int]] | None) -> list[Span] | None:
    return None if spans is None else [(_number(low), _number(high)) for low, high in spans]


def _spans_of(spans: Sequence[Span] | None) -> tuple[tuple[int, int], ...] | None:
    return None if spans is None else tuple((int(low), int(high)) for low, high in spans)


def _number(value: int) -> int | str:
    return int(value) if value < 1 << 63 else str(value)


def floor_to_wire(floor: Floor) -> WireFloor:
    """A floor for the wire."""
    return WireFloor(
        floor.loopback,
        sorted(map(str, floor.networks)),
        sorted(floor.ports),
        sorted((str(address), port) for address, port in floor.listeners),
        sorted((str(c.remote), c.remote_port, c.local_port) for c in floor.connections),
    )


def floor_of(wire: WireFloor) -> Floor:
    """The floor that :func:`floor_to_wire` wrote.

    Raises:
        ValueError: an address or a network is none.
    """
    address = ipaddress.ip_address
    return Floor(
        wire.loopback,
        frozenset(map(ipaddress.ip_network, wire.networks)),
        frozenset(wire.ports),
        frozenset((address(found), port) for found, port in wire.listeners),
        frozenset(Connection(address(c[0]), c[1], c[2]) for c in wire.connections),
    )
