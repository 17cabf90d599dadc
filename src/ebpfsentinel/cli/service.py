"""What the service manager is told (sd_notify(3)): when we guard, how it goes, that we are alive.

One datagram each, so no library: the one for it has not been touched for years.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ebpfsentinel.agent import Agent

logger = logging.getLogger(__name__)

_STILL_S = 5.0
"""A tick that takes so long beyond its second is none."""


class ServiceManager:
    """Whoever started us and wants to know; without one, nothing is told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        wanted = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        limit_us = environment.get("WATCHDOG_USEC", "") if wanted else ""
        self.interval_s = int(limit_us) / 2e6 if limit_us.isdecimal() else 0.0

    def tell(self, **states: object) -> None:
        """Tell what has changed, such as ``READY=1``."""
        if not self._address:
            return
        text = "\n".join(f"{name}={value}" for name, value in states.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
                door.sendto(text.encode(), self._address)
        except OSError as error:
            logger.warning("the service manager cannot be told: %s", error)

    @contextlib.asynccontextmanager
    async def told_of(self, agent: Agent) -> AsyncIterator[None]:
        """It knows that the agent guards, and how, until the end of the block."""
        self.tell(READY=1)
        following = asyncio.create_task(self._follow(agent))
        try:
            yield
        finally:
            following.cancel()
            self.tell(STOPPING=1)

    async def _follow(self, agent: Agent) -> None:
        """Say how it goes, and that we are alive as long as the agent's clock goes on."""
        while True:
            states: dict[str, object] = {"STATUS": _status(agent)}
            if self.interval_s and time.monotonic() - agent.ticked_s < 1 + _STILL_S:
                states["WATCHDOG"] = 1
            self.tell(**states)
            await asyncio.sleep(self.interval_s or _STILL_S)


def _status(agent: Agent) -> str:
    if not agent.ready:
        return f"not ready: {agent.not_ready_reason}"
    if agent.blind:
        return f"blind: {agent.blind}"
    names = ", ".join(place.interface for place in agent.kernel.attachments())
    return f"guards {names}" if names else "guards this host"
