"""fork + exec + exit of /bin/true with the process domain attached, and without.

A process of its own loads the domain, attaches it or leaves, and drains and judges as the agent
does. Rounds alternate, so that what else the machine does hits both alike.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import time

from ebpfsentinel.agent import GATHER_S
from ebpfsentinel.domains.process import DOMAIN
from ebpfsentinel.domains.process.tests.process_records import NOW, engine, plan
from ebpfsentinel.kernel.load import LinuxKernel

ROUNDS, EXECS = 30, 200


def watch() -> None:
    """The consumer: 'on' and 'off' come by standard input, each is answered when done."""
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    judge = engine()
    kernel.apply(plan(judge).actions)
    rings = kernel.rings()
    poller = select.poll()
    poller.register(0, select.POLLIN)
    for fd in rings.values():
        poller.register(fd, select.POLLIN)
    while True:
        if any(fd == 0 for fd, _ in poller.poll(200)):
            word = os.read(0, 16).decode().strip()
            if not word:
                break
            kernel.load([DOMAIN] if word == "on" else [])
            kernel.attach([])
            os.write(1, b"done\n")
        time.sleep(GATHER_S)
        for ring in rings:
            rows = kernel.drain(ring)
            if len(rows):
                judge.feed(ring, rows, NOW)
    kernel.detach()


def burst() -> float:
    """Microseconds per exec."""
    start = time.perf_counter()
    for _ in range(EXECS):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return (time.perf_counter() - start) / EXECS * 1e6


def run() -> dict[str, object]:
    """The ratio of the medians, and both."""
    consumer = subprocess.Popen(
        [sys.executable, "-m", "bench.bench_exec", "watch"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    found: dict[str, list[float]] = {"on": [], "off": []}
    try:
        burst()
        for number in range(ROUNDS):
            for word in ("on", "off") if number % 2 else ("off", "on"):
                consumer.stdin.write(f"{word}\n".encode())
                consumer.stdin.flush()
                consumer.stdout.readline()
                found[word].append(burst())
    finally:
        consumer.stdin.close()
        consumer.wait(30)
        consumer.stdout.close()
    middle = {word: statistics.median(times) for word, times in found.items()}
    pairs = [on / off for on, off in zip(found["on"], found["off"], strict=True)]
    return {
        "name": "fork + exec of /bin/true, process domain on / off",
        "unit": "ratio",
        "must": 1.05,
        "aim": 1.02,
        "median": round(middle["on"] / middle["off"], 3),
        "spread": [round(min(pairs), 3), round(max(pairs), 3)],
        "runs": ROUNDS,
        "microseconds": {word: round(value, 1) for word, value in middle.items()},
    }


if __name__ == "__main__":
    if "watch" in sys.argv:
        watch()
    else:
        print(json.dumps(run(), indent=2))
