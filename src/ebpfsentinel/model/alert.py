"""What operators are told: one alert model for every domain."""

from __future__ import annotations

import enum
import json
from typing import Any

import msgspec


class Severity(enum.StrEnum):
    """How bad it is, least first; ``ordinal`` is 0..3."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def ordinal(self) -> int:
        """0 (low) to 3 (critical)."""
        return list(Severity).index(self)

    @classmethod
    def of_risk(cls, risk_score: float) -> Severity:
        """The severity of a risk score in 0..1: critical from 0.9, high 0.7, medium 0.4."""
        steps = ((0.9, cls.CRITICAL), (0.7, cls.HIGH), (0.4, cls.MEDIUM))
        return next((severity for least, severity in steps if risk_score >= least), cls.LOW)


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict of a rule, with exactly the fields of the SentinelEdge specification."""

    label: str
    risk_score: float
    detection_method: str
    recommendation: str
    confidence: float


class Alert(msgspec.Struct, kw_only=True, omit_defaults=False):
    """One thing an operator should know.

    ``timestamp_ns`` is wall time (nanoseconds since the Unix epoch). ``id`` is
    ``<timestamp_ns>-<rule_id>-<sequence>`` and is set by :mod:`ebpfsentinel.alerts`; engines leave
    it empty. Addresses are four 32-bit words in host order (IPv4: the first word, rest zero).
    ``count`` is how many records of the batch this alert stands for. ``context`` is what one
    domain knows and another may want: ``{"process": {...}}``, ``{"interface": "eth0"}``.
    """

    timestamp_ns: int
    component: str
    severity: Severity
    rule_id: str
    action: str
    message: str
    id: str = ""
    src_addr: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    dst_addr: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    src_ip: str | None = None
    dst_ip: str | None = None
    src_port: int = 0
    dst_port: int = 0
    protocol: int = 0
    is_ipv6: bool = False
    false_positive: bool = False
    count: int = 1
    pid: int | None = None
    finding: Finding | None = None
    technique: str | None = None
    context: dict[str, Any] = msgspec.field(default_factory=dict)


def as_json(alert: Alert) -> bytes:
    """The alert as JSON; text that is not Unicode (a stray byte in a file name) gets ``?``."""
    try:
        return msgspec.json.encode(alert, enc_hook=str)
    except UnicodeEncodeError:
        tree = msgspec.to_builtins(alert, enc_hook=str)
        return json.dumps(tree, ensure_ascii=False).encode("utf-8", "replace")


def program_of(alert: Alert) -> dict[str, Any]:
    """What is known of the process behind the alert; empty where nothing is."""
    if alert.pid is None:
        return {}
    for known in alert.context.values():
        if isinstance(known, dict) and known.get("pid") == alert.pid and "start_ns" in known:
            return known
    return {}
