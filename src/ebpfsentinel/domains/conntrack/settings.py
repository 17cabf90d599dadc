"""What a user may set of connection tracking: section ``conntrack``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from ebpfsentinel.model.settings import Section

MAX_FLOWS = 4_194_304
_LONGEST_S = 30 * 86_400
Seconds = Annotated[int, Meta(ge=1, le=_LONGEST_S)]
Unread = Annotated[
    int | None, Meta(description="Refused here: the section of DDoS defence has it.")
]
UNREAD = ("half_open_threshold", "rst_threshold", "fin_threshold", "ack_threshold")


class Timeouts(Section):
    """Seconds without a packet after which a flow is not there any more, by its state."""

    tcp_syn_sent: Annotated[Seconds, Meta(description="A SYN, and no answer.")] = 120
    tcp_syn_recv: Annotated[Seconds, Meta(description="SYN and SYN+ACK.")] = 60
    tcp_established: Annotated[Seconds, Meta(description="The handshake is done.")] = 432_000
    tcp_fin_wait: Annotated[Seconds, Meta(description="One end has sent FIN.")] = 120
    tcp_close_wait: Annotated[Seconds, Meta(description="That FIN is acknowledged.")] = 60
    tcp_last_ack: Annotated[Seconds, Meta(description="Both ends have sent FIN.")] = 30
    tcp_time_wait: Annotated[Seconds, Meta(description="Both are acknowledged.")] = 120
    tcp_close: Annotated[Seconds, Meta(description="One end has sent RST.")] = 10
    tcp_picked_up: Annotated[
        Seconds, Meta(description="Begun before tracking did, and heard from one end so far.")
    ] = 300
    udp: Annotated[Seconds, Meta(description="UDP, and nothing more than an answer to it.")] = 30
    udp_stream: Annotated[Seconds, Meta(description="UDP both ways for two seconds.")] = 120
    icmp: Annotated[Seconds, Meta(description="Echo requests and their answers.")] = 30
    other: Annotated[Seconds, Meta(description="All other protocols.")] = 600


class ConntrackSettings(Section):
    """Connection tracking."""

    enabled: Annotated[bool, Meta(description="Track connections.")] = False
    max_entries: Annotated[
        int,
        Meta(ge=8, le=MAX_FLOWS, description="Flows that there is room for, 230 bytes each."),
    ] = 262_144
    pickup: Annotated[
        bool,
        Meta(description="Take TCP connections up from their midst, as those from before."),
    ] = True
    window_checks: Annotated[
        bool,
        Meta(description="Segments outside of the window are invalid; RSTs count only within."),
    ] = False
    source_counts: Annotated[
        bool, Meta(description="Count flows, and half-open ones, by the source that opened them.")
    ] = True
    events: Annotated[
        bool, Meta(description="Emit events of flows also while nobody listens to them.")
    ] = False
    fast_path: Annotated[
        bool,
        Meta(
            description="Forward flows past the host's stack, while nobody else looks "
            "at what it forwards: no netfilter hook, no other TC program."
        ),
    ] = True
    timeouts: Annotated[Timeouts, Meta(description="When flows lapse.")] = field(
        default_factory=Timeouts
    )
    half_open_threshold: Unread = None
    rst_threshold: Unread = None
    fin_threshold: Unread = None
    ack_threshold: Unread = None

    def __post_init__(self) -> None:
        """Refuse thresholds by which nothing would be dropped."""
        for name in UNREAD:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} would do nothing here, where nothing is dropped. Write it into "
                    f"connection_tracking.{name} of the section of DDoS defence"
                )
