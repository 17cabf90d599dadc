"""A rule by itself, as ``struct fw_rule``: what a candidate is checked by, without tables."""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.events import FW_REST, FW_RULE, FwField

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class _Record:
    """The fields of a ``struct fw_rule`` while conditions are put into them."""

    __slots__ = ("address", "asks", "expires_s", "mac", "mask", "ports", "protocol", "traits")

    def __init__(self) -> None:
        self.asks = self.protocol = self.traits = self.mask = self.expires_s = 0
        self.ports = [0, 0xFFFF, 0, 0xFFFF]
        self.address = [0] * 8
        self.mac = [0, 0]


def record_of(order: int, cpu: int, asks: Mapping[int, Ranges]) -> bytes:
    """A ``struct fw_rule`` but for its number, and its ``struct fw_rest``.

    It has ``FW_ASKS_MORE`` where that cannot say it all.
    """
    record = _Record()
    for name, ranges in asks.items():
        if not _put(record, name, ranges):
            record.asks |= MORE
    return _PACKED.pack(
        cpu,
        order,
        record.asks,
        record.protocol,
        *record.ports,
        *record.address[:4],
        record.traits,
        record.mask,
        *record.address[4:],
        *record.mac,
        record.expires_s,
    )


def _put(record: _Record, name: int, ranges: Ranges) -> bool:
    """One condition; False: the record cannot hold it."""
    low, high = ranges[0]
    if name in _PORTS:
        at = _PORTS[name]
        record.asks |= PORTS
        record.ports[at : at + 2] = low, high - low
        return len(ranges) == 1
    if name in _MACS:
        end, bit = _MACS[name]
        record.asks |= bit
        record.mac[end] = low
        return True
    if name == FwField.FW_TIME:
        record.asks |= TIME
        record.expires_s = high + 1
        return len(ranges) == 1 and not low
    if name in _ADDRESSES:
        return _put_address(record, _ADDRESSES[name], ranges)
    return _put_trait(record, name, ranges)


def _put_address(record: _Record, end: int, ranges: Ranges) -> bool:
    """Lower half, its mask, upper half, its mask: a pair of each."""
    found = ternary(ranges, 128)
    if found:
        value, mask = found
        record.address[end::2] = value & _HALF, mask & _HALF, value >> 64, mask >> 64
    return bool(found)


def _put_trait(record: _Record, name: int, ranges: Ranges) -> bool:
    at, bits = _TRAITS[name]
    if name == FwField.FW_PROTOCOL:
        record.asks |= PROTOCOL
        record.protocol = ranges[0][0]
    else:
        record.asks |= TRAITS
    found = ternary(ranges, bits)
    if found:
        record.traits |= found[0] << at
        record.mask |= found[1] << at
    return bool(found)
