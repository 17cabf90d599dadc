"""An alert as the protocol has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.api.grpc.alerts_pb2 import AlertEvent, Container
from ebpfsentinel.model import attack

if TYPE_CHECKING:
    from ebpfsentinel.model.alert import Alert

_NOT_KNOWN = -1
_OWN = frozenset(("missed", "context_json", "container"))


def event_of(alert: Alert, missed: int = 0) -> AlertEvent:
    """The event; ``missed`` alerts of this stream were lost just before it.

    Fields that :class:`~ebpfsentinel.model.alert.Alert` has not are taken from its context, where
    that has something of the same name.
    """
    event = AlertEvent(
        id=alert.id,
        timestamp_ns=max(0, alert.timestamp_ns),
        component=alert.component,
        severity=alert.severity.value,
        rule_id=_text(alert.rule_id),
        action=alert.action,
        src_addr=alert.src_addr,
        dst_addr=alert.dst_addr,
        src_port=alert.src_port,
        dst_port=alert.dst_port,
        protocol=alert.protocol,
        message=_text(alert.message),
        is_ipv6=alert.is_ipv6,
        false_positive=alert.false_positive,
        pid=alert.pid or 0,
        tgid=alert.pid or 0,
        missed=missed,
        context_json=_json(_told(alert)),
        src_domain_score=_NOT_KNOWN,
        dst_domain_score=_NOT_KNOWN,
        confidence=_NOT_KNOWN,
        direction=_NOT_KNOWN,
    )
    _add_context(event, alert.context)
    _add_technique(event, alert.technique)
    if alert.finding is not None:
        event.confidence = round(100 * alert.finding.confidence)
    return event


def _add_context(event: AlertEvent, context: dict[str, Any]) -> None:
    """What is known under the name of a field; what does not fit there is in the JSON still."""
    for field in AlertEvent.DESCRIPTOR.fields[_FIRST_OF_CONTEXT:]:
        value = context.get(field.name)
        if value is None or field.name in _OWN:
            continue
        try:
            setattr(event, field.name, _text(value) if isinstance(value, str) else value)
        except (TypeError, ValueError):
            continue
    _add_container(event.container, context)


_FIRST_OF_CONTEXT = AlertEvent.DESCRIPTOR.fields_by_name["src_domain"].index


def _add_container(container: Container, context: dict[str, Any]) -> None:
    """Whichever part of the context knows a container."""
    parts = [part for part in context.values() if isinstance(part, dict)]
    known = next(({"id": part["container_id"]} for part in parts if part.get("container_id")), {})
    for whole in (context, *parts):
        if isinstance(found := whole.get("container"), dict):
            known |= found
    for field in Container.DESCRIPTOR.fields:
        value = known.get(field.name)
        if isinstance(value, str):
            setattr(container, field.name, _text(value))


def _add_technique(event: AlertEvent, key: str | None) -> None:
    event.mitre_technique_id = key or ""
    if known := attack.technique(key):
        event.mitre_technique_name = known.name
        event.mitre_tactic = ", ".join(known.tactics)


def _told(alert: Alert) -> dict[str, Any]:
    """What the fields do not say."""
    kept: dict[str, Any] = {"count": alert.count, "finding": alert.finding}
    kept |= {"src_ip": alert.src_ip, "dst_ip": alert.dst_ip, **alert.context}
    return {name: value for name, value in kept.items() if value is not None}


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        return _json(_clean(msgspec.to_builtins(value, enc_hook=str)))


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {_text(key): _clean(found) for key, found in value.items()}
    if isinstance(value, list):
        return [_clean(found) for found in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """Protocol buffers take Unicode only: a stray byte of a file name gets ``?``."""
    return text.encode("utf-8", "replace").decode()
