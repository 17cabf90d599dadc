"""The demo's kind of load for as long as it is told: ``python -m bench.soak SECONDS``.

Each half second: 300 denied UDP packets of both families, 10 logged TCP connections, 60 processes,
and execs from a temporary folder that raise alerts; neither dedupe nor throttle holds them back.
Three webhooks get every alert: one that works, one that answers 500 and one that never answers.
When the time is over the two recover, and what waited for them on disk has to arrive, in order.

Writes ``results/soak.json``: resident memory over time and its growth, what became of every record
of every ring, and of every alert at every webhook. The exit code is 1 where an alert was lost, or
memory grew by more than 5 %. Not part of ``make bench``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.__main__ import HERE, machine

sys.path.insert(0, str(HERE.parent / "tests"))

from lab import AGENT, Lab, RunningAgent

RESULT = HERE / "results" / "soak.json"
SAMPLE_S = 60
WARM_S = 300
"""Memory counts from here on, or from a fifth of the time where that is less."""
DRAIN_S = 600
MOST_GROWTH = 5.0
EXECS = 5
MODES = {"works": "", "fails": "fails", "hangs": "hangs"}
RULES = {
    "mode": "block",
    "rules": [
        {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353},
        {"id": "log", "priority": 11, "action": "log", "protocol": "tcp", "dst_port": "1000-2000"},
    ],
}


class Webhooks:
    """Three receivers beside the agent, in its namespace."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.processes = [self._start(folder, name, mode) for name, mode in MODES.items()]
        self.ports = {name: self._port(folder / name) for name in MODES}

    def _start(self, folder: Path, name: str, mode: str) -> subprocess.Popen[bytes]:
        within = ["nsenter", f"--net=/run/netns/{self._lab.guarded}"]
        receiver = [sys.executable, "-m", "bench.receiver", str(folder / name), mode]
        return subprocess.Popen([*within, *receiver], cwd=HERE.parent)

    def _port(self, path: Path) -> int:
        while not path.exists():
            time.sleep(0.05)
        return int(path.read_text())

    def routes(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "destination": "webhook",
                "webhook_url": f"http://127.0.0.1:{port}/",
                "batch": 100,
                "timeout_ms": 5000,
                "spool_bytes": 4 << 30,
            }
            for name, port in self.ports.items()
        ]

    def ask(self, name: str, path: str = "/") -> dict[str, int]:
        with self._lab.inside(self._lab.guarded):
            url = f"http://127.0.0.1:{self.ports[name]}{path}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
            process.wait(10)


def resident_mb(pid: int) -> float:
    """VmRSS."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def run(seconds: float) -> dict[str, Any]:
    """The load, and what it did to the agent."""
    with tempfile.TemporaryDirectory() as folder:
        lab, odd = Lab(Path(folder)), Path(folder) / "try-me"
        shutil.copy("/bin/true", odd)
        webhooks = Webhooks(lab, Path(folder))
        alerting = {
            "dedup_window_secs": 0,
            "throttle_max": 0,
            "allow_private": True,
            "routes": webhooks.routes(),
        }
        try:
            agent = lab.agent(firewall=RULES, alerting=alerting)
            samples, rounds = _load(lab, agent, odd, seconds)
            return {
                "machine": machine(),
                "seconds": round(seconds),
                "rounds": rounds,
                "resident_mb_each_minute": [mb for _, mb in samples],
                **_growth(samples, seconds),
                "ledgers": agent.cli("ebpf", "status")["ledgers"],
                **_settle(agent, webhooks),
            }
        finally:
            webhooks.close()
            lab.close()


def _load(
    lab: Lab, agent: RunningAgent, odd: Path, seconds: float
) -> tuple[list[tuple[float, float]], int]:
    began, samples, rounds = time.monotonic(), [], 0
    every_s = min(SAMPLE_S, seconds / 10)
    while (past := time.monotonic() - began) < seconds:
        if past >= len(samples) * every_s:
            samples.append((past, round(resident_mb(agent.process.pid), 1)))
            print(f"{past:6.0f} s  {samples[-1][1]} MB", file=sys.stderr)
        _round(lab, odd, rounds)
        rounds += 1
    samples.append((past, round(resident_mb(agent.process.pid), 1)))
    return samples, rounds


def _growth(samples: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """From when all is warm to the end."""
    warm_s = min(WARM_S, seconds / 5)
    warm = next(mb for past, mb in samples if past >= warm_s)
    last = samples[-1][1]
    growth = round(100 * (last - warm) / warm, 1)
    return {"resident_mb_warm": warm, "resident_mb_end": last, "growth_percent": growth}


def _settle(agent: RunningAgent, webhooks: Webhooks) -> dict[str, Any]:
    """The two recover; returns what arrived where, and what did not."""
    waited = {each["name"]: each["waiting"] for each in _destinations(agent)}
    for name in MODES:
        webhooks.ask(name, "/recover")
    ends = time.monotonic() + DRAIN_S
    while any(each["waiting"] for each in _destinations(agent)) and time.monotonic() < ends:
        time.sleep(1)
    raised = _raised(agent)
    found = {name: webhooks.ask(name) for name in MODES}
    lost = {name: raised - each["alerts"] for name, each in found.items()}
    body = agent.cli("alerts", "destinations")
    return {
        "alerts_raised": raised,
        "waited_on_disk": waited,
        "webhooks": found,
        "alerts_lost": lost,
        "alerts_dropped": body["dropped"],
        "destinations": body["destinations"],
    }


def _destinations(agent: RunningAgent) -> list[dict[str, Any]]:
    return agent.cli("alerts", "destinations")["destinations"]


def _raised(agent: RunningAgent) -> int:
    """Alerts that went on, as the agent counts them."""
    text = agent.lab.run(agent.lab.guarded, str(AGENT), "metrics").stdout
    lines = [line for line in text.splitlines() if line.startswith("ebpfsentinel_alerts_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def _round(lab: Lab, odd: Path, number: int) -> None:
    lab.arrivals(5353, 200)
    lab.arrivals(5353, 100, ipv6=True)
    for port in range(10):
        lab.connects(1000 + (10 * number + port) % 900)
    for _ in range(60):
        subprocess.run(["/bin/true"], check=True)
    for _ in range(EXECS):
        subprocess.run([str(odd)], check=True)
    time.sleep(0.5)


def main(seconds: float) -> int:
    found = run(seconds)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    shown = {name: found[name] for name in ("growth_percent", "alerts_raised", "alerts_lost")}
    print(json.dumps(shown, indent=1))
    return int(any(found["alerts_lost"].values()) or found["growth_percent"] > MOST_GROWTH)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
