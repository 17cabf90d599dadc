"""What a user may set of the firewall."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ebpfsentinel.model.settings import Mode, Section, Spelling

MAX_RULES = 16384
"""Rules per address family; one more is refused, never cut off."""


class RuleAction(Spelling):
    """What becomes of a packet that the rule matches.

    ``log`` reports it and lets it pass; ``reject`` denies it and tells the sender.
    """

    ALLOW = "allow"
    DENY = "deny"
    LOG = "log"
    REJECT = "reject"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The reference system's other spellings."""
        return {"pass": "allow", "drop": "deny", "block": "deny", "reset": "reject"}


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


class Fragment(Spelling):
    """Which packets of a fragmented datagram a rule wants (RFC 791, RFC 8200 4.5).

    Only ``first`` ones and whole packets have ports, ICMP types and TCP flags.
    """

    NONE = "none"
    FIRST = "first"
    LATER = "later"
    ANY = "any"


class State(Spelling):
    """What a packet is to the flows there are, as connection tracking knows them.

    ``established``: of a flow that was answered; ``related``: an ICMP error about one.
    """

    NEW = "new"
    ESTABLISHED = "established"
    RELATED = "related"
    INVALID = "invalid"


class Scope(Section):
    """A scope written as a mapping: one of both."""

    interface: str | None = None
    namespace: str | None = None


class Process(Section):
    """Which process is at this host's end of the packet's flow."""

    path: Annotated[str, msgspec.Meta(description="Its executable, as /usr/sbin/nginx.")]


Port = int | str | dict[str, int]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


class FirewallRule(Section):
    """One rule. What is left out matches anything; a rule without an address, both families."""

    id: Annotated[str, msgspec.Meta(description="Letters, digits, '-' and '_'.")]
    priority: Annotated[
        int, msgspec.Meta(ge=1, le=1_000_000, description="Lower comes first; ties by position.")
    ]
    action: Annotated[RuleAction, msgspec.Meta(description="allow, deny, log or reject.")]
    protocol: Annotated[Protocol, msgspec.Meta(description="tcp, udp, icmp, icmpv6 or any.")] = (
        Protocol.ANY
    )
    src_ip: Annotated[str | None, msgspec.Meta(description="Source address or CIDR.")] = None
    dst_ip: Annotated[str | None, msgspec.Meta(description="Destination address or CIDR.")] = None
    src_port: Annotated[
        Port | None, msgspec.Meta(description="80, '80-443' or {start: 80, end: 443}.")
    ] = None
    dst_port: Annotated[Port | None, msgspec.Meta(description="As src_port.")] = None
    src_alias: Annotated[
        str | None, msgspec.Meta(description="Group of source addresses, instead of src_ip.")
    ] = None
    dst_alias: Annotated[
        str | None, msgspec.Meta(description="Group of destination addresses.")
    ] = None
    src_port_alias: Annotated[
        str | None, msgspec.Meta(description="Group of source ports, instead of src_port.")
    ] = None
    dst_port_alias: Annotated[
        str | None, msgspec.Meta(description="Group of destination ports.")
    ] = None
    negate_source: Annotated[
        bool, msgspec.Meta(description="All sources but these, of the same address family.")
    ] = False
    negate_destination: Annotated[
        bool, msgspec.Meta(description="All destinations but these, of the same family.")
    ] = False
    icmp_type: Annotated[
        Byte | None, msgspec.Meta(description="With protocol icmp or icmpv6; 8 is a ping.")
    ] = None
    icmp_code: Annotated[Byte | None, msgspec.Meta(description="Together with icmp_type.")] = None
    flags: Annotated[
        str | None,
        msgspec.Meta(description="TCP flags set of those looked at: 'S/SA' is a SYN without ACK."),
    ] = None
    dscp_match: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=63)] | None,
        msgspec.Meta(description="Differentiated services code point; 46 is EF."),
    ] = None
    fragment: Annotated[
        Fragment | None,
        msgspec.Meta(description="none, first, later or any; nothing: fragmented or not."),
    ] = None
    state: Annotated[
        list[State],
        msgspec.Meta(description="Any of new, established, related and invalid; nothing: all."),
    ] = msgspec.field(default_factory=list)
    process: Annotated[
        Process | None,
        msgspec.Meta(description="{path: FILE}: of flows that this executable has here."),
    ] = None
    cgroup: Annotated[
        str | None,
        msgspec.Meta(description="Of processes in this control group, or below: /system.slice."),
    ] = None
    container: Annotated[
        str | None, msgspec.Meta(description="Of processes in the container with this id.")
    ] = None
    max_src_states: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None,
        msgspec.Meta(description="Of allow and log: flows that one source may have at a time."),
    ] = None
    max_src_rate: Annotated[
        str | None,
        msgspec.Meta(description="Flows that one source may begin, as 15/5s: 15 in 5 seconds."),
    ] = None
    vlan_id: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=4094)] | None,
        msgspec.Meta(description="Outermost VLAN (802.1Q, 802.1ad); 0 is untagged."),
    ] = None
    inner_vlan_id: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=4094)] | None,
        msgspec.Meta(description="VLAN of the second tag (QinQ); 0: there is none."),
    ] = None
    src_mac: Annotated[
        str | None, msgspec.Meta(description="Source MAC address, aa:bb:cc:dd:ee:ff.")
    ] = None
    dst_mac: Annotated[str | None, msgspec.Meta(description="Destination MAC address.")] = None
    scope: Annotated[
        str | Scope,
        msgspec.Meta(
            description="'global', the interface it holds on, or {namespace: NAME}: "
            "the interfaces that lead there."
        ),
    ] = "global"
    cpu: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=65_534)] | None,
        msgspec.Meta(description="Of allow and log: the CPU where the stack takes the packet."),
    ] = None
    mirror: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=15)] | None,
        msgspec.Meta(description="Interface by which a copy of the packet leaves."),
    ] = None
    schedule: Annotated[
        str | None, msgspec.Meta(description="Name of the schedule in which it holds.")
    ] = None
    ttl: Annotated[
        int | str | None,
        msgspec.Meta(
            description="Of a rule added while running: how long it holds, as 600 or 10m."
        ),
    ] = None
    expires_at: Annotated[
        str | None, msgspec.Meta(description="Holds until then: 2030-01-31T12:00:00Z.")
    ] = None
    enabled: Annotated[bool, msgspec.Meta(description="A disabled rule is kept, not used.")] = True


