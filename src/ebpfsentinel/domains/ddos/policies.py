"""Policies: the user's, those added while running, and the product's own where there is none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.ddos.settings import MAX_POLICIES, AttackType, DdosPolicy
from ebpfsentinel.model.settings import SettingsError, check_rule_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import msgspec

    from ebpfsentinel.domains.ddos.settings import DdosSettings

_OWN_PPS = {
    AttackType.SYN_FLOOD: 10_000,
    AttackType.UDP_AMPLIFICATION: 5_000,
    AttackType.ICMP_FLOOD: 1_000,
    AttackType.RST_FLOOD: 2_000,
    AttackType.FIN_FLOOD: 5_000,
    AttackType.ACK_FLOOD: 10_000,
    AttackType.VOLUMETRIC: 500_000,
}
"""Thresholds of the product's own policies: far above what a busy server sees."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, where it is written, and whose it is."""

    rule: DdosPolicy
    place: str
    origin: str


def checked(settings: DdosSettings, runtime: Sequence[msgspec.Struct]) -> list[Policy]:
    """All policies in force.

    Raises:
        SettingsError: an id is taken twice or none; a source's threshold is above the whole; a port
            is listed twice; there are too many.
    """
    _check_ports(settings)
    found = list(_written(settings, runtime))
    if len(found) > MAX_POLICIES:
        raise SettingsError("ddos.policies", f"{len(found)} policies; {MAX_POLICIES} is the most")
    seen = Counter(each.rule.id for each in found)
    for each in found:
        check_rule_id(f"{each.place}.id", each.rule.id)
        if seen[each.rule.id] > 1:
            raise SettingsError(f"{each.place}.id", f"{each.rule.id!r} stands twice")
        _check_thresholds(each)
    return found


def _written(settings: DdosSettings, runtime: Sequence[msgspec.Struct]) -> Iterator[Policy]:
    for at, policy in enumerate(settings.policies):
        yield Policy(policy, f"ddos.policies[{at}]", "config")
    for item in runtime:
        assert isinstance(item, DdosPolicy)  # noqa: S101 (the collection's item type)
        yield Policy(item, f"policy {item.id}", "runtime")
    taken = {policy.attack_type for policy in settings.policies}
    taken |= {item.attack_type for item in runtime if isinstance(item, DdosPolicy)}
    for kind, pps in _OWN_PPS.items():
        if kind not in taken:
            rule = DdosPolicy(
                id=f"default-{kind.value}", attack_type=kind, detection_threshold_pps=pps
            )
            yield Policy(rule, "the product's own", "system")


def _check_thresholds(found: Policy) -> None:
    rule = found.rule
    if (rule.source_threshold_pps or 0) > rule.detection_threshold_pps:
        raise SettingsError(
            f"{found.place}.source_threshold_pps",
            f"{rule.source_threshold_pps} is above detection_threshold_pps",
            "One source alone would not be noticed: write less.",
        )


def _check_ports(settings: DdosSettings) -> None:
    wanted = settings.amplification_protection
    seen = Counter(each.port for each in wanted.ports)
    for at, each in enumerate(wanted.ports):
        if seen[each.port] > 1:
            place = f"ddos.amplification_protection.ports[{at}].port"
            raise SettingsError(place, f"{each.port} stands twice", "Keep one.")
    if wanted.enabled and not wanted.ports:
        raise SettingsError(
            "ddos.amplification_protection.ports", "there are none", "Name some, or disable it."
        )
