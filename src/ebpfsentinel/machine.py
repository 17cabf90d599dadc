"""The machine as engines may know it: clock, interfaces, network namespaces, DNS names."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.model.domain import Surroundings

if TYPE_CHECKING:
    from collections.abc import Collection

    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

TTL_LEAST_S, TTL_MOST_S, RETRY_S = 5, 86400, 15
"""Bounds of a TTL, and when a name that failed is tried again."""
RESOLVE_S = 2.0
"""So long a start or a reload waits for names."""
_NAMED = Path("/run/netns")


class Machine:
    """What :class:`~ebpfsentinel.model.domain.Surroundings` is made of."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.names = Names()
        self.boot_offset_ns = clock.boot_offset_ns()
        self._namespaces: dict[str, tuple[str, ...]] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._secret = os.urandom(32)

    def look_around(self) -> None:
        """Links have changed: read their addresses, and which lead to which network namespace."""
        self._namespaces = _namespaces()
        self._addresses = interfaces.addresses()

    def surroundings(self, api_ports: tuple[int, ...]) -> Surroundings:
        """As of now, without files."""
        now_ns = time.time_ns()
        return Surroundings(
            interfaces=self._kernel.interface_slots(),
            own_pid=os.getpid(),
            api_ports=api_ports,
            links=interfaces.present(),
            cpus=possible_cpus(),
            boot_offset_ns=self.boot_offset_ns,
            namespaces=self._namespaces,
            addresses=self.names.addresses(),
            now_ns=now_ns,
            utc_offset_s=time.localtime(now_ns // 1_000_000_000).tm_gmtoff,
            netns=Path("/proc/self/ns/net").stat().st_ino,
            secret=self._secret,
            own_addresses=self._addresses,
        )


def _namespaces() -> dict[str, tuple[str, ...]]:
    """Named network namespaces, and the interfaces here whose peers are in each (ip-netns(8))."""
    if not _NAMED.is_dir() or not any(_NAMED.iterdir()) or not shutil.which("ip"):
        return {}
    names = {one["nsid"]: str(one.get("name", "")) for one in _ip("netns", "list-id")}
    found: dict[str, tuple[str, ...]] = {path.name: () for path in _NAMED.iterdir()}
    for link in _ip("link", "show"):
        name = names.get(link.get("link_netnsid"), "")
        if name in found:
            found[name] += (str(link["ifname"]),)
    return found


def _ip(*arguments: str) -> list[dict[str, object]]:
    command = ["ip", "-j", *arguments]
    answer = subprocess.run(  # noqa: S603 (fixed words)
        command, capture_output=True, text=True, timeout=10, check=False
    )
    found: list[dict[str, object]] = json.loads(answer.stdout or "[]")
    return found


class Names:
    """DNS names and what they resolve to; a question that fails keeps its last answer."""

    def __init__(self) -> None:
        self._answers: dict[str, dict[str, tuple[str, ...]]] = {}
        self._due_s: dict[str, float] = {}

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """The addresses of each name that has been resolved."""
        joined = {host: sum(kinds.values(), ()) for host, kinds in self._answers.items()}
        return {host: found for host, found in joined.items() if found}

    async def refresh(self, hosts: Collection[str]) -> bool:
        """Resolve those of ``hosts`` whose TTL is over; True: an answer is not what it was."""
        before = self.addresses()
        for gone in set(self._due_s) - set(hosts):
            self._answers.pop(gone, None)
            del self._due_s[gone]
        now_s = monotonic()
        due = [host for host in dict.fromkeys(hosts) if self._due_s.get(host, 0) <= now_s]
        await asyncio.gather(*(self._resolve(host) for host in due))
        return before != self.addresses()

    async def _resolve(self, host: str) -> None:
        ttls = [await self._ask(host, kind) for kind in ("A", "AAAA")]
        self._due_s[host] = monotonic() + max(min(ttls), TTL_LEAST_S)

    async def _ask(self, host: str, kind: str) -> float:
        """One question; returns the seconds that its answer is good for."""
        import dns.asyncresolver  # noqa: PLC0415 (2 MB that few need)
        import dns.exception  # noqa: PLC0415

        try:
            answer = await dns.asyncresolver.resolve(
                host, kind, lifetime=RESOLVE_S, raise_on_no_answer=False
            )
        except (dns.exception.DNSException, OSError) as error:
            logger.warning("%s (%s) cannot be resolved: %s", host, kind, error)
            return RETRY_S
        records = answer.rrset or ()
        found = tuple(sorted(record.address for record in records))
        self._answers.setdefault(host, {})[kind] = found
        return min(answer.rrset.ttl, TTL_MOST_S) if answer.rrset else TTL_MOST_S