RULE_COLUMNS = (
    ("ID", "id"),
    ("PRI", "priority"),
    ("ACTION", "action"),
    ("PROTO", "protocol"),
    ("SRC IP", "src_ip"),
    ("DST IP", "dst_ip"),
    ("SRC PORT", "src_port"),
    ("DST PORT", "dst_port"),
    ("SCOPE", "scope"),
    ("ENABLED", "enabled"),
)
"""Headings and fields of the table of rules."""


class FirewallRuleView(msgspec.Struct, kw_only=True):
    """A rule as it is in force: ports as text, its origin, and how often it decided.

    ``over`` are the packets, of all, that it denied as more than it lets one source begin.

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
    src_alias: str | None
    dst_alias: str | None
    src_port_alias: str | None
    dst_port_alias: str | None
    negate_source: bool
    negate_destination: bool
    icmp_type: int | None
    icmp_code: int | None
    flags: str | None
    dscp_match: int | None
    fragment: str | None
    state: list[str]
    max_src_states: int | None
    max_src_rate: str | None
    process: Process | None
    cgroup: str | None
    container: str | None
    inner_vlan_id: int | None
    src_mac: str | None
    dst_mac: str | None
    cpu: int | None
    mirror: str | None
    schedule: str | None
    expires_at: str | None
    system: bool
    origin: str
    packets: int
    bytes: int
    over: int
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


class AliasType(Spelling):
    """What a group is made of, or comes from."""

    IP_SET = "ip_set"
    PORT_SET = "port_set"
    NESTED = "nested"
    FILE = "file"
    DYNAMIC_DNS = "dynamic_dns"


class Alias(Section):
    """A group of addresses or of ports that rules name instead of one."""

    type: Annotated[
        AliasType, msgspec.Meta(description="ip_set, port_set, nested, file or dynamic_dns.")
    ]
    values: Annotated[
        list[int | str],
        msgspec.Meta(description="CIDRs, ports and ranges, names of groups, or DNS names."),
    ] = msgspec.field(default_factory=list)
    path: Annotated[
        str, msgspec.Meta(description="Of a file: one CIDR a line, text behind # is a comment.")
    ] = ""


class Window(Section):
    """Days and a time of day, in the machine's local time."""

    days: Annotated[list[str], msgspec.Meta(description="mon to sun; nothing: every day.")] = (
        msgspec.field(default_factory=list)
    )
    time: Annotated[
        str, msgspec.Meta(description="HH:MM-HH:MM; an end before the beginning is next day.")
    ] = "00:00-24:00"


class Schedule(Section):
    """When rules hold."""

    entries: Annotated[list[Window], msgspec.Meta(description="It holds in any of them.")]


_LATER: dict[str, Any] = {"extra_json_schema": {"x-reserved": True}}
_MOVED: dict[str, Any] = {
    "x-reserved": True,
    "x-remedy": "move its keys to the section of that name, with enabled: true and a mode",
}


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
    keep_state: Annotated[
        bool,
        msgspec.Meta(
            description="default_policy is for what begins: packets of flows that are there, and "
            "errors about them, pass. It takes connection tracking."
        ),
    ] = True
    end_flows: Annotated[
        bool,
        msgspec.Meta(description="A new rule that denies also ends the flows that it covers."),
    ] = True
    rules: Annotated[
        list[FirewallRule], msgspec.Meta(description="Ranked rules; the first match decides.")
    ] = msgspec.field(default_factory=list)
    anti_lockout: Annotated[
        AntiLockout, msgspec.Meta(description="Ports that no rule can close.")
    ] = msgspec.field(default_factory=AntiLockout)
    sample_every: Annotated[
        int,
        msgspec.Meta(
            ge=0,
            le=65_536,
            description="Keep headers of one packet in so many, to try rules on; 0: of none.",
        ),
    ] = 1024
    fib: Annotated[
        bool, msgspec.Meta(description="Say in alerts where the routing tables lead the packet.")
    ] = False
    scrub: Annotated[
        dict[str, Any] | None,
        msgspec.Meta(description="A section of its own.", extra_json_schema=_MOVED),
    ] = None
    aliases: Annotated[
        dict[str, Alias], msgspec.Meta(description="Groups of addresses or ports, by name.")
    ] = msgspec.field(default_factory=dict)
    schedules: Annotated[
        dict[str, Schedule], msgspec.Meta(description="When rules hold, by name.")
    ] = msgspec.field(default_factory=dict)
