"""Flows as plain values: what rows of the flow table say, and which of them are meant.

A flow is a row of ``struct flow_entry`` (``kernel/include/flow_table.h``) with ``lapse_ns``, the
boot-clock time from which it is not there any more. Its two ends stand in the order of the table;
:func:`sides` turns that into who opened it and who answers. All of this works on whole arrays.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.floor import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
WAYS, TICK_SHIFT, CLASS_BITS = 8, 28, 2
_STAGE_MASK, _OPENED_BY, _SEEN = 0x1F, 5, 6


class Stage(enum.IntEnum):
    """``enum flow_stage``: where in its life a flow is."""

    NONE = 0
    SYN_SENT = 1
    SYN_SENT_BOTH = 2
    SYN_RECV = 3
    ESTABLISHED = 4
    FIN_WAIT = 5
    CLOSE_WAIT = 6
    LAST_ACK = 7
    TIME_WAIT = 8
    CLOSE = 9
    PICKED_UP = 10
    UDP_NEW = 11
    UDP_REPLIED = 12
    UDP_STREAM = 13
    ICMP_NEW = 14
    ICMP_REPLIED = 15
    OTHER_NEW = 16
    OTHER_REPLIED = 17

    @property
    def word(self) -> str:
        """As it is shown: ``established``, ``time_wait``, ``unreplied``, ``replied`` and so on."""
        for ending, word in (("_NEW", "unreplied"), ("_REPLIED", "replied"), ("_STREAM", "stream")):
            if self.name.endswith(ending):
                return word
        return self.name.lower()


STATES = tuple(dict.fromkeys(stage.word for stage in Stage if stage))
"""Every word that a flow's state may be."""


def stages(rows: NDArray[Any]) -> NDArray[np.intp]:
    """The :class:`Stage` of every row, shape ``(n,)``."""
    return np.asarray(rows["status"] & _STAGE_MASK, np.intp)


