"""What a user may set of the rate limiter."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ebpfsentinel.model.settings import Mode, Section, Spelling

MAX_RULES = 10240
MAX_SHARED = 16
"""Limits that several sources share: every packet is held against each of them."""
MAX_RATE = 10_000_000
MAX_SLIDING_RATE = 1_000_000
MAX_BURST = 10_000_000
DEFAULT_RULE = "default-limit"
"""The id of the limit that the section's ``default_`` keys make."""


class Algorithm(Spelling):
    """How it is counted whether a packet conforms."""

    TOKEN_BUCKET = "token_bucket"  # noqa: S105 (no password)
    LEAKY_BUCKET = "leaky_bucket"
    FIXED_WINDOW = "fixed_window"
    SLIDING_WINDOW = "sliding_window"
    SYN_COOKIE = "syn_cookie"


class LimitAction(Spelling):
    """What becomes of a packet over the limit."""

    DROP = "drop"
    PASS = "pass"  # noqa: S105 (a verdict)
    LOG = "log"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The reference system's other spellings."""
        return {"deny": "drop", "block": "drop", "allow": "pass"}


class LimitScope(Spelling):
    """Which packets are counted together."""

    PER_IP = "per_ip"
    PER_PREFIX = "per_prefix"
    PER_DESTINATION = "per_destination"
    PER_RULE = "per_rule"
    GLOBAL = "global"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """Other words for the same."""
        return {"per_source": "per_ip", "per_source_ip": "per_ip", "per_dest": "per_destination"}


class LimitProtocol(Spelling):
    """The transport protocol of the packets that are limited."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``*`` is any."""
        return {"*": "any"}


Port = int | str | dict[str, int]
Rate = Annotated[int, msgspec.Meta(ge=1, le=MAX_RATE, description="Packets per second.")]
Burst = Annotated[int, msgspec.Meta(ge=1, le=MAX_BURST)]


class RateLimitRule(Section):
    """One limit. What is left out is any; a limit without an address holds for both families."""

    id: Annotated[str, msgspec.Meta(description="Letters, digits, '-' and '_'.")]
    rate: Rate
    burst: Annotated[
        Burst | None,
        msgspec.Meta(description="Packets at once after a pause, of buckets. Unset: twice rate."),
    ] = None
    scope: Annotated[
        LimitScope,
        msgspec.Meta(
            description="per_ip, per_prefix (/24, /64), per_destination, per_rule or global."
        ),
    ] = LimitScope.PER_IP
    algorithm: Annotated[
        Algorithm,
        msgspec.Meta(
            description="token_bucket, leaky_bucket, fixed_window, sliding_window or syn_cookie."
        ),
    ] = Algorithm.TOKEN_BUCKET
    action: Annotated[
        LimitAction,
        msgspec.Meta(description="Over the limit: drop, pass (count only) or log (report, pass)."),
    ] = LimitAction.DROP
    src_ip: Annotated[str | None, msgspec.Meta(description="Source address or CIDR.")] = None
    dst_ip: Annotated[str | None, msgspec.Meta(description="Destination address or CIDR.")] = None
    dst_port: Annotated[
        Port | None, msgspec.Meta(description="80, '80-443' or {start: 80, end: 443}.")
    ] = None
    protocol: Annotated[
        LimitProtocol, msgspec.Meta(description="tcp, udp, icmp, icmpv6 or any.")
    ] = LimitProtocol.ANY
    vlan_id: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=4094)] | None,
        msgspec.Meta(description="Outermost VLAN (802.1Q, 802.1ad); 0 is untagged."),
    ] = None
    interfaces: Annotated[
        list[str], msgspec.Meta(description="Only what comes in on these; empty: on any.")
    ] = msgspec.field(default_factory=list)
    ttl: Annotated[
        int | str | None,
        msgspec.Meta(
            description="Of a limit added while running: how long it holds, as 600 or 10m."
        ),
    ] = None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="Holds until then: 2030-01-31T12:00:00Z.")
    ] = None
    enabled: Annotated[bool, msgspec.Meta(description="A disabled limit is kept, not used.")] = True


RULE_COLUMNS = (
    ("ID", "id"),
    ("RATE", "rate"),
    ("BURST", "burst"),
    ("SCOPE", "scope"),
    ("SRC IP", "src_ip"),
    ("ALGORITHM", "algorithm"),
    ("ACTION", "action"),
    ("PASSED", "passed"),
    ("OVER", "over"),
)
"""Headings and fields of the table of limits."""


class RateLimitRuleView(msgspec.Struct, kw_only=True):
    """A limit as it is in force, with its packets: ``over`` it, and of them ``dropped``.

    ``events`` were reported one by one; ``suppressed`` is how many packets they were said to
    stand for besides.
    """

    id: str
    rate: int
    burst: int
    scope: str
    algorithm: str
    action: str
    src_ip: str | None
    dst_ip: str | None
    dst_port: str | None
    protocol: str
    vlan_id: int | None
    interfaces: list[str]
    expires_at: str | None
    enabled: bool
    system: bool
    origin: str
    passed: int
    over: int
    dropped: int
    events: int
    suppressed: int


_LATER: dict[str, Any] = {"extra_json_schema": {"x-reserved": True}}


class RateLimitSettings(Section):
    """The ``ratelimit`` section."""

    enabled: Annotated[bool, msgspec.Meta(description="Limit packets at all.")] = False
    mode: Annotated[
        Mode,
        msgspec.Meta(description="alert: report what would be dropped; block: drop it."),
    ] = Mode.ALERT
    default_rate: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=MAX_RATE)],
        msgspec.Meta(description="Packets per second of a source that no rule names; 0: no limit."),
    ] = 1000
    default_burst: Annotated[
        Burst, msgspec.Meta(description="Packets of such a source at once after a pause.")
    ] = 2000
    default_algorithm: Annotated[
        Algorithm,
        msgspec.Meta(
            description="token_bucket, leaky_bucket, fixed_window, sliding_window or syn_cookie."
        ),
    ] = Algorithm.TOKEN_BUCKET
    rules: Annotated[
        list[RateLimitRule],
        msgspec.Meta(description="Limits: the most specific by source, and all shared ones."),
    ] = msgspec.field(default_factory=list)
    country_tiers: Annotated[
        list[dict[str, Any]] | None, msgspec.Meta(description="Not in this version.", **_LATER)
    ] = None
