"""The demo's kind of load for as long as it is told: ``python -m bench.soak SECONDS``.

Each half second: 300 denied UDP packets of both families, 10 logged TCP connections, 60 processes,
and an exec from a temporary folder that raises an alert. Writes ``results/soak.json``: resident
memory over time, and what became of every record of every ring. Not part of ``make bench``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.__main__ import HERE, machine

sys.path.insert(0, str(HERE.parent / "tests"))

from lab import Lab

RESULT = HERE / "results" / "soak.json"
SAMPLE_S = 60
RULES = {
    "mode": "block",
    "rules": [
        {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353},
        {"id": "log", "priority": 11, "action": "log", "protocol": "tcp", "dst_port": "1000-2000"},
    ],
}


def resident_mb(pid: int) -> float:
    """VmRSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def run(seconds: float) -> dict[str, Any]:
    """The load, and what it did to the agent."""
    with tempfile.TemporaryDirectory() as folder:
        lab, odd = Lab(Path(folder)), Path(folder) / "try-me"
        shutil.copy("/bin/true", odd)
        try:
            agent = lab.agent(firewall=RULES)
            began, samples, rounds = time.monotonic(), [], 0
            while (past := time.monotonic() - began) < seconds:
                if past >= len(samples) * SAMPLE_S:
                    samples.append(round(resident_mb(agent.process.pid), 1))
                    print(f"{past:6.0f} s  {samples[-1]} MB", file=sys.stderr)
                _round(lab, odd, rounds)
                rounds += 1
            return {
                "machine": machine(),
                "seconds": round(seconds),
                "rounds": rounds,
                "resident_mb_each_minute": samples,
                "ledgers": agent.cli("ebpf", "status")["ledgers"],
            }
        finally:
            lab.close()


def _round(lab: Lab, odd: Path, number: int) -> None:
    lab.arrivals(5353, 200)
    lab.arrivals(5353, 100, ipv6=True)
    for port in range(10):
        lab.connects(1000 + (10 * number + port) % 900)
    for _ in range(60):
        subprocess.run(["/bin/true"], check=True)
    subprocess.run([str(odd)], check=True)
    time.sleep(0.5)


if __name__ == "__main__":
    found = run(float(sys.argv[1]))
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
