"""Records, keys and values of the dns domain. Generated from BTF by `make gen`: do not edit."""

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

DNS_ANSWER = _record(
    1096,
    (
        ("packet", PACKET_EVENT, 0),
        ("bytes", "<u2", 64),
        ("captured", "<u2", 66),
        ("pad", ("|u1", (4,)), 68),
        ("message", ("|u1", (1024,)), 72),
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

DNS_COUNT = _record(
    40,
    (
        ("asked", "<u8", 0),
        ("answered", "<u8", 8),
        ("unasked", "<u8", 16),
        ("longer", "<u8", 24),
        ("errors", "<u8", 32),
    ),
)

DNS_QUESTION = _record(
    40,
    (
        ("server", ("<u4", (4,)), 0),
        ("client", ("<u4", (4,)), 16),
        ("port", "<u2", 32),
        ("id", "<u2", 34),
        ("family", "<u4", 36),
    ),
)

RECORDS = {
    "dns_answers": DNS_ANSWER,
}


class DnsAnswers(Batch):
    """Rows of C ``struct dns_answer``."""

    record = DNS_ANSWER
    __slots__ = ()

    @property
    def packet(self) -> NDArray[Any]:
        return self.rows["packet"]

    @property
    def bytes(self) -> NDArray[np.uint16]:
        return self.rows["bytes"]

    @property
    def captured(self) -> NDArray[np.uint16]:
        return self.rows["captured"]

    @property
    def message(self) -> NDArray[np.uint8]:
        return self.rows["message"]
