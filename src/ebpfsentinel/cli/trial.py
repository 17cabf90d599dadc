"""Rule sets tried in a kernel of their own, and what they are tried on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.config import load
from ebpfsentinel.kernel import clock, interfaces
from ebpfsentinel.kernel.capture import read_capture
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.maps import possible_cpus
from ebpfsentinel.model.action import MapWrite
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.rules import Cel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec

    from ebpfsentinel.model.domain import Domain, Engine
    from ebpfsentinel.model.kernel import Kernel

__all__ = ["Tried", "read_capture", "section", "trial"]


@dataclass(frozen=True, slots=True)
class Tried:
    """See :class:`ebpfsentinel.model.access.Trial`."""

    kernel: Kernel
    engine: Engine


def section(
    domain: Domain, file: Path | None, cards: Sequence[Domain]
) -> tuple[Any, Sequence[str]]:
    """The domain's section of a configuration, and the interfaces it guards.

    Raises:
        SettingsError: the file is not valid.
    """
    settings = load(file, os.environ, {}, cards).settings
    named = [name for name in settings.agent.interfaces if name != "auto"]
    found = interfaces.up() if "auto" in settings.agent.interfaces else []
    return getattr(settings, domain.name), [*named, *(set(found) - set(named))]


@contextmanager
def trial(
    domain: Domain,
    settings: Any,
    runtime: Mapping[str, Sequence[msgspec.Struct]],
    guarded: Sequence[str],
    incoming: str,
) -> Iterator[Tried]:
    """A kernel that holds ``settings`` and is attached nowhere; gone at the end.

    Raises:
        SettingsError: the engine refuses; KernelError: the kernel does.
    """
    kernel = LinuxKernel()
    engine = domain.engine(Tools(rules=Cel()))
    try:
        kernel.load([domain] if getattr(settings, "enabled", True) else [])
        kernel.reserve([*guarded, *([incoming] if incoming and incoming not in guarded else [])])
        slots = kernel.interface_slots()
        plan = engine.plan(settings, runtime, _around(domain, settings, slots))
        if getattr(settings, "enabled", True):
            kernel.apply(plan.actions)
        engine.commit(plan)
        _come_in_on(kernel, slots.get(incoming, 0))
        yield Tried(kernel, engine)
    finally:
        kernel.detach()


def _around(domain: Domain, settings: Any, slots: Mapping[str, int]) -> Surroundings:
    return Surroundings(
        interfaces=slots,
        files={path: Path(path).read_bytes() for path in domain.files(settings)},
        cpus=possible_cpus(),
        boot_offset_ns=clock.boot_offset_ns(),
    )


def _come_in_on(kernel: Kernel, slot: int) -> None:
    """Let every frame have come in on that slot, wherever BPF_PROG_RUN says that it did."""
    keys, table = kernel.read("interfaces")
    table["by_ifindex"]["slot"] = slot
    table["by_ifindex"]["xdp"] = slot > 0
    kernel.apply([MapWrite("interfaces", keys, np.ascontiguousarray(table))])
