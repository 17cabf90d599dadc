"""The loaded translator as a test sees it: rules in, frames through, frames out."""

from __future__ import annotations

import time

import msgspec
import numpy as np
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.settings import NatSettings
from ebpfsentinel.model.domain import Surroundings, Tools

SHOT, NEXT = 2, 0xFFFFFFFF
SLOTS = {"wan": 1, "lan": 2}
ADDRESSES = {"wan": ("203.0.113.1", "2001:db8:ffff::1"), "lan": ("10.0.0.1", "fd00::1")}
SECRET = b"of this test"


def empty(kernel):
    """Nothing is translated, and nothing has been counted."""
    for name in ("nat_table", "nat_marks", "nat_count", "nat_rule_count"):
        keys, _ = kernel.read(name)
        kernel._maps[name].delete(keys)


class Judge:
    """``comes`` and ``leaves`` send a frame through the chains, as by ``interface``."""

    def __init__(self, kernel) -> None:
        self.kernel = kernel
        self.engine = DOMAIN.engine(Tools(rules=None))

    def rules(self, *, runtime=None, addresses=None, **settings):
        """Put these settings in force."""
        wanted = msgspec.convert({"enabled": True, **settings}, NatSettings)
        around = Surroundings(
            interfaces=SLOTS,
            secret=SECRET,
            now_ns=time.time_ns(),
            boot_offset_ns=time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            own_addresses=ADDRESSES if addresses is None else addresses,
        )
        plan = self.engine.plan(wanted, runtime or {}, around)
        self.kernel.apply(plan.actions)
        self.engine.commit(plan)
        self.kernel.drain("nat_events")
        return plan

    def at(self, interface):
        """BPF_PROG_RUN says interface 0 of what comes in, 1 of what leaves."""
        target = self.kernel._maps["interfaces"]
        table = np.zeros(1, target.value)
        table["by_ifindex"]["slot"][0, :2] = SLOTS[interface]
        target.write(np.zeros(1, target.key), table)

    def comes(self, frame, interface="wan"):
        return self._through("tc_root", frame, interface)

    def leaves(self, frame, interface="wan"):
        return self._through("egress_root", frame, interface)

    def _through(self, program, frame, interface):
        self.at(interface)
        result = self.kernel.run(program, bytes(frame))
        return None if result.retval == SHOT else Ether(result.data)

    def counts(self):
        for source in DOMAIN.polled:
            self.engine.feed(source, self.kernel.total(source), time.time_ns())
        return self.engine.status()

    def rule(self, rule_id, collection="rules"):
        self.counts()
        return next(each for each in self.engine.items(collection) if each.id == rule_id)

    def alerts(self):
        rows = self.kernel.drain("nat_events")
        return list(self.engine.feed("nat_events", rows, time.time_ns()).alerts)


def true(frame):
    """The frame with all its checksums worked out anew: what it must be equal to."""
    again = Ether(bytes(frame))
    layer = again
    while layer:
        for name in ("chksum", "cksum"):
            if name in layer.fields:
                del layer.fields[name]
        layer = layer.payload
    return Ether(bytes(again))
