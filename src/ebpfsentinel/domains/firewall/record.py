"""Rules by themselves, as ``struct fw_rule``: what a candidate is checked by, without tables.

All rules of a set at once, in columns: thousands come with a reload, and packets wait for none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_REST, FW_RULE, FwField

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.firewall.groups import Ranges

PROTOCOL, PORTS, TRAITS, SRC_MAC, DST_MAC, TIME, MORE, STATE = 1, 2, 4, 8, 16, 32, 64, 128
"""``FW_ASKS_...`` of ``firewall.h``."""

RECORD = np.dtype([("rule", FW_RULE), ("rest", FW_REST)])
SPAN = np.dtype(
    [("field", "u1"), ("open", "u1"), ("pad", "V6"), ("low", "<u8", 2), ("behind", "<u8", 2)]
)
"""One range of one condition: halves of its first value and of the one behind it, if there is."""

ADDRESSES = (FwField.FW_SRC_ADDR, FwField.FW_DST_ADDR)
_TRAITS: dict[int, tuple[int, int]] = {
    FwField.FW_PROTOCOL: (0, 8),
    FwField.FW_DETAIL: (8, 18),
    FwField.FW_SERVICE: (26, 8),
    FwField.FW_VLAN: (34, 12),
    FwField.FW_INNER_VLAN: (46, 12),
    FwField.FW_INTERFACE: (58, 6),
}
"""Place and width in bits, ``FW_..._AT``."""
_PORTS: dict[int, tuple[str, str]] = {
    FwField.FW_SRC_PORT: ("src_port", "src_ports"),
    FwField.FW_DST_PORT: ("dst_port", "dst_ports"),
}
_MACS: dict[int, tuple[int, int]] = {
    FwField.FW_SRC_MAC: (0, SRC_MAC),
    FwField.FW_DST_MAC: (1, DST_MAC),
}
_ENUMERABLE = 256
_HALF = (1 << 64) - 1
_ALL = np.uint64(_HALF)
_ONE = np.uint64(1)


class Asking(Protocol):
    """What a rule is packed from; see :class:`~.compile.RankedRule`."""

    asks: Mapping[int, Ranges]
    wide: bool
    cpu: int

    @property
    def order(self) -> int:
        """Its rank, mirror and action in one number."""


def pack(rules: Sequence[Asking]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Each rule as a :data:`RECORD`, its number left out, and the ranges of all as :data:`SPAN`.

    Third is where the ranges of each rule end. A record has ``FW_ASKS_MORE`` where it cannot say
    all that the rule asks.
    """
    owner, name, low, high = _rows(rules)
    wide = np.array([rule.wide for rule in rules], bool)[owner] & np.isin(name, ADDRESSES)
    ends = np.searchsorted(owner, np.arange(1, len(rules) + 1))
    return _records(rules, owner, name, low, high), _spans(name, low, high, wide), ends


def _rows(rules: Sequence[Asking]) -> tuple[NDArray[Any], ...]:
    """Every range: the rule it is of, its field, and the halves of its first and last value."""
    found = [
        (owner, name, low, high)
        for owner, rule in enumerate(rules)
        for name, ranges in rule.asks.items()
        for low, high in ranges
    ]
    owner, name, low, high = zip(*found, strict=True) if found else ((), (), (), ())
    return np.array(owner, np.int64), np.array(name, np.uint8), _halves(low), _halves(high)


def _halves(values: Sequence[int]) -> NDArray[np.uint64]:
    """The upper and the lower 64 bits, shape ``(n, 2)``."""
    try:
        lower = np.array(values, np.uint64)
    except OverflowError:
        upper = [value >> 64 for value in values]
        return np.array([upper, [value & _HALF for value in values]], np.uint64).T
    return np.stack([np.zeros_like(lower), lower], axis=1)


