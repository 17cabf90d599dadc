"""What a user may set of each kind of destination; routes are in :mod:`.alerting`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ebpfsentinel.model.settings import Section, Spelling

_SECRET: dict[str, Any] = {"x-secret": True}
_MASKED: dict[str, Any] = {"x-mask": True}

Url = Annotated[str, Meta(max_length=2048)]


class Kind(Spelling):
    """What stands at the end of a route."""

    LOG = "log"
    EMAIL = "email"
    WEBHOOK = "webhook"
    OTLP = "otlp"
    FILE = "file"
    SYSLOG = "syslog"
    SPLUNK = "splunk"
    ELASTICSEARCH = "elasticsearch"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``opensearch`` speaks the same bulk interface; ``smtp`` is ``email``."""
        return {"opensearch": "elasticsearch", "smtp": "email", "hec": "splunk"}


class Format(Spelling):
    """How an alert is written."""

    JSON = "json"
    OCSF = "ocsf"
    ECS = "ecs"
    CEF = "cef"
    SLACK = "slack"
    TEAMS = "teams"
    PAGERDUTY = "pagerduty"


class Protocol(Spelling):
    """How a collector is spoken to."""

    GRPC = "grpc"
    HTTP = "http"


class Transport(Spelling):
    """What carries syslog."""

    TCP = "tcp"
    TLS = "tls"


CHAT = (Format.SLACK, Format.TEAMS, Format.PAGERDUTY)


class File(Section):
    """A file of alerts, one a line, rotated by size."""

    path: Annotated[str, Meta(min_length=1, description="Absolute path of the file.")]
    max_bytes: Annotated[int, Meta(ge=4096, description="Rotate before it grows larger.")] = (
        100 << 20
    )
    keep: Annotated[int, Meta(ge=1, le=1000, description="Rotated files that are kept.")] = 10
    compress: Annotated[bool, Meta(description="Compress rotated files (gzip).")] = True


class Syslog(Section):
    """A syslog receiver: RFC 5424 messages, octet counting (RFC 6587), TLS as in RFC 5425."""

    host: Annotated[str, Meta(min_length=1, description="Name or address of the receiver.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="Its port.")] = 6514
    transport: Annotated[Transport, Meta(description="What carries the messages.")] = Transport.TLS
    facility: Annotated[int, Meta(ge=0, le=23, description="Facility; 13 is log audit.")] = 13
    cert_path: Annotated[str, Meta(description="Client certificate, PEM; empty: none.")] = ""
    key_path: Annotated[
        str, Meta(description="Key of the client certificate, PEM.", extra_json_schema=_MASKED)
    ] = ""


class Splunk(Section):
    """A Splunk HTTP event collector."""

    url: Annotated[Url, Meta(description="Such as https://splunk:8088.")]
    token: Annotated[str, Meta(description="Token of the collector.", extra_json_schema=_SECRET)]
    index: Annotated[str, Meta(description="Index; empty: the token's own.")] = ""
    sourcetype: Annotated[str, Meta(description="Source type.")] = "ebpfsentinel:alert"


class Elasticsearch(Section):
    """The bulk interface of Elasticsearch or OpenSearch; an alert's id is its document's."""

    url: Annotated[Url, Meta(description="Such as https://search:9200.")]
    index: Annotated[
        str,
        Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$", description="Index, alias or data stream."),
    ] = "ebpfsentinel-alerts"
    username: Annotated[str, Meta(description="User of basic authentication.")] = ""
    password: Annotated[str, Meta(description="Its password.", extra_json_schema=_SECRET)] = ""
    api_key: Annotated[
        str, Meta(description="API key instead, encoded.", extra_json_schema=_SECRET)
    ] = ""


class Smtp(Section):
    """The mail server of all email routes."""

    host: Annotated[str, Meta(min_length=1, description="Name or address.")]
    from_address: Annotated[str, Meta(description="Sender of the mails.")]
    port: Annotated[int, Meta(ge=1, le=65535, description="465: TLS at once; else STARTTLS.")] = 587
    username: Annotated[str | None, Meta(description="Unset: no login.")] = None
    password: Annotated[
        str | None, Meta(description="Its password.", extra_json_schema=_SECRET)
    ] = None
    tls: Annotated[bool, Meta(description="Insist on TLS. Off: plain text.")] = True
    ca_path: Annotated[
        str, Meta(description="CA of its certificate, PEM; empty: the system's.")
    ] = ""


class Otlp(Section):
    """The OpenTelemetry collector of all otlp routes."""

    endpoint: Annotated[Url, Meta(description="Such as http://collector:4317, or :4318 for http.")]
    protocol: Annotated[Protocol, Meta(description="How it is spoken to.")] = Protocol.GRPC
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000, description="Patience for an answer.")] = (
        5000
    )
    headers: Annotated[
        dict[str, str], Meta(description="Headers of each call.", extra_json_schema=_SECRET)
    ] = field(default_factory=dict)
    ca_path: Annotated[
        str, Meta(description="CA of its certificate, PEM; empty: the system's.")
    ] = ""
