"""A whole rule set as plain values: from the running agent to one that tries it."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.model.access import Attempt
from ebpfsentinel.model.floor import Connection, Floor


class Spared(msgspec.Struct, kw_only=True):
    """The never-block floor in plain values; see :class:`~ebpfsentinel.model.floor.Floor`."""

    networks: list[str]
    ports: list[int]
    listeners: list[tuple[str, int]]
    connections: list[tuple[str, int, int]]

    @classmethod
    def of(cls, floor: Floor) -> Self:
        """Those of a floor."""
        return cls(
            networks=sorted(map(str, floor.networks)),
            ports=sorted(floor.ports),
            listeners=[(str(address), port) for address, port in floor.listeners],
            connections=[
                (str(each.remote), each.remote_port, each.local_port) for each in floor.connections
            ],
        )

    def floor(self) -> Floor:
        """The floor again; what comes in on lo is not tried."""
        return Floor(
            networks=frozenset(ipaddress.ip_network(text) for text in self.networks),
            ports=frozenset(self.ports),
            listeners=frozenset((ipaddress.ip_address(a), port) for a, port in self.listeners),
            connections=frozenset(
                Connection(ipaddress.ip_address(remote), *ports)
                for remote, *ports in self.connections
            ),
        )


class InForce(msgspec.Struct, kw_only=True):
    """What the running agent has in force: its settings, rules added since, and interfaces.

    ``addresses`` is what DNS names resolve to, ``namespaces`` which interfaces lead where,
    ``api_ports`` what stays open, ``spared`` what no rule can drop, ``provided`` what rules may
    build on.
    """

    settings: FirewallSettings
    runtime: list[FirewallRule]
    interfaces: list[str]
    addresses: dict[str, list[str]]
    namespaces: dict[str, list[str]]
    api_ports: list[int]
    spared: Spared
    provided: list[str]


@dataclass(frozen=True, slots=True)
class RuleSource:
    """A rule set and where it comes from, in words."""

    settings: FirewallSettings
    runtime: Sequence[FirewallRule]
    interfaces: Sequence[str]
    where: str
    known: Mapping[str, Any] = field(default_factory=dict)
    floor: Floor = field(default_factory=Floor)

    def attempt(self, *more: str) -> Attempt:
        """To be tried; ``more`` interfaces may be there."""
        there = list(dict.fromkeys([*self.interfaces, *filter(None, more)]))
        return Attempt(self.settings, {"rules": self.runtime}, there, self.known, self.floor)

    def head(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "from": self.where,
            "mode": self.settings.mode.value,
            "default_policy": self.settings.default_policy.value,
            "rule_count": len(self.settings.rules) + len(self.runtime),
        }


def in_force(engine: FirewallEngine, interfaces: Sequence[str], floor: Floor) -> InForce:
    """What ``engine`` has in force."""
    settings, rules = engine.in_force()
    runtime = [found.rule for found in rules if found.origin == "runtime"]
    around = engine.surroundings()
    return InForce(
        settings=settings,
        runtime=runtime,
        interfaces=list(interfaces),
        addresses={name: list(found) for name, found in around.addresses.items()},
        api_ports=list(around.api_ports),
        namespaces={name: list(found) for name, found in around.namespaces.items()},
        spared=Spared.of(floor),
        provided=sorted(around.provided),
    )