def _spans(
    name: NDArray[Any], low: NDArray[Any], high: NDArray[Any], wide: NDArray[Any]
) -> NDArray[Any]:
    """What has no more than 64 bits is all in the upper half."""
    spans = np.zeros(len(name), SPAN)
    behind = high + np.stack([high[:, 1] == _ALL, np.ones(len(high), bool)], axis=1)
    spans["field"] = name
    spans["low"] = np.where(wide[:, None], low, np.stack([low[:, 1], low[:, 0]], axis=1))
    spans["behind"] = np.where(wide[:, None], behind, np.stack([behind[:, 1], behind[:, 1] * 0], 1))
    spans["open"] = np.where(wide, ~behind.any(axis=1), behind[:, 1] == 0)
    return spans


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What many rules ask of one field: halves of the first range's ends, and of value and mask.

    ``said``: value and mask say it all. ``single``: there is but one range.
    """

    owner: NDArray[np.int64]
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    value: NDArray[np.uint64]
    mask: NDArray[np.uint64]
    said: NDArray[np.bool_]
    single: NDArray[np.bool_]


def _records(
    rules: Sequence[Asking],
    owner: NDArray[Any],
    name: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
) -> NDArray[Any]:
    records = np.zeros(len(rules), RECORD)
    records["rule"]["cpu"] = [rule.cpu for rule in rules]
    records["rule"]["order"] = [rule.order for rule in rules]
    records["rule"]["src_ports"] = records["rule"]["dst_ports"] = 0xFFFF
    records["rule"]["states"] = _states(len(rules), owner, name, low, high)
    first = np.flatnonzero(np.diff(owner * len(FwField) + name, prepend=-1))
    single = np.diff(first, append=len(owner)) == 1
    owner, name, low, high = owner[first], name[first], low[first], high[first]
    value, mask, said = _ternary(low, high)
    for nth in np.flatnonzero(~single).tolist():
        found = _ternary_of(rules[owner[nth]].asks[int(name[nth])])
        said[nth] = found is not None
        if found is not None:
            value[nth, 1], mask[nth, 1] = found
    for field in sorted(set(name.tolist())):
        mine = np.flatnonzero(name == field)
        asked = _Conditions(
            *(column[mine] for column in (owner, low, high, value, mask, said, single))
        )
        more = asked.owner[~_PUT[field](records, field, asked)]
        records["rule"]["asks"][more] |= MORE
    return records


def _states(
    count: int, owner: NDArray[Any], name: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> NDArray[np.uint8]:
    """A bit for each state that a rule takes; all, where it asks for none."""
    asked = name == FwField.FW_STATE
    bits = np.zeros(count, np.uint8)
    spans = (_ONE << high[asked, 1] + _ONE) - (_ONE << low[asked, 1])
    np.bitwise_or.at(bits, owner[asked], spans.astype(np.uint8))
    bits[bits == 0] = 0xFF
    return bits


def _ternary(low: NDArray[Any], high: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The value and mask that say the same as one range, and where there are such."""
    free = low ^ high
    ones = np.where(free[:, :1] != 0, free[:, 1:] == _ALL, free[:, 1:] & (free[:, 1:] + _ONE) == 0)
    said = ones[:, 0] & (free[:, 0] & (free[:, 0] + _ONE) == 0) & ~(low & free).any(axis=1)
    return low.copy(), ~free, said


def _ternary_of(ranges: Ranges) -> tuple[int, int] | None:
    """The same of several ranges of few values."""
    count = sum(high - low + 1 for low, high in ranges)
    if count > _ENUMERABLE:
        return None
    values = list(chain.from_iterable(range(low, high + 1) for low, high in ranges))
    free = 0
    for value in values:
        free |= value ^ values[0]
    return (values[0] & ~free, _HALF & ~free) if count == 1 << free.bit_count() else None


def _put_ports(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    port, ports = _PORTS[field]
    records["rule"]["asks"][asked.owner] |= PORTS
    records["rule"][port][asked.owner] = asked.low[:, 1]
    records["rule"][ports][asked.owner] = asked.high[:, 1] - asked.low[:, 1]
    return asked.single


def _put_mac(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    end, bit = _MACS[field]
    records["rule"]["asks"][asked.owner] |= bit
    records["rest"]["mac"][asked.owner, end] = asked.low[:, 1]
    return np.ones_like(asked.single)


def _put_time(records: NDArray[Any], _field: int, asked: _Conditions) -> NDArray[np.bool_]:
    records["rule"]["asks"][asked.owner] |= TIME
    records["rest"]["expires_s"][asked.owner] = asked.high[:, 1] + _ONE
    from_ever: NDArray[np.bool_] = asked.low[:, 1] == 0
    return asked.single & from_ever


def _put_state(records: NDArray[Any], _field: int, asked: _Conditions) -> NDArray[np.bool_]:
    records["rule"]["asks"][asked.owner] |= STATE
    return np.ones_like(asked.single)


def _put_owner(_records: NDArray[Any], _field: int, asked: _Conditions) -> NDArray[np.bool_]:
    return np.zeros_like(asked.single)


def _put_address(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    owner = asked.owner[asked.said]
    for word, part, name in ((0, "rest", "high"), (1, "rule", "low")):
        records[part][name][owner, field] = asked.value[asked.said, word]
        records[part][f"{name}_mask"][owner, field] = asked.mask[asked.said, word]
    return asked.said


def _put_trait(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    records["rule"]["asks"][asked.owner] |= TRAITS
    return _put_bits(records, field, asked)


def _put_protocol(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    records["rule"]["asks"][asked.owner] |= PROTOCOL
    records["rule"]["protocol"][asked.owner] = asked.low[:, 1]
    return _put_bits(records, field, asked)


def _put_bits(records: NDArray[Any], field: int, asked: _Conditions) -> NDArray[np.bool_]:
    at, bits = (np.uint64(number) for number in _TRAITS[field])
    owner, mask = asked.owner[asked.said], asked.mask[asked.said, 1] & (_ONE << bits) - _ONE
    records["rule"]["traits"][owner] |= asked.value[asked.said, 1] << at
    records["rest"]["traits_mask"][owner] |= mask << at
    return asked.said


_PUT: dict[int, Callable[[NDArray[Any], int, _Conditions], NDArray[np.bool_]]] = {
    **dict.fromkeys(_PORTS, _put_ports),
    **dict.fromkeys(_MACS, _put_mac),
    **dict.fromkeys(ADDRESSES, _put_address),
    **dict.fromkeys(_TRAITS, _put_trait),
    FwField.FW_PROTOCOL: _put_protocol,
    FwField.FW_TIME: _put_time,
    FwField.FW_STATE: _put_state,
    FwField.FW_OWNER: _put_owner,
}
"""What puts the conditions on a field into records; it says where a record holds them whole."""
