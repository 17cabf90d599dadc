"""Events of the translator as alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.packets import IPV6, address, alert_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_ALERTS = 500
WOULD, EXHAUSTED = 20, 21
"""``NAT_ACTION_WOULD`` and ``NAT_ACTION_EXHAUSTED`` of ``nat.h``."""
HOST_RULE = "host-nat"
"""The rule id of alerts about the host's own translation."""
TABLE_RULE = "translation-table"
"""The rule id of alerts about the table of translations."""


def event_alert(row: Any, boot_offset_ns: int, rule_id: str) -> Alert:
    """A flow that would be translated, or one that got no port."""
    packet = row["packet"]
    to = address(row["to_addr"], bool(int(packet["flags"]) & IPV6))
    port = int(row["to_port"])
    exhausted = int(packet["action"]) == EXHAUSTED
    alert = alert_of(
        packet,
        boot_offset_ns,
        component="nat",
        severity=Severity.HIGH if exhausted else Severity.LOW,
        rule_id=rule_id,
        action="drop" if exhausted else "would_translate",
        because=f": no port of {to} is free" if exhausted else f" to {to} port {port}",
    )
    alert.context["translated_addr"], alert.context["flows"] = to, int(row["count"])
    return alert


def host_alert(found: Sequence[str], now_ns: int) -> Alert:
    """The host translates addresses by itself as well."""
    shown = "; ".join(found[:5])
    return Alert(
        timestamp_ns=now_ns,
        component="nat",
        severity=Severity.MEDIUM,
        rule_id=HOST_RULE,
        action="overlap",
        message=f"the host has NAT rules of its own, and both translate: {shown}. "
        "Keep each flow to one of them: see nat status",
        context={"host_rules": list(found)},
    )


def full_alert(dropped: int, now_ns: int) -> Alert:
    """Flows began to be dropped because the table is full of established ones."""
    return Alert(
        timestamp_ns=now_ns,
        component="nat",
        severity=Severity.HIGH,
        rule_id=TABLE_RULE,
        action="drop",
        message=f"the table of translations is full: {dropped} packets of new flows were dropped",
        context={"dropped": dropped},
    )
