"""The loaded program against the reference on random rule sets and packets.

``python -m ebpfsentinel.domains.firewall.tests.property_run 10000000`` compares that many pairs.
"""

from __future__ import annotations

import random
import sys
import time

import numpy as np

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.tests import rulesets
from ebpfsentinel.domains.firewall.tests.judge import PACKET_META, PASS, Judge
from ebpfsentinel.domains.firewall.tests.packets import frame
from ebpfsentinel.domains.firewall.tests.reference import matches, ranked
from ebpfsentinel.kernel.load import LinuxKernel

SIZES = (0, 1, 2, 5, 10, 20, 20, 40, 64, 65, 130)
ACTIONS = {"allow": 0, "deny": 1, "log": 2, "reject": 3}


def place_interface(kernel, slot):
    """Give the interface that BPF_PROG_RUN reports (index 1, loopback) a slot."""
    target = kernel._maps["interfaces"]
    table = np.zeros(1, target.value)
    table["by_ifindex"]["slot"][0, 1] = slot
    target.write(np.zeros(1, target.key), table)


def compare(judge, seed, packets):
    """One random rule set and ``packets`` packets; the mismatches as texts.

    In every third, the last rules are added one by one, and some go again. In alert mode every
    packet passes, so that its metadata names rule and action.
    """
    pick = random.Random(seed)
    count = 4096 if seed % 200 == 199 else pick.choice(SIZES)
    rules, near = rulesets.ruleset(pick, count)
    interface = pick.choice((None, *rulesets.INTERFACES))
    offset_ns = rulesets.NOW_S * 1_000_000_000 - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    first = len(rules) - (pick.randrange(len(rules) // 2 + 1) if seed % 3 == 1 else 0)
    added = rules[max(first, len(rules) - 300) :]
    removed = pick.sample(added, min(len(added), pick.randrange(10)))
    judge.rules(
        *rules[: len(rules) - len(added)],
        added=added,
        removed=removed,
        interfaces=rulesets.INTERFACES,
        mode="alert",
        boot_offset_ns=offset_ns,
    )
    place_interface(judge.kernel, rulesets.INTERFACES.get(interface, 0))
    rules = [each for each in rules if not any(each is gone for gone in removed)]
    order, names, found = ranked(rules), judge.names(), []
    for _ in range(packets if count < 1000 else packets // 20):
        packet = rulesets.packet(pick, near, interface)
        now_s = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) + offset_ns) / 1e9
        wanted = next((rule for rule in order if matches(rule, packet, now_s)), None)
        code, head = judge.quick(frame(packet))
        meta = np.frombuffer(head, PACKET_META)[0]
        expected = (PASS, wanted and wanted.id, ACTIONS[wanted.action] if wanted else 0)
        actual = (code, names[int(meta["rule_id"])], int(meta["action"]))
        if actual != expected:
            found.append(f"seed {seed}: {packet} wanted {expected}, got {actual}")
    return found, packets if count < 1000 else packets // 20


def main(total: int, packets: int = 5000) -> int:
    """Compare until ``total`` pairs are done; returns the number of mismatches."""
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    done = wrong = seed = 0
    start = time.monotonic()
    try:
        judge = Judge(kernel)
        while done < total:
            found, pairs = compare(judge, seed, packets)
            wrong, done, seed = wrong + len(found), done + pairs, seed + 1
            sys.stdout.writelines(f"{line}\n" for line in found[:5])
    finally:
        kernel.detach()
    seconds = time.monotonic() - start
    sys.stdout.write(f"{done} pairs, {seed} rule sets, {wrong} mismatches, {seconds:.0f} s\n")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
