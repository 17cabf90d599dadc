"""Rate limits: are they what was asked for, what do they cost, and what does nftables do.

**Accuracy.** One source sends live frames (IPv4 UDP) as fast as one CPU, or two at once, can, some
two million a second each, without a pause. Once the burst is over, packets that pass are counted
for ten seconds (``BENCH_RATELIMIT_SECONDS`` sets it), from one moment when packets are refused to
another; of fixed windows, from one border to another. Where other work of the machine held the
sender up for a hundredth of a second, it is measured again. The figure is the largest deviation
among the rates asked for, in percent.

**Cost.** BPF_PROG_RUN of the whole chain over the trace of ``bench_firewall`` (512 frames in turn,
all of different sources), with the limiter and without it. No firewall stands in the chain.

**nftables.** A flood of 4,096 sources, each held to 10 packets a second: nearly all is dropped.
Ours is an agent with its normal settings, nftables a dynamic set with ``limit rate over`` in
prerouting,
and in the netdev ingress hook. All of a packet happens on one core, whose seconds are counted. The
generator alone, with a bare XDP_DROP behind it, makes some 6 million packets a second of a core.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bench_enforce import rate as packets_per_second
from bench.bench_firewall import rules, spread, trace
from bench.flood import Flood as OneCoreFlood
from bench.flood import nft, nft_counter
from bench.progrun import Trace, fd_of
from ebpfsentinel.domains.ratelimit import DOMAIN
from ebpfsentinel.domains.ratelimit.settings import Algorithm
from ebpfsentinel.domains.ratelimit.tests.judge import Judge, rule
from ebpfsentinel.domains.ratelimit.tests.limited import Limited
from ebpfsentinel.domains.ratelimit.tests.packets import frame
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.libbpf import check, ffi, lib
from ebpfsentinel.kernel.load import LinuxKernel
from tests.flood import Flood
from tests.lab import GUARDED, SENDER, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = float(os.environ.get("BENCH_RATELIMIT_SECONDS", "10"))
ALGORITHMS = ("token_bucket", "leaky_bucket", "fixed_window", "sliding_window")
RATES = (100, 1_000, 10_000, 100_000, 1_000_000)
CPUS = sorted(os.sched_getaffinity(0))
RUNS, ROUNDS = 7, 3
_TABLE = "bench"
_LOOK_S, _AT_ONCE_S = 0.001, 0.0005
_SLICE_S, _TRIES = 0.01, 6
_FASTEST = 2_000_000


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*accuracy(), *costs(), *against_nftables(), *memory()]


@contextlib.contextmanager
def laboratory() -> Iterator[tuple[Lab, Path]]:
    """Two namespaces, and a folder."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            yield lab, Path(folder)
        finally:
            lab.close()


# Accuracy


def accuracy() -> Iterator[dict[str, Any]]:
    """A row for each algorithm and number of CPUs; ``rates`` has what was measured."""
    with laboratory() as (lab, folder):
        flood, limited = Flood(lab, folder), Limited(lab)
        try:
            told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
            mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
            flood.aim(mac + frame(SENDER, GUARDED)[6:], SENDER, 1)
            for algorithm in ALGORITHMS:
                for cpus in (1, 2)[: len(CPUS)]:
                    yield _accuracy(limited.judge, flood, algorithm, cpus)
        finally:
            limited.close()
            flood.close()


def _accuracy(judge: Judge, flood: Flood, algorithm: str, cpus: int) -> dict[str, Any]:
    found = {asked: _measured(judge, flood, algorithm, asked, cpus) for asked in RATES}
    off = {asked: 100 * (measured / asked - 1) for asked, measured in found.items()}
    worst = max(off.values(), key=abs)
    word = "CPU" if cpus == 1 else "CPUs"
    return {
        "name": f"{algorithm}, {cpus} {word} sending, 100 to 1,000,000/s: largest deviation",
        "unit": "%",
        "median": round(worst, 3),
        "spread": [round(min(off.values()), 3), round(max(off.values()), 3)],
        "must": 2,
        "aim": 0.5,
        "rates": {asked: round(measured, 1) for asked, measured in found.items()},
    }


def _measured(judge: Judge, flood: Flood, algorithm: str, asked: int, cpus: int) -> float:
    """Packets a second that pass."""
    judge.limits(rule(f"r{asked}", rate=asked, burst=asked, algorithm=algorithm))
    counter = Passed(judge, f"r{asked}")
    with contextlib.ExitStack() as stack:
        for cpu in CPUS[:cpus]:
            stack.enter_context(_sending(flood, cpu))
        _settle(counter, asked)
        moment = counter.at_a_border if algorithm == "fixed_window" else counter.at_the_limit
        for _ in range(_TRIES):
            began, first = moment()
            calm = counter.is_flooded(1.2 * asked, SECONDS - 0.5)
            ended, last = moment()
            if calm:
                break
    return (last - first) / (ended - began)


