"""DDoS defence's pure half: rates to attacks, attacks to measures that lapse by themselves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ddos.alerting import attack_alert, event_alerts
from ebpfsentinel.domains.ddos.attacks import Status, Watch
from ebpfsentinel.domains.ddos.baseline import Normal
from ebpfsentinel.domains.ddos.blocks import Blocks
from ebpfsentinel.domains.ddos.events import DDOS_COUNT, DdosEvents
from ebpfsentinel.domains.ddos.lookout import Lookout
from ebpfsentinel.domains.ddos.policies import checked
from ebpfsentinel.domains.ddos.rates import SECOND_NS, Rates
from ebpfsentinel.domains.ddos.samples import samples_of
from ebpfsentinel.domains.ddos.settings import (
    STRAY,
    AttackType,
    DdosPolicyView,
    DdosSettings,
    Mitigation,
    Per,
)
from ebpfsentinel.domains.ddos.suspects import number_of, to_block
from ebpfsentinel.domains.ddos.tables import THROTTLE_NS, every_of, head_of, ports_of, throttles
from ebpfsentinel.model.domain import Outcome, Plan, Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.domains.ddos.attacks import Attack
    from ebpfsentinel.domains.ddos.policies import Policy
    from ebpfsentinel.domains.ddos.settings import DdosPolicy
    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Metric, Tools

_HISTORY = 100
_MEMO_NS = 60 * SECOND_NS
_TYPES = len(AttackType)


@dataclass(frozen=True, slots=True)
class InForce:
    """Settings, and all policies: the user's and the product's own."""

    settings: DdosSettings
    policies: tuple[Policy, ...] = ()
    boot_offset_ns: int = 0


@dataclass(slots=True)
class Looking:
    """When was looked at what, wall time."""

    blocks_ns: int = 0
    memo_ns: int = 0
    head_ns: int = 0


@dataclass(slots=True)
class Past:
    """Attacks that are over, and how many there ever were."""

    attacks: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    number: int = 0
    detected: dict[str, int] = field(default_factory=dict)
    mitigated: int = 0


class DdosEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._now = InForce(DdosSettings())
        self._watches: dict[str, Watch] = {}
        self._counts = np.zeros(1, DDOS_COUNT)
        self._rates = Rates(_TYPES)
        self._normal = Normal()
        self._blocks = Blocks()
        self._lookout = Lookout()
        self._looking = Looking()
        self._stance_in_force: tuple[Any, ...] = ()
        self.past = Past()

    def recall(self, memo: Mapping[str, Any]) -> None:
        """The history and what was learned before the restart."""
        self.past.attacks.extend(memo.get("history", []))
        self.past.number = int(memo.get("number", 0))
        self._normal.recall(memo.get("baseline", {}))

    def _memo(self) -> dict[str, Any]:
        return {
            "history": list(self.past.attacks),
            "number": self.past.number,
            "baseline": self._normal.memo(),
        }

    def plan(
        self,
        settings: DdosSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Check the policies; guards and measures go into one head.

        Raises:
            SettingsError: a policy or a port cannot be taken.
        """
        policies = checked(settings, runtime.get("policies", ()))
        state = InForce(settings, tuple(policies), around.boot_offset_ns)
        boot_ns = around.now_ns - around.boot_offset_ns
        watches = self._watched(state)
        head = head_of(settings, list(watches.values()), boot_ns, blocking=True)
        return Plan(state, (ports_of(settings), head))

    def _watched(self, state: InForce) -> dict[str, Watch]:
        """Attacks go on under a policy that stays; one that is changed or gone begins anew."""
        wanted = {found.rule.id: found.rule for found in state.policies if found.rule.enabled}
        return {
            name: self._watches[name]
            if name in self._watches and self._watches[name].policy == policy
            else Watch(policy)
            for name, policy in wanted.items()
        }

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        self._now = plan.state
        self._watches = self._watched(plan.state)
        self._stance_in_force = ()  # the plan's head knows of no block

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Counts to rates; sampled parties to suspects; refused packets to alerts."""
        if source == "ddos_count":
            self._counts = rows.copy()
        elif source == "ddos_sources":
            return self._look_at_sources(rows, now_ns)
        elif source == "ddos_targets":
            self._lookout.see_targets(rows, self._all(), now_ns)
        elif source == "ddos_known":
            return self._block(rows, now_ns)
        elif source == "ddos_blocked":
            return self._take_blocks(rows, now_ns)
        else:
            alerts = event_alerts(DdosEvents(rows), self._now.boot_offset_ns)
            return Outcome(list(alerts))
        return Outcome()

    def tick(self, now_ns: int) -> Outcome:
        """Time has passed: rates are measured, attacks come and go."""
        constant_ns = self._now.settings.detection.time_constant_ms * 1_000_000
        if not self._rates.look(self._packets(), now_ns, constant_ns):
            return Outcome()
        alerts = list(self._step(now_ns))
        actions = self._measures(now_ns)
        if self._now.settings.baseline.enabled:
            self._normal.learn(self._rates.pps, self._attacked(), now_ns)
        memo = None
        if now_ns - self._looking.memo_ns >= _MEMO_NS:
            memo, self._looking.memo_ns = self._memo(), now_ns
        return Outcome(alerts, actions, memo, wanted=self._wanted(now_ns))

    def _packets(self) -> NDArray[np.float64]:
        """Packets by attack type; of RSTs, FINs and ACKs those that belong to no flow."""
        packets: NDArray[np.float64] = self._counts["packets"][0].astype(np.float64)
        for kind in STRAY:
            packets[kind.number] = self._counts["stray"][0, kind.number]
        return packets

    def _step(self, now_ns: int) -> Sequence[Alert]:
        alerts = []
        for watch in self._watches.values():
            kind = watch.policy.attack_type
            smooth, pps = self._rate_of(watch.policy)
            attack, clock = watch.attack, self._now.settings.detection
            came = watch.step(smooth, pps, now_ns, clock, self.past.number + 1)
            if attack and attack.number > self.past.number:
                self.past.number = attack.number
                self.past.detected[kind.value] = self.past.detected.get(kind.value, 0) + 1
            if came is Status.MITIGATED:
                self.past.mitigated += 1
            if came is Status.EXPIRED and attack:
                self.past.attacks.append(attack.body())
                watch.attack = None
            if came and came is not Status.DETECTING and attack:
                alerts.append(attack_alert(attack, self._now.settings.mode, now_ns))
        return alerts

    def _rate_of(self, policy: DdosPolicy) -> tuple[float, float]:
        """Averaged and last rate of what the policy counts together."""
        smooth, pps = self._rates.of(policy.attack_type.number)
        if policy.per is Per.HOST:
            return smooth, pps
        most = self._lookout.most_of(policy.attack_type, policy.per)
        return min(most, smooth), min(most, pps)

    def _stance(self) -> tuple[Any, ...]:
        """What of attacks and blocks the head depends on."""
        attacked = [(name, watch) for name, watch in self._watches.items() if watch.attack]
        return self._blocks.any(), *((name, w.status, every_of(w)) for name, w in attacked)

    def _measures(self, now_ns: int) -> list[Action]:
        """A new head when something has changed, or a throttle must not lapse yet."""
        actions = self._blocks.expire(now_ns)
        throttling = any(throttles(watch) for watch in self._watches.values())
        due = throttling and now_ns - self._looking.head_ns >= THROTTLE_NS // 3
        stance = self._stance()
        if not due and stance == self._stance_in_force:
            return actions
        self._looking.head_ns, self._stance_in_force = now_ns, stance
        boot_ns = now_ns - self._now.boot_offset_ns
        head = head_of(self._now.settings, self._all(), boot_ns, blocking=self._blocks.any())
        return [*actions, head]

    def _attacked(self) -> set[AttackType]:
        return {watch.policy.attack_type for watch in self._watches.values() if watch.attack}

    def _wanted(self, now_ns: int) -> tuple[str, ...]:
        """Tables to be read: who sends, while there is an attack; what is blocked, now and then."""
        wanted = self._lookout.wanted(self._all(), self._rates, now_ns)
        if now_ns - self._looking.blocks_ns >= SECOND_NS and self._blocks.any():
            self._looking.blocks_ns = now_ns
            wanted += ("ddos_blocked",)
        return wanted

    def _all(self) -> list[Watch]:
        return list(self._watches.values())

    def _attacks(self) -> list[Attack]:
        return [watch.attack for watch in self._watches.values() if watch.attack]

    def _look_at_sources(self, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Whoever is to be blocked must not be known: that is asked next."""
        seen = self._lookout.see_sources(rows, self._all(), now_ns)
        asks = seen and any(map(_blocks_sources, self._all()))
        return Outcome(wanted=("ddos_known",) if asks else ())

    def _block(self, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Block those that send more than they may, for as long as their policy says."""
        known = {
            (int(key["family"]), number_of(key["addr"], int(key["family"]))) for key in rows["key"]
        }
        actions: list[Action] = []
        for watch in filter(_blocks_sources, self._watches.values()):
            seen = self._lookout.sources.of(watch.policy.attack_type.number)
            if seen is None or watch.attack is None:
                continue
            found = to_block(seen, watch.policy, known, self._blocks.room())
            until_ns = now_ns + watch.policy.auto_block_duration_secs * SECOND_NS
            actions += self._blocks.add(
                found, watch.attack, until_ns, self._now.boot_offset_ns, now_ns
            )
        return Outcome(actions=[*actions, *self._measures(now_ns)])

    def _take_blocks(self, rows: NDArray[Any], now_ns: int) -> Outcome:
        self._blocks.take(rows, self._now.boot_offset_ns, now_ns)
        return Outcome()

    def items(self, collection: str) -> Sequence[DdosPolicyView]:
        """All policies, those of the product included."""
        return [self._view(found) for found in self._now.policies]

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return any(found.rule.id == key for found in self._now.policies)

    def _view(self, found: Policy) -> DdosPolicyView:
        rule = found.rule
        return DdosPolicyView(
            id=rule.id,
            attack_type=rule.attack_type.value,
            per=rule.per.value,
            detection_threshold_pps=rule.detection_threshold_pps,
            mitigation_action=rule.mitigation_action.value,
            source_threshold_pps=rule.source_pps,
            auto_block_duration_secs=rule.auto_block_duration_secs,
            enabled=rule.enabled,
            origin=found.origin,
            current_pps=round(self._rate_of(rule)[0], 1),
        )

    def attacks(self) -> list[dict[str, Any]]:
        """Those that go on, as JSON; what is not confirmed yet is among them."""
        return [attack.body() for attack in self._attacks()]

    def blocked(self) -> list[dict[str, Any]]:
        """Sources and prefixes that are blocked, as JSON."""
        return self._blocks.body()

    def parties(self) -> dict[str, list[dict[str, Any]]]:
        """Who sends and who gets most in the attacks that go on, by attack type."""
        kinds = sorted(self._attacked(), key=lambda kind: kind.number)
        found = {kind.value: self._lookout.sources.of(kind.number) for kind in kinds}
        return {name: seen.top() for name, seen in found.items() if seen}

    def baseline(self) -> dict[str, Any]:
        """What is normal, and the thresholds that follow from it."""
        return self._normal.proposal(self._now.settings.baseline.margin)

    def status(self) -> dict[str, Any]:
        """Mode, guards, rates and attacks."""
        settings = self._now.settings
        guards = {
            "syn_protection": settings.syn_protection.enabled,
            "icmp_protection": settings.icmp_protection.enabled,
            "amplification_protection": settings.amplification_protection.enabled,
            "connection_tracking": settings.connection_tracking.enabled,
        }
        current = {
            kind.value: round(float(self._rates.smooth[kind.number]), 1) for kind in AttackType
        }
        return {
            "enabled": settings.enabled,
            "mode": settings.mode.value,
            "guards": guards,
            "active_attacks": sum(a.status is Status.ACTIVE for a in self._attacks()),
            "policy_count": len(self._now.policies),
            "rule_count": len(self._now.policies),
            "total_mitigated": self.past.mitigated,
            "blocked": len(self._blocks),
            "refused": {k.value: int(self._counts["refused"][0, k.number]) for k in AttackType},
            "current_pps": current,
            "cookies": {
                name.removeprefix("cookies_"): int(self._counts[name][0])
                for name in self._counts.dtype.names or ()
                if name.startswith("cookies_")
            },
        }

    def metrics(self) -> Sequence[Metric]:
        """Everything that is counted, and the attacks."""
        active = sum(attack.status is Status.ACTIVE for attack in self._attacks())
        return list(
            samples_of(self._counts, self.past.detected, active, self.past.mitigated, self._blocks)
        )


def _blocks_sources(watch: Watch) -> bool:
    return watch.status is Status.ACTIVE and watch.policy.mitigation_action is Mitigation.BLOCK
