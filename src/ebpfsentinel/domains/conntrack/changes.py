"""What became of flows, kept a while for those who listen; and as they are told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.conntrack.events import CtChange, CtEnd
from ebpfsentinel.model.flows import Stage, opened_by, sides, stages
from ebpfsentinel.model.packets import PROTOCOLS, address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

KEPT = 32_768
_IPV6 = 6


class Changes:
    """The last rows of ``ct_events``, numbered from 0 on as they came.

    ``skipped`` counts what listeners were too slow for.
    """

    def __init__(self) -> None:
        self._batches: deque[tuple[int, NDArray[Any]]] = deque()
        self._kept = 0
        self.next = 0
        self.skipped = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Keep rows, and let go of the oldest."""
        if not len(rows):
            return
        self._batches.append((self.next, rows.copy()))
        self.next += len(rows)
        self._kept += len(rows)
        while self._kept > KEPT and len(self._batches) > 1:
            self._kept -= len(self._batches.popleft()[1])

    def since(self, number: int) -> tuple[int, list[NDArray[Any]]]:
        """The number to ask for next, and what is kept from ``number`` on."""
        oldest = self._batches[0][0] if self._batches else self.next
        self.skipped += max(oldest - number, 0)
        found = [rows[max(number - first, 0) :] for first, rows in self._batches]
        return self.next, [rows for rows in found if len(rows)]


def told(rows: NDArray[Any], boot_offset_ns: int) -> Iterator[dict[str, Any]]:
    """Each row as it is told."""
    first, where = opened_by(rows).tolist(), stages(rows).tolist()
    packets, size = (sides(rows, rows[name]) for name in ("packets", "bytes"))
    for at, row in enumerate(rows):
        change = CtChange(int(row["change"]))
        yield {
            "timestamp_ns": int(row["timestamp_ns"]) + boot_offset_ns,
            "event": change.name.removeprefix("CT_").lower(),
            "why": _why(row, change),
            **ends(row["key"], first[at]),
            "state": Stage(where[at]).word,
            "packets_fwd": int(packets[0][at]),
            "packets_rev": int(packets[1][at]),
            "bytes_fwd": int(size[0][at]),
            "bytes_rev": int(size[1][at]),
            "start_ns": int(row["start_ns"]) + boot_offset_ns,
        }


def _why(row: Any, change: CtChange) -> str | None:
    if change is not CtChange.CT_GONE:
        return None
    return CtEnd(int(row["why"])).name.removeprefix("CT_").lower()


def ends(key: Any, first: int) -> dict[str, Any]:
    """Who opened the flow to whom; ``first`` is the end that did."""
    ipv6, number = int(key["family"]) == _IPV6, int(key["protocol"])
    return {
        "src_ip": address(key["addr"][first], ipv6),
        "dst_ip": address(key["addr"][1 - first], ipv6),
        "src_port": int(key["port"][first]),
        "dst_port": int(key["port"][1 - first]),
        "protocol": PROTOCOLS.get(number, str(number)),
    }
