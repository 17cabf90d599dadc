"""Events of the limiter as alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.ratelimit.events import PacketAction
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.packets import WOULD, alert_of

if TYPE_CHECKING:
    from ebpfsentinel.domains.ratelimit.checking import Limit

MAX_ALERTS = 500
"""Alerts that one batch may make; a flood of forged sources is counted, not listed."""
COOKIE = 10
"""``RL_ACTION_COOKIE`` of ``ratelimit.h``."""
TABLE_RULE = "bucket-table"
"""The rule id of alerts about the table of buckets."""


def over_alert(row: Any, boot_offset_ns: int, rule_id: str, count: int) -> Alert:
    """A bucket is over its limit; ``count`` packets of it were since it was told of last."""
    packet = row["packet"]
    action = verdict(int(packet["action"]), bool(int(packet["flags"]) & WOULD))
    alert = alert_of(
        packet,
        boot_offset_ns,
        component="ratelimit",
        severity=Severity.LOW if action == "log" else Severity.MEDIUM,
        rule_id=rule_id,
        action=action,
        count=count,
        because=f": over {row['rate']} packets/s, burst {row['burst']}",
    )
    alert.context["rate_pps"] = int(row["rate"])
    alert.context["suppressed"] = count - 1
    return alert


def rest_alert(limit: Limit | None, rule_id: str, count: int, now_ns: int, would: bool) -> Alert:
    """The packets of a limit that is quiet now which no event told of."""
    action = limit.rule.action.value if limit else "drop"
    if action == "drop" and would:
        action = "would_drop"
    return Alert(
        timestamp_ns=now_ns,
        component="ratelimit",
        severity=Severity.LOW,
        rule_id=rule_id,
        action=action,
        message=f"{action}: {count} more packets over {rule_id}, of sources told of before",
        count=count,
        context={"suppressed": count},
    )


def eviction_alert(evicted: int, now_ns: int) -> Alert:
    """Buckets in use began to be pushed out of the table."""
    return Alert(
        timestamp_ns=now_ns,
        component="ratelimit",
        severity=Severity.HIGH,
        rule_id=TABLE_RULE,
        action="evict",
        message=f"the table of buckets is crowded: {evicted} that were in use gave way to others. "
        "Sources without a rule of their own may get more than their rate",
        context={"evicted": evicted},
    )


def verdict(action: int, would: bool) -> str:
    """``drop`` or ``syn_cookie``, ``would_`` these (alert mode), ``spared`` (floor) or ``log``."""
    if action == PacketAction.ACTION_LOG:
        return "log"
    if action == PacketAction.ACTION_SPARED:
        return "spared"
    name = "syn_cookie" if action == COOKIE else "drop"
    return f"would_{name}" if would else name
