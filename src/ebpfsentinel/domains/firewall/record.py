"""A rule by itself, as ``struct fw_rule``: what a candidate is checked by, without tables."""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.events import FW_REST, FW_RULE, FwField

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebpfsentinel.domains.firewall.groups import Ranges

PROTOCOL, PORTS, TRAITS, SRC_MAC, DST_MAC, TIME, MORE = 1, 2, 4, 8, 16, 32, 64
"""``FW_ASKS_...`` of ``firewall.h``."""

_TRAITS: dict[int, tuple[int, int]] = {
    FwField.FW_PROTOCOL: (0, 8),
    FwField.FW_DETAIL: (8, 18),
    FwField.FW_SERVICE: (26, 8),
    FwField.FW_VLAN: (34, 12),
    FwField.FW_INNER_VLAN: (46, 12),
    FwField.FW_INTERFACE: (58, 6),
}
"""Place and width in bits, ``FW_..._AT``."""
_ADDRESSES: dict[int, int] = {FwField.FW_SRC_ADDR: 0, FwField.FW_DST_ADDR: 1}
_PORTS: dict[int, int] = {FwField.FW_SRC_PORT: 0, FwField.FW_DST_PORT: 2}
_MACS: dict[int, tuple[int, int]] = {
    FwField.FW_SRC_MAC: (0, SRC_MAC),
    FwField.FW_DST_MAC: (1, DST_MAC),
}
_ENUMERABLE = 256
_HALF = (1 << 64) - 1
_PACKED = struct.Struct("<2xHIBB4H6x4QQQ4Q2QQ")
assert _PACKED.size == FW_RULE.itemsize + FW_REST.itemsize  # noqa: S101 (the header has changed: change this too)


def ternary(ranges: Ranges, bits: int) -> tuple[int, int] | None:
    """The value and mask that say the same as the ranges; None where there are none such."""
    full = (1 << bits) - 1
    if len(ranges) == 1:
        low, high = ranges[0]
        free = low ^ high
        aligned = free & (free + 1) == 0 and low & free == 0
        return (low, full & ~free) if aligned else None
    count = sum(high - low + 1 for low, high in ranges)
    if count > _ENUMERABLE:
        return None
    values = list(chain.from_iterable(range(low, high + 1) for low, high in ranges))
    free = 0
    for value in values:
        free |= value ^ values[0]
    return (values[0] & ~free, full & ~free) if count == 1 << free.bit_count() else None


def record_of(order: int, cpu: int, asks: Mapping[int, Ranges]) -> bytes:
    """A ``struct fw_rule`` but for its number, and its ``struct fw_rest``.

    It has ``FW_ASKS_MORE`` where that cannot say it all.
    """
    put = _NOTHING_ASKED.copy()
    put[_CPU], put[_ORDER] = cpu, order
    for name, ranges in asks.items():
        if not _PUT[name](put, name, ranges):
            put[_ASKS] |= MORE
    return _PACKED.pack(*put)


_NOTHING_ASKED = [0, 0, 0, 0, 0, 0xFFFF, 0, 0xFFFF, *[0] * 13]
_CPU, _ORDER, _ASKS, _PROTOCOL, _SRC_PORT = range(5)
_LOW, _TRAIT, _MASK, _HIGH, _MAC, _EXPIRES = 8, 12, 13, 14, 18, 20
"""Where what stands among the values of ``_PACKED``; of pairs, the source's comes first."""


def _put_ports(put: list[int], name: int, ranges: Ranges) -> bool:
    low, high = ranges[0]
    put[_ASKS] |= PORTS
    at = _SRC_PORT + _PORTS[name]
    put[at : at + 2] = low, high - low
    return len(ranges) == 1


def _put_mac(put: list[int], name: int, ranges: Ranges) -> bool:
    end, bit = _MACS[name]
    put[_ASKS] |= bit
    put[_MAC + end] = ranges[0][0]
    return True


def _put_time(put: list[int], _name: int, ranges: Ranges) -> bool:
    low, high = ranges[0]
    put[_ASKS] |= TIME
    put[_EXPIRES] = high + 1
    return len(ranges) == 1 and not low


def _put_address(put: list[int], name: int, ranges: Ranges) -> bool:
    """Values, then masks; of the lower half, then of the upper one."""
    found = ternary(ranges, 128)
    if found is None:
        return False
    value, mask = found
    end = _ADDRESSES[name]
    put[_LOW + end], put[_LOW + 2 + end] = value & _HALF, mask & _HALF
    put[_HIGH + end], put[_HIGH + 2 + end] = value >> 64, mask >> 64
    return True


def _put_protocol(put: list[int], name: int, ranges: Ranges) -> bool:
    put[_ASKS] |= PROTOCOL
    put[_PROTOCOL] = ranges[0][0]
    return _put_bits(put, name, ranges)


def _put_trait(put: list[int], name: int, ranges: Ranges) -> bool:
    put[_ASKS] |= TRAITS
    return _put_bits(put, name, ranges)


def _put_bits(put: list[int], name: int, ranges: Ranges) -> bool:
    at, bits = _TRAITS[name]
    found = ternary(ranges, bits)
    if found is None:
        return False
    put[_TRAIT] |= found[0] << at
    put[_MASK] |= found[1] << at
    return True


_PUT: dict[int, Callable[[list[int], int, Ranges], bool]] = {
    **dict.fromkeys(_PORTS, _put_ports),
    **dict.fromkeys(_MACS, _put_mac),
    **dict.fromkeys(_ADDRESSES, _put_address),
    **dict.fromkeys(_TRAITS, _put_trait),
    FwField.FW_PROTOCOL: _put_protocol,
    FwField.FW_TIME: _put_time,
}
"""What puts a condition among the values, by its field; it says False where they cannot hold it."""
