"""What is looked at each minute, and what all of it says in the end."""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.soak.load import Load
    from bench.soak.sinks import Webhooks
    from bench.soak.supervised import Listener, Supervised

_EXECS, _READS = 5, 10
_PATHS = ("/api/v1/agent/status", "/api/v1/firewall/rules")


class Sampler:
    """Measures now; ``samples`` has all that was measured."""

    def __init__(
        self, agent: Supervised, webhooks: Webhooks, load: Load, listener: Listener
    ) -> None:
        self._agent, self._webhooks, self._load = agent, webhooks, load
        self._listener = listener
        self._began = time.monotonic()
        self._used = (0, 0.0, 0.0)
        self._probes = 0
        self.samples: list[dict[str, Any]] = []

    def sample(self) -> None:
        at_s = round(time.monotonic() - self._began, 1)
        found = {
            "at_s": at_s,
            "life": self._agent.lives,
            "resident_mb": self._agent.resident_mb(),
            "cpu_percent": self._cpu_percent(),
            "exec_to_stream_ms": self._exec_ms(),
            "rest_read_ms": self._read_ms(),
            "records": self._records(),
            "destinations": self._destinations(),
            "webhooks": self._webhooks.all(),
        }
        self.samples.append(found)
        shown = {name: found[name] for name in list(found)[1:6]}
        print(f"{at_s:7.0f} s  {shown}", flush=True)

    def _cpu_percent(self) -> float | None:
        """Of one core, since the last sample of this life."""
        life, used_s, at_s = self._used
        self._used = now = (self._agent.lives, self._agent.cpu_s(), time.monotonic())
        if life != now[0]:
            return None
        return round(100 * (now[1] - used_s) / (now[2] - at_s), 1)

    def _exec_ms(self) -> list[float | None]:
        """Of each exec, to a client of the alert stream."""
        found = []
        for _ in range(_EXECS):
            self._probes += 1
            name = f"probe-{self._probes}-"
            program = self._load.program(name)
            found.append(self._listener.latency_ms(name, lambda p=program: run(p)))
            program.unlink()
        return found

    def _read_ms(self) -> list[float]:
        found = []
        for number in range(_READS):
            began = time.monotonic()
            self._agent.get(_PATHS[number % len(_PATHS)])
            found.append(round((time.monotonic() - began) * 1000, 2))
        return found

    def _records(self) -> dict[str, int]:
        """Of all rings of this life: seen by the kernel, delivered, counted as lost."""
        ledgers = self._agent.get("/api/v1/ebpf/status")["ledgers"]
        return {
            "seen": sum(each["seen"] for each in ledgers),
            "delivered": sum(each["delivered"] for each in ledgers),
            "lost": sum(sum(each["lost"].values()) for each in ledgers),
        }

    def _destinations(self) -> dict[str, dict[str, Any]]:
        found = self._agent.get("/api/v1/alerts/destinations")["destinations"]
        words = ("state", "sequence", "acknowledged", "waiting", "dropped")
        return {each["name"]: {word: each[word] for word in words} for each in found}


def growth(samples: Sequence[dict[str, Any]], seconds: float, rounds: int) -> dict[str, Any]:
    """Resident memory in the first round of faults after a quarter of the time, and in the last.

    Medians over whole rounds of faults, which are alike; both are of the same process.
    """
    own = [s for s in samples if s["life"] == samples[-1]["life"] and s["at_s"] >= seconds / 4]
    length = seconds / rounds
    warm = [each for each in own if each["at_s"] < own[0]["at_s"] + length]
    end = [each for each in own if each["at_s"] >= own[-1]["at_s"] - length]
    warm_mb, end_mb = (statistics.median(e["resident_mb"] for e in part) for part in (warm, end))
    return {
        "resident_mb_warm": warm_mb,
        "resident_mb_end": end_mb,
        "resident_mb_most": max(each["resident_mb"] for each in samples),
        "growth_percent": round(100 * (end_mb - warm_mb) / warm_mb, 1),
    }


def spread(values: Sequence[float | None]) -> dict[str, float | int]:
    """Median, 99th percentile, the worst, and how many there were no answer to."""
    found = sorted(value for value in values if value is not None)
    return {
        "p50": found[len(found) // 2],
        "p99": found[min(len(found) * 99 // 100, len(found) - 1)],
        "most": found[-1],
        "none": len(values) - len(found),
        "of": len(values),
    }


def run(program: Any) -> None:
    """Execute it."""

    subprocess.run([str(program)], check=True)
