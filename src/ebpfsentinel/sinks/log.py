"""Logs: JSON lines, or text for eyes; and the sink that writes each alert as one such line.

Modules log with the standard library under their own names. The line shows the name below
``ebpfsentinel`` as ``target``; directives (``api=debug,kernel.ring=trace``) go by it too. Alerts
have the target ``alert`` and are written whatever the level is: they are the product, not chatter.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import structlog
from structlog.stdlib import ProcessorFormatter

from ebpfsentinel.model.alert import Alert, Severity

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    Fields = MutableMapping[str, Any]

ROOT = "ebpfsentinel"
TRACE = 5
START = "eBPFsentinel agent starting"
LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_SHOWN = {"WARNING": "WARN", "CRITICAL": "ERROR"}
_OF_SEVERITY = {
    Severity.LOW: logging.INFO,
    Severity.MEDIUM: logging.WARNING,
    Severity.HIGH: logging.ERROR,
    Severity.CRITICAL: logging.CRITICAL,
}
_ALERTS = f"{ROOT}.alert"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}

_configured: dict[str, int] = {}


def configure(
    level: str = "info",
    log_format: str = "json",
    log_filter: str = "",
    stream: TextIO | None = None,
) -> None:
    """Send every log record to ``stream`` (stderr), as ``json`` or ``text``.

    ``level`` is one of :data:`LEVELS`; ``log_filter`` is ``module=level``, comma separated. May be
    called again, after a reload.

    Raises:
        ValueError: a level is not known.
    """
    wanted = {ROOT: level, _ALERTS: "trace"} | _directives(log_filter)
    numbers = {name: _number(text) for name, text in wanted.items()}
    logging.addLevelName(TRACE, "TRACE")
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.setFormatter(_formatter(log_format, colours=target.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, numbers[ROOT]))
    for name in set(_configured) - set(numbers):
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, number in numbers.items():
        logging.getLogger(name).setLevel(number)
    _configured.clear()
    _configured.update(numbers)


def announce(version: str, config: str) -> None:
    """The first line of a run: version and path of the configuration."""
    fields = {"version": version, "config": config}
    logging.getLogger(f"{ROOT}.agent").info(START, extra=fields)


class LogSink:
    """Writes each alert as one log line."""

    name = "log"

    async def deliver(self, alerts: Sequence[Alert]) -> None:
        """Write the alerts, in order."""
        logger = logging.getLogger(_ALERTS)
        for alert in alerts:
            fields = {"alert": alert}
            logger.log(_OF_SEVERITY[alert.severity], "%s", alert.message, extra=fields)


def _directives(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, text.replace("::", ".").split(",")):
        module, equals, level = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} is not module=level")
        name = module.strip()
        ours = name == ROOT or name.startswith(f"{ROOT}.") or name in _OTHERS
        found[name if ours else f"{ROOT}.{name}"] = level
    return found


_OTHERS = frozenset({"asyncio", "uvicorn", "websockets", "watchfiles", "litestar", "httpx"})


def _number(level: str) -> int:
    try:
        return LEVELS[level.strip().lower()]
    except KeyError:
        raise ValueError(f"{level!r} is no level; write one of {', '.join(LEVELS)}") from None


def _formatter(log_format: str, *, colours: bool) -> logging.Formatter:
    before: list[Any] = [
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name,
    ]
    after = _text(colours=colours) if log_format == "text" else _json()
    remove = ProcessorFormatter.remove_processors_meta
    return ProcessorFormatter(foreign_pre_chain=before, processors=[remove, *after])


def _json() -> list[Any]:
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        _flat,
        structlog.processors.JSONRenderer(serializer=_encode),
    ]


def _text(*, colours: bool) -> list[Any]:
    return [
        _brief,
        _printable,
        structlog.dev.ConsoleRenderer(
            colors=colours,
            exception_formatter=structlog.dev.plain_traceback,
            pad_event_to=0,
        ),
    ]


def _name(_: Any, __: str, fields: Fields) -> Fields:
    record: logging.LogRecord = fields["_record"]
    fields["level"] = _SHOWN.get(record.levelname, record.levelname)
    fields["target"] = record.name.removeprefix(f"{ROOT}.")
    return fields


def _flat(_: Any, __: str, fields: Fields) -> Fields:
    """An alert's fields beside the line's own; what is taken already gets the prefix alert_."""
    alert = fields.pop("alert", None)
    if isinstance(alert, Alert):
        for name, value in msgspec.to_builtins(alert, enc_hook=str).items():
            if name != "message" and value is not None:
                fields[f"alert_{name}" if name in fields else name] = value
    return fields


def _encode(fields: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(fields, enc_hook=repr).decode()
    except UnicodeEncodeError:  # a path or an argument that is not UTF-8
        return json.dumps(fields, default=repr)


def _brief(_: Any, __: str, fields: Fields) -> Fields:
    """An alert as a reader wants it: what, by which rule, from where to where."""
    alert = fields.pop("alert", None)
    if isinstance(alert, Alert):
        fields["rule"] = alert.rule_id
        fields["action"] = alert.action
        if alert.src_ip or alert.dst_ip:
            fields["flow"] = _flow(alert)
        if alert.pid is not None:
            fields["pid"] = alert.pid
        if alert.count > 1:
            fields["count"] = alert.count
        about = f"{alert.severity.value} {alert.component}"
        fields["event"] = f"ALERT {about}: {fields['event']}"
    fields["level"] = str(fields["level"]).lower()
    target = fields.pop("target")
    fields["event"] = f"{target}: {fields['event']}" if alert is None else fields["event"]
    return fields


def _flow(alert: Alert) -> str:
    protocol = _PROTOCOLS.get(alert.protocol, str(alert.protocol))
    source = _end(alert.src_ip, alert.src_port)
    return f"{protocol} {source} > {_end(alert.dst_ip, alert.dst_port)}"


def _end(address: str | None, port: int) -> str:
    if not port:
        return address or "?"
    return f"[{address}]:{port}" if address and ":" in address else f"{address or '?'}:{port}"


def _printable(_: Any, __: str, fields: Fields) -> Fields:
    """No control characters: a log line may hold what an attacker chose, and ends on a terminal."""
    for name, value in fields.items():
        if isinstance(value, str) and name != "exception":
            fields[name] = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return fields
