"""Connection tracking's pure half: the table that is wanted, and what has become of flows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.conntrack.changes import Changes
from ebpfsentinel.domains.conntrack.events import CT_FAST_COUNT, FLOW_COUNT, CtOnlooker, FlowClass
from ebpfsentinel.domains.conntrack.settings import ConntrackSettings
from ebpfsentinel.domains.conntrack.table import head_of
from ebpfsentinel.model.action import Engage, FlowTable, Run
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.domain import Metric, Outcome, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.domain import Surroundings, Tools

SWEEP_PARTS = 1024
"""Runs of ``flow_sweep`` a second: half of the table."""
_CALM_NS = 60_000_000_000
_FAST_PATH = ("tc_fast_path", "egress_fast_path")
_ONLOOKERS = tuple(
    each.name.removeprefix("CT_ONLOOKER_").lower()
    for each in CtOnlooker
    if each is not CtOnlooker.CT_ONLOOKER_NONE
)
_EVICTED = tuple(each.name.removeprefix("FLOW_CLASS_").lower() for each in FlowClass)
_GONE = ("expired", "replaced", "ended", "move_lost")
_COUNTED = (
    ("conntrack_created", "created", "Flows put down"),
    ("conntrack_expired", "expired", "Flows that lapsed"),
    ("conntrack_replaced", "replaced", "Closed flows opened anew under the same addresses"),
    ("conntrack_ended", "ended", "Flows ended on demand"),
    ("conntrack_moved", "moved_in", "Flows moved to a table of another size"),
    ("conntrack_move_lost", "move_lost", "Flows that a table of another size had no room for"),
    ("conntrack_full", "full", "Packets of flows that the table had no room for"),
    ("conntrack_raced", "raced", "Packets not counted: another CPU was at the same place"),
    ("conntrack_packets", "tracked", "Packets tracked"),
    ("conntrack_invalid", "invalid", "Packets that belong to no flow and can begin none"),
    ("conntrack_related", "related", "ICMP errors about packets of a flow"),
    ("conntrack_fragments_lost", "fragments_lost", "Fragments that came before their first"),
    ("conntrack_sources_full", "sources_full", "Flows not counted with their source"),
)


@dataclass(frozen=True, slots=True)
class InForce:
    """What was committed last."""

    settings: ConntrackSettings
    boot_offset_ns: int = 0


class ConntrackEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, _: Tools) -> None:
        self._now = InForce(ConntrackSettings())
        self._count = np.zeros(1, FLOW_COUNT)
        self._fast = np.zeros(1, CT_FAST_COUNT)
        self._known = False
        self._crowded_ns = -_CALM_NS
        self.changes = Changes()

    @property
    def boot_offset_ns(self) -> int:
        """What to add to a boot-clock time to get wall time."""
        return self._now.boot_offset_ns

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Nothing: all there is to know is in the table."""

    def plan(
        self,
        settings: ConntrackSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """The table that the settings want; one of that size stays as it is, with its flows."""
        table = FlowTable(head_of(settings, around))
        on = settings.enabled and settings.fast_path
        fast = (Engage(program, on=on) for program in _FAST_PATH)
        return Plan(InForce(settings, around.boot_offset_ns), (table, *fast))

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        self._now = plan.state

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Counters are kept for views; what became of flows is kept for those who listen."""
        if source == "flow_count":
            return Outcome(list(self._take(rows, now_ns)))
        if source == "ct_fast":
            self._fast = rows.copy()
            return Outcome()
        self.changes.add(rows)
        return Outcome()

    def _take(self, rows: NDArray[Any], now_ns: int) -> Iterator[Alert]:
        """An alert when the table begins to be too small: it was not for a minute."""
        more = _crowding(rows[0]) - _crowding(self._count[0])
        known, self._count, self._known = self._known, rows.copy(), True
        if more <= 0 or not known:
            return
        calm = now_ns - self._crowded_ns >= _CALM_NS
        self._crowded_ns = now_ns
        if calm:
            yield _full_alert(more, now_ns, self._now.settings.max_entries)

    def tick(self, now_ns: int) -> Outcome:
        """Have lapsed flows taken out, also where no packet comes that would do it."""
        if not self.active():
            return Outcome()
        return Outcome(actions=[Run("flow_sweep", repeat=SWEEP_PARTS)])

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """None: there are no collections."""
        raise KeyError(collection)

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        raise KeyError(collection, key)

    def active(self) -> int:
        """Flows in the table; one that has lapsed counts until it is taken out."""
        row = self._count[0]
        gone = sum(int(row[name]) for name in _GONE) + int(row["evicted"].sum())
        return max(int(row["created"]) - gone, 0)

    def status(self) -> dict[str, Any]:
        """Size, settings, and what has become of flows."""
        settings, row = self._now.settings, self._count[0]
        timeouts = settings.timeouts
        return {
            "enabled": settings.enabled,
            "active": self.active(),
            "max_entries": settings.max_entries,
            "pickup": settings.pickup,
            "window_checks": settings.window_checks,
            "events": settings.events,
            **{name: int(row[column]) for name, column in _shown()},
            "evicted": {kind: int(row["evicted"][at]) for at, kind in enumerate(_EVICTED)},
            "fast_path": {
                "enabled": settings.fast_path,
                "packets": int(self._fast["packets"][0]),
                "learned": int(self._fast["learned"][0]),
                "watched": self._watched(),
            },
            "timeouts": {name: getattr(timeouts, name) for name in timeouts.__struct_fields__},
        }

    def _watched(self) -> dict[str, int]:
        return dict(zip(_ONLOOKERS, self._fast["watched"][0].tolist(), strict=True))

    def metrics(self) -> Sequence[Metric]:
        """Flows there are, and what has become of others."""
        return list(self._samples())

    def _samples(self) -> Iterator[Metric]:
        row = self._count[0]
        yield Metric("conntrack_active", "gauge", "Flows in the table", {}, float(self.active()))
        limit = float(self._now.settings.max_entries)
        yield Metric("conntrack_max_entries", "gauge", "Flows there is room for", {}, limit)
        for name, column, text in _COUNTED:
            yield Metric(name, "counter", text, {}, float(row[column]))
        for at, kind in enumerate(_EVICTED):
            text, value = "Flows that gave way to a new one", float(row["evicted"][at])
            yield Metric("conntrack_evicted", "counter", text, {"kind": kind}, value)
        text, value = "Packets sent past the host's stack", float(self._fast["packets"][0])
        yield Metric("conntrack_fast_path_packets", "counter", text, {}, value)
        for by, count in self._watched().items():
            text = "How often somebody else was found looking at what the host forwards"
            yield Metric("conntrack_fast_path_watched", "counter", text, {"by": by}, float(count))
        yield Metric(
            "conntrack_events_skipped",
            "counter",
            "Changes of flows that a slow listener was not told",
            {},
            float(self.changes.skipped),
        )


def _shown() -> Iterator[tuple[str, str]]:
    for name, column, _ in _COUNTED:
        yield name.removeprefix("conntrack_"), column


def _crowding(row: Any) -> int:
    """Flows that were there and gave way, and packets that found no room."""
    return int(row["full"]) + int(row["evicted"][1:].sum())


def _full_alert(more: int, now_ns: int, limit: int) -> Alert:
    return Alert(
        timestamp_ns=now_ns,
        component="conntrack",
        severity=Severity.MEDIUM,
        rule_id="conntrack-table",
        action="alert",
        message=f"the flow table is full: {more} flows gave way or found no room; "
        f"raise conntrack.max_entries ({limit}), or look for who opens so many",
    )
