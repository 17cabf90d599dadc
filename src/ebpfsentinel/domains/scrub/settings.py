"""What a user may set of scrubbing: section ``scrub``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from ebpfsentinel.model.settings import Mode, Section, SettingsError, Spelling, nearest


class Direction(Spelling):
    """Which packets are scrubbed: those that come in, those that leave, or both."""

    INGRESS = "ingress"
    EGRESS = "egress"
    BOTH = "both"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``in``, ``out``."""
        return {"in": "ingress", "out": "egress"}


class IllegalFlags(Spelling):
    """What becomes of a TCP segment whose flags contradict each other."""

    PASS = "pass"  # noqa: S105 (a verdict)
    DROP = "drop"
    CLEAR = "clear"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The words that rules have for it."""
        return {"allow": "pass", "deny": "drop", "block": "drop"}


class Fragments(Spelling):
    """Which fragments pass: all, those that are sane, or none."""

    PASS = "pass"  # noqa: S105 (a verdict)
    STRICT = "strict"
    DROP = "drop"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """The words that rules have for it."""
        return {"allow": "pass", "deny": "drop", "block": "drop"}


DSCP = (
    {f"cs{number}": 8 * number for number in range(8)}
    | {f"af{high}{low}": 8 * high + 2 * low for high in range(1, 5) for low in range(1, 4)}
    | {"ef": 46, "va": 44, "le": 1}
)
"""Names of code points (RFC 2474, RFC 2597, RFC 3246, RFC 5865, RFC 8622)."""

Lifetime = Annotated[int, Meta(ge=0, le=254)]


class ScrubSettings(Section):
    """The ``scrub`` section. Everything is off unless it is set."""

    enabled: Annotated[bool, Meta(description="Scrub packets at all.")] = False
    mode: Annotated[
        Mode, Meta(description="alert: count what would be changed or dropped; block: do it.")
    ] = Mode.ALERT
    direction: Annotated[Direction, Meta(description="ingress, egress or both.")] = Direction.BOTH
    interfaces: Annotated[
        list[str], Meta(description="Only there; empty: on all guarded ones.")
    ] = field(default_factory=list)
    min_ttl: Annotated[
        Lifetime, Meta(description="IPv4: a smaller TTL is raised to this; 0: off.")
    ] = 0
    min_hop_limit: Annotated[
        Lifetime, Meta(description="IPv6: a smaller hop limit is raised to this; 0: off.")
    ] = 0
    max_mss: Annotated[
        Annotated[int, Meta(ge=88, le=65495)] | Literal["auto"] | None,
        Meta(
            description="Lower the MSS of SYNs to this; auto: to what the interface's MTU carries."
        ),
    ] = None
    random_ip_id: Annotated[
        bool, Meta(description="IPv4: a random id for datagrams that may not be fragmented.")
    ] = False
    clear_df: Annotated[
        bool, Meta(description="IPv4: allow fragmentation. Ends path MTU discovery.")
    ] = False
    scrub_tcp_flags: Annotated[bool, Meta(description="Clear TCP's reserved bits.")] = False
    illegal_tcp_flags: Annotated[
        IllegalFlags,
        Meta(description="SYN+FIN, SYN+RST, FIN without ACK, none ...: pass, drop or clear."),
    ] = IllegalFlags.PASS
    strip_ecn: Annotated[
        bool, Meta(description="Take ECN out of SYNs, and ECT out of IP headers.")
    ] = False
    normalize_tos: Annotated[bool, Meta(description="Set DSCP to that of tos_value.")] = False
    tos_value: Annotated[
        int, Meta(ge=0, le=255, description="TOS or traffic class; its ECN bits must be 0.")
    ] = 0
    dscp: Annotated[
        Annotated[int, Meta(ge=0, le=63)] | str | None,
        Meta(description="Set DSCP to 0..63, or to a name: cs1, af21, ef ..."),
    ] = None
    strip_tcp_timestamps: Annotated[
        bool, Meta(description="Take timestamps out of SYNs, so that new flows use none.")
    ] = False
    drop_fragments: Annotated[bool, Meta(description="As fragments: drop.")] = False
    fragments: Annotated[
        Fragments,
        Meta(description="pass; strict: drop those that no honest sender makes; drop: all."),
    ] = Fragments.PASS

    @property
    def fragment_policy(self) -> Fragments:
        """Of ``fragments`` and ``drop_fragments``, the stricter."""
        return Fragments.DROP if self.drop_fragments else self.fragments


def tos_of(settings: ScrubSettings) -> int | None:
    """The byte that packets get, its ECN bits 0; None: they keep theirs.

    Raises:
        SettingsError: it says something of ECN, a name is not known, or both keys are set.
    """
    if settings.normalize_tos and settings.dscp is not None:
        problem = "normalize_tos sets DSCP as well"
        raise SettingsError("scrub.dscp", problem, "Leave one of them out.")
    if settings.dscp is not None:
        return _code_point(settings.dscp) << 2
    if not settings.normalize_tos:
        return None
    if settings.tos_value & 3:
        remedy = f"Write {settings.tos_value & 0xFC}; strip_ecn takes ECN out."
        raise SettingsError("scrub.tos_value", "its lower two bits are ECN's", remedy)
    return settings.tos_value


def _code_point(written: int | str) -> int:
    word = str(written).lower()
    if word.isascii() and word.isdigit() and int(word) < 64:
        return int(word)
    if word not in DSCP:
        remedy = nearest(word, DSCP, "Write 0 to 63, or one of")
        raise SettingsError("scrub.dscp", f"there is no code point {written!r}", remedy)
    return DSCP[word]
