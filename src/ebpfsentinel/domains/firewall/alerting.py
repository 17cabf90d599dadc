"""Packet events to alerts: equal events of one batch become one alert that counts them."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import PacketAction, PacketEvents
from ebpfsentinel.model.alert import Alert, Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

IPV6, WOULD, PORTS = 0x01, 0x08, 0x40
"""Bits of ``packet_event.flags`` (``packet.h``)."""

MAX_ALERTS = 500
"""Alerts that one batch may make; a flood of forged sources is counted, not listed."""

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_SAME = ("src_addr", "dst_addr", "dst_port", "protocol", "action", "flags", "rule_id", "vlan_id")


def alerts_of(
    events: PacketEvents, name_of: Callable[[int], str], boot_offset_ns: int
) -> tuple[list[Alert], int]:
    """The alerts of a batch, and how many events went without one.

    ``boot_offset_ns`` added to a boot-clock time is wall time. Events are the same when all but
    their time, source port and CPU are.
    """
    if not len(events):
        return [], 0
    _, first, counts = np.unique(_keys(events), return_index=True, return_counts=True)
    order = np.argsort(first)[:MAX_ALERTS]
    alerts = [
        _alert(events.rows[first[i]], int(counts[i]), name_of, boot_offset_ns)
        for i in order.tolist()
    ]
    return alerts, len(events) - sum(alert.count for alert in alerts)


def _keys(events: PacketEvents) -> NDArray[Any]:
    columns = [events.rows[name].reshape(len(events), -1).view("u1") for name in _SAME]
    joined = np.ascontiguousarray(np.concatenate(columns, axis=1))
    return joined.view(f"V{joined.shape[1]}")[:, 0]


def address(words: NDArray[Any], ipv6: bool) -> str:
    """Four words in host order as text; an IPv4 address is the first."""
    if not ipv6:
        return str(ipaddress.IPv4Address(int(words[0])))
    return str(ipaddress.IPv6Address(words.astype(">u4").tobytes()))


def verdict(action: int, would: bool) -> str:
    """``deny`` or ``reject``, ``would_`` either, ``spared`` (the never-block floor) or ``log``."""
    if action == PacketAction.ACTION_LOG:
        return "log"
    if action == PacketAction.ACTION_SPARED:
        return "spared"
    name = "reject" if action == PacketAction.ACTION_REJECT else "deny"
    return f"would_{name}" if would else name


def _alert(row: Any, count: int, name_of: Callable[[int], str], boot_offset_ns: int) -> Alert:
    flags, rule_id = int(row["flags"]), name_of(int(row["rule_id"]))
    ipv6, ports = bool(flags & IPV6), bool(flags & PORTS)
    action = verdict(int(row["action"]), bool(flags & WOULD))
    src, dst = address(row["src_addr"], ipv6), address(row["dst_addr"], ipv6)
    number = int(row["protocol"])
    protocol = PROTOCOLS.get(number, f"protocol {number}")
    to = f"{dst} port {row['dst_port']}" if ports else dst
    return Alert(
        timestamp_ns=int(row["timestamp_ns"]) + boot_offset_ns,
        component="firewall",
        severity=Severity.LOW if action == "log" else Severity.MEDIUM,
        rule_id=rule_id,
        action=action,
        message=f"{action} {protocol} {src} -> {to} by {rule_id}",
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
