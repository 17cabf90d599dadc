"""What Slack, Teams and PagerDuty take: one alert a message."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.alert import Alert, Severity, program_of
from ebpfsentinel.model.destinations import Format
from ebpfsentinel.sinks.formats.origin import VENDOR, when

if TYPE_CHECKING:
    from ebpfsentinel.sinks.formats.origin import Origin

_COLOURS = {
    Severity.LOW: "#439fe0",
    Severity.MEDIUM: "#daa038",
    Severity.HIGH: "#d9534f",
    Severity.CRITICAL: "#8b0000",
}
_STYLES = {
    Severity.LOW: "accent",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "attention",
    Severity.CRITICAL: "attention",
}
_URGENCY = {
    Severity.LOW: "info",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "critical",
}
_SUMMARY = 1000
_KEY = 255


def subject(alert: Alert) -> str:
    """One line: also the subject of mails."""
    severity = alert.severity.value.capitalize()
    text = f"[{VENDOR}] {severity} alert: {alert.rule_id} ({alert.component})"
    return "".join(each if each.isprintable() else "?" for each in text)[:_SUMMARY]


def write(alert: Alert, form: Format, origin: Origin, routing_key: str = "") -> bytes:
    """The message as JSON."""
    if form is Format.SLACK:
        return msgspec.json.encode(_slack(alert, origin))
    if form is Format.TEAMS:
        return msgspec.json.encode(_teams(alert, origin))
    return msgspec.json.encode(_pagerduty(alert, origin, routing_key), enc_hook=str)


def _facts(alert: Alert, origin: Origin) -> dict[str, str]:
    known = program_of(alert)
    facts = {
        "Host": origin.host,
        "Action": alert.action,
        "Source": _end(alert.src_ip, alert.src_port),
        "Destination": _end(alert.dst_ip, alert.dst_port),
        "Executable": known.get("path"),
        "PID": alert.pid,
        "Technique": alert.technique,
        "Count": alert.count if alert.count > 1 else None,
        "Time": when(alert.timestamp_ns),
    }
    return {name: str(value)[:500] for name, value in facts.items() if value}


def _end(address: str | None, port: int) -> str | None:
    if not address or not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _slack(alert: Alert, origin: Origin) -> dict[str, Any]:
    fields = [
        {"title": name, "value": _plain(value), "short": True}
        for name, value in _facts(alert, origin).items()
    ]
    shown = {
        "color": _COLOURS[alert.severity],
        "text": _plain(alert.message[:_SUMMARY]),
        "fields": fields,
        "footer": f"{VENDOR} {_plain(alert.id)}",
        "ts": alert.timestamp_ns // 10**9,
    }
    return {"text": _plain(subject(alert)), "attachments": [shown]}


def _plain(text: str) -> str:
    """Slack's three characters, so that nobody is mentioned by what an attacker chose."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(alert: Alert, origin: Origin) -> dict[str, Any]:
    facts = [{"title": name, "value": value} for name, value in _facts(alert, origin).items()]
    heading = {
        "type": "TextBlock",
        "text": subject(alert),
        "weight": "bolder",
        "color": _STYLES[alert.severity],
        "wrap": True,
    }
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            heading,
            {"type": "TextBlock", "text": alert.message[:_SUMMARY] or "-", "wrap": True},
            {"type": "FactSet", "facts": facts},
        ],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def _pagerduty(alert: Alert, origin: Origin, routing_key: str) -> dict[str, Any]:
    """Events API v2; the same alert sent twice is one incident, by its key."""
    long = len(alert.id) > _KEY
    return {
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": hashlib.sha256(alert.id.encode()).hexdigest() if long else alert.id,
        "payload": {
            "summary": f"{subject(alert)}: {alert.message}"[:_SUMMARY],
            "source": origin.host,
            "severity": _URGENCY[alert.severity],
            "timestamp": when(alert.timestamp_ns),
            "component": alert.component,
            "class": alert.rule_id,
            "custom_details": msgspec.to_builtins(alert, enc_hook=str),
        },
    }
