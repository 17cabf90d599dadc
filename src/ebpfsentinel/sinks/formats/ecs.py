"""Elastic Common Schema 8.11 (https://www.elastic.co/guide/en/ecs/8.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, program_of
from ebpfsentinel.model.packets import PROTOCOLS
from ebpfsentinel.sinks.formats.origin import PRODUCT, VENDOR, Origin, blocked, filled, when

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "8.11.0"
_SEVERITY = {Severity.LOW: 21, Severity.MEDIUM: 47, Severity.HIGH: 73, Severity.CRITICAL: 99}


def write(alert: Alert, origin: Origin) -> bytes:
    """The alert as one JSON object."""
    return msgspec.json.encode(filled(_document(alert, origin)), enc_hook=str)


def _document(alert: Alert, origin: Origin) -> dict[str, Any]:
    context = alert.context
    return {
        "@timestamp": when(alert.timestamp_ns),
        "ecs": {"version": VERSION},
        "message": alert.message,
        "event": _event(alert),
        "rule": {"id": alert.rule_id, "name": alert.rule_id, "category": alert.component},
        "source": _end(
            alert.src_ip, alert.src_port, context.get("src_geo"), context.get("src_name")
        ),
        "destination": _end(
            alert.dst_ip, alert.dst_port, context.get("dst_geo"), context.get("dst_name")
        ),
        "network": _network(alert),
        "process": _process(alert),
        "container": _container(alert),
        "orchestrator": _pod(alert),
        "host": {"hostname": origin.host, "name": origin.host},
        "observer": {
            "vendor": VENDOR,
            "product": PRODUCT,
            "type": "sensor",
            "version": origin.version,
            "hostname": origin.host,
        },
        "threat": {"framework": "MITRE ATT&CK", "technique": {"id": [alert.technique]}}
        if alert.technique
        else None,
        "ebpfsentinel": {
            "action": alert.action,
            "component": alert.component,
            "count": alert.count,
            "false_positive": alert.false_positive,
            "finding": msgspec.to_builtins(alert.finding),
            "context": context,
        },
    }


def _event(alert: Alert) -> dict[str, Any]:
    packets = bool(alert.src_ip or alert.dst_ip)
    risk = alert.finding.risk_score * 100 if alert.finding else None
    return {
        "kind": "alert",
        "category": ["network" if packets else "process"],
        "type": ["denied" if blocked(alert) else "info"],
        "id": alert.id,
        "action": alert.action,
        "severity": _SEVERITY[alert.severity],
        "risk_score": risk,
        "module": "ebpfsentinel",
        "dataset": f"ebpfsentinel.{alert.component}",
        "provider": alert.component,
        "reason": alert.message,
    }


def _end(
    address: str | None, port: int, place: Mapping[str, Any] | None, name: str | None
) -> dict[str, Any]:
    place = place or {}
    return {
        "ip": address,
        "address": name or address,
        "domain": name,
        "port": port or None,
        "geo": {
            "country_iso_code": place.get("country"),
            "country_name": place.get("country_name"),
            "city_name": place.get("city"),
        },
        "as": {
            "number": place.get("asn"),
            "organization": {"name": place.get("organization")},
        },
    }


def _network(alert: Alert) -> dict[str, Any] | None:
    if not (alert.src_ip or alert.dst_ip):
        return None
    return {
        "transport": PROTOCOLS.get(alert.protocol),
        "iana_number": str(alert.protocol),
        "type": "ipv6" if alert.is_ipv6 else "ipv4",
    }


def _process(alert: Alert) -> dict[str, Any]:
    known = program_of(alert)
    user = known.get("uid")
    parent: Mapping[str, Any] = next(iter(known.get("ancestors") or ()), {})
    return {
        "pid": alert.pid,
        "name": known.get("name"),
        "executable": known.get("path"),
        "command_line": known.get("args"),
        "args": known.get("argv"),
        "working_directory": known.get("cwd"),
        "user": {"id": None if user is None else str(user)},
        "parent": {
            "pid": parent.get("pid"),
            "name": parent.get("name"),
            "executable": parent.get("path"),
        },
    }


def _container(alert: Alert) -> dict[str, Any]:
    known = alert.context.get("container") or {}
    return {
        "id": program_of(alert).get("container_id"),
        "name": known.get("name"),
        "image": {"name": known.get("image")},
        "runtime": known.get("runtime"),
    }


def _pod(alert: Alert) -> dict[str, Any] | None:
    known = alert.context.get("container") or {}
    if not known.get("pod"):
        return None
    return {
        "type": "kubernetes",
        "namespace": known.get("namespace"),
        "resource": {"type": "pod", "name": known.get("pod")},
    }
