"""Calls and answers as bytes, and values of the contract as parts of calls; and back."""

from __future__ import annotations

import functools
import ipaddress
import operator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from ebpfsentinel.kernel.door import calls as wired
from ebpfsentinel.kernel.door.arrays import WireArray, describe, described, packed, unpacked
from ebpfsentinel.kernel.door.calls import ANSWERS, CALLS, Done, Part, Refused
from ebpfsentinel.model import action as model
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.flows import FlowFilter, PacketFilter
from ebpfsentinel.model.kernel import DomainRefused, KernelError, NotLoaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.kernel.door.calls import Span

MOST_CALL_BYTES, MOST_ANSWER_BYTES = 1 << 28, 1 << 30
"""4,096 rules are ten megabytes, 16,384 of each family above a hundred; so are all flows."""

_ACTIONS = {
    wired.MapWrite: model.MapWrite,
    wired.MapDelete: model.MapDelete,
    wired.MapReplace: model.MapReplace,
    wired.Swap: model.Swap,
    wired.Lend: model.Lend,
    wired.Switch: model.Switch,
    wired.Patch: model.Patch,
    wired.Engage: model.Engage,
    wired.Run: model.Run,
    wired.FlowTable: model.FlowTable,
    wired.Kill: model.Kill,
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


def decode_call(data: bytes | bytearray) -> Part:
    """The call that :func:`encode` wrote.

    Raises:
        WireError: it is none.
    """
    return _decode(_calls, data)  # type: ignore[no-any-return]


def decode_answer(call: Part, data: bytes | bytearray) -> Refused | Done[Any]:
    """What a call is answered with.

    Raises:
        WireError: it is no such answer.
    """
    return _decode(_answers[type(call)], data)  # type: ignore[no-any-return]


def _decode(decoder: msgspec.msgpack.Decoder[Any], data: bytes | bytearray) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise WireError(str(error)) from None


def refusal(error: Exception) -> Refused:
    """What to raise at the other end."""
    if isinstance(error, NotLoaded):
        return Refused("not_loaded", error.map_name)
    if isinstance(error, DomainRefused):
        return Refused("domain", f"{error.domain}\n{error.reason}")
    if isinstance(error, KeyError):
        return Refused("key", str(error.args[0] if error.args else ""))
    return Refused("kernel", str(error))


def error_of(refused: Refused) -> Exception:
    """What was raised at the other end."""
    if refused.kind == "domain":
        domain, _, reason = refused.text.partition("\n")
        return DomainRefused(domain, reason)
    kinds: dict[str, type[Exception]] = {"not_loaded": NotLoaded, "key": KeyError}
    return kinds.get(refused.kind, KernelError)(refused.text)


def to_wire(action: model.Action) -> Part:
    """An action for the wire.

    Raises:
        WireError: it cannot be written.
    """
    if isinstance(action, model.EndFlows):
        return wired.EndFlows(
            tuple(_filter_to_wire(each) for each in action.filters), action.barred
        )
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
    if isinstance(wire, wired.EndFlows):
        return model.EndFlows(tuple(_filter_of(each) for each in wire.filters), wire.barred)
    found = {name: getattr(wire, name) for name in wire.__struct_fields__}
    return _ACTIONS[type(wire)](**found)  # type: ignore[no-any-return]


def _filter_to_wire(found: FlowFilter | PacketFilter) -> wired.FlowsLike | wired.FlowsOf:
    if isinstance(found, PacketFilter):
        spans = (found.src, found.dst, found.src_ports, found.dst_ports, found.protocols)
        return wired.FlowsOf(found.family, *map(_spans_to_wire, spans))
    values = {each.name: getattr(found, each.name) for each in fields(found)}
    for name in ("address", "source", "destination"):
        values[name] = None if values[name] is None else str(values[name])
    return wired.FlowsLike(**values)


def _filter_of(wire: wired.FlowsLike | wired.FlowsOf) -> FlowFilter | PacketFilter:
    if isinstance(wire, wired.FlowsOf):
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


def floor_to_wire(floor: Floor) -> wired.WireFloor:
    """A floor for the wire."""
    return wired.WireFloor(
        floor.loopback,
        sorted(map(str, floor.networks)),
        sorted(floor.ports),
        sorted((str(address), port) for address, port in floor.listeners),
        sorted((str(c.remote), c.remote_port, c.local_port) for c in floor.connections),
    )


def floor_of(wire: wired.WireFloor) -> Floor:
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
