"""What a user may set of DDoS defence: section ``ddos``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ebpfsentinel.model.settings import Mode, Section, Spelling

MAX_POLICIES = 64
MAX_PORTS = 64
_RESERVED: dict[str, Any] = {"x-reserved": True}
Rate = Annotated[int, Meta(ge=1, le=100_000_000)]


class AttackType(Spelling):
    """What packets may be part of; ``volumetric`` is all of them."""

    SYN_FLOOD = "syn_flood"
    UDP_AMPLIFICATION = "udp_amplification"
    ICMP_FLOOD = "icmp_flood"
    RST_FLOOD = "rst_flood"
    FIN_FLOOD = "fin_flood"
    ACK_FLOOD = "ack_flood"
    VOLUMETRIC = "volumetric"

    @property
    def number(self) -> int:
        """``enum ddos_type`` of ``ddos.h``."""
        return list(AttackType).index(self)


STRAY = (AttackType.RST_FLOOD, AttackType.FIN_FLOOD, AttackType.ACK_FLOOD)
"""Types that are only those segments that belong to no flow of this host."""


class Mitigation(Spelling):
    """What is done about an attack: report it, throttle the unknown, or block its sources too."""

    ALERT = "alert"
    THROTTLE = "throttle"
    BLOCK = "block"

    @property
    def ordinal(self) -> int:
        """0 (alert) to 2 (block)."""
        return list(Mitigation).index(self)


class Per(Spelling):
    """Whose packets are counted together: all, or those of one source, prefix or target."""

    HOST = "host"
    SOURCE = "source"
    PREFIX = "prefix"
    DESTINATION = "destination"


class SynProtection(Section):
    """SYNs beyond a rate are answered with SYN cookies, at XDP."""

    enabled: Annotated[bool, Meta(description="Guard against SYN floods.")] = False
    threshold_mode: Annotated[
        bool, Meta(description="Only SYNs beyond threshold_pps; else all of them.")
    ] = True
    threshold_pps: Annotated[
        Rate, Meta(description="SYNs a second that go up to the stack, of all sources together.")
    ] = 10_000


class IcmpProtection(Section):
    """Echo requests (ICMP and ICMPv6)."""

    enabled: Annotated[bool, Meta(description="Guard against ICMP floods.")] = False
    max_pps: Annotated[Rate, Meta(description="Echo requests a second of one source.")] = 10
    max_payload_size: Annotated[
        int, Meta(ge=0, le=65_535, description="Bytes of an echo request's data; 0: any.")
    ] = 64


class AmplifierPort(Section):
    """A UDP source port from which amplified answers come."""

    port: Annotated[int, Meta(ge=1, le=65_535, description="53, 123, 1900, 11211 ...")]
    max_pps: Annotated[Rate, Meta(description="Datagrams a second of one source.")]
    protocol: Annotated[Literal["udp"], Meta(description="udp.")] = "udp"


class AmplificationProtection(Section):
    """UDP answers that nobody asked for; those to a connected socket always pass."""

    enabled: Annotated[bool, Meta(description="Guard against UDP amplification.")] = False
    ports: Annotated[
        list[AmplifierPort], Meta(max_length=MAX_PORTS, description="Source ports and limits.")
    ] = field(default_factory=list)


class ConnectionTracking(Section):
    """TCP segments of a source that belong to no flow of this host."""

    enabled: Annotated[bool, Meta(description="Guard against RST, FIN and ACK floods.")] = False
    half_open_threshold: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000_000,
            description="Half-open connections of a source, while connections are tracked.",
        ),
    ] = 100
    rst_threshold: Annotated[Rate, Meta(description="RSTs a second of one source.")] = 50
    fin_threshold: Annotated[Rate, Meta(description="FINs a second of one source.")] = 50
    ack_threshold: Annotated[Rate, Meta(description="ACKs a second of one source.")] = 200


class DdosPolicy(Section):
    """When there is an attack, and what is done about it."""

    id: Annotated[str, Meta(description="Letters, digits, '-' and '_'.")]
    attack_type: Annotated[
        AttackType,
        Meta(
            description="syn_flood, udp_amplification, icmp_flood, rst_flood, fin_flood, ack_flood "
            "or volumetric."
        ),
    ]
    detection_threshold_pps: Annotated[
        Rate, Meta(description="Packets a second of that type from which there is an attack.")
    ]
    per: Annotated[
        Per,
        Meta(
            description="host: of all packets together; source, prefix (/24, /64) or destination: "
            "of the one that has most."
        ),
    ] = Per.HOST
    mitigation_action: Annotated[
        Mitigation,
        Meta(
            description="alert; throttle: unknown sources share the threshold; block: throttle, "
            "and block the sources or prefixes that send most."
        ),
    ] = Mitigation.ALERT
    source_threshold_pps: Annotated[
        Rate | None,
        Meta(
            description="A source that sends so much is blocked. Default: a tenth of the "
            "threshold; all of it where that is per source or prefix."
        ),
    ] = None
    auto_block_duration_secs: Annotated[
        int, Meta(ge=1, le=604_800, description="How long a block holds, unless renewed.")
    ] = 300
    enabled: Annotated[bool, Meta(description="A disabled policy is kept, not used.")] = True
    country_thresholds: Annotated[
        dict[str, Rate] | None,
        Meta(description="Thresholds by country.", extra_json_schema=_RESERVED),
    ] = None

    @property
    def source_pps(self) -> int:
        """From which rate on a source is blocked."""
        part = 1 if self.per in (Per.SOURCE, Per.PREFIX) else 10
        return self.source_threshold_pps or max(self.detection_threshold_pps // part, 1)


class Detection(Section):
    """The clockwork of detection: all of it is time, none of it counts events."""

    time_constant_ms: Annotated[
        int,
        Meta(ge=50, le=60_000, description="Of the moving average (EWMA): 63 % of a step by then."),
    ] = 500
    confirm_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="Above the threshold so long: an attack.")
    ] = 200
    calm_secs: Annotated[
        int, Meta(ge=1, le=3600, description="Below the threshold so long: mitigated.")
    ] = 30
    forget_secs: Annotated[
        int, Meta(ge=1, le=86_400, description="Mitigated so long: expired, and in the history.")
    ] = 300


class Baseline(Section):
    """What is normal here, learned while it is: thresholds are proposed from it."""

    enabled: Annotated[bool, Meta(description="Learn rates while there is no attack.")] = True
    margin: Annotated[
        float, Meta(ge=1, le=100, description="Proposed threshold / highest normal second.")
    ] = 3.0


class DdosSettings(Section):
    """DDoS defence: guards in the kernel, detection by rates, mitigation."""

    enabled: Annotated[bool, Meta(description="Defend against floods.")] = False
    mode: Annotated[Mode, Meta(description="alert: report what would be done. block: do it.")] = (
        Mode.ALERT
    )
    syn_protection: SynProtection = field(default_factory=SynProtection)
    icmp_protection: IcmpProtection = field(default_factory=IcmpProtection)
    amplification_protection: AmplificationProtection = field(
        default_factory=AmplificationProtection
    )
    connection_tracking: ConnectionTracking = field(default_factory=ConnectionTracking)
    policies: Annotated[
        list[DdosPolicy],
        Meta(
            max_length=MAX_POLICIES,
            description="Attack types without a policy are watched by the product's own, "
            "which only alert.",
        ),
    ] = field(default_factory=list)
    detection: Detection = field(default_factory=Detection)
    baseline: Baseline = field(default_factory=Baseline)
    source_share_pps: Annotated[
        Rate, Meta(description="While throttled, a known source may send so much.")
    ] = 5_000
    known_secs: Annotated[
        int,
        Meta(ge=1, le=86_400, description="A source is known so long after its last handshake."),
    ] = 600
    sample_every: Annotated[
        int,
        Meta(
            ge=1,
            le=65_536,
            description="Without an attack, one packet in so many is put "
            "down to its source and target.",
        ),
    ] = 64


class DdosPolicyView(Struct, kw_only=True):
    """A policy as it is in force; ``origin`` is ``config``, ``runtime`` or ``system``."""

    id: str
    attack_type: str
    per: str
    detection_threshold_pps: int
    mitigation_action: str
    source_threshold_pps: int
    auto_block_duration_secs: int
    enabled: bool
    origin: str
    current_pps: float


POLICY_COLUMNS = (
    ("ID", "id"),
    ("TYPE", "attack_type"),
    ("PER", "per"),
    ("THRESHOLD PPS", "detection_threshold_pps"),
    ("ACTION", "mitigation_action"),
    ("SOURCE PPS", "source_threshold_pps"),
    ("BLOCK S", "auto_block_duration_secs"),
    ("ENABLED", "enabled"),
    ("NOW PPS", "current_pps"),
)
"""Headings and fields of the table of policies."""
