"""Records, keys and values of the scrub domain. Generated from BTF by `make gen`: do not edit."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

def _record(itemsize: int, fields: tuple[tuple[str, Any, int], ...]) -> np.dtype[Any]:
    names, formats, offsets = zip(*fields, strict=True)
    return np.dtype(
        {
            "names": list(names),
            "formats": list(formats),
            "offsets": list(offsets),
            "itemsize": itemsize,
        }
    )


PACKET_EVENT = _record(
    64,
    (
        ("timestamp_ns", "<u8", 0),
        ("src_addr", ("<u4", (4,)), 8),
        ("dst_addr", ("<u4", (4,)), 24),
        ("src_port", "<u2", 40),
        ("dst_port", "<u2", 42),
        ("protocol", "|u1", 44),
        ("event_type", "|u1", 45),
        ("action", "|u1", 46),
        ("flags", "|u1", 47),
        ("rule_id", "<u4", 48),
        ("vlan_id", "<u2", 52),
        ("cpu_id", "<u2", 54),
        ("version", "|u1", 56),
        ("tcp_flags", "|u1", 57),
        ("bytes", "<u2", 58),
        ("ifindex", "<u4", 60),
    ),
)

SC_EVENT = _record(
    72,
    (
        ("packet", PACKET_EVENT, 0),
        ("suppressed", "<u4", 64),
        ("reason", "|u1", 68),
        ("way", "|u1", 69),
        ("pad", ("|u1", (2,)), 70),
    ),
)

LEDGER = _record(
    32,
    (
        ("seen", "<u8", 0),
        ("ring_full", "<u8", 8),
        ("backpressure", "<u8", 16),
        ("discarded", "<u8", 24),
    ),
)

SC_OPTIONS = _record(
    136,
    (
        ("was", ("|u1", (40,)), 0),
        ("now", ("|u1", (80,)), 40),
        ("at", "<u4", 120),
        ("bytes", "<u4", 124),
        ("mss_at", "<u4", 128),
        ("timestamps_at", "<u4", 132),
    ),
)

PACKET = _record(
    136,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("dst_addr", ("<u4", (4,)), 16),
        ("src_port", "<u2", 32),
        ("dst_port", "<u2", 34),
        ("protocol", "|u1", 36),
        ("family", "|u1", 37),
        ("tcp_flags", "|u1", 38),
        ("tos", "|u1", 39),
        ("rule_id", "<u4", 40),
        ("action", "|u1", 44),
        ("limit_status", "|u1", 45),
        ("slot", "|u1", 46),
        ("mirror", "|u1", 47),
        ("cpu", "<u2", 48),
        ("inner_vlan_id", "<u2", 50),
        ("spared_slots", "<u4", 52),
        ("now_ns", "<u8", 56),
        ("ethertype", "<u2", 64),
        ("vlan_id", "<u2", 66),
        ("l3_offset", "<u2", 68),
        ("l4_offset", "<u2", 70),
        ("bytes", "<u4", 72),
        ("ifindex", "<u4", 76),
        ("icmp", "<u2", 80),
        ("flags", "|u1", 82),
        ("interface", "|u1", 83),
        ("by_xdp", "|u1", 84),
        ("dry", "|u1", 85),
        ("spared", "|u1", 86),
        ("flow_state", "|u1", 87),
        ("until_sample", "<u4", 88),
        ("until_event", "<u4", 92),
        ("behind_until", "<u8", 96),
        ("clock_ns", "<u8", 104),
        ("clock_jiffies", "<u8", 112),
        ("clock_left", "<u8", 120),
        ("fragment_id", "<u4", 128),
        ("flow_there", "|u1", 132),
        ("tcp_high", "|u1", 133),
        ("learns", "|u1", 134),
        ("pad", "|u1", 135),
    ),
)

INTERFACE = _record(
    2,
    (
        ("slot", "|u1", 0),
        ("xdp", "|u1", 1),
    ),
)

INTERFACES = _record(
    131072,
    (
        ("by_ifindex", (INTERFACE, (65536,)), 0),
    ),
)

INTERFACE_COUNT = _record(
    48,
    (
        ("passed", "<u8", 0),
        ("dropped", "<u8", 8),
        ("would_drop", "<u8", 16),
        ("bytes", "<u8", 24),
        ("spared", "<u8", 32),
        ("egress_dropped", "<u8", 40),
    ),
)

SC_COUNT = _record(
    104,
    (
        ("ttl_fixed", "<u8", 0),
        ("hop_fixed", "<u8", 8),
        ("tos_normalized", "<u8", 16),
        ("ecn_stripped", "<u8", 24),
        ("df_cleared", "<u8", 32),
        ("ipid_randomized", "<u8", 40),
        ("tcp_flags_scrubbed", "<u8", 48),
        ("tcp_flags_dropped", "<u8", 56),
        ("mss_clamped", "<u8", 64),
        ("tcp_ts_stripped", "<u8", 72),
        ("fragments_dropped", "<u8", 80),
        ("spared", "<u8", 88),
        ("errors", "<u8", 96),
    ),
)

SC_TOLD = _record(
    24,
    (
        ("event_ns", ("<u8", (2,)), 0),
        ("suppressed", ("<u4", (2,)), 16),
    ),
)

SC_HEAD = _record(
    88,
    (
        ("interfaces", "<u8", 0),
        ("changes", ("<u4", (2,)), 8),
        ("max_mss", "<u2", 16),
        ("min_ttl", "|u1", 18),
        ("min_hop_limit", "|u1", 19),
        ("tos", "|u1", 20),
        ("mode", "|u1", 21),
        ("pad", ("|u1", (2,)), 22),
        ("tcp_flags", ("|u1", (64,)), 24),
    ),
)

RECORDS = {
    "sc_events": SC_EVENT,
}


class ScMode(enum.IntEnum):
    """C ``enum sc_mode``."""

    SC_MODE_ALERT = 0
    SC_MODE_BLOCK = 1


class ScWay(enum.IntEnum):
    """C ``enum sc_way``."""

    SC_INGRESS = 0
    SC_EGRESS = 1
    SC_WAYS = 2


class ScChange(enum.IntEnum):
    """C ``enum sc_change``."""

    SC_TTL = 1
    SC_HOP_LIMIT = 2
    SC_TOS = 4
    SC_ECN = 8
    SC_DF = 16
    SC_ID = 32
    SC_RESERVED = 64
    SC_ILLEGAL = 128
    SC_MSS = 256
    SC_TIMESTAMPS = 512
    SC_FRAGMENTS = 1024
    SC_BAD_FRAGMENTS = 2048


class ScReason(enum.IntEnum):
    """C ``enum sc_reason``."""

    SC_REASON_FRAGMENT = 0
    SC_REASON_TCP_FLAGS = 1
    SC_REASONS = 2


class PacketAction(enum.IntEnum):
    """C ``enum packet_action``."""

    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_LOG = 2
    ACTION_REJECT = 3
    ACTION_SPARED = 8


class ScEvents(Batch):
    """Rows of C ``struct sc_event``."""

    record = SC_EVENT
    __slots__ = ()

    @property
    def packet(self) -> NDArray[Any]:
        return self.rows["packet"]

    @property
    def suppressed(self) -> NDArray[np.uint32]:
        return self.rows["suppressed"]

    @property
    def reason(self) -> NDArray[np.uint8]:
        return self.rows["reason"]

    @property
    def way(self) -> NDArray[np.uint8]:
        return self.rows["way"]
