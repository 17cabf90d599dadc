"""Exec events through 200 CEL conditions, on one core.

Batches of 8,192 rows with 15 columns. ``realistic``: a few hundred distinct paths and names, some
thousand distinct argument lists. ``distinct``: no string of the batch occurs twice in its column.
"""

from __future__ import annotations

import json
import random
import statistics
import time

import numpy as np

from ebpfsentinel.model.conditions import Field, FieldType, Table, Words
from ebpfsentinel.rules import Cel

ROWS = 8192
RUNS = 9
TEXTS = ("path", "name", "cwd", "args", "user", "parent.path", "parent.name", "container", "cgroup")
NUMBERS = ("uid", "gid", "loginuid", "depth", "pid")
FIELDS = [
    *(Field(f"process.{name}", FieldType.STRING, "") for name in TEXTS),
    *(Field(f"process.{name}", FieldType.INT, "") for name in NUMBERS),
    Field("process.argv", FieldType.STRINGS, ""),
]
FOLDERS = (
    "/usr/bin/",
    "/usr/sbin/",
    "/bin/",
    "/opt/app/",
    "/tmp/",
    "/dev/shm/",
    "/var/tmp/",
    "/home/u/",
)
TOOLS = ("ls", "sh", "bash", "curl", "wget", "nc", "python3", "perl", "cat", "grep", "sshd", "java")


def conditions(count: int = 200) -> list[str]:
    """Conditions in the shapes that published rule sets have."""
    pick = random.Random(7)
    shapes = (
        "process.path.contains('{folder}x{n}')",
        "process.path.startsWith('{folder}') && process.uid == {n}",
        "process.name == '{tool}{n}' && process.parent.name in ['nginx', 'java', 'httpd{n}']",
        "process.name in ['{tool}', 'n{n}'] && process.args.contains('http://{n}')",
        "process.args.matches('(?i)-e\\\\s+/bin/(ba)?sh{n}')",
        "process.argv.exists(a, a.startsWith('--{tool}{n}') || a.endsWith('.sh{n}'))",
        "process.path.startsWith('{folder}') && !process.cwd.contains('x') && process.uid < {n}",
        "process.argv.size() > {n} || process.cwd.contains('/{tool}{n}/')",
        "process.container != '' && process.name == '{tool}' && process.depth > {n}",
        "['/dev/shm/', '/var/tmp/{n}'].exists(d, process.path.startsWith(d)) && process.gid != {n}",
    )
    return [
        shapes[at % len(shapes)].format(folder=pick.choice(FOLDERS), tool=pick.choice(TOOLS), n=at)
        for at in range(count)
    ]


def table(distinct: dict[str, int], lists: int) -> Table:
    """A batch whose string columns hold as many distinct values as ``distinct`` says."""
    pick = random.Random(11)
    codes = np.random.default_rng(3)
    columns: dict[str, Words | np.ndarray] = {}
    for name in TEXTS:
        values = [
            f"{pick.choice(FOLDERS)}{pick.choice(TOOLS)}-{name}-{at}"
            for at in range(distinct[name])
        ]
        columns[f"process.{name}"] = Words(codes.integers(0, len(values), ROWS), values)
    arguments = [
        (pick.choice(TOOLS), f"--option={at}", "-l", f"/srv/data/{at}.txt") for at in range(lists)
    ]
    columns["process.argv"] = Words(codes.integers(0, lists, ROWS), arguments)
    for name in NUMBERS:
        columns[f"process.{name}"] = codes.integers(0, 2000, ROWS, dtype=np.uint32)
    return Table(ROWS, columns)


REALISTIC = dict(zip(TEXTS, (400, 150, 60, 3000, 20, 120, 80, 30, 60), strict=True))


def measure(batch: Table) -> list[float]:
    """Events a second, once per run."""
    matcher = Cel().compile(conditions(), FIELDS)
    matcher.match(batch)
    speeds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        matcher.match(batch)
        speeds.append(ROWS / (time.perf_counter() - start))
    return speeds


def run() -> dict[str, object]:
    """The figure of the realistic batch, and beside it that of the all-distinct one."""
    speeds = measure(table(REALISTIC, 3000))
    worst = measure(table(dict.fromkeys(TEXTS, ROWS), ROWS))
    return {
        "name": "exec events through 200 CEL rules",
        "unit": "events/s",
        "median": round(statistics.median(speeds)),
        "spread": [round(min(speeds)), round(max(speeds))],
        "runs": RUNS,
        "all_distinct": {
            "median": round(statistics.median(worst)),
            "spread": [round(min(worst)), round(max(worst))],
        },
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
