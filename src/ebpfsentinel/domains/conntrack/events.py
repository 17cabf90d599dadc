"""Records, keys and values of the conntrack domain. Generated from BTF by `make gen`: do not edit."""

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

CT_EVENT = _record(
    104,
    (
        ("timestamp_ns", "<u8", 0),
        ("start_ns", "<u8", 8),
        ("key", FLOW_KEY, 16),
        ("packets", ("<u8", (2,)), 56),
        ("bytes", ("<u8", (2,)), 72),
        ("status", "<u4", 88),
        ("ifindex", "<u4", 92),
        ("change", "|u1", 96),
        ("why", "|u1", 97),
        ("version", "|u1", 98),
        ("pad", ("|u1", (5,)), 99),
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

FLOW_OWNER = _record(
    24,
    (
        ("start_ns", "<u8", 0),
        ("cgroup_id", "<u8", 8),
        ("pid", "<u4", 16),
        ("uid", "<u4", 20),
    ),
)

LISTENER_KEY = _record(
    24,
    (
        ("addr", ("<u4", (4,)), 0),
        ("netns", "<u4", 16),
        ("port", "<u2", 20),
        ("protocol", "|u1", 22),
        ("family", "|u1", 23),
    ),
)

LISTENER = _record(
    32,
    (
        ("owner", FLOW_OWNER, 0),
        ("sock", "<u8", 24),
    ),
)

OWNER_KEY = _record(
    16,
    (
        ("start_ns", "<u8", 0),
        ("pid", "<u4", 8),
        ("pad", "<u4", 12),
    ),
)

OWNER_FACTS = _record(
    40,
    (
        ("exe_inode", "<u8", 0),
        ("cgroup_id", "<u8", 8),
        ("exe_device", "<u4", 16),
        ("uid", "<u4", 20),
        ("comm", "|S16", 24),
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

CT_PATH = _record(
    64,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("dst_addr", ("<u4", (4,)), 16),
        ("port", "<u2", 32),
        ("protocol", "|u1", 34),
        ("family", "|u1", 35),
        ("interface", "|u1", 36),
        ("tos", "|u1", 37),
        ("largest", "<u2", 38),
        ("until", "<u4", 40),
        ("ifindex", "<u4", 44),
        ("macs", ("|u1", (12,)), 48),
        ("pad", "<u4", 60),
    ),
)

CT_FAST_COUNT = _record(
    40,
    (
        ("packets", "<u8", 0),
        ("learned", "<u8", 8),
        ("watched", ("<u8", (3,)), 16),
    ),
)

CT_FAST_PAUSE = _record(
    16,
    (
        ("until_ns", "<u8", 0),
        ("asked", "<u8", 8),
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

RECORDS = {
    "ct_events": CT_EVENT,
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


class CtEnd(enum.IntEnum):
    """C ``enum ct_end``."""

    CT_EXPIRED = 0
    CT_REPLACED = 1
    CT_ENDED = 2
    CT_EVICTED_CLOSING = 3
    CT_EVICTED_UNREPLIED = 4
    CT_EVICTED_REPLIED = 5
    CT_EVICTED_ASSURED = 6


class CtChange(enum.IntEnum):
    """C ``enum ct_change``."""

    CT_NEW = 0
    CT_ESTABLISHED = 1
    CT_CLOSED = 2
    CT_GONE = 3


class CtOnlooker(enum.IntEnum):
    """C ``enum ct_onlooker``."""

    CT_ONLOOKER_NETFILTER = 0
    CT_ONLOOKER_TC = 1
    CT_ONLOOKER_DEVICE = 2
    CT_ONLOOKER_NONE = 3


class CtEvents(Batch):
    """Rows of C ``struct ct_event``."""

    record = CT_EVENT
    __slots__ = ()

    @property
    def timestamp_ns(self) -> NDArray[np.uint64]:
        return self.rows["timestamp_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def key(self) -> NDArray[Any]:
        return self.rows["key"]

    @property
    def packets(self) -> NDArray[np.uint64]:
        return self.rows["packets"]

    @property
    def bytes(self) -> NDArray[np.uint64]:
        return self.rows["bytes"]

    @property
    def status(self) -> NDArray[np.uint32]:
        return self.rows["status"]

    @property
    def ifindex(self) -> NDArray[np.uint32]:
        return self.rows["ifindex"]

    @property
    def change(self) -> NDArray[np.uint8]:
        return self.rows["change"]

    @property
    def why(self) -> NDArray[np.uint8]:
        return self.rows["why"]

    @property
    def version(self) -> NDArray[np.uint8]:
        return self.rows["version"]
