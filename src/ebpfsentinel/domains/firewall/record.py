"""A rule by itself, as ``struct fw_rule``: what a candidate is checked by, without tables."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_RULE, FwField

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.domains.firewall.groups import Ranges

PROTOCOL, PORTS, TRAITS, SRC_MAC, DST_MAC, TIME, MORE = 1, 2, 4, 8, 16, 32, 64
"""``FW_ASKS_...`` of ``firewall.h``."""

_TRAITS = {
    FwField.FW_PROTOCOL: (0, 8),
    FwField.FW_DETAIL: (8, 18),
    FwField.FW_SERVICE: (26, 8),
    FwField.FW_VLAN: (34, 12),
    FwField.FW_INNER_VLAN: (46, 12),
    FwField.FW_INTERFACE: (58, 6),
}
"""Place and width in bits, ``FW_..._AT``."""
_ADDRESSES = {FwField.FW_SRC_ADDR: 0, FwField.FW_DST_ADDR: 1}
_PORTS = {FwField.FW_SRC_PORT: "src_port", FwField.FW_DST_PORT: "dst_port"}
_MACS = {FwField.FW_SRC_MAC: (0, SRC_MAC), FwField.FW_DST_MAC: (1, DST_MAC)}
_ENUMERABLE = 256
_HALF = (1 << 64) - 1


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


def record_of(action: int, asks: Mapping[int, Ranges]) -> bytes:
    """A ``struct fw_rule`` but for its number; ``FW_ASKS_MORE`` where it cannot say it all."""
    record = np.zeros(1, FW_RULE)
    row = record[0]
    row["action"] = action
    row["src_ports"] = row["dst_ports"] = 0xFFFF
    if not all(_put(row, FwField(name), ranges) for name, ranges in asks.items()):
        row["asks"] |= MORE
    return record.tobytes()


def _put(row: Any, name: FwField, ranges: Ranges) -> bool:
    """One condition; False: the record cannot hold it."""
    if name in _PORTS:
        return _put_ports(row, _PORTS[name], ranges)
    if name in _ADDRESSES:
        return _put_address(row["address"][_ADDRESSES[name]], ranges)
    if name in _MACS:
        end, bit = _MACS[name]
        row["asks"] |= bit
        row["mac"][end] = ranges[0][0]
        return True
    if name == FwField.FW_TIME:
        row["asks"] |= TIME
        row["expires_s"] = ranges[0][1] + 1
        return len(ranges) == 1 and ranges[0][0] == 0
    if name == FwField.FW_PROTOCOL:
        row["asks"] |= PROTOCOL
        row["protocol"] = ranges[0][0]
    else:
        row["asks"] |= TRAITS
    at, bits = _TRAITS[name]
    found = ternary(ranges, bits)
    if found:
        row["traits"] |= np.uint64(found[0] << at)
        row["traits_mask"] |= np.uint64(found[1] << at)
    return bool(found)


def _put_ports(row: Any, name: str, ranges: Ranges) -> bool:
    row["asks"] |= PORTS
    if len(ranges) != 1:
        return False
    low, high = ranges[0]
    row[name], row[f"{name}s"] = low, high - low
    return True


def _put_address(address: Any, ranges: Ranges) -> bool:
    found = ternary(ranges, 128)
    if not found:
        return False
    for name, value in zip(("", "_mask"), found, strict=True):
        address[f"high{name}"], address[f"low{name}"] = value >> 64, value & _HALF
    return True
