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

PACKET = _record(
    72,
    (
        ("src_addr", ("<u4", (4,)), 0),
        ("dst_addr", ("<u4", (4,)), 16),
        ("src_port", "<u2", 32),
        ("dst_port", "<u2", 34),
        ("protocol", "|u1", 36),
        ("family", "|u1", 37),
        ("flags", "|u1", 38),
        ("tcp_flags", "|u1", 39),
        ("ethertype", "<u2", 40),
        ("vlan_id", "<u2", 42),
        ("l3_offset", "<u2", 44),
        ("l4_offset", "<u2", 46),
        ("bytes", "<u4", 48),
        ("ifindex", "<u4", 52),
        ("rule_id", "<u4", 56),
        ("action", "|u1", 60),
        ("ratelimit_status", "|u1", 61),
        ("interface", "|u1", 62),
        ("slot", "|u1", 63),
        ("by_xdp", "|u1", 64),
        ("icmp_type", "|u1", 65),
        ("cpu", "<u2", 66),
        ("dry", "|u1", 68),
        ("pad", ("|u1", (3,)), 69),
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
    32,
    (
        ("passed", "<u8", 0),
        ("dropped", "<u8", 8),
        ("would_drop", "<u8", 16),
        ("bytes", "<u8", 24),
    ),
)

FW_COUNT = _record(
    16,
    (
        ("packets", "<u8", 0),
        ("bytes", "<u8", 8),
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

FW_ADDRESSES = _record(
    278600,
    (
        ("origin", "<u8", 0),
        ("shift", "<u4", 8),
        ("pad", "<u4", 12),
        ("base", ("<u2", (65544,)), 16),
        ("high", ("<u8", (8194,)), 131104),
        ("low", ("<u8", (8194,)), 196656),
        ("row", ("<u2", (8196,)), 262208),
    ),
)

FW_RULE = _record(
    8,
    (
        ("rule_id", "<u4", 0),
        ("action", "|u1", 4),
        ("mirror", "|u1", 5),
        ("cpu", "<u2", 6),
    ),
)

FW_ROW = _record(
    512,
    (
        ("words", ("<u8", (64,)), 0),
    ),
)

FW_TABLES = _record(
    20426016,
    (
        ("mode", "<u4", 0),
        ("default_action", "<u4", 4),
        ("any_vlan", "|u1", 8),
        ("any_interface", "|u1", 9),
        ("no_port_row", "<u2", 10),
        ("protocol_row", ("<u2", (256,)), 12),
        ("interface_row", ("<u2", (64,)), 524),
        ("vlan_row", ("<u2", (4096,)), 652),
        ("src_port_row", ("<u2", (65536,)), 8844),
        ("dst_port_row", ("<u2", (65536,)), 139916),
        ("pad", ("<u2", (2,)), 270988),
        ("src", FW_ADDRESSES, 270992),
        ("dst", FW_ADDRESSES, 549592),
        ("rules", (FW_RULE, (4096,)), 828192),
        ("summary", ("<u8", (65536,)), 860960),
        ("rows", (FW_ROW, (37189,)), 1385248),
    ),
)

RECORDS = {
    "fw_events": PACKET_EVENT,
}


class FwMode(enum.IntEnum):
    """C ``enum fw_mode``."""

    FW_MODE_ALERT = 0
    FW_MODE_BLOCK = 1


class PacketAction(enum.IntEnum):
    """C ``enum packet_action``."""

    ACTION_PASS = 0
    ACTION_DROP = 1
    ACTION_LOG = 2
    ACTION_REJECT = 3


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
