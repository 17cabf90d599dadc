"""Flows as they are shown, and filters as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.conntrack.changes import ends
from ebpfsentinel.domains.conntrack.owners import owners
from ebpfsentinel.model.flows import (
    STATES,
    FlowFilter,
    Stage,
    last_seen_ns,
    opened_by,
    sides,
    stages,
)
from ebpfsentinel.model.packets import PROTOCOLS
from ebpfsentinel.model.settings import SettingsError, nearest, parse_network, parse_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.flows import Network

_NUMBERS = {name: number for number, name in PROTOCOLS.items()}
_SORTS = ("last_seen", "start", "bytes", "packets")
_LAST_PROTOCOL = 255


def filter_of(wanted: Mapping[str, Any]) -> FlowFilter:
    """A filter as users write it; what is None or missing holds always.

    Raises:
        SettingsError: one cannot be understood; its place is the name of it.
    """
    low, high = _ports("port", wanted) or (None, None)
    if low != high:
        raise SettingsError("port", f"{wanted['port']!r} is a range", "Write dst_port or src_port.")
    return FlowFilter(
        address=_network("address", wanted),
        source=_network("source", wanted),
        destination=_network("destination", wanted),
        port=low,
        ports=_ports("dst_port", wanted),
        source_ports=_ports("src_port", wanted),
        protocol=_protocol(wanted.get("protocol")),
        state=_state(wanted.get("state")),
    )


def _network(name: str, wanted: Mapping[str, Any]) -> Network | None:
    value = wanted.get(name)
    return None if value is None else parse_network(name, str(value))


def _ports(name: str, wanted: Mapping[str, Any]) -> tuple[int, int] | None:
    value = wanted.get(name)
    return None if value is None else parse_ports(name, value)


def _protocol(word: str | None) -> int | None:
    if word is None:
        return None
    if word.isdecimal() and int(word) <= _LAST_PROTOCOL:
        return int(word)
    if (found := _NUMBERS.get(word.lower())) is None:
        raise SettingsError(
            "protocol", f"{word!r} is no protocol", nearest(word, _NUMBERS, "A number, or one of")
        )
    return found


def _state(word: str | None) -> str | None:
    if word is not None and word.lower() not in STATES:
        raise SettingsError("state", f"{word!r} is no state", nearest(word, STATES, "States"))
    return word and word.lower()


def order(rows: NDArray[Any], by: str, limit: int) -> NDArray[Any]:
    """At most ``limit`` rows, those with most of ``by`` first.

    Raises:
        SettingsError: there is no such order.
    """
    if by not in _SORTS:
        raise SettingsError("sort", f"{by!r} is no order", nearest(by, _SORTS, "Orders"))
    weight = _weight(rows, by)
    if len(rows) > limit:
        most = np.argpartition(weight, len(rows) - limit)[len(rows) - limit :]
    else:
        most = np.arange(len(rows))
    return np.asarray(rows[most[np.argsort(weight[most], kind="stable")[::-1]]])


def _weight(rows: NDArray[Any], by: str) -> NDArray[Any]:
    if by == "start":
        return np.asarray(rows["start_ns"])
    if by == "last_seen":
        return last_seen_ns(rows)
    return np.asarray(rows["end"][by].sum(axis=1))


def views(rows: NDArray[Any], boot_offset_ns: int) -> Sequence[dict[str, Any]]:
    """Each flow as it is shown."""
    first, where = opened_by(rows).tolist(), stages(rows).tolist()
    last = last_seen_ns(rows).tolist()
    packets, size = (sides(rows, rows["end"][name]) for name in ("packets", "bytes"))
    return [
        {
            **ends(row["key"], first[at]),
            "state": Stage(where[at]).word,
            "packets_fwd": int(packets[0][at]),
            "packets_rev": int(packets[1][at]),
            "bytes_fwd": int(size[0][at]),
            "bytes_rev": int(size[1][at]),
            "start_ns": int(row["start_ns"]) + boot_offset_ns,
            "last_seen_ns": last[at] + boot_offset_ns,
            "expires_ns": int(row["lapse_ns"]) + boot_offset_ns,
            "ifindex": int(row["ifindex"]),
            **owners(row["end"]["owner"], first[at]),
        }
        for at, row in enumerate(rows)
    ]