def opened_by(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Which of its ends (0 or 1) opened each flow, shape ``(n,)``."""
    return np.asarray(rows["status"] >> _OPENED_BY & 1, np.intp)


def replied(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Were there packets from both ends? Shape ``(n,)``."""
    return np.asarray((rows["status"] >> _SEEN & 3) == 3, np.bool_)


def last_seen_ns(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """When there was a packet from either end; boot clock, shape ``(n,)``."""
    return np.asarray(rows["end"]["last_ns"].max(axis=1))


def sides(rows: NDArray[Any], values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of ``values``, one for each end (shape ``(n, 2, ...)``): who opened it, and who answers."""
    at, first = np.arange(len(rows)), opened_by(rows)
    return values[at, first], values[at, 1 - first]


@dataclass(frozen=True, slots=True)
class Ends:
    """From where to where a packet goes: addresses as text, in host order; one IP version."""

    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int

    def words(self) -> tuple[Sequence[int], Sequence[int]]:
        """Both addresses as programs have them: four words each."""
        return _words(ipaddress.ip_address(self.source)), _words(
            ipaddress.ip_address(self.destination)
        )

    @property
    def family(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.source).version

    def key(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The key of their flow, shape ``(1,)``: the lower end first."""
        found = np.zeros(1, dtype)
        source, destination = self.words()
        pairs = sorted(
            ((list(source), self.source_port), (list(destination), self.destination_port))
        )
        found["addr"][0] = [addr for addr, _ in pairs]
        found["port"][0] = [port for _, port in pairs]
        found["protocol"], found["family"] = self.protocol, self.family
        return found


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows are meant: those for which all that is not None holds.

    ``source`` opened the flow, ``destination`` answers; ``address`` is either. ``ports`` are those
    of the destination, ``port`` is of either end; ranges are inclusive; ``protocol`` is a number.
    """

    address: Network | None = None
    source: Network | None = None
    destination: Network | None = None
    port: int | None = None
    source_ports: tuple[int, int] | None = None
    ports: tuple[int, int] | None = None
    protocol: int | None = None
    family: int | None = None
    state: str | None = None

    def mask(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """The rows that are meant, shape ``(n,)``."""
        meant = np.ones(len(rows), np.bool_)
        if self.protocol is not None:
            meant &= rows["key"]["protocol"] == self.protocol
        if self.family is not None:
            meant &= rows["key"]["family"] == self.family
        if self.state is not None:
            wanted = [stage.value for stage in Stage if stage.word == self.state]
            meant &= np.isin(stages(rows), wanted)
        return meant & self._of_ends(rows)

    def _of_ends(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        meant = np.ones(len(rows), np.bool_)
        ports = rows["key"]["port"]
        if self.port is not None:
            meant &= (ports == self.port).any(axis=1)
        if self.address is not None:
            ends = rows["key"]["addr"]
            family = rows["key"]["family"]
            meant &= within(ends[:, 0], family, self.address) | within(
                ends[:, 1], family, self.address
            )
        if self._is_sided():
            meant &= self._of_sides(rows)
        return meant

    def _is_sided(self) -> bool:
        sided = self.source, self.destination, self.ports, self.source_ports
        return any(each is not None for each in sided)

    def _of_sides(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        meant = np.ones(len(rows), np.bool_)
        family = rows["key"]["family"]
        networks, spans = (self.source, self.destination), (self.source_ports, self.ports)
        for addr, network in zip(sides(rows, rows["key"]["addr"]), networks, strict=True):
            if network is not None:
                meant &= within(addr, family, network)
        for port, span in zip(sides(rows, rows["key"]["port"]), spans, strict=True):
            if span is not None:
                meant &= (port >= span[0]) & (port <= span[1])
        return meant


Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PacketFilter:
    """Which flows are meant: those that have such packets, whichever of their ends sends them.

    Ranges are inclusive, of addresses as numbers, ports and protocols; None: any will do.
    """

    family: int
    src: Ranges | None = None
    dst: Ranges | None = None
    src_ports: Ranges | None = None
    dst_ports: Ranges | None = None
    protocols: Ranges | None = None

    def mask(self, rows: NDArray[Any]) -> NDArray[np.bool_]:
        """The rows that are meant, shape ``(n,)``."""
        meant = np.asarray(rows["key"]["family"] == self.family, np.bool_)
        meant &= _among(_numbers(rows["key"]["protocol"]), self.protocols)
        return meant & (self._sent_by(rows, 0) | self._sent_by(rows, 1))

    def _sent_by(self, rows: NDArray[Any], end: int) -> NDArray[np.bool_]:
        addr, port = rows["key"]["addr"], rows["key"]["port"]
        return (
            _among(_address_numbers(addr[:, end], self.family), self.src)
            & _among(_address_numbers(addr[:, 1 - end], self.family), self.dst)
            & _among(_numbers(port[:, end]), self.src_ports)
            & _among(_numbers(port[:, 1 - end]), self.dst_ports)
        )


def _numbers(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Upper and lower halves, shape ``(2, n)``."""
    lower = values.astype(np.uint64)
    return np.stack([np.zeros_like(lower), lower])


def _address_numbers(addr: NDArray[np.uint32], family: int) -> NDArray[np.uint64]:
    if family == 4:
        return _numbers(addr[:, 0])
    word = addr.astype(np.uint64)
    half = np.uint64(32)
    return np.stack([word[:, 0] << half | word[:, 1], word[:, 2] << half | word[:, 3]])


def _among(numbers: NDArray[np.uint64], ranges: Ranges | None) -> NDArray[np.bool_]:
    """Which numbers lie in any of the ranges."""
    upper, lower = numbers
    if ranges is None:
        return np.ones(len(upper), np.bool_)
    found = np.zeros(len(upper), np.bool_)
    for low, high in ranges:
        (low_upper, low_lower), (high_upper, high_lower) = (
            divmod(low, 1 << 64),
            divmod(high, 1 << 64),
        )
        found |= ((upper > low_upper) | ((upper == low_upper) & (lower >= low_lower))) & (
            (upper < high_upper) | ((upper == high_upper) & (lower <= high_lower))
        )
    return found


def within(
    addr: NDArray[np.uint32], family: NDArray[np.uint8], network: Network
) -> NDArray[np.bool_]:
    """Which addresses (words in host order, ``(n, 4)``) are of the network."""
    found = family == network.version
    for word, (wanted, mask) in enumerate(
        zip(_words(network.network_address), _words(network.netmask), strict=True)
    ):
        if mask:
            found &= (addr[:, word] & np.uint32(mask)) == wanted
    return np.asarray(found, np.bool_)


def _words(found: Address) -> Sequence[int]:
    if found.version == 4:
        return int(found), 0, 0, 0
    return [int(found) >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]
