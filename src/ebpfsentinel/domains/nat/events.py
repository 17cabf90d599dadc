"""Records, keys and values of the nat domain. Generated from BTF by `make gen`: do not edit."""

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

NAT_EVENT = _record(
    88,
    (
        ("packet", PACKET_EVENT, 0),
        ("to_addr", ("<u4", (4,)), 64),
        ("to_port", "<u2", 80),
        ("pad", "<u2", 82),
        ("count", "<u4", 84),
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

NAT_LOCK = _record(
    8,
    (
        ("held", "<u8", 0),
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

FLOOR = _record(
    16448,
    (
        ("lapse_ns", "<u8", 0),
        ("lapse_xdp", "<u4", 8),
        ("lapse_tc", "<u4", 12),
        ("lapse_egress", "<u4", 16),
        ("loopback", "<u4", 20),
        ("port_filter", "<u8", 24),
        ("address_filter", ("<u8", (4,)), 32),
        ("ports", ("<u8", (1024,)), 64),
        ("tcp_ports", ("<u8", (1024,)), 8256),
    ),
)

FLOOR_TCP = _record(
    24,
    (
        ("addr", ("<u4", (4,)), 0),
        ("remote_port", "<u2", 16),
        ("local_port", "<u2", 18),
        ("family", "<u4", 20),
    ),
)

FLOOR_NET = _record(
    24,
    (
        ("prefix_bits", "<u4", 0),
        ("family", "<u4", 4),
        ("addr", ("<u4", (4,)), 8),
    ),
)

NAT_MARKS = _record(
    8192,
    (
        ("put", (("|u1", (4096,)), (2,)), 0),
    ),
)

NAT_COUNT = _record(
    176,
    (
        ("total_seen", "<u8", 0),
        ("snat_applied", "<u8", 8),
        ("dnat_applied", "<u8", 16),
        ("masq_applied", "<u8", 24),
        ("nptv6_translated", "<u8", 32),
        ("icmp_errors", "<u8", 40),
        ("fragments", "<u8", 48),
        ("untouched", "<u8", 56),
        ("port_alloc_fail", "<u8", 64),
        ("table_full", "<u8", 72),
        ("no_address", "<u8", 80),
        ("fragment_unknown", "<u8", 88),
        ("nptv6_untranslatable", "<u8", 96),
        ("errors", "<u8", 104),
        ("spared", "<u8", 112),
        ("created", "<u8", 120),
        ("clashed", "<u8", 128),
        ("evicted_untouched", "<u8", 136),
        ("evicted_closing", "<u8", 144),
        ("evicted_unreplied", "<u8", 152),
        ("evicted_replied", "<u8", 160),
        ("contended", "<u8", 168),
    ),
)

NAT_WORK = _record(
    392,
    (
        ("key", TR_TUPLE, 0),
        ("to", TR_TUPLE, 40),
        ("back", TR_TUPLE, 80),
        ("entry", TR_ENTRY, 120),
        ("answer", TR_ENTRY, 248),
        ("serial", "<u4", 376),
        ("local", "<u4", 380),
        ("identifier", "<u2", 384),
        ("pad", ("<u2", (3,)), 386),
    ),
)

NAT_RULE_COUNT = _record(
    40,
    (
        ("translations", "<u8", 0),
        ("packets", "<u8", 8),
        ("failed", "<u8", 16),
        ("would", "<u8", 24),
        ("told_ns", "<u8", 32),
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

NAT_RULE = _record(
    120,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("src_mask", ("<u4", (4,)), 16),
        ("dst_addr", ("<u4", (4,)), 32),
        ("dst_mask", ("<u4", (4,)), 48),
        ("to_addr", ("<u4", (4,)), 64),
        ("keep_mask", ("<u4", (4,)), 80),
        ("interfaces", "<u8", 96),
        ("dst_port", "<u2", 104),
        ("dst_ports", "<u2", 106),
        ("to_port", "<u2", 108),
        ("to_ports", "<u2", 110),
        ("number", "<u2", 112),
        ("what", "|u1", 114),
        ("asks", "|u1", 115),
        ("family", "|u1", 116),
        ("protocol", "|u1", 117),
        ("shift_port", "|u1", 118),
        ("pad", "|u1", 119),
    ),
)

NAT_PREFIX = _record(
    64,
    (
        ("inside", ("<u4", (4,)), 0),
        ("outside", ("<u4", (4,)), 16),
        ("mask", ("<u4", (4,)), 32),
        ("interfaces", "<u8", 48),
        ("adjust_out", "<u2", 56),
        ("adjust_in", "<u2", 58),
        ("number", "<u2", 60),
        ("short_prefix", "|u1", 62),
        ("pad", "|u1", 63),
    ),
)

NAT_LINK = _record(
    24,
    (
        ("v4", "<u4", 0),
        ("v6", ("<u4", (4,)), 4),
        ("has_v4", "|u1", 20),
        ("has_v6", "|u1", 21),
        ("pad", "<u2", 22),
    ),
)

NAT_RULES = _record(
    143880,
    (
        ("source_count", "<u2", 0),
        ("destination_count", "<u2", 2),
        ("prefix_count", "<u2", 4),
        ("alert", "|u1", 6),
        ("asks", "|u1", 7),
        ("source", (NAT_RULE, (576,)), 8),
        ("destination", (NAT_RULE, (576,)), 69128),
        ("prefixes", (NAT_PREFIX, (64,)), 138248),
        ("links", (NAT_LINK, (64,)), 142344),
    ),
)

RECORDS = {
    "nat_events": NAT_EVENT,
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


class NatWhat(enum.IntEnum):
    """C ``enum nat_what``."""

    NAT_SNAT = 0
    NAT_DNAT = 1
    NAT_MASQ = 2
    NAT_REDIRECT = 3
    NAT_HAIRPIN = 4


class TrState(enum.IntEnum):
    """C ``enum tr_state``."""

    TR_NEW = 0
    TR_REPLIED = 1
    TR_ESTABLISHED = 2
    TR_CLOSING = 3


class NatEvents(Batch):
    """Rows of C ``struct nat_event``."""

    record = NAT_EVENT
    __slots__ = ()

    @property
    def packet(self) -> NDArray[Any]:
        return self.rows["packet"]

    @property
    def to_addr(self) -> NDArray[np.uint32]:
        return self.rows["to_addr"]

    @property
    def to_port(self) -> NDArray[np.uint16]:
        return self.rows["to_port"]

    @property
    def count(self) -> NDArray[np.uint32]:
        return self.rows["count"]
