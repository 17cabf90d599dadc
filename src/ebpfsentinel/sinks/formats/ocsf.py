"""OCSF 1.3: Detection Finding, class 2004 of category 2 (https://schema.ocsf.io)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, program_of
from ebpfsentinel.sinks.formats.origin import PRODUCT, VENDOR, Origin, blocked, filled

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1.3.0"
CATEGORY_UID = 2
CLASS_UID = 2004
CREATE = 1
_SEVERITY = {Severity.LOW: 2, Severity.MEDIUM: 3, Severity.HIGH: 4, Severity.CRITICAL: 5}
_RULE = 1
_NEW = 1
_ALLOWED, _DENIED = 1, 2
_BLOCKED, _ALERTED = 2, 19
_ATTACK_VERSION = "15.1"


def write(alert: Alert, origin: Origin) -> bytes:
    """The alert as one JSON object."""
    return msgspec.json.encode(filled(_finding(alert, origin)), enc_hook=str)


def _finding(alert: Alert, origin: Origin) -> dict[str, Any]:
    time_ms = alert.timestamp_ns // 10**6
    stopped = blocked(alert)
    return {
        "activity_id": CREATE,
        "activity_name": "Create",
        "category_uid": CATEGORY_UID,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + CREATE,
        "type_name": "Detection Finding: Create",
        "severity_id": _SEVERITY[alert.severity],
        "severity": alert.severity.value.capitalize(),
        "status_id": _NEW,
        "status": "New",
        "time": time_ms,
        "count": alert.count,
        "message": alert.message,
        "action_id": _DENIED if stopped else _ALLOWED,
        "action": "Denied" if stopped else "Allowed",
        "disposition_id": _BLOCKED if stopped else _ALERTED,
        "disposition": "Blocked" if stopped else "Alert",
        "is_alert": True,
        "metadata": _metadata(alert, origin),
        "finding_info": _info(alert, time_ms),
        "device": {"hostname": origin.host, "type_id": 0, "type": "Unknown"},
        "evidences": [filled(_evidence(alert))],
        "risk_score": round(alert.finding.risk_score * 100) if alert.finding else None,
        "confidence_score": round(alert.finding.confidence * 100) if alert.finding else None,
        "unmapped": {
            "component": alert.component,
            "action": alert.action,
            "false_positive": alert.false_positive,
            "context": alert.context,
        },
    }


def _metadata(alert: Alert, origin: Origin) -> dict[str, Any]:
    return {
        "version": VERSION,
        "uid": alert.id,
        "profiles": ["host", "security_control"],
        "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": origin.version},
    }


def _info(alert: Alert, time_ms: int) -> dict[str, Any]:
    technique = {"uid": alert.technique, "name": alert.technique}
    return {
        "uid": alert.id,
        "title": alert.message or alert.rule_id,
        "types": [alert.component],
        "created_time": time_ms,
        "analytic": {
            "uid": alert.rule_id,
            "name": alert.rule_id,
            "type_id": _RULE,
            "type": "Rule",
            "category": alert.component,
        },
        "attacks": [{"version": _ATTACK_VERSION, "technique": technique}]
        if alert.technique
        else [],
    }


def _evidence(alert: Alert) -> dict[str, Any]:
    is_flow = bool(alert.src_ip or alert.dst_ip)
    return {
        "src_endpoint": _end(alert.src_ip, alert.src_port, alert.context.get("src_geo")),
        "dst_endpoint": _end(alert.dst_ip, alert.dst_port, alert.context.get("dst_geo")),
        "connection_info": {"protocol_num": alert.protocol, "direction_id": 0} if is_flow else None,
        "process": _process(alert),
        "data": {"rule": alert.rule_id, "action": alert.action},
    }


def _end(address: str | None, port: int, place: Mapping[str, Any] | None) -> dict[str, Any]:
    place = place or {}
    location = {
        "country": place.get("country"),
        "city": place.get("city"),
        "desc": place.get("country_name"),
    }
    system = {"number": place.get("asn"), "name": place.get("organization")}
    return {"ip": address, "port": port or None, "location": location, "autonomous_system": system}


def _process(alert: Alert) -> dict[str, Any] | None:
    known = program_of(alert)
    if not known:
        return {"pid": alert.pid} if alert.pid is not None else None
    container = alert.context.get("container") or {}
    return {
        "pid": known.get("pid"),
        "name": known.get("name"),
        "cmd_line": known.get("args"),
        "file": {"path": known.get("path"), "name": known.get("name"), "type_id": 1}
        if known.get("path")
        else None,
        "user": {"uid": str(known["uid"])} if known.get("uid") is not None else None,
        "container": {
            "uid": known.get("container_id"),
            "name": container.get("name"),
            "image": {"name": container.get("image"), "uid": container.get("image")},
            "pod_uuid": container.get("pod_uid"),
        }
        if known.get("container_id")
        else None,
    }
