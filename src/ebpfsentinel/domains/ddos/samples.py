"""Counters as Prometheus samples: every one of them has a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.ddos.events import DdosReason
from ebpfsentinel.domains.ddos.settings import AttackType
from ebpfsentinel.model.domain import Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from ebpfsentinel.domains.ddos.blocks import Blocks

_CAPACITY = {"new_sources": 2 * 65_536, "new_meters": 131_072, "new_known": 65_536}
"""Entries of the tables that these count what was written to (``ddos.h``)."""


def samples_of(
    counts: NDArray[Any],
    detected: Mapping[str, int],
    active: int,
    mitigated: int,
    blocks: Blocks,
) -> Iterator[Metric]:
    """All metrics of the domain."""
    row = counts[0]
    yield from _by_type(row, "packets", "ddos_packets", "Packets by what they may be part of")
    yield from _by_type(row, "refused", "ddos_refused", "Refused packets; in alert mode: would be")
    for reason in list(DdosReason)[1:-1]:
        labels = {"reason": reason.name.removeprefix("DDOS_").lower()}
        count = float(row["by_reason"][reason])
        yield Metric("ddos_refused_by", "counter", "Refused packets by reason", labels, count)
    for name in ("sent", "room", "none", "valid", "invalid"):
        count = float(row[f"cookies_{name}"])
        text = "SYN cookies sent; not sent (room, none); received"
        yield Metric("ddos_syncookies", "counter", text, {"result": name}, count)
    text = "Packets over a limit, let through: their flow has a socket here"
    yield Metric("ddos_spared", "counter", text, {}, float(row["spared"]))
    for name, capacity in _CAPACITY.items():
        labels = {"table": name.removeprefix("new_")}
        count = float(max(int(row[name]) - capacity, 0))
        text = "Entries that a full table forgot for new ones"
        yield Metric("ddos_evictions", "counter", text, labels, count)
    for kind, number in detected.items():
        labels = {"attack_type": kind}
        yield Metric("ddos_attacks_detected", "counter", "Attacks", labels, float(number))
    yield Metric("ddos_attacks_active", "gauge", "Attacks that go on", {}, float(active))
    yield Metric("ddos_mitigations", "counter", "Attacks that have ended", {}, float(mitigated))
    yield Metric("ddos_blocked", "gauge", "Sources and prefixes blocked", {}, float(len(blocks)))


def _by_type(row: Any, field: str, name: str, text: str) -> Iterator[Metric]:
    for kind in AttackType:
        labels = {"attack_type": kind.value}
        yield Metric(name, "counter", text, labels, float(row[field][kind.number]))
