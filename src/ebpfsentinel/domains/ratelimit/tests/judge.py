"""The loaded limiter as a test sees it: limits in, frames through, verdicts out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ebpfsentinel.domains.ratelimit import DOMAIN
from ebpfsentinel.domains.ratelimit.settings import RateLimitRule, RateLimitSettings
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import META
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from ebpfsentinel.kernel.load import LinuxKernel

DROP, PASS = 1, 2
NONE, WITHIN, OVER = range(3)
WOULD = 0x08
SECRET = b"of this test"


def rule(rule_id="r", rate=1, **fields) -> RateLimitRule:
    """A limit as a user's file gives it."""
    return msgspec.convert({"id": rule_id, "rate": rate, **fields}, RateLimitRule)


def boot_offset_ns() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Judge:
    """A loaded limiter and its engine; ``chain`` is the program that frames enter by."""

    def __init__(self, kernel: LinuxKernel) -> None:
        self.kernel = kernel
        self.engine = DOMAIN.engine(Tools(rules=None))
        self._out = ffi.new("char[]", 4096)

    def program(self, name: str) -> int:
        found = (o.programs for o in self.kernel._objects.values())
        return next(each[name].fd for each in found if name in each)

    def limits(self, *rules, mode="block", runtime=(), interfaces=None, around=None, **settings):
        """Put these limits in force; without a default unless one is said."""
        wanted = RateLimitSettings(
            enabled=True,
            mode=Mode(mode),
            rules=list(rules),
            **({"default_rate": 0} | settings),
        )
        surroundings = Surroundings(
            interfaces=interfaces or {},
            boot_offset_ns=boot_offset_ns(),
            now_ns=time.time_ns(),
            secret=SECRET,
            **(around or {}),
        )
        plan = self.engine.plan(wanted, {"rules": list(runtime)}, surroundings)
        self.kernel.apply(plan.actions)
        self.engine.commit(plan)
        self.kernel.drain("rl_events")
        return plan

    def run(self, frame: bytes, repeat: int = 1, program: str = "xdp_root") -> tuple[int, bytes]:
        """Return code of the last run, and what lies before the packet afterwards."""
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(frame),
            data_size_in=len(frame),
            data_out=self._out,
            data_size_out=4096,
            repeat=repeat,
        )
        check(lib().bpf_prog_test_run_opts(self.program(program), options), f"running {program}")
        return options.retval, ffi.buffer(self._out, options.data_size_out)[: META.itemsize]

    def passes(self, frame: bytes, program: str = "xdp_root") -> bool:
        return self.run(frame, program=program)[0] == PASS

    def passed(self, frame: bytes, count: int) -> int:
        """How many of so many such frames pass, one behind the other."""
        return sum(self.passes(frame) for _ in range(count))

    def meta(self, frame: bytes, program: str = "xdp_root"):
        """The metadata in front of a packet that passes."""
        code, head = self.run(frame, program=program)
        assert code == PASS
        return np.frombuffer(head, META)[0]

    def events(self):
        return self.kernel.drain("rl_events")

    def alerts(self):
        return list(self.engine.feed("rl_events", self.events(), time.time_ns()).alerts)

    def poll(self) -> list:
        """What the agent does each second; the alerts of it."""
        found = []
        for source in DOMAIN.polled:
            rows = self.kernel.total(source)
            found += self.engine.feed(source, rows, time.time_ns()).alerts
        return found

    def counts(self, rule_id="r"):
        self.poll()
        return next(view for view in self.engine.items("rules") if view.id == rule_id)

    def table(self) -> dict[str, int]:
        self.poll()
        return self.engine.status()


def place_interface(kernel, slot):
    """Give the interface that BPF_PROG_RUN reports (index 1, loopback) a slot."""
    target = kernel._maps["interfaces"]
    table = np.zeros(1, target.value)
    table["by_ifindex"]["slot"][0, 1] = slot
    target.write(np.zeros(1, target.key), table)
