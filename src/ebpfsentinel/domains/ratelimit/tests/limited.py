"""The loaded limiter on the guarded side of a lab, without an agent: counters at once."""

from __future__ import annotations

from ebpfsentinel.domains.ratelimit import DOMAIN
from ebpfsentinel.domains.ratelimit.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.kernel import XdpMode


class Limited:
    """Native XDP on ``guard0``."""

    def __init__(self, lab) -> None:
        self.kernel = LinuxKernel(xdp_mode=XdpMode.NATIVE)
        self._lab = lab
        self.kernel.load([DOMAIN])
        self.judge = Judge(self.kernel)
        self.judge.limits()
        with lab.inside(lab.guarded):
            self.kernel.attach(["guard0"])
        (found,) = self.kernel.attachments()
        assert found.how == "native"

    def close(self) -> None:
        with self._lab.inside(self._lab.guarded):
            self.kernel.detach()
