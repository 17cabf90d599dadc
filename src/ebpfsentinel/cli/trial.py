"""Rule sets tried in a kernel of their own, and what they are tried on."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.config import load
from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.kernel.capture import read_capture
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.maps import possible_cpus
from ebpfsentinel.model.access import Attempt, Configured
from ebpfsentinel.model.action import MapWrite
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.rules import Cel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.model.domain import Domain, Engine
    from ebpfsentinel.model.kernel import Kernel

__all__ = ["Tried", "read_capture", "section", "trial"]


@dataclass(frozen=True, slots=True)
class Tried:
    """See :class:`ebpfsentinel.model.access.Trial`."""

    kernel: Kernel
    engine: Engine

    def come_in_on(self, interface: str) -> None:
        """Say that frames come in on that slot, wherever BPF_PROG_RUN says that they do."""
        slot = self.kernel.interface_slots().get(interface, 0)
        keys, table = self.kernel.read("interfaces")
        table["by_ifindex"]["slot"] = slot
        table["by_ifindex"]["xdp"] = slot > 0
        self.kernel.apply([MapWrite("interfaces", keys, np.ascontiguousarray(table))])


def section(domain: Domain, file: Path | None, cards: Sequence[Domain]) -> Configured:
    """What a configuration says of the domain.

    Raises:
        SettingsError: the file is not valid.
    """
    settings = load(file, os.environ, {}, cards).settings
    named = [name for name in settings.agent.interfaces if name != "auto"]
    found = interfaces.up() if "auto" in settings.agent.interfaces else []
    guarded = list(dict.fromkeys([*named, *found]))
    return Configured(getattr(settings, domain.name), guarded, (settings.agent.http_port,))


@contextmanager
def trial(domain: Domain, attempt: Attempt) -> Iterator[Tried]:
    """A kernel that holds the rule set and is attached nowhere; gone at the end.

    Raises:
        SettingsError: the engine refuses; KernelError: the kernel does.
    """
    kernel = LinuxKernel()
    engine = domain.engine(Tools(rules=Cel()))
    enabled = getattr(attempt.settings, "enabled", True)
    try:
        kernel.load([domain] if enabled else [])
        kernel.reserve(attempt.interfaces)
        slots = kernel.interface_slots()
        plan = engine.plan(attempt.settings, attempt.runtime, _around(domain, attempt, slots))
        kernel.protect(attempt.floor)
        if enabled:
            kernel.apply(plan.actions)
        engine.commit(plan)
        yield Tried(kernel, engine)
    finally:
        kernel.detach()


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(name, f"{path} cannot be read: {error.strerror}") from None


def _around(domain: Domain, attempt: Attempt, slots: Mapping[str, int]) -> Surroundings:
    now_ns = time.time_ns()
    return Surroundings(
        now_ns=now_ns,
        utc_offset_s=time.localtime(now_ns // 1_000_000_000).tm_gmtoff,
        interfaces=slots,
        files={path: _read(path, domain.name) for path in domain.files(attempt.settings)},
        cpus=possible_cpus(),
        boot_offset_ns=clock.boot_offset_ns(),
        **attempt.known,
    )
