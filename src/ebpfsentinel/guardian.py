"""Keeps the owner in: works out the never-block floor, and keeps it fresh."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.config import is_loopback
from ebpfsentinel.kernel.protection import Protection, Protector
from ebpfsentinel.model.settings import parse_network

if TYPE_CHECKING:
    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.floor import Floor
    from ebpfsentinel.model.kernel import Kernel


def protection(settings: CoreSettings) -> Protection:
    """What the settings say of the floor."""
    agent, wanted = settings.agent, settings.agent.never_block
    networks = (parse_network("agent.never_block", each) for each in wanted.addresses)
    return Protection(
        enabled=wanted.enabled,
        addresses=tuple(map(str, networks)),
        ports=None if wanted.ports is None else tuple(wanted.ports),
        sessions=wanted.sessions,
        bind_address=agent.bind_address,
        loopback=is_loopback(agent.bind_address),
        http_port=agent.http_port,
    )


class Guardian:
    """Hands the floor to the kernel whenever it is another one."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._protector = Protector()
        self._floor: Floor | None = None

    def refresh(self, settings: CoreSettings) -> None:
        """Look who is there, and put the floor in force.

        Raises:
            KernelError: the kernel does not take it.
        """
        floor = self._protector.work_out(protection(settings))
        if floor != self._floor:
            self._kernel.protect(floor)
            self._floor = floor

    def forget(self) -> None:
        """The kernel may not have it any more: hand it over again."""
        self._floor = None
