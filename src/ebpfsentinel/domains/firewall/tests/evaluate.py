"""``classify`` of ``firewall.bpf.c`` in Python, step by step, over a compiled ``fw_tables``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfsentinel.domains.firewall.tests.packets import Packet

BUCKETS, WORDS, ALL = 65536, 64, (1 << 64) - 1


def address_row(field, high: int, low: int) -> int:
    """The row of the interval that an address lies in."""
    origin, shift = int(field["origin"]), int(field["shift"])
    if high < origin:
        return int(field["row"][0])
    bucket = min((high - origin) >> shift, BUCKETS - 1)
    first = int(field["base"][bucket])
    count = int(field["base"][bucket + 1]) - first
    for _ in range(14):
        if not count:
            break
        half = (count + 1) >> 1
        middle = first + half
        if (int(field["high"][middle]), int(field["low"][middle])) <= (high, low):
            first, count = middle, count - half
        else:
            count = half - 1
    assert not count
    return int(field["row"][first])


def decided(tables, packet: Packet, slot: int = 0) -> int:
    """The number of the rule that decides, 0 for the default policy."""
    table, rows = tables[0], tables["rows"][0]
    halves = [
        (address, 0) if packet.family == 4 else (address >> 64, address & ALL)
        for address in (packet.src, packet.dst)
    ]
    sport, dport = packet.ports or (0, 0)
    no_port = table["no_port_row"]
    chosen = [
        address_row(table["src"], *halves[0]),
        address_row(table["dst"], *halves[1]),
        table["src_port_row"][sport] if packet.ports else no_port,
        table["dst_port_row"][dport] if packet.ports else no_port,
        table["protocol_row"][packet.protocol],
    ]
    if not table["any_vlan"]:
        chosen.append(table["vlan_row"][packet.vlan])
    if not table["any_interface"]:
        chosen.append(table["interface_row"][slot])
    summary = ALL
    for row in chosen:
        summary &= int(table["summary"][row])
    for word in range(WORDS):
        bits = ALL * (summary >> word & 1)
        for row in chosen:
            bits &= int(rows["words"][row, word])
        if bits:
            lowest = (bits & -bits).bit_length() - 1
            return int(table["rules"]["rule_id"][word * 64 + lowest])
    return 0
