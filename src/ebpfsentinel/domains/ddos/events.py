"""Records, keys and values of the ddos domain. Generated from BTF by `make gen`: do not edit."""

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

DDOS_EVENT = _record(
    72,
    (
        ("packet", PACKET_EVENT, 0),
        ("type", "|u1", 64),
        ("reason", "|u1", 65),
        ("pad", "<u2", 66),
        ("suppressed", "<u4", 68),
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

DDOS_BUCKET = _record(
    64,
    (
        ("tat", "<u8", 0),
        ("pad", ("<u8", (7,)), 8),
    ),
)

DDOS_SHARED = _record(
    576,
    (
        ("throttle", (DDOS_BUCKET, (7,)), 0),
        ("syn", DDOS_BUCKET, 448),
        ("cookie_ns", "<u8", 512),
        ("pad", ("<u8", (7,)), 520),
    ),
)

DDOS_COUNT = _record(
    352,
    (
        ("packets", ("<u8", (7,)), 0),
        ("bytes", ("<u8", (7,)), 56),
        ("refused", ("<u8", (7,)), 112),
        ("stray", ("<u8", (7,)), 168),
        ("by_reason", ("<u8", (7,)), 224),
        ("spared", "<u8", 280),
        ("cookies_sent", "<u8", 288),
        ("cookies_room", "<u8", 296),
        ("cookies_none", "<u8", 304),
        ("cookies_valid", "<u8", 312),
        ("cookies_invalid", "<u8", 320),
        ("new_sources", "<u8", 328),
        ("new_meters", "<u8", 336),
        ("new_known", "<u8", 344),
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

FLOW_FRAGMENT_KEY = _record(
    40,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("dst_addr", ("<u4", (4,)), 16),
        ("id", "<u4", 32),
        ("protocol", "|u1", 36),
        ("family", "|u1", 37),
        ("pad", "<u2", 38),
    ),
)

FLOW_FRAGMENT = _record(
    16,
    (
        ("seen_ns", "<u8", 0),
        ("src_port", "<u2", 8),
        ("dst_port", "<u2", 10),
        ("pad", "<u4", 12),
    ),
)

FLOW_COUNT = _record(
    152,
    (
        ("created", "<u8", 0),
        ("moved_in", "<u8", 8),
        ("move_lost", "<u8", 16),
        ("expired", "<u8", 24),
        ("replaced", "<u8", 32),
        ("ended", "<u8", 40),
        ("evicted", ("<u8", (4,)), 48),
        ("full", "<u8", 80),
        ("raced", "<u8", 88),
        ("tracked", "<u8", 96),
        ("invalid", "<u8", 104),
        ("related", "<u8", 112),
        ("fragments_lost", "<u8", 120),
        ("sources_full", "<u8", 128),
        ("sweep_ns", "<u8", 136),
        ("sweep_next", "<u8", 144),
    ),
)

FLOW_SOURCE_KEY = _record(
    20,
    (
        ("addr", ("<u4", (4,)), 0),
        ("family", "<u4", 16),
    ),
)

FLOW_SOURCE = _record(
    16,
    (
        ("flows", "<u4", 0),
        ("half_open", "<u4", 4),
        ("opened_ns", "<u8", 8),
    ),
)

TR_HEAD = _record(
    744,
    (
        ("hash_keys", ("<u8", (12,)), 0),
        ("timeout_ns", (("<u8", (4,)), (4,)), 96),
        ("active", "<u4", 224),
        ("masquerade", "<u2", 228),
        ("prefixes", "|u1", 230),
        ("pad", "|u1", 231),
        ("judged_since_ns", ("<u8", (64,)), 232),
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

DDOS_KNOWN = _record(
    20,
    (
        ("addr", ("<u4", (4,)), 0),
        ("family", "<u4", 16),
    ),
)

DDOS_CPU = _record(
    112,
    (
        ("event_ns", ("<u8", (7,)), 0),
        ("suppressed", ("<u4", (7,)), 56),
        ("until_sample", ("<u4", (7,)), 84),
    ),
)

DDOS_LIMIT = _record(
    16,
    (
        ("interval", "<u8", 0),
        ("tolerance", "<u8", 8),
    ),
)

DDOS_PARTY = _record(
    20,
    (
        ("addr", ("<u4", (4,)), 0),
        ("port", "<u2", 16),
        ("family", "|u1", 18),
        ("type", "|u1", 19),
    ),
)

DDOS_TRAFFIC = _record(
    16,
    (
        ("packets", "<u8", 0),
        ("bytes", "<u8", 8),
    ),
)

DDOS_PREFIX = _record(
    20,
    (
        ("addr", ("<u4", (4,)), 0),
        ("family", "<u2", 16),
        ("bits", "<u2", 18),
    ),
)

DDOS_BLOCK = _record(
    24,
    (
        ("until_ns", "<u8", 0),
        ("packets", "<u8", 8),
        ("attack", "<u4", 16),
        ("type", "|u1", 20),
        ("pad", ("|u1", (3,)), 21),
    ),
)

FLOW_KEY = _record(
    40,
    (
        ("addr", (("<u4", (4,)), (2,)), 0),
        ("port", ("<u2", (2,)), 32),
        ("protocol", "|u1", 36),
        ("family", "|u1", 37),
        ("zone", "<u2", 38),
    ),
)

FLOW_WINDOW = _record(
    16,
    (
        ("end", "<u4", 0),
        ("limit", "<u4", 4),
        ("most", "<u4", 8),
        ("scale", "|u1", 12),
        ("flags", "|u1", 13),
        ("pad", "<u2", 14),
    ),
)

FLOW_OWNER = _record(
    24,
    (
        ("start_ns", "<u8", 0),
        ("cgroup_id", "<u8", 8),
        ("pid", "<u4", 16),
        ("uid", "<u4", 20),
    ),
)

FLOW_END = _record(
    64,
    (
        ("last_ns", "<u8", 0),
        ("packets", "<u8", 8),
        ("bytes", "<u8", 16),
        ("window", FLOW_WINDOW, 24),
        ("owner", FLOW_OWNER, 40),
    ),
)

FLOW_ENTRY = _record(
    192,
    (
        ("key", FLOW_KEY, 0),
        ("start_ns", "<u8", 40),
        ("status", "<u4", 48),
        ("ifindex", "<u4", 52),
        ("spare", "<u8", 56),
        ("end", (FLOW_END, (2,)), 64),
    ),
)

FLOW_SET = _record(
    1600,
    (
        ("tags", ("<u4", (8,)), 0),
        ("lapse", ("<u4", (8,)), 32),
        ("entries", (FLOW_ENTRY, (8,)), 64),
    ),
)

FLOW_HEAD = _record(
    232,
    (
        ("version", "<u4", 0),
        ("sets", "<u4", 4),
        ("hash_keys", ("<u8", (11,)), 8),
        ("timeout", ("<u4", (32,)), 96),
        ("pickup", "|u1", 224),
        ("windows", "|u1", 225),
        ("count_sources", "|u1", 226),
        ("tell", "|u1", 227),
        ("names", "|u1", 228),
        ("pad", ("|u1", (3,)), 229),
    ),
)

TR_TUPLE = _record(
    40,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("dst_addr", ("<u4", (4,)), 16),
        ("src_port", "<u2", 32),
        ("dst_port", "<u2", 34),
        ("protocol", "|u1", 36),
        ("family", "|u1", 37),
        ("hook", "|u1", 38),
        ("kind", "|u1", 39),
    ),
)

TR_ENTRY = _record(
    128,
    (
        ("from", TR_TUPLE, 0),
        ("until_ns", "<u8", 40),
        ("serial", "<u4", 48),
        ("peer", "<u4", 52),
        ("state", "|u1", 56),
        ("flags", "|u1", 57),
        ("rule", "<u2", 58),
        ("masquerade", "<u2", 60),
        ("ifindex_slot", "<u2", 62),
        ("to", TR_TUPLE, 64),
        ("packets", "<u8", 104),
        ("bytes", "<u8", 112),
        ("since_ns", "<u8", 120),
    ),
)

TR_SET = _record(
    1088,
    (
        ("tags", ("<u8", (8,)), 0),
        ("entries", (TR_ENTRY, (8,)), 64),
    ),
)

DDOS_HEAD = _record(
    448,
    (
        ("guard", (DDOS_LIMIT, (7,)), 0),
        ("throttle", (DDOS_LIMIT, (7,)), 112),
        ("share", (DDOS_LIMIT, (7,)), 224),
        ("throttle_until_ns", ("<u8", (7,)), 336),
        ("sample_every", ("<u4", (7,)), 392),
        ("icmp_payload_bytes", "<u4", 420),
        ("known_ns", "<u8", 424),
        ("port_filter", "<u8", 432),
        ("mode", "|u1", 440),
        ("cookies", "|u1", 441),
        ("blocking", "|u1", 442),
        ("every_ack", "|u1", 443),
        ("half_open", "<u4", 444),
    ),
)

RECORDS = {
    "ddos_events": DDOS_EVENT,
}


class FlowState(enum.IntEnum):
    """C ``enum flow_state``."""

    FLOW_UNKNOWN = 0
    FLOW_NEW = 1
    FLOW_ESTABLISHED = 2
    FLOW_RELATED = 3
    FLOW_INVALID = 4


class FlowStage(enum.IntEnum):
    """C ``enum flow_stage``."""

    FLOW_NONE = 0
    FLOW_SYN_SENT = 1
    FLOW_SYN_SENT_BOTH = 2
    FLOW_SYN_RECV = 3
    FLOW_TCP_ESTABLISHED = 4
    FLOW_FIN_WAIT = 5
    FLOW_CLOSE_WAIT = 6
    FLOW_LAST_ACK = 7
    FLOW_TIME_WAIT = 8
    FLOW_CLOSE = 9
    FLOW_PICKED_UP = 10
    FLOW_UDP_NEW = 11
    FLOW_UDP_REPLIED = 12
    FLOW_UDP_STREAM = 13
    FLOW_ICMP_NEW = 14
    FLOW_ICMP_REPLIED = 15
    FLOW_OTHER_NEW = 16
    FLOW_OTHER_REPLIED = 17
    FLOW_STAGE_MAX = 18


class FlowClass(enum.IntEnum):
    """C ``enum flow_class``."""

    FLOW_CLASS_CLOSING = 0
    FLOW_CLASS_UNREPLIED = 1
    FLOW_CLASS_REPLIED = 2
    FLOW_CLASS_ASSURED = 3


class DdosMode(enum.IntEnum):
    """C ``enum ddos_mode``."""

    DDOS_MODE_ALERT = 0
    DDOS_MODE_BLOCK = 1


class DdosType(enum.IntEnum):
    """C ``enum ddos_type``."""

    DDOS_SYN_FLOOD = 0
    DDOS_UDP_AMPLIFICATION = 1
    DDOS_ICMP_FLOOD = 2
    DDOS_RST_FLOOD = 3
    DDOS_FIN_FLOOD = 4
    DDOS_ACK_FLOOD = 5
    DDOS_VOLUMETRIC = 6
    DDOS_TYPES = 7


class DdosReason(enum.IntEnum):
    """C ``enum ddos_reason``."""

    DDOS_WANTED = 0
    DDOS_COOKIE = 1
    DDOS_OVERSIZE = 2
    DDOS_LIMIT = 3
    DDOS_THROTTLE = 4
    DDOS_BLOCK = 5
    DDOS_HALF_OPEN = 6
    DDOS_REASONS = 7


class PacketAction(enum.IntEnum):
    """C ``enum packet_action``."""

    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_LOG = 2
    ACTION_REJECT = 3
    ACTION_SPARED = 8


class DdosEvents(Batch):
    """Rows of C ``struct ddos_event``."""

    record = DDOS_EVENT
    __slots__ = ()

    @property
    def packet(self) -> NDArray[Any]:
        return self.rows["packet"]

    @property
    def type(self) -> NDArray[np.uint8]:
        return self.rows["type"]

    @property
    def reason(self) -> NDArray[np.uint8]:
        return self.rows["reason"]

    @property
    def suppressed(self) -> NDArray[np.uint32]:
        return self.rows["suppressed"]
