"""A whole rule set as plain values: from the running agent to one that tries it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings


class InForce(msgspec.Struct, kw_only=True):
    """What the running agent has in force: its settings, rules added since, and interfaces."""

    settings: FirewallSettings
    runtime: list[FirewallRule]
    interfaces: list[str]


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A rule set and where it comes from, in words."""

    settings: FirewallSettings
    runtime: Sequence[FirewallRule]
    interfaces: Sequence[str]
    where: str

    def head(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "from": self.where,
            "mode": self.settings.mode.value,
            "default_policy": self.settings.default_policy.value,
            "rule_count": len(self.settings.rules) + len(self.runtime),
        }


def in_force(engine: FirewallEngine, interfaces: Sequence[str]) -> InForce:
    """What ``engine`` has in force."""
    settings, rules = engine.in_force()
    runtime = [found.rule for found in rules if found.origin == "runtime"]
    return InForce(settings=settings, runtime=runtime, interfaces=list(interfaces))
