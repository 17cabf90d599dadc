"""Works out the never-block floor: who is there now, and what the configuration adds.

Both halves do: the agent for a kernel of its own, and the keeper, which believes nobody else.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass

from ebpfsentinel.kernel.sessions import Sessions
from ebpfsentinel.model.floor import Connection, Floor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Protection:
    """What the configuration says of it: ``agent.never_block``, and where the API listens.

    ``loopback``: the API listens there only. ``ports`` None: the API's, at its address.
    """

    enabled: bool = True
    addresses: tuple[str, ...] = ()
    ports: tuple[int, ...] | None = None
    sessions: bool = True
    bind_address: str = "127.0.0.1"
    loopback: bool = True
    http_port: int = 0


class Protector:
    """Works it out, again and again."""

    def __init__(self) -> None:
        self._sessions = Sessions()
        self._blind = False

    def work_out(self, wanted: Protection) -> Floor:
        """The floor as it should be now."""
        if not wanted.enabled:
            return Floor()
        ports, listeners = set(wanted.ports or ()), set()
        if wanted.ports is None and wanted.http_port and not wanted.loopback:
            address = ipaddress.ip_address(wanted.bind_address)
            if address.is_unspecified:
                ports.add(wanted.http_port)
            else:
                listeners.add((address, wanted.http_port))
        return Floor(
            loopback=True,
            networks=frozenset(ipaddress.ip_network(each) for each in wanted.addresses),
            ports=frozenset(ports),
            listeners=frozenset(listeners),
            connections=self._look(wanted) if wanted.sessions else frozenset(),
        )

    def _look(self, wanted: Protection) -> frozenset[Connection]:
        try:
            return self._sessions.look(0 if wanted.loopback else wanted.http_port)
        except OSError as error:
            if not self._blind:
                logger.warning("sessions of administrators cannot be read: %s", error)
            self._blind = True
            return frozenset()


def joined(one: Floor, other: Floor) -> Floor:
    """What either of them spares."""
    return Floor(
        one.loopback or other.loopback,
        one.networks | other.networks,
        one.ports | other.ports,
        one.listeners | other.listeners,
        one.connections | other.connections,
    )
