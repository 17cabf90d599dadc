"""Alerts through the whole pipeline to one webhook on loopback, sustained.

Fold (dedupe, throttle, ids), store, routes, spool on disk, one receiver in a process of its own;
the time runs until the last alert has been answered for. ``one a POST`` is what a webhook gets
unless told otherwise, over one kept connection; ``array`` is ``batch: 100``.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec

from ebpfsentinel.alerts import Fold
from ebpfsentinel.flow import Flow
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.model.domain import Outcome
from ebpfsentinel.sinks import Router
from ebpfsentinel.store import Store

RUNS = 3
ONE, ARRAY = 6_000, 30_000
GATHERED = 100
"""Alerts that come together: what a ring gathers in 50 ms at 2,000 a second."""


def _alert(number: int) -> Alert:
    return Alert(
        timestamp_ns=time.time_ns(),
        component="bench",
        severity=Severity.HIGH,
        rule_id=f"rule-{number % 50}",
        action="deny",
        message="deny tcp 203.0.113.9:40000 -> 198.51.100.1:22 by rule-1",
        src_addr=[number, 0, 0, 0],
        dst_addr=[0xC6336401, 0, 0, 0],
        src_ip="203.0.113.9",
        dst_ip="198.51.100.1",
        src_port=40000,
        dst_port=22,
        protocol=6,
        technique="T1046",
        context={"interface": "eth0", "direction": "ingress"},
    )


class Receiving:
    """The receiver's process."""

    def __init__(self, folder: Path, mode: str = "") -> None:
        port_file = folder / f"port-{mode}"
        self.process = subprocess.Popen([sys.executable, "-m", "bench.receiver", port_file, mode])
        while not port_file.exists():
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{port_file.read_text()}/"

    def count(self) -> dict[str, int]:
        with urllib.request.urlopen(self.url, timeout=5) as answer:
            return json.load(answer)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


async def _carry(folder: Path, url: str, batch: int, count: int) -> float:
    """Alerts a second, from the first that is raised to the last that has arrived."""
    route = {"name": "hook", "destination": "webhook", "webhook_url": url, "batch": batch}
    alerting = msgspec.convert({"routes": [route], "allow_private": True}, Alerting)
    router, store, fold = Router(folder / "spool", "bench"), Store(folder), Fold()
    router.configure(alerting)
    router.start()
    flow = Flow(FakeKernel(), {}, fold, store, (router,))
    alerts = [_alert(number) for number in range(count)]
    began = time.perf_counter()
    for at in range(0, count, GATHERED):
        gathered = Outcome(alerts[at : at + GATHERED])
        await flow._tell(gathered)  # noqa: SLF001 -- behind the engines, where alerts begin
        await asyncio.sleep(0)
    while router.views()[0].waiting:  # noqa: ASYNC110 -- the end, which nothing else asks for
        await asyncio.sleep(0.005)
    took = time.perf_counter() - began
    assert router.views()[0].exported == count, router.views()
    await router.stop()
    store.close()
    return count / took


def _measure(name: str, batch: int, count: int, must: int, aim: int) -> dict[str, Any]:
    rates = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            receiving = Receiving(folder)
            try:
                rates.append(asyncio.run(_carry(folder, receiving.url, batch, count)))
                found = receiving.count()
                assert found["alerts"] == count, found
                assert not found["disorder"], found
            finally:
                receiving.close()
    return {
        "name": f"alerts through the pipeline to one webhook, {name}",
        "unit": "alerts/s",
        "median": round(statistics.median(rates)),
        "spread": [round(min(rates)), round(max(rates))],
        "runs": RUNS,
        "must": must,
        "aim": aim,
    }


def run() -> list[dict[str, Any]]:
    """One alert a POST, and arrays of 100."""
    return [
        _measure("one a POST", 1, ONE, 2000, 5000),
        _measure("arrays of up to 100 (`batch: 100`)", 100, ARRAY, 2000, 5000),
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
