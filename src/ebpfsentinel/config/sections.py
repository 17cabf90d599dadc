"""The core sections: what every agent has, whichever domains it carries.

Names and defaults follow the reference's configuration. A field whose schema says ``x-reserved`` is
accepted, so that a configuration written for the reference loads, but is not in force; setting it
gives a warning, with the remedy that ``x-remedy`` has. A field that says ``x-secret`` is shown as
``***`` and must not stand in a file that everybody may read.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.model.enriching import Container, GeoIp
from ebpfsentinel.model.kernel import OnExit, OnMissing, XdpMode
from ebpfsentinel.model.security import ApiRateLimit, Auth, Tls
from ebpfsentinel.model.settings import Section, Spelling

_RESERVED: dict[str, Any] = {"x-reserved": True}

Port = Annotated[int, Meta(ge=0, le=65535)]
Interface = Annotated[str, Meta(min_length=1, max_length=15, pattern=r"^[^/\s]+$")]


class LogLevel(Spelling):
    """How much is logged, least first."""

    ERROR = "error"
    WARN = "warn"
    INFO = "info"
    DEBUG = "debug"
    TRACE = "trace"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``warning`` is ``warn``."""
        return {"warning": "warn"}


class LogFormat(Spelling):
    """``json``: one object a line. ``text``: for eyes."""

    JSON = "json"
    TEXT = "text"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``pretty`` is ``text``."""
        return {"pretty": "text"}


class BpfToken(Section):
    """Loading through a BPF token."""

    bpffs_path: Annotated[str, Meta(description="The delegated bpffs.")] = (
        "/sys/fs/bpf/ebpfsentinel"
    )


class NeverBlock(Section):
    """The floor under all rules: packets that nothing here may drop."""

    enabled: Annotated[bool, Meta(description="Spare them.")] = True
    addresses: Annotated[
        list[str],
        Meta(max_length=1024, description="Networks (CIDR) whose packets are never dropped."),
    ] = field(default_factory=list)
    ports: Annotated[
        Annotated[list[Annotated[int, Meta(ge=1, le=65535)]], Meta(max_length=64)] | None,
        Meta(
            description="TCP ports that are always reached. Unset: the API's, at its address.",
        ),
    ] = None
    sessions: Annotated[
        bool, Meta(description="Spare TCP connections to sshd and the API that are established.")
    ] = True


class Canary(Section):
    """Harmless records and deeds that have to come back: see docs/health.md."""

    enabled: Annotated[bool, Meta(description="Send them.")] = True
    interval_secs: Annotated[
        int, Meta(ge=1, le=3600, description="Seconds between two on the same way.")
    ] = 30
    patience_secs: Annotated[
        int, Meta(ge=1, le=3600, description="So long one may take before its silence is alarmed.")
    ] = 20


class Tamper(Section):
    """What somebody else does to the agent: see docs/threat-model.md."""

    enabled: Annotated[bool, Meta(description="Look for it.")] = True
    interval_secs: Annotated[int, Meta(ge=1, le=3600, description="Seconds between two looks.")] = (
        10
    )
    mend: Annotated[
        bool,
        Meta(
            description="Put back programs, pins and rules that somebody else took away or changed."
        ),
    ] = True


class Agent(Section):
    """Where the agent works, listens, logs and keeps its state."""

    interfaces: Annotated[
        list[Interface],
        Meta(
            min_length=1,
            description="Interfaces to guard. The word auto means all that are up.",
            examples=[["auto"]],
        ),
    ]
    bind_address: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address that API, metrics and gRPC listen on. One that is not loopback "
            "needs auth.enabled, or allow_unauthenticated_api.",
        ),
    ] = "127.0.0.1"
    http_port: Annotated[Port, Meta(description="REST API; 0 takes a free port.")] = 8080
    grpc_enabled: Annotated[
        bool, Meta(description="Stream alerts over gRPC: see docs/grpc.md.")
    ] = True
    grpc_port: Annotated[Port, Meta(description="gRPC; 0 takes a free port.")] = 50051
    metrics_port: Annotated[
        Port, Meta(description="A second listener with /metrics alone; 0 takes a free port.")
    ] = 9090
    allow_unauthenticated_api: Annotated[
        bool, Meta(description="Let the API listen beyond loopback without auth.")
    ] = False
    log_level: Annotated[LogLevel, Meta(description="Least severe level that is logged.")] = (
        LogLevel.INFO
    )
    log_format: Annotated[
        LogFormat, Meta(description="json, or text; on a terminal text is the default.")
    ] = LogFormat.JSON
    log_filter: Annotated[
        str,
        Meta(description="Levels by module, such as api=debug,kernel=trace. RUST_LOG sets it."),
    ] = ""
    state_dir: Annotated[
        str,
        Meta(
            description="Folder of runtime rules, alerts and audit. Empty: the folder of "
            "audit.storage_path where that is set, else /var/lib/ebpfsentinel."
        ),
    ] = ""
    on_exit: Annotated[
        OnExit,
        Meta(description="When the agent ends: keep enforcement pinned in the kernel, or detach."),
    ] = OnExit.DETACH
    xdp_mode: Annotated[
        XdpMode, Meta(description="Where XDP runs; auto tries native, generic, then TC.")
    ] = XdpMode.AUTO
    on_missing: Annotated[
        OnMissing,
        Meta(
            description="A domain's programs do not load here, as after an upgrade of the kernel: "
            "degrade goes on without the domain, alarmed and not ready; fail does not start."
        ),
    ] = OnMissing.DEGRADE
    never_block: Annotated[
        NeverBlock, Meta(description="What no rule can shut out: see docs/owner-safety.md.")
    ] = field(default_factory=NeverBlock)
    privilege_separation: Annotated[
        bool,
        Meta(
            description="Run without privilege, as agent.user; a small keeper process holds the "
            "kernel: see docs/privilege-separation.md."
        ),
    ] = False
    user: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=32,
            description="Who the agent becomes under privilege_separation where root starts it, "
            "and who beside root may use the keeper: a name or a number.",
        ),
    ] = "ebpfsentinel"
    keeper_socket: Annotated[
        str, Meta(min_length=1, max_length=107, description="Where the keeper listens.")
    ] = "/run/ebpfsentinel/kernel.sock"
    canary: Annotated[
        Canary,
        Meta(description="Proof, again and again, that hooks, rings, engines and sinks work."),
    ] = field(default_factory=Canary)
    tamper: Annotated[
        Tamper, Meta(description="Whether what is the agent's is still as it left it.")
    ] = field(default_factory=Tamper)
    swagger_ui: Annotated[
        bool, Meta(description="Serve the API docs at /swagger-ui/; they need no network.")
    ] = True
    ebpf_program_dir: Annotated[
        str,
        Meta(
            description="Folder of kernel objects instead of our own.", extra_json_schema=_RESERVED
        ),
    ] = ""
    attach_mode: Annotated[
        str, Meta(description="auto, tc or netkit.", extra_json_schema=_RESERVED)
    ] = "auto"
    event_workers: Annotated[
        int,
        Meta(ge=1, description="Engines work on batches: one thread.", extra_json_schema=_RESERVED),
    ] = 4
    grpc_reflection: Annotated[
        bool, Meta(description="Let gRPC clients such as grpcurl ask what there is.")
    ] = False
    bpf_token: Annotated[BpfToken, Meta(description="BPF token.", extra_json_schema=_RESERVED)] = (
        field(default_factory=BpfToken)
    )
    api_rate_limit: Annotated[
        ApiRateLimit, Meta(description="How often one identity may call the API.")
    ] = field(default_factory=ApiRateLimit)
    tls: Annotated[Tls, Meta(description="As the section tls; set one of both.")] = field(
        default_factory=Tls
    )


class Audit(Section):
    """Who changed what, and for how long that is kept."""

    enabled: Annotated[bool, Meta(description="Keep an audit trail.")] = True
    retention_days: Annotated[
        int, Meta(ge=1, le=36500, description="Older entries are deleted.")
    ] = 90
    buffer_size: Annotated[
        int, Meta(ge=1, le=10_000_000, description="Most entries that are kept.")
    ] = 100_000
    storage_path: Annotated[
        str, Meta(description="A file whose folder is the state folder; the name is not used.")
    ] = ""


class CoreSettings(Section):
    """The sections that do not belong to a domain."""

    agent: Annotated[Agent, Meta(description="The agent itself. Only interfaces is required.")]
    alerting: Annotated[Alerting, Meta(description="From finding to alert.")] = field(
        default_factory=Alerting
    )
    geoip: Annotated[GeoIp, Meta(description="Countries and systems of addresses.")] = field(
        default_factory=GeoIp
    )
    container: Annotated[Container, Meta(description="Names of containers and pods.")] = field(
        default_factory=Container
    )
    audit: Annotated[Audit, Meta(description="The audit trail.")] = field(default_factory=Audit)
    auth: Annotated[Auth, Meta(description="Who may call, and what they may do.")] = field(
        default_factory=Auth
    )
    tls: Annotated[Tls, Meta(description="TLS of the API, metrics and gRPC.")] = field(
        default_factory=Tls
    )

    @property
    def effective_tls(self) -> Tls:
        """The section that counts: ``tls``, or ``agent.tls`` where that is the one in use."""
        return self.tls if self.tls.enabled else self.agent.tls


RESERVED_SECTIONS = (
    "aliases",
    "auto_capture",
    "auto_response",
    "dlp",
    "enterprise",
    "ids",
    "interface_groups",
    "ips",
    "l7",
    "loadbalancer",
    "management",
    "qos",
    "routing",
    "threatintel",
    "zones",
)
"""Sections of the reference that nothing here implements; a new folder takes its name off."""
