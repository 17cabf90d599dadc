r"""CEF:0, the ArcSight Common Event Format: a header of seven fields, then ``key=value`` pairs.

In the header ``\`` and ``|`` are escaped; in values ``\``, ``=`` and line breaks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.alert import Alert, Severity, program_of
from ebpfsentinel.model.packets import PROTOCOLS
from ebpfsentinel.sinks.formats.origin import VENDOR

if TYPE_CHECKING:
    from ebpfsentinel.sinks.formats.origin import Origin

_SEVERITY = {Severity.LOW: 3, Severity.MEDIUM: 5, Severity.HIGH: 8, Severity.CRITICAL: 10}
_MOST = 1023
"""Characters of a value, as the dictionary of CEF allows for ``msg`` and the custom strings."""


def write(alert: Alert, origin: Origin) -> bytes:
    """The alert as one line."""
    head = (
        "CEF:0",
        VENDOR,
        "agent",
        _head(origin.version),
        _head(alert.rule_id),
        _head(alert.message or alert.rule_id),
        str(_SEVERITY[alert.severity]),
    )
    pairs = [
        f"{key}={_value(value)}"
        for key, value in _extension(alert, origin).items()
        if value not in (None, "")
    ]
    return f"{'|'.join(head)}|{' '.join(pairs)}".encode("utf-8", "replace")


def _extension(alert: Alert, origin: Origin) -> dict[str, Any]:
    known = program_of(alert)
    six = alert.is_ipv6 or ":" in f"{alert.src_ip}{alert.dst_ip}"
    source, destination = ("c6a2", "c6a3") if six else ("src", "dst")
    return {
        "rt": alert.timestamp_ns // 10**6,
        "externalId": alert.id,
        "dvchost": origin.host,
        "cat": alert.component,
        "act": alert.action,
        "cnt": alert.count,
        source: alert.src_ip,
        **({"c6a2Label": "Source IPv6 Address"} if six and alert.src_ip else {}),
        "spt": alert.src_port or None,
        destination: alert.dst_ip,
        **({"c6a3Label": "Destination IPv6 Address"} if six and alert.dst_ip else {}),
        "dpt": alert.dst_port or None,
        "proto": PROTOCOLS.get(alert.protocol) if alert.protocol else None,
        "spid": alert.pid,
        "sproc": known.get("path"),
        "suid": known.get("uid"),
        **_labelled(1, "technique", alert.technique),
        **_labelled(2, "container", known.get("container_id")),
        "msg": alert.message,
    }


def _labelled(number: int, label: str, value: str | None) -> dict[str, str]:
    return {f"cs{number}Label": label, f"cs{number}": value} if value else {}


def _head(text: str) -> str:
    flat = " ".join(text.splitlines())
    return flat.replace("\\", "\\\\").replace("|", "\\|")[:512]


def _value(value: Any) -> str:
    text = str(value)[:_MOST].replace("\\", "\\\\").replace("=", "\\=")
    return "\\n".join(text.splitlines())
