"""Records, keys and values of the ratelimit domain. Generated from BTF by `make gen`: do not edit."""

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

RL_EVENT = _record(
    80,
    (
        ("packet", PACKET_EVENT, 0),
        ("suppressed", "<u4", 64),
        ("rate", "<u4", 68),
        ("burst", "<u4", 72),
        ("pad", "<u4", 76),
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

RL_COOKIES = _record(
    24,
    (
        ("sent", "<u8", 0),
        ("room", "<u8", 8),
        ("none", "<u8", 16),
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

RL_BUCKET = _record(
    16,
    (
        ("state", "<u8", 0),
        ("told", "<u8", 8),
    ),
)

RL_OWN = _record(
    64,
    (
        ("bucket", RL_BUCKET, 0),
        ("pad", ("<u8", (6,)), 16),
    ),
)

RL_ENTRY = _record(
    32,
    (
        ("addr", ("<u4", (4,)), 0),
        ("bucket", RL_BUCKET, 16),
    ),
)

RL_SET = _record(
    320,
    (
        ("tags", ("<u8", (8,)), 0),
        ("entries", (RL_ENTRY, (8,)), 64),
    ),
)

RL_TABLE_COUNT = _record(
    32,
    (
        ("claimed", "<u8", 0),
        ("evicted", "<u8", 8),
        ("untold", "<u8", 16),
        ("crowded", "<u8", 24),
    ),
)

RL_SCRATCH = _record(
    8,
    (
        ("source", "<u4", 0),
        ("pad", "<u4", 4),
    ),
)

ANSWER = _record(
    180,
    (
        ("words", ("<u4", (44,)), 0),
        ("bytes", "<u4", 176),
    ),
)

SYNCOOKIE = _record(
    284,
    (
        ("ip", ("<u4", (10,)), 0),
        ("tcp", ("<u4", (15,)), 40),
        ("tcp_bytes", "<u4", 100),
        ("answer", ANSWER, 104),
    ),
)

RL_COUNT = _record(
    24,
    (
        ("passed", "<u8", 0),
        ("over", "<u8", 8),
        ("dropped", "<u8", 16),
    ),
)

RL_LENGTH = _record(
    20,
    (
        ("mask", ("<u4", (4,)), 0),
        ("bits", "<u4", 16),
    ),
)

RL_RULE = _record(
    128,
    (
        ("interval", "<u8", 0),
        ("tolerance", "<u8", 8),
        ("rate", "<u4", 16),
        ("burst", "<u4", 20),
        ("next", "<u2", 24),
        ("algorithm", "|u1", 26),
        ("action", "|u1", 27),
        ("key", "|u1", 28),
        ("asks", "|u1", 29),
        ("src_family", "|u1", 30),
        ("src_bits", "|u1", 31),
        ("until_ns", "<u8", 32),
        ("interfaces", "<u8", 40),
        ("dst_port", "<u2", 48),
        ("dst_ports", "<u2", 50),
        ("vlan_id", "<u2", 52),
        ("protocol", "|u1", 54),
        ("dst_family", "|u1", 55),
        ("cookies", "|u1", 56),
        ("whole", "|u1", 57),
        ("exact", "|u1", 58),
        ("pad", ("|u1", (5,)), 59),
        ("src_addr", ("<u4", (4,)), 64),
        ("src_mask", ("<u4", (4,)), 80),
        ("dst_addr", ("<u4", (4,)), 96),
        ("dst_mask", ("<u4", (4,)), 112),
    ),
)

RL_LIMITS = _record(
    2229640,
    (
        ("hash_keys", ("<u8", (6,)), 0),
        ("salt", "<u4", 48),
        ("lengths", ("<u2", (2,)), 52),
        ("first", "<u2", 56),
        ("mode", "|u1", 58),
        ("shared_count", "|u1", 59),
        ("shared", ("<u2", (16,)), 60),
        ("pad", "<u4", 92),
        ("length", ((RL_LENGTH, (33,)), (2,)), 96),
        ("slots", ("<u2", (65536,)), 1416),
        ("rules", (RL_RULE, (16384,)), 132488),
    ),
)

RECORDS = {
    "rl_events": RL_EVENT,
}


class RlMode(enum.IntEnum):
    """C ``enum rl_mode``."""

    RL_MODE_ALERT = 0
    RL_MODE_BLOCK = 1


class RlAlgorithm(enum.IntEnum):
    """C ``enum rl_algorithm``."""

    RL_GCRA = 0
    RL_FIXED_WINDOW = 1
    RL_SLIDING_WINDOW = 2


class RlAction(enum.IntEnum):
    """C ``enum rl_action``."""

    RL_DROP = 0
    RL_PASS = 1
    RL_LOG = 2


class RlKey(enum.IntEnum):
    """C ``enum rl_key``."""

    RL_KEY_RULE = 0
    RL_KEY_SOURCE = 1
    RL_KEY_DESTINATION = 2


class PacketAction(enum.IntEnum):
    """C ``enum packet_action``."""

    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_LOG = 2
    ACTION_REJECT = 3
    ACTION_SPARED = 8


class LimitStatus(enum.IntEnum):
    """C ``enum limit_status``."""

    LIMIT_NONE = 0
    LIMIT_WITHIN = 1
    LIMIT_OVER = 2


class RlEvents(Batch):
    """Rows of C ``struct rl_event``."""

    record = RL_EVENT
    __slots__ = ()

    @property
    def packet(self) -> NDArray[Any]:
        return self.rows["packet"]

    @property
    def suppressed(self) -> NDArray[np.uint32]:
        return self.rows["suppressed"]

    @property
    def rate(self) -> NDArray[np.uint32]:
        return self.rows["rate"]

    @property
    def burst(self) -> NDArray[np.uint32]:
        return self.rows["burst"]
