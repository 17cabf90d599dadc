"""One file for each kind of destination; imported where a route asks for the kind, not before."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ebpfsentinel.model.destinations import Kind

if TYPE_CHECKING:
    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.sinks.formats.origin import Origin
    from ebpfsentinel.sinks.sender import Sender

_MODULES = {
    Kind.EMAIL: "mail",
    Kind.WEBHOOK: "webhook",
    Kind.OTLP: "otlp",
    Kind.FILE: "rotated",
    Kind.SYSLOG: "rfc5424",
    Kind.SPLUNK: "collector",
    Kind.ELASTICSEARCH: "bulk",
}


def sender_of(route: Route, alerting: Alerting, origin: Origin) -> Sender:
    """The sender at the end of a route."""
    module = importlib.import_module(f"{__name__}.{_MODULES[route.destination]}")
    made: Sender = module.make(route, alerting, origin)
    return made
