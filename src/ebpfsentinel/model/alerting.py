"""What a user may set of alerts: section ``alerting``, read by the configuration and the sinks."""

from __future__ import annotations

import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from msgspec import Meta, field

from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.destinations import (
    CHAT,
    Elasticsearch,
    File,
    Format,
    Kind,
    Otlp,
    Smtp,
    Splunk,
    Syslog,
    Url,
)
from ebpfsentinel.model.settings import Section, SettingsError

_SECRET: dict[str, Any] = {"x-secret": True}
_MASKED: dict[str, Any] = {"x-mask": True}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_VALUE = re.compile(r"[\r\n\0]")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


class Route(Section, omit_defaults=True):
    """Which alerts go to which destination. Each route has a queue of its own."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9 ._-]{0,63}$",
            description="Its name in metrics, and of its folder below state_dir/spool.",
        ),
    ]
    destination: Annotated[Kind, Meta(description="What stands at its end.")]
    min_severity: Annotated[Severity, Meta(description="Least severity that is sent.")] = (
        Severity.LOW
    )
    event_types: Annotated[
        list[str], Meta(max_length=64, description="Components whose alerts are sent; empty: all.")
    ] = field(default_factory=list)
    format: Annotated[
        Format | None,
        Meta(
            description="How alerts are written. Unset: ocsf for syslog, ecs for elasticsearch, "
            "json for all others."
        ),
    ] = None
    batch: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(
            description="Most alerts in one request. Unset: 1 for webhook and email, else 500.",
        ),
    ] = None
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000, description="Patience with one try.")] = (
        10_000
    )
    spool_bytes: Annotated[
        int,
        Meta(
            ge=65_536,
            le=1 << 40,
            description="Most bytes on disk that wait to be sent; further alerts are dropped and "
            "counted (spool_full).",
        ),
    ] = 64 << 20
    canary: Annotated[
        bool | None,
        Meta(
            description="Send a low alert, rule watch.canary, each agent.canary.interval_secs, so "
            "that a destination that takes nothing is noticed before there is something to tell. "
            "Unset: for syslog, splunk, elasticsearch, otlp and file, which people do not read "
            "one by one; not for webhook and email."
        ),
    ] = None
    ca_path: Annotated[
        str, Meta(description="CA of its certificate, PEM; empty: the system's.")
    ] = ""
    webhook_url: Annotated[
        Url | None, Meta(description="Of a webhook.", extra_json_schema=_MASKED)
    ] = None
    webhook_headers: Annotated[
        dict[str, str],
        Meta(max_length=32, description="Headers of a webhook.", extra_json_schema=_SECRET),
    ] = field(default_factory=dict)
    webhook_secret: Annotated[
        str,
        Meta(
            description="Key of the signature (HMAC-SHA256) of a webhook; empty: unsigned.",
            extra_json_schema=_SECRET,
        ),
    ] = ""
    routing_key: Annotated[
        str, Meta(description="Integration key for pagerduty.", extra_json_schema=_SECRET)
    ] = ""
    email_to: Annotated[
        list[str] | str | None,
        Meta(description="Receivers of mails.", examples=[["soc@example.org"]]),
    ] = None
    file: Annotated[
        File | None,
        Meta(
            description="For destination file.",
            examples=[{"path": "/var/log/ebpfsentinel/alerts.json"}],
        ),
    ] = None
    syslog: Annotated[
        Syslog | None,
        Meta(
            description="For destination syslog.",
            examples=[{"host": "siem.example.org", "transport": "tls"}],
        ),
    ] = None
    splunk: Annotated[
        Splunk | None,
        Meta(
            description="For destination splunk.",
            examples=[{"url": "https://splunk.example.org:8088", "token": "..."}],
        ),
    ] = None
    elasticsearch: Annotated[
        Elasticsearch | None,
        Meta(
            description="For destination elasticsearch, or opensearch.",
            examples=[{"url": "https://search.example.org:9200", "api_key": "..."}],
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check what one key alone cannot say.

        Raises:
            SettingsError: something is missing, or no header.
        """
        for key, kind in _NEEDED.items():
            if self.destination is kind and not getattr(self, key):
                remedy = f"Write {key}, as destination {kind.value} needs it."
                raise SettingsError(key, "is required", remedy)
        if self.webhook_url:
            check_url("webhook_url", self.webhook_url)
        if self.format in CHAT and self.destination is not Kind.WEBHOOK:
            remedy = "Take destination webhook, or format json, ocsf, ecs or cef."
            raise SettingsError("format", f"{self.format} is for webhooks", remedy)
        if self.format is Format.PAGERDUTY and not self.routing_key:
            raise SettingsError("routing_key", "is required", "Write the integration key.")
        for name, text in self.webhook_headers.items():
            _check_header(f"webhook_headers.{name[:64]!r}", name, text)
        for address in self.receivers:
            if not _ADDRESS.fullmatch(address):
                problem = f"{address!r} is no mail address"
                raise SettingsError("email_to", problem, "Write one such as soc@example.org.")
        self._check_blocks()

    def _check_blocks(self) -> None:
        if self.file and not self.file.path.startswith("/"):
            raise SettingsError("file.path", "is not absolute", "Begin it with '/'.")
        for key, block in (("splunk", self.splunk), ("elasticsearch", self.elasticsearch)):
            if block:
                check_url(f"{key}.url", block.url)
        if self.splunk and _NOT_IN_A_VALUE.search(self.splunk.token):
            raise SettingsError("splunk.token", "has a line break", "Write it in one line.")

    @property
    def receivers(self) -> list[str]:
        """Of mails."""
        return [self.email_to] if isinstance(self.email_to, str) else self.email_to or []

    @property
    def written(self) -> Format:
        """The format that holds."""
        usual = {Kind.SYSLOG: Format.OCSF, Kind.ELASTICSEARCH: Format.ECS}
        return self.format or usual.get(self.destination, Format.JSON)

    @property
    def sings(self) -> bool:
        """Does it get canaries? Not unasked where people would read them."""
        people = (Kind.LOG, Kind.EMAIL, Kind.WEBHOOK)
        asked = self.destination not in people if self.canary is None else self.canary
        return asked and self.destination is not Kind.LOG

    @property
    def most(self) -> int:
        """Most alerts in one request."""
        if self.destination is Kind.EMAIL or self.written in CHAT:
            return 1
        return self.batch or (1 if self.destination is Kind.WEBHOOK else 500)

    def takes(self, component: str, severity: Severity) -> bool:
        """Does an alert go this way?"""
        if severity.ordinal < self.min_severity.ordinal:
            return False
        return not self.event_types or component in self.event_types