@contextlib.contextmanager
def _sending(flood: Flood, cpu: int) -> Iterator[None]:
    """One CPU sends in one call that outlasts the measurement: a call begins with a pause."""
    ended = threading.Event()

    def carry() -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        while not ended.is_set():
            flood.send(int(_FASTEST * (SECONDS + 3)))
            ended.wait(0.01)

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _settle(counter: Passed, asked: int) -> None:
    """Wait until the first burst is over."""
    began = time.monotonic()
    while counter.now()[1] < 3 * asked:
        time.sleep(0.01)
        assert time.monotonic() - began < 60, "too few packets pass"


class Passed:
    """One limit's counter of packets that passed, read by itself."""

    def __init__(self, judge: Judge, rule_id: str) -> None:
        names = judge.engine.names()
        number = max(number for number, name in names.items() if name == rule_id)
        self._key = struct.pack("<I", number)
        self._map = judge.kernel._maps["rl_count"].fd  # noqa: SLF001 (one element of it)
        self._row = ffi.new("uint64_t[]", 3 * possible_cpus())

    def now(self) -> tuple[float, int, int]:
        """The moment, how many passed by then, and how many were over the limit."""
        key = ffi.from_buffer(self._key)
        check(lib().bpf_map_lookup_elem(self._map, key, self._row), "reading a counter")
        row = list(self._row)
        return time.monotonic(), sum(row[::3]), sum(row[1::3])

    def at_the_limit(self) -> tuple[float, int]:
        """The next moment when packets are refused: what the limit allowed by then is used up."""
        before = self.now()
        while True:
            time.sleep(_LOOK_S)
            began = time.monotonic()
            found = self.now()
            if found[0] - began < _AT_ONCE_S and found[2] > before[2]:
                return found[0], found[1]
            before = found

    def is_flooded(self, least_pps: float, seconds: float) -> bool:
        """For so long: do packets come at this rate all the time, in every few milliseconds?

        Other work on the sender's core makes gaps, which a window does not make good.
        """
        flooded, over = True, time.monotonic() + seconds
        before = self.now()
        while before[0] < over:
            time.sleep(_SLICE_S)
            found = self.now()
            came = found[1] + found[2] - before[1] - before[2]
            flooded = flooded and came >= least_pps * (found[0] - before[0])
            before = found
        return flooded

    def at_a_border(self) -> tuple[float, int]:
        """The next moment when a window begins: none passed just now, and then they do again."""
        quiet, before = False, self.now()
        while True:
            time.sleep(_LOOK_S)
            found = self.now()
            if quiet and found[1] > before[1] and found[0] - before[0] < _SLICE_S:
                return before[0], before[1]
            quiet, before = found[1] == before[1] and found[2] > before[2], found


# Cost


def costs() -> Iterator[dict[str, Any]]:
    """Nanoseconds a packet that the limiter adds."""
    kernel, driver = LinuxKernel(), Trace()
    try:
        kernel.load([DOMAIN])
        driver.load(trace(4, rules(4, 4096)))
        judge, root = Judge(kernel), fd_of(kernel, "xdp_root")
        for what, limits, goals in _cases():
            judge.limits(*limits.pop("_rules", ()), **limits)
            yield _added(kernel, driver, root, what, goals)
    finally:
        kernel.detach()
        driver.close()


def _cases() -> Iterator[tuple[str, dict[str, Any], dict[str, int]]]:
    plenty: dict[str, Any] = {"default_rate": 1_000_000, "default_burst": 10_000_000}
    yield "default limit per source", plenty, {"must": 60, "aim": 35}
    for algorithm in (Algorithm.FIXED_WINDOW, Algorithm.SLIDING_WINDOW):
        yield f"the same, {algorithm.value}", plenty | {"default_algorithm": algorithm}, {}
    shared = [rule("all", rate=10_000_000, scope="global")]
    yield "the same and a global limit", plenty | {"_rules": shared}, {}
    hosts = [rule(f"h{n}", rate=9, src_ip=f"192.0.{n >> 8}.{n & 255}") for n in range(4096)]
    yield "the same and 4,096 hosts with limits of their own", plenty | {"_rules": hosts}, {}


def _added(
    kernel: LinuxKernel, driver: Trace, root: int, what: str, goals: dict[str, int]
) -> dict[str, Any]:
    """With the limiter in the chain and without it, in turn."""
    found = []
    for _ in range(RUNS):
        kernel.load([DOMAIN])
        limited = driver.run(root, frags=True)
        kernel.load([])
        found.append(limited - driver.run(root, frags=True))
    kernel.load([DOMAIN])
    return {"name": f"rate limit, {what}: added", "unit": "ns/packet", **spread(found), **goals}


