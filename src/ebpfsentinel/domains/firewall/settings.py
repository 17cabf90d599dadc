"""What a user may set of the firewall."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ebpfsentinel.model.settings import Mode, Section, Spelling

MAX_RULES = 4096
"""Rules per address family; one more is refused, never cut off."""


class RuleAction(Spelling):
    """What becomes of a packet that the rule matches; ``log`` reports it and lets it pass."""

    ALLOW = "allow"
    DENY = "deny"
    LOG = "log"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The reference system's other spellings."""
        return {"pass": "allow", "drop": "deny", "block": "deny"}


class Protocol(Spelling):
    """The transport protocol a rule wants (IANA protocol numbers 6, 17, 1, 58)."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``*`` is any."""
        return {"*": "any"}


class Policy(Spelling):
    """What becomes of a packet that no rule matches."""

    PASS = "pass"  # noqa: S105 (a verdict)
    DROP = "drop"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The words of rules."""
        return {"allow": "pass", "deny": "drop", "block": "drop"}


class Scope(Section):
    """A scope written as a mapping."""

    interface: str


Port = int | str | dict[str, int]


class FirewallRule(Section):
    """One rule. What is left out matches anything; a rule without an address, both families."""

    id: Annotated[str, msgspec.Meta(description="Letters, digits, '-' and '_'.")]
    priority: Annotated[
        int, msgspec.Meta(ge=1, le=1_000_000, description="Lower comes first; ties by position.")
    ]
    action: Annotated[RuleAction, msgspec.Meta(description="allow, deny or log.")]
    protocol: Annotated[Protocol, msgspec.Meta(description="tcp, udp, icmp, icmpv6 or any.")] = (
        Protocol.ANY
    )
    src_ip: Annotated[str | None, msgspec.Meta(description="Source address or CIDR.")] = None
    dst_ip: Annotated[str | None, msgspec.Meta(description="Destination address or CIDR.")] = None
    src_port: Annotated[
        Port | None, msgspec.Meta(description="80, '80-443' or {start: 80, end: 443}.")
    ] = None
    dst_port: Annotated[Port | None, msgspec.Meta(description="As src_port.")] = None
    vlan_id: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=4094)] | None,
        msgspec.Meta(description="Outermost 802.1Q VLAN; 0 is untagged."),
    ] = None
    scope: Annotated[
        str | Scope, msgspec.Meta(description="'global', or the interface it holds on.")
    ] = "global"
    enabled: Annotated[bool, msgspec.Meta(description="A disabled rule is kept, not used.")] = True


class FirewallRuleView(msgspec.Struct, kw_only=True):
    """A rule as it is in force: ports as text, its origin, and how often it decided.

    ``last_hit_ns`` is wall time, nanoseconds since the Unix epoch, at most a second late; None
    where none was seen since the rule is counted.
    """

    id: str
    priority: int
    action: str
    protocol: str
    enabled: bool
    scope: str
    src_ip: str | None
    dst_ip: str | None
    src_port: str | None
    dst_port: str | None
    vlan_id: int | None
    system: bool
    origin: str
    packets: int
    bytes: int
    last_hit_ns: int | None


class AntiLockout(Section):
    """Allow rules of priority 0 that nobody can delete, so that their owner stays in."""

    enabled: Annotated[bool, msgspec.Meta(description="Make the rules.")] = True
    interfaces: Annotated[
        list[str], msgspec.Meta(description="Only on these interfaces; empty: on all.")
    ] = msgspec.field(default_factory=list)
    ports: Annotated[
        list[Annotated[int, msgspec.Meta(ge=1, le=65535)]],
        msgspec.Meta(description="TCP ports that always stay open."),
    ] = msgspec.field(default_factory=lambda: [22, 8080, 50051])


_LATER: dict[str, Any] = {"extra_json_schema": {"x-reserved": True}}


class FirewallSettings(Section):
    """The ``firewall`` section."""

    enabled: Annotated[bool, msgspec.Meta(description="Judge packets at all.")] = True
    mode: Annotated[
        Mode,
        msgspec.Meta(description="alert: report what would be dropped; block: drop it."),
    ] = Mode.ALERT
    default_policy: Annotated[
        Policy, msgspec.Meta(description="For packets that no rule matches: pass or drop.")
    ] = Policy.PASS
    rules: Annotated[
        list[FirewallRule], msgspec.Meta(description="Ranked rules; the first match decides.")
    ] = msgspec.field(default_factory=list)
    anti_lockout: Annotated[
        AntiLockout, msgspec.Meta(description="Ports that no rule can close.")
    ] = msgspec.field(default_factory=AntiLockout)
    scrub: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Not in this version.", **_LATER)
    ] = None
    aliases: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Not in this version.", **_LATER)
    ] = None
    schedules: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Not in this version.", **_LATER)
    ] = None
