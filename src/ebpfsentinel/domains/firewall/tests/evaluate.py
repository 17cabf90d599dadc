"""``fw_classify`` of ``firewall.bpf.c`` in Python, step by step, over compiled banks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.firewall.compile import NOTHING, TCP_FLAGS
from ebpfsentinel.domains.firewall.events import FwField
from ebpfsentinel.domains.firewall.record import (
    _TRAITS,
    DST_MAC,
    MORE,
    PORTS,
    PROTOCOL,
    SRC_MAC,
    TIME,
)

if TYPE_CHECKING:
    from ebpfsentinel.domains.firewall.tests.packets import Packet

ALL = (1 << 64) - 1


def find(bank, field: int, high: int, low: int = 0, *, wide: bool = False):
    """The interval that a key lies in."""
    index = bank["index"][field]
    origin = int(index["origin"])
    at = int(index["base"])
    if high < origin:
        first, count = int(index["first"]), int(bank["base"][at]) - int(index["first"])
    else:
        bucket = min((high - origin) >> int(index["shift"]), int(index["last"]))
        at += bucket
        first, count = int(bank["base"][at]), int(bank["base"][at + 1]) - int(bank["base"][at])
        if not wide and not index["shift"] and bucket < index["last"]:
            return bank["intervals"][first]
    for _ in range(16):
        if not count:
            break
        half = (count + 1) >> 1
        middle = first + half
        begins = int(bank["begins"][middle]), int(bank["low"][middle])
        if begins <= (high, low):
            first, count = middle, count - half
        else:
            count = half - 1
    assert not count
    return bank["intervals"][first]


def keys(packet: Packet, slot: int, now_s: int) -> dict[int, int]:
    """What the packet has of each field but the addresses."""
    sport, dport = packet.ports or (NOTHING, NOTHING)
    detail = NOTHING
    if packet.tcp_flags is not None:
        detail = TCP_FLAGS | packet.tcp_flags
    elif packet.icmp is not None:
        detail = packet.icmp[0] << 8 | packet.icmp[1]
    return {
        FwField.FW_DST_PORT: dport,
        FwField.FW_SRC_PORT: sport,
        FwField.FW_PROTOCOL: packet.protocol,
        FwField.FW_DETAIL: detail,
        FwField.FW_SERVICE: (0, 1, 3)[packet.fragment] << 6 | packet.dscp,
        FwField.FW_VLAN: packet.vlan,
        FwField.FW_INNER_VLAN: packet.inner_vlan,
        FwField.FW_INTERFACE: slot,
        FwField.FW_SRC_MAC: packet.src_mac,
        FwField.FW_DST_MAC: packet.dst_mac,
        FwField.FW_TIME: now_s,
    }


def decided(banks, packet: Packet, slot: int = 0, now_s: int = 0) -> int:
    """The number of the rule that decides, 0 for the default policy; ``banks`` in order."""
    return next(filter(None, (_classify(bank[0], packet, slot, now_s) for bank in banks)), 0)


def _chosen(bank, packet: Packet, slot: int, now_s: int):
    """The interval of each field that rules ask for."""
    halves = [
        (address, 0) if packet.family == 4 else (address >> 64, address & ALL)
        for address in (packet.src, packet.dst)
    ]
    wide = packet.family == 6
    chosen = [find(bank, field, *half, wide=wide) for field, half in enumerate(halves)]
    has = keys(packet, slot, now_s)
    common = [FwField.FW_DST_PORT, FwField.FW_SRC_PORT, FwField.FW_PROTOCOL]
    asked = common + bank["asked"][: bank["asked_count"]].tolist()
    return chosen + [find(bank, field, has[field]) for field in asked]


def _classify(bank, packet: Packet, slot: int, now_s: int) -> int:
    chosen = _chosen(bank, packet, slot, now_s)
    some = ALL
    for interval in chosen:
        some &= int(interval["some"])
    for word in range(64):
        bits = ALL * (some >> word & 1)
        for interval in chosen:
            bits &= int(bank["leaves"]["words"][interval["leaf"][word // 8], word % 8])
        if bits:
            lowest = (bits & -bits).bit_length() - 1
            return int(bank["rules"]["rule_id"][word * 64 + lowest])
    return 0


def decided_by_records(banks, packet: Packet, slot: int = 0, now_s: int = 0) -> int:
    """The same from the records, where these say all: rule after rule."""
    for bank in banks:
        rules = bank[0]["rules"]
        for number in np.flatnonzero(rules["rule_id"]).tolist():
            rule = Record(rules[number], bank[0]["rests"][number])
            if rule["asks"] & MORE or not _holds(rule, packet, slot, now_s):
                if rule["asks"] & MORE and _in_bitmaps(bank[0], number, packet, slot, now_s):
                    return int(rule["rule_id"])
                continue
            return int(rule["rule_id"])
    return 0


class Record:
    """A rule, and the rest of it."""

    def __init__(self, rule, rest):
        self.rule, self.rest = rule, rest

    def __getitem__(self, name):
        return (self.rule if name in self.rule.dtype.names else self.rest)[name]


def _in_bitmaps(bank, number: int, packet: Packet, slot: int, now_s: int) -> bool:
    return all(
        int(bank["leaves"]["words"][interval["leaf"][number // 512], number // 64 % 8])
        >> number % 64
        & 1
        for interval in _chosen(bank, packet, slot, now_s)
    )


def _holds(rule, packet: Packet, slot: int, now_s: int) -> bool:
    has = keys(packet, slot, now_s)
    traits = sum(has[field] << at for field, (at, _) in _TRAITS.items())
    asks = int(rule["asks"])
    ports = packet.ports or (-1, -1)
    return (
        not (traits ^ int(rule["traits"])) & int(rule["traits_mask"])
        and (not asks & PROTOCOL or rule["protocol"] == packet.protocol)
        and all(
            not (half ^ int(rule[name][end])) & int(rule[f"{name}_mask"][end])
            for end, address in enumerate((packet.src, packet.dst))
            for name, half in (("high", address >> 64), ("low", address & ALL))
        )
        and (
            not asks & PORTS
            or all(
                int(rule[name]) <= port <= int(rule[name]) + int(rule[f"{name}s"])
                for name, port in zip(("src_port", "dst_port"), ports, strict=True)
            )
        )
        and (not asks & SRC_MAC or packet.src_mac == rule["mac"][0])
        and (not asks & DST_MAC or packet.dst_mac == rule["mac"][1])
        and (not asks & TIME or now_s < rule["expires_s"])
    )
