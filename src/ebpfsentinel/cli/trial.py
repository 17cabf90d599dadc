"""Rule sets tried in a kernel of their own, and what they are tried on."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ebpfsentinel.changes import is_enabled
from ebpfsentinel.cli.installed import discovered
from ebpfsentinel.config import load
from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.kernel.capture import read_capture
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.owners import cgroups, executables
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
    on = (card for card in cards if is_enabled(getattr(settings, card.name)))
    provided = frozenset(chain.from_iterable(card.provides for card in on))
    section = getattr(settings, domain.name)
    return Configured(section, guarded, (settings.agent.http_port,), provided)


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
        beneath = _beneath(attempt)
        kernel.load([domain, *beneath] if enabled else [])
        kernel.reserve(attempt.interfaces)
        slots = kernel.interface_slots()
        for card in beneath if enabled else ():
            _put(kernel, card)
        plan = engine.plan(attempt.settings, attempt.runtime, _around(domain, attempt, slots))
        kernel.protect(attempt.floor)
        if enabled:
            kernel.apply(plan.actions)
        engine.commit(plan)
        yield Tried(kernel, engine)
    finally:
        kernel.detach()


def _beneath(attempt: Attempt) -> list[Domain]:
    """The domains that provide what rules may build on."""
    provided = set(attempt.known.get("provided", ()))
    return [card for card in discovered() if provided & set(card.provides)]


def _put(kernel: Kernel, card: Domain) -> None:
    """Have a domain in force as it is by itself, switched on."""
    settings = msgspec.convert({"enabled": True}, card.settings)
    engine = card.engine(Tools(rules=Cel()))
    around = Surroundings(now_ns=time.time_ns(), boot_offset_ns=clock.boot_offset_ns())
    kernel.apply(engine.plan(settings, {}, around).actions)


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
        executables=executables(domain.executables(attempt.settings, attempt.runtime)),
        cgroups=cgroups(domain.cgroups(attempt.settings, attempt.runtime)),
        cpus=possible_cpus(),
        boot_offset_ns=clock.boot_offset_ns(),
        **attempt.known,
    )
