"""From starting the agent to 200 on /readyz with everything attached, and its resident memory.

The agent runs in a network namespace of its own with one veth end to protect.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ebpfsentinel.domains.firewall.tests.network import Network

RUNS = 5
PORT = 18099
COMMAND = Path(sys.executable).with_name("ebpfsentinel-agent")


def _get(path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def start(network: Network, folder: Path) -> tuple[float, float]:
    """Seconds to readiness, and megabytes then."""
    config = folder / "config.yaml"
    config.write_text(
        f"agent: {{interfaces: [{network.agent.device}], http_port: {PORT}, metrics_port: "
        f"{PORT + 1}, state_dir: {folder / 'state'}}}\n"
    )
    config.chmod(0o600)
    began = time.perf_counter()
    agent = network.agent.call(
        subprocess.Popen,
        [COMMAND, "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while network.agent.call(_get, "/readyz") != 200:
            if agent.poll() is not None or time.perf_counter() - began > 30:
                raise RuntimeError(f"the agent did not become ready ({agent.poll()})")
            time.sleep(0.01)
        return time.perf_counter() - began, _rss_mb(agent.pid)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(20)


def run() -> list[dict[str, object]]:
    """Time and memory."""
    network = Network()
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = [start(network, Path(folder)) for _ in range(RUNS)]
    finally:
        network.close()
    rows = (
        ("cold start to /readyz, everything attached", "s", 3, 0.8),
        ("resident memory when ready", "MB", 130, 90),
    )
    return [
        {
            "name": name,
            "unit": unit,
            "must": must,
            "aim": aim,
            "median": round(statistics.median(values), 2),
            "spread": [round(min(values), 2), round(max(values), 2)],
            "runs": RUNS,
        }
        for (name, unit, must, aim), values in zip(rows, zip(*found, strict=True), strict=True)
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
