"""From rates to attacks: a state machine that only time moves.

A policy's rate goes above its threshold: detecting. It stays there for ``confirm_ms``: active, and
mitigated against. It stays below for ``calm_secs``: mitigated; above again for ``confirm_ms``:
active again. ``forget_secs`` of calm: expired, and the attack is history. How many packets or
events there were in between is all the same.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.ddos.rates import SECOND_NS

if TYPE_CHECKING:
    from ebpfsentinel.domains.ddos.settings import DdosPolicy, Detection

_MILLISECOND_NS = 1_000_000


class Status(enum.StrEnum):
    """Where an attack is in its life."""

    DETECTING = "detecting"
    ACTIVE = "active"
    MITIGATED = "mitigated"
    EXPIRED = "expired"


def attack_id(number: int) -> str:
    """What operators call the attack of this number."""
    return f"ddos-{number}"


@dataclass(slots=True)
class Attack:
    """One attack; times are wall time, nanoseconds.

    ``sources`` and ``targets`` are those that sent and got most, as ``{"ip", "pps", ...}``.
    """

    policy: DdosPolicy
    start_time_ns: int
    number: int = 0
    status: Status = Status.DETECTING
    current_pps: float = 0.0
    peak_pps: float = 0.0
    total_packets: float = 0.0
    source_count: int = 0
    end_time_ns: int | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """What operators call it; nothing before it is confirmed."""
        return attack_id(self.number) if self.number else ""

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.id or None,
            "attack_type": self.policy.attack_type.value,
            "policy": self.policy.id,
            "mitigation_action": self.policy.mitigation_action.value,
            "status": self.status.value,
            "start_time_ns": self.start_time_ns,
            "end_time_ns": self.end_time_ns,
            "current_pps": round(self.current_pps, 1),
            "peak_pps": round(self.peak_pps, 1),
            "threshold_pps": self.policy.detection_threshold_pps,
            "source_count": self.source_count,
            "total_packets": round(self.total_packets),
            "sources": self.sources,
            "targets": self.targets,
        }


@dataclass(slots=True)
class Watch:
    """One policy, watched. ``attack`` is None while all is quiet."""

    policy: DdosPolicy
    attack: Attack | None = None
    _since_ns: int = 0
    _turned_ns: int | None = None
    _seen_ns: int = 0

    @property
    def status(self) -> Status | None:
        """Of the attack there is."""
        return self.attack.status if self.attack else None

    def step(
        self, smooth: float, pps: float, now_ns: int, clock: Detection, number: int
    ) -> Status | None:
        """Time has passed; the status that has come, if one has.

        ``smooth`` is the averaged rate, ``pps`` that since the last step. An attack gets
        ``number`` when it is confirmed; one that is not goes without a word.
        """
        above = smooth >= self.policy.detection_threshold_pps
        if self.attack is None:
            if not above:
                return None
            self.attack = Attack(self.policy, now_ns)
            self._since_ns = self._seen_ns = now_ns
            return self._come(Status.DETECTING, now_ns)
        self._follow(smooth, pps, now_ns)
        if self.attack.status is Status.DETECTING:
            return self._confirm(above, now_ns, clock, number)
        return self._turn(above, now_ns, clock)

    def _follow(self, smooth: float, pps: float, now_ns: int) -> None:
        assert self.attack is not None  # noqa: S101 (asked by step)
        self.attack.current_pps = smooth
        self.attack.peak_pps = max(self.attack.peak_pps, smooth)
        self.attack.total_packets += pps * max(now_ns - self._seen_ns, 0) / SECOND_NS
        self._seen_ns = now_ns

    def _confirm(self, above: bool, now_ns: int, clock: Detection, number: int) -> Status | None:
        """An average stays up for a while after one burst: what came since must be enough, too."""
        assert self.attack is not None  # noqa: S101 (asked by step)
        if not above:
            self.attack = None
            return None
        passed_ns = now_ns - self._since_ns
        enough = self.policy.detection_threshold_pps * passed_ns / SECOND_NS
        if passed_ns < clock.confirm_ms * _MILLISECOND_NS or self.attack.total_packets < enough:
            return None
        self.attack.number = number
        return self._come(Status.ACTIVE, now_ns)

    def _turn(self, above: bool, now_ns: int, clock: Detection) -> Status | None:
        """Active while above, mitigated while below: each after its dwell time."""
        active = self.status is Status.ACTIVE
        if above == active:
            self._turned_ns = None
        elif self._turned_ns is None:
            self._turned_ns = now_ns
        if self._turned_ns is not None:
            calm_ns = clock.calm_secs * SECOND_NS
            dwell_ns = calm_ns if active else clock.confirm_ms * _MILLISECOND_NS
            if now_ns - self._turned_ns >= dwell_ns:
                return self._come(Status.MITIGATED if active else Status.ACTIVE, now_ns)
        over = now_ns - self._since_ns >= clock.forget_secs * SECOND_NS
        if not active and not above and over:
            return self._come(Status.EXPIRED, now_ns)
        return None

    def _come(self, status: Status, now_ns: int) -> Status:
        assert self.attack is not None  # noqa: S101 (asked by step)
        self.attack.status = status
        self._since_ns, self._turned_ns = now_ns, None
        if status is Status.EXPIRED:
            self.attack.end_time_ns = now_ns
        return status
