"""What network domains say of packets in the same words: ``struct packet_event`` to alerts."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.alert import Alert, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.floor import Address


IPV6, WOULD, PORTS = 0x01, 0x08, 0x40
"""Bits of ``packet_event.flags`` (``packet.h``)."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


def address(words: NDArray[Any], ipv6: bool) -> str:
    """Four words in host order as text; an IPv4 address is the first."""
    if not ipv6:
        return str(ipaddress.IPv4Address(int(words[0])))
    return str(ipaddress.IPv6Address(words.astype(">u4").tobytes()))


def words(found: Address) -> list[int]:
    """An address as four words in host order, the most significant first; IPv4 is the first."""
    if found.version == 4:
        return [int(found), 0, 0, 0]
    return [int(found) >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]


def alike(rows: NDArray[Any], same: Sequence[str], most: int) -> Iterator[tuple[Any, int]]:
    """The first row of each kind and how many there are, in order; at most ``most`` kinds.

    Rows are alike when the fields ``same`` are equal.
    """
    if not len(rows):
        return
    columns = [rows[name].reshape(len(rows), -1).view("u1") for name in same]
    joined = np.ascontiguousarray(np.concatenate(columns, axis=1))
    keys = joined.view(f"V{joined.shape[1]}")[:, 0]
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    for kind in np.argsort(first)[:most].tolist():
        yield rows[first[kind]], int(counts[kind])


def alert_of(  # noqa: PLR0913 (an alert says much)
    row: Any,
    boot_offset_ns: int,
    *,
    component: str,
    severity: Severity,
    rule_id: str,
    action: str,
    count: int = 1,
    because: str = "",
) -> Alert:
    """The alert of one ``packet_event`` row; ``boot_offset_ns`` plus its time is wall time."""
    flags = int(row["flags"])
    ipv6, ports = bool(flags & IPV6), bool(flags & PORTS)
    src, dst = address(row["src_addr"], ipv6), address(row["dst_addr"], ipv6)
    number = int(row["protocol"])
    protocol = PROTOCOLS.get(number, f"protocol {number}")
    to = f"{dst} port {row['dst_port']}" if ports else dst
    return Alert(
        timestamp_ns=int(row["timestamp_ns"]) + boot_offset_ns,
        component=component,
        severity=severity,
        rule_id=rule_id,
        action=action,
        message=f"{action} {protocol} {src} -> {to} by {rule_id}{because}",
        src_addr=row["src_addr"].tolist(),
        dst_addr=row["dst_addr"].tolist(),
        src_ip=src,
        dst_ip=dst,
        src_port=int(row["src_port"]),
        dst_port=int(row["dst_port"]),
        protocol=number,
        is_ipv6=ipv6,
        count=count,
        context={
            "ifindex": int(row["ifindex"]),
            "vlan_id": int(row["vlan_id"]),
            "bytes": int(row["bytes"]),
        },
    )