_NEEDED = {
    "webhook_url": Kind.WEBHOOK,
    "receivers": Kind.EMAIL,
    "file": Kind.FILE,
    "syslog": Kind.SYSLOG,
    "splunk": Kind.SPLUNK,
    "elasticsearch": Kind.ELASTICSEARCH,
}


def check_url(place: str, text: str) -> None:
    """``http`` or ``https`` with a host, and no user, password or fragment.

    Raises:
        SettingsError: it is not.
    """
    try:
        found = urlsplit(text)
        fine = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        fine, found = False, urlsplit("")
    if not fine or re.search(r"[\s\\]", text):
        raise SettingsError(place, "is no URL", "Write one such as https://host/path.")
    if found.username is not None or found.password is not None:
        remedy = "Put credentials into headers or the keys for them."
        raise SettingsError(place, "has a user or password in it", remedy)


def _check_header(place: str, name: str, text: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise SettingsError(place, "is no header name", "Take letters, digits and '-'.")
    if name.lower() in ("content-type", "content-length", "host", "transfer-encoding"):
        raise SettingsError(place, "is set by the agent", "Leave it out.")
    if _NOT_IN_A_VALUE.search(text) or not text.isascii():
        raise SettingsError(place, "has a line break or more than ASCII", "Write one line.")


def _log() -> list[Route]:
    return [Route(name="default-log", destination=Kind.LOG)]


class Alerting(Section):
    """What becomes of an alert after its engine raised it."""

    enabled: Annotated[bool, Meta(description="Raise alerts at all.")] = True
    dedup_window_secs: Annotated[
        int, Meta(ge=0, le=86400, description="Equal alerts within this time are one; 0: off.")
    ] = 60
    throttle_window_secs: Annotated[
        int, Meta(ge=1, le=86400, description="Length of the throttle's window.")
    ] = 300
    throttle_max: Annotated[
        int,
        Meta(
            ge=0,
            description="Most alerts of one rule about one entity (source, else executable, else "
            "host) within the window; 0: no limit.",
        ),
    ] = 100
    techniques: Annotated[
        dict[str, Annotated[str, Meta(pattern=r"^T\d{4}(\.\d{3})?$")]],
        Meta(
            max_length=10_000,
            description="MITRE ATT&CK technique by rule id, for rules that have none of their own.",
        ),
    ] = field(default_factory=dict)
    allow_private: Annotated[
        bool, Meta(description="Let webhooks go to private and loopback addresses.")
    ] = False
    routes: Annotated[
        list[Route],
        Meta(max_length=100, description="Where alerts are sent; what no route takes is counted."),
    ] = field(default_factory=_log)
    smtp: Annotated[
        Smtp | None,
        Meta(
            description="Mail server of email routes: host, port, username, password, "
            "from_address, tls, ca_path.",
            examples=[{"host": "mail.example.org", "from_address": "agent@example.org"}],
        ),
    ] = None
    otlp: Annotated[
        Otlp | None,
        Meta(
            description="Collector of otlp routes: endpoint, protocol, timeout_ms, headers, "
            "ca_path.",
            examples=[{"endpoint": "http://collector.example.org:4317", "protocol": "grpc"}],
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check the routes together.

        Raises:
            SettingsError: two have one name, or their server is not set.
        """
        names = set()
        for index, route in enumerate(self.routes):
            place = f"routes[{index}]"
            if route.name.lower() in names:
                raise SettingsError(f"{place}.name", f"{route.name!r} is taken", "Take another.")
            names.add(route.name.lower())
            needed = {Kind.EMAIL: "smtp", Kind.OTLP: "otlp"}.get(route.destination)
            if needed and getattr(self, needed) is None:
                remedy = f"Write alerting.{needed}."
                problem = f"{route.destination.value} needs alerting.{needed}"
                raise SettingsError(f"{place}.destination", problem, remedy)
