"""The loaded tracker as a test sees it: settings in, frames through, flows and counts out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.domains.conntrack import DOMAIN
from ebpfsentinel.domains.conntrack.connections import views
from ebpfsentinel.domains.conntrack.settings import ConntrackSettings
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.model.domain import Surroundings, Tools

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from ebpfsentinel.kernel.load import LinuxKernel
    from ebpfsentinel.model.action import Action

IN, OUT = "tc_root", "egress_root"


class Tracked:
    """A loaded kernel and its engine."""

    def __init__(self, kernel: LinuxKernel) -> None:
        self.kernel = kernel
        self.engine = DOMAIN.engine(Tools(rules=None))
        self._out = ffi.new("char[]", 1 << 16)
        self._fds = {
            name: found.fd
            for loaded in kernel._objects.values()
            for name, found in loaded.programs.items()
        }

    def settings(self, *, secret: bytes = b"of this test", **fields: Any) -> None:
        """Put settings in force."""
        wanted = msgspec.convert(
            {"enabled": True, "max_entries": 1024, **fields}, ConntrackSettings
        )
        around = Surroundings(
            boot_offset_ns=clock.boot_offset_ns(), now_ns=time.time_ns(), secret=secret
        )
        plan = self.engine.plan(wanted, {}, around)
        self.kernel.apply(plan.actions)
        self.engine.commit(plan)

    def apply(self, *actions: Action) -> None:
        self.kernel.apply(actions)

    def run(self, frame: bytes, program: str = IN, repeat: int = 1) -> int:
        """The return code of the last run."""
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(frame),
            data_size_in=len(frame),
            data_out=self._out,
            data_size_out=1 << 16,
            repeat=repeat,
        )
        check(lib().bpf_prog_test_run_opts(self._fds[program], options), f"running {program}")
        return int(options.retval)

    def come(self, *frames: bytes) -> None:
        for frame in frames:
            self.run(frame)

    def leave(self, *frames: bytes) -> None:
        for frame in frames:
            self.run(frame, OUT)

    def flows(self) -> list[dict[str, Any]]:
        return list(views(self.kernel.flows(), self.engine.boot_offset_ns))

    def flow(self) -> dict[str, Any]:
        (found,) = self.flows()
        return found

    def state(self) -> str:
        return str(self.flow()["state"])

    def poll(self) -> dict[str, Any]:
        """What the agent does each second; the status after it."""
        self.engine.feed("flow_count", self.kernel.total("flow_count"), time.time_ns())
        return self.engine.status()

    def sources(self) -> dict[int, tuple[int, int]]:
        """By the first word of the source's address: its flows, and those half open."""
        keys, values = self.kernel.read("flow_sources")
        return {
            int(key["addr"][0]): (int(value["flows"]), int(value["half_open"]))
            for key, value in zip(keys, values, strict=True)
        }

    def events(self) -> np.ndarray:
        return self.kernel.drain("ct_events")

    def sweep(self) -> None:
        self.kernel.run("flow_sweep", bytes(64), 4096)


def all_of(tracked: Tracked, frames: Iterable[tuple[str, bytes]]) -> list[str]:
    """The state after each frame, that comes in or leaves."""
    found = []
    for way, frame in frames:
        tracked.run(frame, IN if way == "in" else OUT)
        found.append(tracked.state())
    return found
