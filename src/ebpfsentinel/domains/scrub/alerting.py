"""Dropped packets as alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.scrub.events import PacketAction, ScReason, ScWay
from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.packets import WOULD, alert_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.domains.scrub.events import ScEvents
    from ebpfsentinel.model.alert import Alert

_RULE = {
    ScReason.SC_REASON_FRAGMENT: "fragments",
    ScReason.SC_REASON_TCP_FLAGS: "illegal-tcp-flags",
}
_WHY = {
    ScReason.SC_REASON_FRAGMENT: ": it is a fragment that the policy drops",
    ScReason.SC_REASON_TCP_FLAGS: ": no honest sender sets these TCP flags ({flags})",
}
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")
_SCAN = "T1595.001"


def flag_names(flags: int) -> str:
    """``SYN+FIN``, or ``none``."""
    named = [name for bit, name in enumerate(_FLAGS) if flags >> bit & 1]
    return "+".join(named) or "none"


def alerts_of(events: ScEvents, boot_offset_ns: int) -> Iterator[Alert]:
    """One alert for all dropped packets of a reason, with how many there were."""
    for reason in np.unique(events.reason).tolist():
        rows = events.rows[events.reason == reason]
        packet, why = rows["packet"][0], ScReason(reason)
        would = bool(int(packet["flags"]) & WOULD)
        spared = packet["action"] == PacketAction.ACTION_SPARED
        flags = flag_names(int(packet["tcp_flags"]))
        alert = alert_of(
            packet,
            boot_offset_ns,
            component="scrub",
            severity=Severity.LOW,
            rule_id=_RULE[why],
            action="spared" if spared else "would_drop" if would else "drop",
            count=len(rows) + int(rows["suppressed"].sum()),
            because=_WHY[why].format(flags=flags),
        )
        way = ScWay(int(rows["way"][0]))
        alert.context["direction"] = way.name.removeprefix("SC_").lower()
        if why is ScReason.SC_REASON_TCP_FLAGS:
            alert.technique = _SCAN
        yield alert
