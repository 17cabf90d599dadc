"""Hostile frames through the loaded program, against the oracle.

``python -m ebpfsentinel.domains.firewall.tests.fuzz_run 1000000`` sends that many. Each is judged
twice: as a question, whose answer names rule, action and what was parsed; and in block mode, where
it passes or dies.
"""

from __future__ import annotations

import random
import sys
import time

import numpy as np

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.tests import oracle, rulesets
from ebpfsentinel.domains.firewall.tests.fuzz_frames import Fuzz
from ebpfsentinel.domains.firewall.tests.judge import DROP, PASS, Judge
from ebpfsentinel.domains.firewall.tests.property_run import ACTIONS, place_interface
from ebpfsentinel.domains.firewall.tests.reference import ranked
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.kernel import DRY, Frames

SIZES = (1, 5, 20, 40, 65)
WOULD, TX = 0x08, 3
FATES = {ACTIONS["deny"]: (DROP,), ACTIONS["reject"]: (DROP, TX)}
"""What a packet may come to by action; all others pass. Not every rejected one is answered."""
PER_SET = 4000
FIELDS = ("rule_id", "action", "l3_offset", "l4_offset", "packet_flags", "protocol", "vlan_id")


def put_rules(judge, pick, fuzz):
    """A random rule set, default policy and interface in force: (ranked, policy, interface)."""
    rules, fuzz.near = rulesets.ruleset(pick, pick.choice(SIZES))
    policy, interface = pick.choice(("pass", "drop")), pick.choice((None, *rulesets.INTERFACES))
    offset_ns = rulesets.NOW_S * 1_000_000_000 - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    judge.rules(
        *rules,
        interfaces=rulesets.INTERFACES,
        policy=policy,
        boot_offset_ns=offset_ns,
        sample_every=0,
    )
    place_interface(judge.kernel, rulesets.INTERFACES.get(interface, 0))
    return ranked(rules), policy, interface


def expected(order, policy, interface, frame):
    """The rule that must decide, and the rest of ``FIELDS``."""
    found = oracle.parse(frame)
    rule = oracle.decides(order, frame, found, interface, rulesets.NOW_S)
    action = ACTIONS["deny"] if policy == "drop" and not oracle.is_exempt(found) else 0
    if rule is not None:
        action = ACTIONS[rule.action]
    parsed = (found.l3, found.l4, found.flags, found.protocol, found.vlan)
    return (rule and rule.id, action, *parsed)


def compare(judge, put, frames):
    """The mismatches as texts."""
    batch, names = Frames.of(frames), judge.names()
    asked, lived = (judge.kernel.run_many(name, batch) for name in (DRY, "xdp_root"))
    judge.kernel.drain("fw_events")
    assert not asked.refused.any()
    asked.meta["packet_flags"] &= ~np.uint8(WOULD)
    told = zip(*(asked.meta[name].tolist() for name in FIELDS), strict=True)
    wrong = []
    for frame, (number, *rest), code in zip(frames, told, lived.retval.tolist(), strict=True):
        wanted = expected(*put, frame)
        fates = FATES.get(wanted[1], (PASS,))
        actual = (names[number], *rest)
        if actual != wanted or code not in fates:
            wrong.append(f"{frame.hex()} wanted {wanted, fates}, got {actual, code}")
    return wrong


def fuzz(kernel, total, seed=0):
    """At least ``total`` frames; returns how many, and the mismatches."""
    pick = random.Random(seed)
    judge, source = Judge(kernel), Fuzz(pick)
    kinds, done, wrong = iter(source), 0, []
    while done < total:
        put = put_rules(judge, pick, source)
        frames = []
        while len(frames) < min(PER_SET, total - done):
            frames += next(kinds)
        wrong += compare(judge, put, frames)
        done += len(frames)
    return done, wrong


def main(total: int) -> int:
    """Send ``total`` frames; returns the number of mismatches."""
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    start = time.monotonic()
    try:
        done, wrong = fuzz(kernel, total)
    finally:
        kernel.detach()
    sys.stdout.writelines(f"{line}\n" for line in wrong[:20])
    seconds = time.monotonic() - start
    sys.stdout.write(f"{done} frames, {len(wrong)} mismatches, {seconds:.0f} s\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
