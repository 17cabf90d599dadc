"""The loaded firewall as a test sees it: rules in, frames through, verdicts out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import (
    AntiLockout,
    FirewallRule,
    FirewallSettings,
    Policy,
)
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.model.action import MapDelete
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from ebpfsentinel.kernel.load import LinuxKernel

DROP, PASS = 1, 2
PACKET_META = np.dtype(
    [
        ("rule_id", "<u4"),
        ("action", "u1"),
        ("limit_status", "u1"),
        ("flags", "u1"),
        ("version", "u1"),
        ("l3_offset", "<u2"),
        ("l4_offset", "<u2"),
        ("packet_flags", "u1"),
        ("protocol", "u1"),
        ("vlan_id", "<u2"),
    ]
)
"""``struct packet_meta`` of ``packet.h``, as later programs of other makers would read it."""
META = PACKET_META.itemsize


def rule(rule_id="r", action="deny", priority=10, **fields) -> FirewallRule:
    """A rule as a user's file gives it."""
    written = {"id": rule_id, "priority": priority, "action": action, **fields}
    return msgspec.convert(written, FirewallRule)


class Verdict(NamedTuple):
    """Return code, the metadata in front of a packet that passed, and the event, if any."""

    code: int
    meta: np.void | None
    event: np.void | None


class Judge:
    """A loaded firewall and its engine."""

    def __init__(self, kernel: LinuxKernel) -> None:
        self.kernel = kernel
        self.engine = DOMAIN.engine(Tools(rules=None))
        found = next(o for o in kernel._objects.values() if "xdp_root" in o.programs)
        self.program = found.programs["xdp_root"].fd
        self._out = ffi.new("char[]", 4096)

    def rules(
        self,
        *rules: FirewallRule,
        interfaces=None,
        lockout=None,
        mode="block",
        policy="pass",
        boot_offset_ns=0,
        utc_offset_s=0,
        around=None,
        added=(),
        removed=(),
        **settings,
    ) -> None:
        """Put the rules in force, in block mode unless told.

        Then ``added`` come one by one, compiled after the half of them, and ``removed`` go again.
        """
        wanted = FirewallSettings(
            mode=Mode(mode),
            default_policy=Policy(policy),
            rules=list(rules),
            anti_lockout=lockout or AntiLockout(enabled=False),
            **settings,
        )
        surroundings = Surroundings(
            interfaces=interfaces or {},
            boot_offset_ns=boot_offset_ns,
            now_ns=boot_offset_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            utc_offset_s=utc_offset_s,
            anew=True,
            **(around or {}),
        )
        self._put(wanted, (), surroundings)
        for count in range(1, len(added) + 1):
            compiled = count == len(added) // 2
            self._put(wanted, added[:count], replace(surroundings, anew=compiled))
        for each in removed:
            added = [rule for rule in added if rule is not each]
            self._put(wanted, added, replace(surroundings, anew=False))
        self.kernel.drain("fw_events")
        scratches = ("xdp_packet", "tc_packet")  # which remember that a reader was behind
        self.kernel.apply([MapDelete(name, np.zeros(1, np.uint32)) for name in scratches])

    def _put(self, wanted, added, surroundings) -> None:
        plan = self.engine.plan(wanted, {"rules": added}, surroundings)
        self.kernel.apply(plan.actions)
        self.engine.commit(plan)

    def quick(self, frame: bytes) -> tuple[int, bytes]:
        """Return code, and what lies before and in the packet afterwards."""
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(frame),
            data_size_in=len(frame),
            data_out=self._out,
            data_size_out=4096,
            repeat=1,
        )
        check(lib().bpf_prog_test_run_opts(self.program, options), "running xdp_root")
        return options.retval, ffi.buffer(self._out, options.data_size_out)[:META]

    def judge(self, frame: bytes) -> Verdict:
        """One frame through the chain."""
        code, head = self.quick(frame)
        events = self.kernel.drain("fw_events")
        meta = np.frombuffer(head, PACKET_META)[0] if code == PASS else None
        return Verdict(code, meta, events[0] if len(events) else None)

    def by(self, frame: bytes) -> str | None:
        """The rule that decided, by the metadata or the event; None for the default policy."""
        found = self.judge(frame)
        number = int((found.meta if found.meta is not None else found.event)["rule_id"])
        return self.engine._set.names[number] if number else None

    def names(self) -> dict[int, str | None]:
        """Rule ids by number."""
        return {**self.engine._set.names, 0: None}

    def hits(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes by rule, through the engine's view."""
        self.engine.feed("fw_count", self.kernel.total("fw_count"), time.time_ns())
        return {view.id: (view.packets, view.bytes) for view in self.engine.items("rules")}
