"""Attacks and refused packets as alerts."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.ddos.attacks import Status, attack_id
from ebpfsentinel.domains.ddos.events import DdosReason, PacketAction
from ebpfsentinel.domains.ddos.settings import AttackType, Mitigation
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.packets import WOULD, alert_of, words
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.domains.ddos.attacks import Attack
    from ebpfsentinel.domains.ddos.events import DdosEvents

_SEVERITY = {
    AttackType.SYN_FLOOD: Severity.CRITICAL,
    AttackType.VOLUMETRIC: Severity.CRITICAL,
    AttackType.UDP_AMPLIFICATION: Severity.HIGH,
    AttackType.ACK_FLOOD: Severity.HIGH,
}
_TECHNIQUE = {
    AttackType.SYN_FLOOD: "T1499.001",
    AttackType.ACK_FLOOD: "T1499.001",
    AttackType.UDP_AMPLIFICATION: "T1498.002",
}
_DIRECT_FLOOD = "T1498.001"
_WHY = {
    DdosReason.DDOS_COOKIE: "more SYNs than may go up: answered with SYN cookies",
    DdosReason.DDOS_OVERSIZE: "the echo request carries too much",
    DdosReason.DDOS_LIMIT: "its source is over the guard's limit",
    DdosReason.DDOS_THROTTLE: "throttled: its source is not known, or over its share",
    DdosReason.DDOS_HALF_OPEN: "its source has too many connections that are half open",
    DdosReason.DDOS_BLOCK: "its source or prefix is blocked",
}


def attack_alert(attack: Attack, mode: Mode, now_ns: int) -> Alert:
    """What has become of an attack, with all there is to know of it."""
    kind = attack.policy.attack_type
    action = attack.policy.mitigation_action.value
    if mode is Mode.ALERT and attack.policy.mitigation_action is not Mitigation.ALERT:
        action = f"would_{action}"
    over = attack.status in (Status.MITIGATED, Status.EXPIRED)
    alert = Alert(
        timestamp_ns=now_ns,
        component="ddos",
        severity=Severity.LOW if over else _SEVERITY.get(kind, Severity.MEDIUM),
        rule_id=attack.policy.id,
        action=action,
        message=(
            f"{kind.value} {attack.id} is {attack.status.value}: "
            f"{attack.current_pps:,.0f} packets/s, peak {attack.peak_pps:,.0f}, "
            f"threshold {attack.policy.detection_threshold_pps:,}"
        ),
        technique=_TECHNIQUE.get(kind, _DIRECT_FLOOD),
        context={"attack": attack.body()},
    )
    _name(alert, attack)
    return alert


def _name(alert: Alert, attack: Attack) -> None:
    """The source and the target that stand for the attack: those with most packets."""
    if attack.sources:
        found = ipaddress.ip_address(attack.sources[0]["ip"])
        alert.src_ip, alert.src_addr = str(found), words(found)
        alert.is_ipv6 = found.version == 6
    if attack.targets:
        found = ipaddress.ip_address(attack.targets[0]["ip"])
        alert.dst_ip, alert.dst_addr = str(found), words(found)
        alert.dst_port = attack.targets[0]["port"] or 0


def event_alerts(events: DdosEvents, boot_offset_ns: int) -> Iterator[Alert]:
    """One alert for all refused packets of a type and reason, with how many there were."""
    kinds = events.rows["type"].astype(np.uint16) << 8 | events.rows["reason"]
    for kind in np.unique(kinds).tolist():
        rows = events.rows[kinds == kind]
        packet, reason = rows["packet"][0], DdosReason(kind & 0xFF)
        name = list(AttackType)[kind >> 8].value
        would = bool(int(packet["flags"]) & WOULD)
        spared = packet["action"] == PacketAction.ACTION_SPARED
        verb = "cookie" if reason is DdosReason.DDOS_COOKIE else "drop"
        attack = attack_id(int(packet["rule_id"])) if reason is DdosReason.DDOS_BLOCK else ""
        alert = alert_of(
            packet,
            boot_offset_ns,
            component="ddos",
            severity=Severity.MEDIUM,
            rule_id=attack or f"guard-{name}",
            action="spared" if spared else f"would_{verb}" if would else verb,
            count=len(rows) + int(rows["suppressed"].sum()),
            because=f": {_WHY[reason]}",
        )
        alert.technique = _TECHNIQUE.get(AttackType(name), _DIRECT_FLOOD)
        yield alert
