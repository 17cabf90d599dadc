"""The never-block floor: what no rule can shut out, so that the owner stays in."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP connection to ``local_port`` from ``remote`` port ``remote_port``."""

    remote: Address
    remote_port: int
    local_port: int


@dataclass(frozen=True, slots=True)
class Floor:
    """Packets that nothing may drop.

    Those on lo; from ``networks``; TCP to ``ports``, to ``listeners`` (address and port), and of
    ``connections``.
    """

    loopback: bool = False
    networks: frozenset[Network] = frozenset()
    ports: frozenset[int] = frozenset()
    listeners: frozenset[tuple[Address, int]] = frozenset()
    connections: frozenset[Connection] = frozenset()