# nftables


def against_nftables() -> Iterator[dict[str, Any]]:
    """The same flood, each source held to 10 packets a second."""
    names = ("ours", "nftables prerouting", "nftables ingress")
    found: dict[str, list[int]] = {name: [] for name in names}
    with laboratory() as (lab, _):
        flood = OneCoreFlood(lab, 4242)
        for _ in range(ROUNDS):
            agent = lab.agent(
                ratelimit={
                    "enabled": True,
                    "mode": "block",
                    "default_rate": 10,
                    "default_burst": 10,
                },
                firewall={"enabled": False},
                process={"enabled": False},
            )
            found["ours"].append(
                packets_per_second(flood, 3_000_000, lambda run=agent: _dropped(run))
            )
            agent.end()
            for name, family, hook in (
                (names[1], "ip", "hook prerouting priority -300"),
                (names[2], "netdev", 'hook ingress device "guard0" priority 0'),
            ):
                found[name].append(_nftables(lab, flood, family, hook))
        flood.close()
    for name in names:
        yield _row(f"4,096 sources held to 10 packets/s, {name}", "packets/s", found[name])
    for name in names[1:]:
        ratios = [ours / other for ours, other in zip(found["ours"], found[name], strict=True)]
        yield _row(f"limit per source: ours / {name}", "ratio", ratios, must=1, aim=3)


def _dropped(agent: Any) -> int:
    return sum(each["dropped"] for each in agent.cli("ratelimit", "list"))


def _nftables(lab: Lab, flood: OneCoreFlood, family: str, hook: str) -> int:
    clean = f"add table {family} {_TABLE}\ndelete table {family} {_TABLE}\n"
    add = f"add table {family} {_TABLE}\n"
    each = f"{{ type filter {hook}; }}"
    nft(
        lab,
        f"{clean}{add}add counter {family} {_TABLE} hits\n"
        f"add set {family} {_TABLE} met {{ type ipv4_addr; size 65536; flags dynamic; }}\n"
        f"add chain {family} {_TABLE} in {each}\n"
        f"add rule {family} {_TABLE} in update @met "
        "{ ip saddr limit rate over 10/second burst 10 packets } counter name hits drop\n",
    )
    lab.run(lab.guarded, "ethtool", "-K", "guard0", "gro", "on")
    try:
        return packets_per_second(flood, 1_000_000, lambda: nft_counter(lab, "hits", family))
    finally:
        nft(lab, clean)


# Memory


def memory() -> Iterator[dict[str, Any]]:
    """A million sources, each with a bucket in use for a second: more than there are places."""
    with laboratory() as (lab, folder):
        flood, limited = Flood(lab, folder), Limited(lab)
        try:
            told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
            mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
            flood.aim(mac + frame(SENDER, GUARDED)[6:], "198.18.0.0", 1 << 20)
            limited.judge.limits(rule("any", rate=1, burst=10))
            before = _map_bytes(limited.kernel)
            flood.send(5_000_000)
            after, table = _map_bytes(limited.kernel), limited.judge.table()
        finally:
            limited.close()
            flood.close()
    megabytes = [before / 1e6, after / 1e6]
    yield _row("rate limits' maps, before a million sources and after", "MB", megabytes)
    buckets, evictions = table["buckets_claimed"], table["evictions"]
    yield {
        "name": f"evictions counted, of {buckets:,} buckets",
        "unit": "buckets",
        "median": evictions,
        "spread": [evictions, evictions],
    }


def _map_bytes(kernel: LinuxKernel) -> int:
    """What the kernel says that the limiter's maps take (proc_pid_fdinfo(5))."""
    maps = (found for name, found in kernel._maps.items() if name.startswith("rl_"))  # noqa: SLF001
    lines = (Path(f"/proc/self/fdinfo/{found.fd}").read_text().splitlines() for found in maps)
    return sum(int(line.split()[1]) for each in lines for line in each if "memlock" in line)


def _row(
    name: str, unit: str, values: list[float], must: float | None = None, aim: float | None = None
) -> dict[str, Any]:
    digits = 0 if max(values) > 1000 else 2
    shown = [round(value, digits) if digits else round(value) for value in values]
    middle = statistics.median(values)
    median = round(middle, digits) if digits else round(middle)
    goals = {} if must is None else {"must": must, "aim": aim}
    low_high = {"median": median, "spread": [min(shown), max(shown)], "runs": len(values)}
    return {"name": name, "unit": unit, **low_high, **goals}


if __name__ == "__main__":
    for made in (accuracy, costs, against_nftables, memory):
        for line in made():
            print(json.dumps(line), flush=True)
