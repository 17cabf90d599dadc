"""Exec records through the whole process engine with 200 rules, on one core.

Batches of 2,048 records as the kernel makes them: 300 programs, 500 argument lists (``realistic``),
or arguments that are all different (``distinct``). Each round feeds new processes. No rule matches:
what a match costs is the price of an alert, which is folded elsewhere.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time

import numpy as np

from bench.bench_cel import conditions
from ebpfsentinel.domains.process.tests.process_records import NOW, engine, record

ROWS, RUNS, RULES = 2048, 15, 200
OTHER_NAMES = {
    "process.container": "process.container.id",
    "process.depth": "process.argc",
    "process.user": "process.cgroup",
}


def rules() -> str:
    """The conditions of ``bench_cel``, with this domain's names for their fields."""
    found = []
    for number, condition in enumerate(conditions(RULES)):
        for name, ours in OTHER_NAMES.items():
            condition = condition.replace(name, ours)  # noqa: PLW2901
        found.append(
            {"name": f"r{number}", "condition": condition, "risk_score": 0.5, "action": "log"}
        )
    return json.dumps({"rules": found})


def batch(lists: int) -> np.ndarray:
    """Exec records of processes 2..ROWS+1."""
    pick = random.Random(5)
    rows = np.concatenate([record("exec", pid, parent=(1, 1)) for pid in range(2, ROWS + 2)])
    for row in rows:
        number = pick.randrange(lists)
        row["path"] = f"/usr/bin/tool-{number % 300}".encode()
        row["cwd"], row["uid"], row["gid"] = b"/srv/data", 5000, 5000
        row["argv"] = f"tool\0--option={number}\0-l\0/srv/data/{number}.txt\0".encode()
        row["argv_bytes"], row["argc"] = len(row["argv"]) + 1, 4
    return rows


def measure(rows: np.ndarray) -> list[float]:
    """Events a second, once per run."""
    judge = engine(rules())
    judge.feed("execs", rows, NOW)
    speeds = []
    for _ in range(RUNS):
        rows["start_ns"] += 10
        start = time.perf_counter()
        outcome = judge.feed("execs", rows, NOW)
        speeds.append(ROWS / (time.perf_counter() - start))
        assert not outcome.alerts
    return speeds


def run() -> dict[str, object]:
    """The figure, and that of all-distinct arguments."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        speeds, distinct = measure(batch(500)), measure(batch(1 << 30))
    finally:
        os.sched_setaffinity(0, before)
    return {
        "name": "exec records through the engine with 200 CEL rules, one core",
        "unit": "events/s",
        "must": 50_000,
        "aim": 200_000,
        "median": round(statistics.median(speeds)),
        "spread": [round(min(speeds)), round(max(speeds))],
        "runs": RUNS,
        "all_distinct": {
            "median": round(statistics.median(distinct)),
            "spread": [round(min(distinct)), round(max(distinct))],
        },
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
