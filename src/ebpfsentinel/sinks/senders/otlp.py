"""OpenTelemetry log records (OTLP 1.x), over HTTP with protobuf bodies or over gRPC."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from ebpfsentinel.model.alert import Severity, program_of
from ebpfsentinel.model.destinations import Protocol
from ebpfsentinel.sinks.formats import write
from ebpfsentinel.sinks.formats.origin import PRODUCT
from ebpfsentinel.sinks.posting import Post, tls_context
from ebpfsentinel.sinks.sender import Rejected, SendError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.model.destinations import Otlp
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_PATH = "/v1/logs"
_EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_SEVERITY = {
    Severity.LOW: SeverityNumber.SEVERITY_NUMBER_INFO,
    Severity.MEDIUM: SeverityNumber.SEVERITY_NUMBER_WARN,
    Severity.HIGH: SeverityNumber.SEVERITY_NUMBER_ERROR,
    Severity.CRITICAL: SeverityNumber.SEVERITY_NUMBER_FATAL,
}


def make(route: Route, alerting: Alerting, origin: Origin) -> OverHttp | OverGrpc:
    """The sender of a route."""
    if alerting.otlp is None:
        raise SendError("alerting.otlp is not set")
    kind = OverHttp if alerting.otlp.protocol is Protocol.HTTP else OverGrpc
    return kind(route, alerting.otlp, origin)


def request_of(batch: Sequence[Item], route: Route, origin: Origin) -> ExportLogsServiceRequest:
    """One resource, one scope, one record an alert."""
    request = ExportLogsServiceRequest()
    logs = request.resource_logs.add()
    resource = {
        "service.name": PRODUCT,
        "service.version": origin.version,
        "host.name": origin.host,
    }
    logs.resource.attributes.extend(_attributes(resource))
    scope = logs.scope_logs.add()
    scope.scope.name = "ebpfsentinel.alerts"
    scope.log_records.extend(_record(item, route, origin) for item in batch)
    return request


def _record(item: Item, route: Route, origin: Origin) -> LogRecord:
    alert = item.alert
    record = LogRecord(
        time_unix_nano=alert.timestamp_ns,
        observed_time_unix_nano=time.time_ns(),
        severity_number=_SEVERITY[alert.severity],
        severity_text=alert.severity.value.upper(),
        body=AnyValue(string_value=write(item, route.written, origin).decode()),
    )
    record.attributes.extend(_attributes(_about(alert)))
    return record


def _about(alert: Alert) -> dict[str, Any]:
    known = program_of(alert)
    return {
        "alert.id": alert.id,
        "alert.component": alert.component,
        "alert.rule_id": alert.rule_id,
        "alert.action": alert.action,
        "alert.message": alert.message,
        "mitre.technique.id": alert.technique,
        "source.address": alert.src_ip,
        "source.port": alert.src_port or None,
        "destination.address": alert.dst_ip,
        "destination.port": alert.dst_port or None,
        "process.pid": alert.pid,
        "process.executable.path": known.get("path"),
        "container.id": known.get("container_id"),
    }


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    return [
        KeyValue(
            key=key,
            value=AnyValue(int_value=value)
            if isinstance(value, int)
            else AnyValue(string_value=str(value)),
        )
        for key, value in values.items()
        if value not in (None, "")
    ]


def _check(answer: ExportLogsServiceResponse, place: str) -> None:
    """A collector may take a part; it does not say which, only how many it refused for good."""
    refused = answer.partial_success.rejected_log_records
    if refused:
        raise Rejected(f"{place} refused {refused} records", range(refused))


class OverHttp:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, settings: Otlp, origin: Origin) -> None:
        self._route, self._settings, self._origin = route, settings, origin
        url = settings.endpoint.rstrip("/")
        self._post = Post(url.removesuffix(_PATH), settings.ca_path or route.ca_path)
        self.place = self._post.place

    async def send(self, batch: Sequence[Item]) -> None:
        """One request."""
        body = request_of(batch, self._route, self._origin).SerializeToString()
        kind = "application/x-protobuf"
        answer = await self._post(body, kind, self._settings.headers, _PATH)
        try:
            found = ExportLogsServiceResponse.FromString(answer)
        except Exception:  # noqa: BLE001 -- whatever protobuf raises; some collectors answer JSON
            return
        _check(found, self.place)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()


class OverGrpc:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, settings: Otlp, origin: Origin) -> None:
        self._route, self._settings, self._origin = route, settings, origin
        found = urlsplit(settings.endpoint)
        self._host, self._port = found.hostname or "", found.port or 4317
        self._secure = found.scheme == "https"
        self.place = f"grpc://{self._host}:{self._port}"
        self._channel: Channel | None = None

    async def send(self, batch: Sequence[Item]) -> None:
        """One call."""
        request = request_of(batch, self._route, self._origin)
        channel = self._channel = self._channel or self._made()
        export: UnaryUnaryMethod[ExportLogsServiceRequest, ExportLogsServiceResponse] = (
            UnaryUnaryMethod(channel, _EXPORT, ExportLogsServiceRequest, ExportLogsServiceResponse)
        )
        timeout_s = self._settings.timeout_ms / 1000
        metadata = {name.lower(): value for name, value in self._settings.headers.items()}
        try:
            answer = await export(request, timeout=timeout_s, metadata=metadata)
        except GRPCError as error:
            text = f"{self.place}: {error.status.name}"
            if error.status is Status.INVALID_ARGUMENT:
                raise Rejected(text) from None
            raise SendError(text) from None
        except StreamTerminatedError:
            await self.aclose()
            raise SendError(f"{self.place}: the connection was closed") from None
        _check(answer, self.place)

    def _made(self) -> Channel:
        tls = tls_context(self._settings.ca_path or self._route.ca_path) if self._secure else None
        return Channel(self._host, self._port, ssl=tls)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
