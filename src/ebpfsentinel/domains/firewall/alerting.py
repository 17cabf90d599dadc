"""Packet events to alerts: equal events of one batch become one alert that counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.events import PacketAction, PacketEvents
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.packets import WOULD, alert_of, alike

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_ALERTS = 100
"""Alerts that one batch may make; a flood of forged sources is counted, not listed."""

_OVER = ": more than it lets one source begin"
_SAME = ("src_addr", "dst_addr", "dst_port", "protocol", "action", "flags", "rule_id", "vlan_id")


def alerts_of(
    events: PacketEvents,
    name_of: Callable[[int], str],
    boot_offset_ns: int,
    limited: Collection[int] = (),
) -> tuple[list[Alert], int]:
    """The alerts of a batch, and how many events went without one.

    Rules that are ``limited`` (by number) deny only what is more than they let a source begin.
    ``boot_offset_ns`` added to a boot-clock time is wall time. Events are the same when all but
    their time, source port and CPU are.
    """
    alerts = []
    for row, count in alike(events.rows, _SAME, MAX_ALERTS):
        action = verdict(int(row["action"]), bool(int(row["flags"]) & WOULD))
        alerts.append(
            alert_of(
                row,
                boot_offset_ns,
                component="firewall",
                severity=Severity.LOW if action == "log" else Severity.MEDIUM,
                rule_id=name_of(int(row["rule_id"])),
                action=action,
                count=count,
                because=_OVER if int(row["rule_id"]) in limited and "deny" in action else "",
            )
        )
    return alerts, len(events) - sum(alert.count for alert in alerts)


def verdict(action: int, would: bool) -> str:
    """``deny`` or ``reject``, ``would_`` either, ``spared`` (the never-block floor) or ``log``."""
    if action == PacketAction.ACTION_LOG:
        return "log"
    if action == PacketAction.ACTION_SPARED:
        return "spared"
    name = "reject" if action == PacketAction.ACTION_REJECT else "deny"
    return f"would_{name}" if would else name
