"""Where alerts come from, and what formats ask of an alert in one word."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfsentinel.model.alert import Alert

VENDOR = "eBPFsentinel"
PRODUCT = "ebpfsentinel-agent"
_BLOCKING = frozenset({"block", "deny", "drop", "reject", "kill", "quarantine", "throttle"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The agent that raised it."""

    host: str
    version: str


def when(timestamp_ns: int) -> str:
    """RFC 3339 in UTC, with microseconds."""
    found = dt.datetime.fromtimestamp(timestamp_ns // 10**9, dt.UTC)
    return f"{found:%Y-%m-%dT%H:%M:%S}.{timestamp_ns % 10**9 // 1000:06}Z"


def blocked(alert: Alert) -> bool:
    """Was something stopped?"""
    return alert.action in _BLOCKING


def filled(tree: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, all the way down."""
    found = {key: filled(each) if isinstance(each, dict) else each for key, each in tree.items()}
    return {key: each for key, each in found.items() if each not in (None, "", [], {})}
