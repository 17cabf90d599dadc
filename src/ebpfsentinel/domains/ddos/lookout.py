"""Who sends and who gets most: the sampled tables, read only while there is a reason to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.ddos.attacks import Status
from ebpfsentinel.domains.ddos.settings import AttackType, Per
from ebpfsentinel.domains.ddos.suspects import Parties

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.ddos.attacks import Attack, Watch
    from ebpfsentinel.domains.ddos.rates import Rates

_SOON_NS, _AGAIN_NS = 100_000_000, 400_000_000
"""Between two looks: as often as can be before the first alert, then now and then."""


class Lookout:
    """Sources and targets of what goes on; nothing while all is quiet."""

    def __init__(self) -> None:
        self.sources, self.targets = Parties(), Parties()
        self._most: dict[tuple[AttackType, Per], float] = {}
        self._looked_ns = 0

    def wanted(self, watches: Sequence[Watch], rates: Rates, now_ns: int) -> tuple[str, ...]:
        """The tables to read now."""
        attacks = [watch.attack for watch in watches if watch.attack]
        if not attacks and not any(_might_be(watch, rates) for watch in watches):
            self.sources.forget()
            self.targets.forget()
            self._most.clear()
            return ()
        soon = not attacks or any(attack.status is Status.DETECTING for attack in attacks)
        if now_ns - self._looked_ns < (_SOON_NS if soon else _AGAIN_NS):
            return ()
        self._looked_ns = now_ns
        return "ddos_targets", "ddos_sources"

    def see_targets(self, rows: NDArray[Any], watches: Sequence[Watch], now_ns: int) -> None:
        """Take in the table of targets."""
        if not self.targets.look(rows, now_ns):
            return
        for attack in _attacks(watches):
            if seen := self.targets.of(attack.policy.attack_type.number):
                attack.targets = seen.top()
        for kind, per in _counted_apart(watches):
            if per is Per.DESTINATION and (seen := self.targets.of(kind.number)):
                self._most[kind, per] = seen.most()

    def see_sources(self, rows: NDArray[Any], watches: Sequence[Watch], now_ns: int) -> bool:
        """Take in the table of sources; False at the first look, which tells no rates."""
        if not self.sources.look(rows, now_ns):
            return False
        for attack in _attacks(watches):
            if seen := self.sources.of(attack.policy.attack_type.number):
                attack.sources = seen.top()
                attack.source_count = max(attack.source_count, len(seen.keys))
        for kind, per in _counted_apart(watches):
            if per is not Per.DESTINATION and (seen := self.sources.of(kind.number)):
                whole = per is Per.SOURCE
                self._most[kind, per] = seen.most() if whole else seen.most_of_prefix()
        return True

    def most_of(self, kind: AttackType, per: Per) -> float:
        """Packets a second of the source, prefix or target that has most of a type."""
        return self._most.get((kind, per), 0.0)


def _attacks(watches: Iterable[Watch]) -> list[Attack]:
    return [watch.attack for watch in watches if watch.attack]


def _might_be(watch: Watch, rates: Rates) -> bool:
    """Is there so much that one source or target alone could be above the threshold?"""
    policy = watch.policy
    smooth, _ = rates.of(policy.attack_type.number)
    return policy.per is not Per.HOST and smooth >= policy.detection_threshold_pps


def _counted_apart(watches: Iterable[Watch]) -> set[tuple[AttackType, Per]]:
    """What policies count by source, prefix or target."""
    policies = (watch.policy for watch in watches)
    return {(each.attack_type, each.per) for each in policies if each.per is not Per.HOST}
