"""``firewall replay``: frames of a capture a second, through 4,096 rules in the real programs.

One process on one core: reading the file, BPF_PROG_RUN of every frame, verdicts counted by rule;
and the same against a second rule set, with the differences found.
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.bench_firewall import rules, spread, trace
from ebpfsentinel.cli.session import Session
from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.cli import judges
from ebpfsentinel.domains.firewall.replay import replay
from ebpfsentinel.domains.firewall.rulesets import RuleSource
from ebpfsentinel.domains.firewall.settings import AntiLockout, FirewallSettings

RUNS = 5
FRAMES = 512 * 600
assert DOMAIN.name


def capture(path: Path, frames: list[bytes]) -> None:
    """The trace again and again, as a pcap file."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    once = b"".join(struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)
    path.write_bytes(head + once * (FRAMES // len(frames)))


def source(count: int, action: str) -> RuleSource:
    """A rule set."""
    made = FirewallSettings(rules=rules(4, count, action), anti_lockout=AntiLockout(enabled=False))
    return RuleSource(made, (), (), action)


def per_second(path: Path, made: list[Any]) -> int:
    """Frames a second of one whole replay."""
    began = time.perf_counter()
    _, count, _ = replay(Session().capture(path), made, 20, lambda _at, _size: None)
    return round(count / (time.perf_counter() - began))


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    sources = [source(4096, "allow"), source(4096, "deny")]
    with tempfile.TemporaryDirectory() as folder, judges(Session(), sources, "") as made:
        path = Path(folder) / "trace.pcap"
        capture(path, trace(4, rules(4, 4096)))
        one = [per_second(path, made[:1]) for _ in range(RUNS)]
        two = [per_second(path, made) for _ in range(RUNS)]
    row = {"unit": "frames/s", "runs": RUNS}
    return [
        {"name": "replay, 4,096 rules", **row, **spread(one), "must": 150_000, "aim": 400_000},
        {"name": "replay against a candidate, 4,096 rules each", **row, **spread(two)},
    ]


if __name__ == "__main__":
    print("\n".join(json.dumps(row) for row in run()))
