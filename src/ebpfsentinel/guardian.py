"""Keeps the owner in: works out the never-block floor, and keeps it fresh."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING

from ebpfsentinel.config import is_loopback
from ebpfsentinel.kernel.sessions import Sessions
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.settings import parse_network

if TYPE_CHECKING:
    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)


class Guardian:
    """Hands the floor to the kernel whenever it is another one."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sessions = Sessions()
        self._blind = False
        self._floor: Floor | None = None

    def refresh(self, settings: CoreSettings) -> None:
        """Look who is there, and put the floor in force.

        Raises:
            KernelError: the kernel does not take it.
        """
        floor = self._work_out(settings)
        if floor != self._floor:
            self._kernel.protect(floor)
            self._floor = floor

    def _work_out(self, settings: CoreSettings) -> Floor:
        agent, wanted = settings.agent, settings.agent.never_block
        if not wanted.enabled:
            return Floor()
        ports, listeners = set(wanted.ports or ()), set()
        if wanted.ports is None and agent.http_port and not is_loopback(agent.bind_address):
            address = ipaddress.ip_address(agent.bind_address)
            if address.is_unspecified:
                ports.add(agent.http_port)
            else:
                listeners.add((address, agent.http_port))
        return Floor(
            loopback=True,
            networks=frozenset(parse_network("agent.never_block", a) for a in wanted.addresses),
            ports=frozenset(ports),
            listeners=frozenset(listeners),
            connections=self._look(settings) if wanted.sessions else frozenset(),
        )

    def _look(self, settings: CoreSettings) -> frozenset[Connection]:
        agent = settings.agent
        try:
            return self._sessions.look(0 if is_loopback(agent.bind_address) else agent.http_port)
        except OSError as error:
            if not self._blind:
                logger.warning("sessions of administrators cannot be read: %s", error)
            self._blind = True
            return frozenset()
