"""What a user may set of address translation."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ebpfsentinel.model.settings import Mode, Section, Spelling

MAX_RULES = 256
"""Of each direction."""
MAX_PREFIXES = 64
HAIRPIN = "hairpin"
"""The id of the rules that ``nat.hairpin`` makes."""


class NatType(Spelling):
    """What a rule makes of a flow."""

    SNAT = "snat"
    MASQUERADE = "masquerade"
    ONE_TO_ONE = "one_to_one"
    DNAT = "dnat"
    PORT_FORWARD = "port_forward"
    REDIRECT = "redirect"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """Other words for the same."""
        return {"masq": "masquerade", "1to1": "one_to_one", "portforward": "port_forward"}


SOURCE_TYPES = (NatType.SNAT, NatType.MASQUERADE, NatType.ONE_TO_ONE)
DESTINATION_TYPES = (NatType.DNAT, NatType.PORT_FORWARD, NatType.REDIRECT, NatType.ONE_TO_ONE)


class NatProtocol(Spelling):
    """The transport protocol of the flows that are translated."""

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
_Meta = msgspec.Meta


class NatRule(Section):
    """One rule. What is left out is any; the first one that matches, by priority, decides."""

    id: Annotated[str, _Meta(description="Letters, digits, '-' and '_'.")]
    type: Annotated[
        NatType,
        _Meta(description="snat, masquerade, one_to_one, dnat, port_forward or redirect."),
    ]
    priority: Annotated[
        Annotated[int, _Meta(ge=0, le=65535)], _Meta(description="Lower is asked first.")
    ] = 100
    src: Annotated[str | None, _Meta(description="Source address or CIDR.")] = None
    dst: Annotated[str | None, _Meta(description="Destination address or CIDR.")] = None
    dst_port: Annotated[
        Port | None, _Meta(description="80, '80-443' or {start: 80, end: 443}.")
    ] = None
    protocol: Annotated[NatProtocol, _Meta(description="tcp, udp, icmp, icmpv6 or any.")] = (
        NatProtocol.ANY
    )
    interface: Annotated[
        str | None,
        _Meta(description="Of snat and masquerade: it leaves by; of the others: it comes in on."),
    ] = None
    translated_addr: Annotated[
        str | None, _Meta(description="Of snat and dnat: the new address.")
    ] = None
    translated_port: Annotated[
        Port | None, _Meta(description="Of snat and dnat: the new port, or a range to choose from.")
    ] = None
    external: Annotated[
        str | None, _Meta(description="Of one_to_one: the address, or network, seen from outside.")
    ] = None
    internal: Annotated[
        str | None, _Meta(description="Of one_to_one: the address, or network, that it stands for.")
    ] = None
    port: Annotated[
        Annotated[int, _Meta(ge=1, le=65535)] | None,
        _Meta(description="Of redirect: the port of this host."),
    ] = None
    ext_port: Annotated[Port | None, _Meta(description="Of port_forward: a port or range.")] = None
    internal_addr: Annotated[str | None, _Meta(description="Of port_forward: who serves it.")] = (
        None
    )
    int_port: Annotated[
        Port | None,
        _Meta(
            description="Of port_forward: the port there, or as many as ext_port has. Unset: same."
        ),
    ] = None
    enabled: Annotated[bool, _Meta(description="A disabled rule is kept, not used.")] = True


class PrefixRule(Section):
    """An IPv6 prefix for another, without state (RFC 6296)."""

    id: Annotated[str, _Meta(description="Letters, digits, '-' and '_'.")]
    internal_prefix: Annotated[str, _Meta(description="Inside, such as fd01:203:405::/48.")]
    external_prefix: Annotated[str, _Meta(description="Outside, such as 2001:db8:1::/48.")]
    interface: Annotated[
        str | None, _Meta(description="The interface to the outside; unset: any.")
    ] = None
    enabled: Annotated[bool, _Meta(description="A disabled rule is kept, not used.")] = True


class Hairpin(Section):
    """Who inside reaches, by an outside address, another who is inside."""

    enabled: Annotated[bool, _Meta(description="Translate the source of such flows too.")] = False
    internal_subnet: Annotated[
        str | list[str] | None, _Meta(description="The network, or one of each address family.")
    ] = None
    hairpin_snat_ip: Annotated[
        str | list[str] | None,
        _Meta(description="The source that they get. Unset: the interface's address."),
    ] = None


RULE_COLUMNS = (
    ("ID", "id"),
    ("TYPE", "type"),
    ("PRIORITY", "priority"),
    ("SRC", "src"),
    ("DST", "dst"),
    ("PORT", "dst_port"),
    ("INTERFACE", "interface"),
    ("TO", "to"),
    ("TRANSLATIONS", "translations"),
    ("FAILED", "failed"),
)
"""Headings and fields of the table of rules."""

PREFIX_COLUMNS = (
    ("ID", "id"),
    ("INSIDE", "internal_prefix"),
    ("OUTSIDE", "external_prefix"),
    ("INTERFACE", "interface"),
    ("PACKETS", "packets"),
)
"""Headings and fields of the table of prefixes."""


class NatRuleView(msgspec.Struct, kw_only=True):
    """A rule as it is in force; ``to`` is what it translates to, ``failed`` flows got no port."""

    id: str
    type: str
    priority: int
    src: str | None
    dst: str | None
    dst_port: str | None
    protocol: str
    interface: str | None
    to: str
    enabled: bool
    origin: str
    translations: int
    failed: int
    would: int


class PrefixView(msgspec.Struct, kw_only=True):
    """A prefix as it is in force, with the packets it has translated."""

    id: str
    internal_prefix: str
    external_prefix: str
    interface: str | None
    enabled: bool
    origin: str
    packets: int


class NatSettings(Section):
    """The ``nat`` section."""

    enabled: Annotated[bool, _Meta(description="Translate at all.")] = False
    mode: Annotated[
        Mode,
        _Meta(description="block: translate; alert: report what would be translated, do nothing."),
    ] = Mode.BLOCK
    snat_rules: Annotated[
        list[NatRule],
        _Meta(description="snat, masquerade and one_to_one: who is seen under which address."),
    ] = msgspec.field(default_factory=list)
    dnat_rules: Annotated[
        list[NatRule],
        _Meta(description="dnat, port_forward, redirect, one_to_one: where what arrives goes."),
    ] = msgspec.field(default_factory=list)
    nptv6_rules: Annotated[
        list[PrefixRule], _Meta(description="IPv6 prefixes, translated without state.")
    ] = msgspec.field(default_factory=list)
    hairpin: Annotated[Hairpin, _Meta(description="From inside, back inside.")] = msgspec.field(
        default_factory=Hairpin
    )
