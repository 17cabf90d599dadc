"""The last headers that were sampled: real packets to try rules on. In memory only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.describe import VLAN
from ebpfsentinel.domains.firewall.events import FW_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

KEPT = 4096
_TAGS = (b"\x81\x00", b"\x88\xa8")


class Samples:
    """The newest :data:`KEPT` samples, oldest first, with wall time."""

    def __init__(self) -> None:
        self.rows: NDArray[Any] = np.empty(0, FW_SAMPLE)

    def take(self, rows: NDArray[Any], boot_offset_ns: int) -> None:
        """Records of the ring."""
        fresh = rows[-KEPT:].copy()
        fresh["timestamp_ns"] += np.uint64(boot_offset_ns)
        self.rows = np.concatenate([self.rows, fresh])[-KEPT:]

    def body(self, every: int, slots: Mapping[str, int]) -> dict[str, Any]:
        """For JSON: frames as hexadecimal digits."""
        names = {slot: name for name, slot in slots.items()}
        heads = [
            {
                "timestamp_ns": int(row["timestamp_ns"]),
                "interface": names.get(int(row["interface"])),
                "bytes": int(row["bytes"]),
                "frame": frame_of(row).hex(),
            }
            for row in self.rows
        ]
        return {"sample_every": every, "samples": heads}


def frame_of(row: Any) -> bytes:
    """The frame as it was on the wire: a tag that the stack had taken out is put back."""
    head: bytes = row["head"].tobytes()[: int(row["captured"])]
    if row["flags"] & VLAN and head[12:14] not in _TAGS:
        tag = _TAGS[0] + int(row["vlan_id"]).to_bytes(2, "big")
        return head[:12] + tag + head[12:]
    return head
