"""Scrubbing's pure half: settings to one head, counters to views, dropped packets to alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.scrub.alerting import alerts_of
from ebpfsentinel.domains.scrub.events import SC_COUNT, ScEvents, ScMode, ScWay
from ebpfsentinel.domains.scrub.settings import ScrubSettings
from ebpfsentinel.domains.scrub.tables import changes_of, head_of
from ebpfsentinel.model.action import Engage, Swap
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.domain import Tools

WAYS = {ScWay.SC_INGRESS: "ingress", ScWay.SC_EGRESS: "egress"}
PROGRAMS = {ScWay.SC_INGRESS: "tc_scrub", ScWay.SC_EGRESS: "egress_scrub"}
COUNTERS: tuple[str, ...] = SC_COUNT.names or ()
_MODES = {ScMode.SC_MODE_ALERT: "would", ScMode.SC_MODE_BLOCK: "done"}


@dataclass(frozen=True, slots=True)
class InForce:
    """The settings, and what turns the boot clock into wall time."""

    settings: ScrubSettings
    boot_offset_ns: int = 0


class ScrubEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._now = InForce(ScrubSettings())
        self._counts = np.zeros(len(WAYS) * len(_MODES), SC_COUNT)

    def recall(self, memo: Mapping[str, Any]) -> None:
        """There is nothing to recall."""

    def plan(
        self,
        settings: ScrubSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """All settings in one head, in force from one packet to the next.

        A direction in which nothing is to be done is not looked at.

        Raises:
            SettingsError: a value contradicts another, or an interface is not guarded.
        """
        head = head_of(settings, around.interfaces)
        engaged = (
            Engage(program, on=bool(head["changes"][0, way])) for way, program in PROGRAMS.items()
        )
        state = InForce(settings, around.boot_offset_ns)
        return Plan(state, (Swap("sc_head", 0, head), *engaged))

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        self._now = plan.state

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Counters are kept; packets that were dropped become alerts."""
        if source == "sc_count":
            self._counts = rows.copy()
            return Outcome()
        return Outcome(list(alerts_of(ScEvents(rows), self._now.boot_offset_ns)))

    def tick(self, now_ns: int) -> Outcome:
        """Time changes nothing here."""
        return Outcome()

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """There are no collections."""
        return ()

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return False

    def status(self) -> dict[str, Any]:
        """What is in force, and the counters of the mode in force, in all and by direction."""
        settings = self._now.settings
        block = settings.mode is Mode.BLOCK
        mode = ScMode.SC_MODE_BLOCK if block else ScMode.SC_MODE_ALERT
        by_way = {name: self._row(way, mode) for way, name in WAYS.items()}
        return {
            "enabled": settings.enabled,
            "mode": settings.mode.value,
            "direction": settings.direction.value,
            "interfaces": settings.interfaces,
            "changes": [
                change.name.removeprefix("SC_").lower()
                for change, asked in changes_of(settings).items()
                if asked
            ],
            **{each: sum(row[each] for row in by_way.values()) for each in COUNTERS},
            **by_way,
        }

    def _row(self, way: ScWay, mode: ScMode) -> dict[str, int]:
        row = self._counts[way * len(_MODES) + mode]
        return {name: int(row[name]) for name in COUNTERS}

    def metrics(self) -> Sequence[Metric]:
        """Every counter, by direction; what alert mode would have done apart from what was done."""
        return list(self._samples())

    def _samples(self) -> Iterator[Metric]:
        text = "Packets by what was done to them; would: in alert mode, nothing was"
        for way, direction in WAYS.items():
            for mode, effect in _MODES.items():
                for change, count in self._row(way, mode).items():
                    labels = {"change": change, "direction": direction, "effect": effect}
                    yield Metric("scrub_packets", "counter", text, labels, float(count))
