"""Records, keys and values of the firewall domain. Generated from BTF by `make gen`: do not edit."""

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

FW_SAMPLE = _record(
    152,
    (
        ("timestamp_ns", "<u8", 0),
        ("bytes", "<u4", 8),
        ("captured", "<u2", 12),
        ("vlan_id", "<u2", 14),
        ("interface", "|u1", 16),
        ("flags", "|u1", 17),
        ("pad", ("|u1", (6,)), 18),
        ("head", ("<u2", (64,)), 24),
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

FW_COPIES = _record(
    32,
    (
        ("sent", "<u8", 0),
        ("too_big", "<u8", 8),
        ("no_interface", "<u8", 16),
        ("failed", "<u8", 24),
    ),
)

FW_REJECTS = _record(
    40,
    (
        ("reset", "<u8", 0),
        ("unreachable", "<u8", 8),
        ("throttled", "<u8", 16),
        ("unanswered", "<u8", 24),
        ("failed", "<u8", 32),
    ),
)

FW_PACKET = _record(
    72,
    (
        ("low", ("<u8", (2,)), 0),
        ("high", ("<u8", (2,)), 16),
        ("mac", ("<u8", (2,)), 32),
        ("traits", "<u8", 48),
        ("now_s", "<u8", 56),
        ("src_port", "<u2", 64),
        ("dst_port", "<u2", 66),
        ("lacks", "|u1", 68),
        ("state", "|u1", 69),
        ("pad", ("|u1", (2,)), 70),
    ),
)

FW_SCRATCH = _record(
    272,
    (
        ("keys", ("<u8", (16,)), 0),
        ("at", ("<u2", (16,)), 128),
        ("common", ("<u2", (16,)), 160),
        ("packet", FW_PACKET, 192),
        ("owner", "<u8", 264),
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

ANSWER = _record(
    180,
    (
        ("words", ("<u4", (44,)), 0),
        ("bytes", "<u4", 176),
    ),
)

FW_SOURCE = _record(
    20,
    (
        ("addr", ("<u4", (4,)), 0),
        ("family", "<u4", 16),
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

FW_LIMIT = _record(
    24,
    (
        ("interval", "<u8", 0),
        ("tolerance", "<u8", 8),
        ("flows", "<u4", 16),
        ("name", "<u4", 20),
    ),
)

FW_RATE = _record(
    24,
    (
        ("addr", ("<u4", (4,)), 0),
        ("family", "<u4", 16),
        ("name", "<u4", 20),
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

FW_EXE = _record(
    16,
    (
        ("inode", "<u8", 0),
        ("device", "<u4", 8),
        ("pad", "<u4", 12),
    ),
)

FW_COUNT = _record(
    16,
    (
        ("packets", "<u8", 0),
        ("bytes", "<u8", 8),
    ),
)

FW_LEAF = _record(
    64,
    (
        ("words", ("<u8", (8,)), 0),
    ),
)

FW_LEAVES = _record(
    3145728,
    (
        ("leaves", (FW_LEAF, (49152,)), 0),
    ),
)

FW_INTERVAL = _record(
    24,
    (
        ("some", "<u8", 0),
        ("leaf", ("<u2", (8,)), 8),
    ),
)

FW_FEW = _record(
    16,
    (
        ("rule", ("<u2", (7,)), 0),
        ("count", "<u2", 14),
    ),
)

FW_LISTS = _record(
    2621440,
    (
        ("intervals", (FW_INTERVAL, (65536,)), 0),
        ("few", (FW_FEW, (65536,)), 1572864),
    ),
)

FW_NEAR = _record(
    8,
    (
        ("rule", ("<u2", (3,)), 0),
        ("count", "<u2", 6),
    ),
)

FW_RULE = _record(
    64,
    (
        ("rule_id", "<u2", 0),
        ("cpu", "<u2", 2),
        ("order", "<u4", 4),
        ("asks", "|u1", 8),
        ("protocol", "|u1", 9),
        ("src_port", "<u2", 10),
        ("src_ports", "<u2", 12),
        ("dst_port", "<u2", 14),
        ("dst_ports", "<u2", 16),
        ("states", "|u1", 18),
        ("pad", ("|u1", (5,)), 19),
        ("low", ("<u8", (2,)), 24),
        ("low_mask", ("<u8", (2,)), 40),
        ("traits", "<u8", 56),
    ),
)

FW_REST = _record(
    64,
    (
        ("traits_mask", "<u8", 0),
        ("high", ("<u8", (2,)), 8),
        ("high_mask", ("<u8", (2,)), 24),
        ("mac", ("<u8", (2,)), 40),
        ("expires_s", "<u8", 56),
    ),
)

FW_INDEX = _record(
    24,
    (
        ("origin", "<u8", 0),
        ("shift", "<u4", 8),
        ("base", "<u4", 12),
        ("last", "<u4", 16),
        ("first", "<u4", 20),
    ),
)

FW_TABLES = _record(
    2376112,
    (
        ("begins", ("<u8", (65536,)), 0),
        ("low", ("<u8", (65536,)), 524288),
        ("near", (FW_NEAR, (32768,)), 1048576),
        ("rules", (FW_RULE, (4096,)), 1310720),
        ("rests", (FW_REST, (4096,)), 1572864),
        ("fresh", (FW_RULE, (128,)), 1835008),
        ("fresh_rests", (FW_REST, (128,)), 1843200),
        ("index", (FW_INDEX, (16,)), 1851392),
        ("asked", ("|u1", (16,)), 1851776),
        ("asked_count", "<u4", 1851792),
        ("sparse", "|u1", 1851796),
        ("narrow_field", "|u1", 1851797),
        ("pad", ("|u1", (6,)), 1851798),
        ("fresh_count", "<u4", 1851804),
        ("base", ("<u2", (262152,)), 1851808),
    ),
)

FW_BANK = _record(
    9437184,
    (
        ("leaves", FW_LEAVES, 0),
        ("lists", FW_LISTS, 3145728),
        ("lists_end", ("<u8", (65536,)), 5767168),
        ("tables", FW_TABLES, 6291456),
        ("tables_end", ("<u8", (96202,)), 8667568),
    ),
)

FW_PART = _record(
    3145728,
    (
        ("words", ("<u8", (393216,)), 0),
    ),
)

FW_HEAD = _record(
    2168,
    (
        ("current", "<u4", 0),
        ("banks", ("|u1", (2,)), 4),
        ("mode", "|u1", 6),
        ("default_action", "|u1", 7),
        ("asks", "|u1", 8),
        ("mirrors", "|u1", 9),
        ("keep_state", "|u1", 10),
        ("out", "|u1", 11),
        ("netns", "<u4", 12),
        ("sample_every", "<u4", 16),
        ("serial", ("<u8", (10,)), 24),
        ("first_ports", "<u8", 104),
        ("first_count", "<u4", 112),
        ("pad", "<u4", 116),
        ("first", (FW_RULE, (16,)), 120),
        ("first_rests", (FW_REST, (16,)), 1144),
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
    "fw_events": PACKET_EVENT,
    "fw_samples": FW_SAMPLE,
}


class FwMode(enum.IntEnum):
    """C ``enum fw_mode``."""

    FW_MODE_ALERT = 0
    FW_MODE_BLOCK = 1


class FwField(enum.IntEnum):
    """C ``enum fw_field``."""

    FW_SRC_ADDR = 0
    FW_DST_ADDR = 1
    FW_DST_PORT = 2
    FW_SRC_PORT = 3
    FW_PROTOCOL = 4
    FW_DETAIL = 5
    FW_SERVICE = 6
    FW_VLAN = 7
    FW_INNER_VLAN = 8
    FW_INTERFACE = 9
    FW_SRC_MAC = 10
    FW_DST_MAC = 11
    FW_TIME = 12
    FW_STATE = 13
    FW_OWNER = 14
    FW_FIELDS = 15


class FwFragment(enum.IntEnum):
    """C ``enum fw_fragment``."""

    FW_WHOLE = 0
    FW_FIRST = 1
    FW_LATER = 3


class PacketAction(enum.IntEnum):
    """C ``enum packet_action``."""

    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_LOG = 2
    ACTION_REJECT = 3
    ACTION_SPARED = 8


class PacketMirror(enum.IntEnum):
    """C ``enum packet_mirror``."""

    MIRROR_NONE = 0
    MIRROR_COPY = 1
    MIRROR_AND_DROP = 2


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


class PacketEvents(Batch):
    """Rows of C ``struct packet_event``."""

    record = PACKET_EVENT
    __slots__ = ()

    @property
    def timestamp_ns(self) -> NDArray[np.uint64]:
        return self.rows["timestamp_ns"]

    @property
    def src_addr(self) -> NDArray[np.uint32]:
        return self.rows["src_addr"]

    @property
    def dst_addr(self) -> NDArray[np.uint32]:
        return self.rows["dst_addr"]

    @property
    def src_port(self) -> NDArray[np.uint16]:
        return self.rows["src_port"]

    @property
    def dst_port(self) -> NDArray[np.uint16]:
        return self.rows["dst_port"]

    @property
    def protocol(self) -> NDArray[np.uint8]:
        return self.rows["protocol"]

    @property
    def event_type(self) -> NDArray[np.uint8]:
        return self.rows["event_type"]

    @property
    def action(self) -> NDArray[np.uint8]:
        return self.rows["action"]

    @property
    def flags(self) -> NDArray[np.uint8]:
        return self.rows["flags"]

    @property
    def rule_id(self) -> NDArray[np.uint32]:
        return self.rows["rule_id"]

    @property
    def vlan_id(self) -> NDArray[np.uint16]:
        return self.rows["vlan_id"]

    @property
    def cpu_id(self) -> NDArray[np.uint16]:
        return self.rows["cpu_id"]

    @property
    def version(self) -> NDArray[np.uint8]:
        return self.rows["version"]

    @property
    def tcp_flags(self) -> NDArray[np.uint8]:
        return self.rows["tcp_flags"]

    @property
    def bytes(self) -> NDArray[np.uint16]:
        return self.rows["bytes"]

    @property
    def ifindex(self) -> NDArray[np.uint32]:
        return self.rows["ifindex"]


class FwSamples(Batch):
    """Rows of C ``struct fw_sample``."""

    record = FW_SAMPLE
    __slots__ = ()

    @property
    def timestamp_ns(self) -> NDArray[np.uint64]:
        return self.rows["timestamp_ns"]

    @property
    def bytes(self) -> NDArray[np.uint32]:
        return self.rows["bytes"]

    @property
    def captured(self) -> NDArray[np.uint16]:
        return self.rows["captured"]

    @property
    def vlan_id(self) -> NDArray[np.uint16]:
        return self.rows["vlan_id"]

    @property
    def interface(self) -> NDArray[np.uint8]:
        return self.rows["interface"]

    @property
    def flags(self) -> NDArray[np.uint8]:
        return self.rows["flags"]

    @property
    def head(self) -> NDArray[np.uint16]:
        return self.rows["head"]
