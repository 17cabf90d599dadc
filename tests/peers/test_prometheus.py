"""Debian's Prometheus scrapes the agent, and promtool has nothing to say against it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx
import programs
import pytest

from tests.waiting import until

_DEPLOY = Path(__file__).parents[2] / "deploy/prometheus"
RULES, TESTS = _DEPLOY / "ebpfsentinel.rules.yml", _DEPLOY / "ebpfsentinel.tests.yml"
METRICS = "http://127.0.0.1:9090/metrics"


def test_promtool_has_no_complaint(lab, prometheus):
    agent = lab.agent(firewall={"mode": "block"})
    lab.arrivals(5353)
    text = lab.run(lab.guarded, "curl", "-sS", METRICS).stdout
    assert "ebpfsentinel_packets_total" in text
    checked = subprocess.run(
        [prometheus / "promtool", "check", "metrics"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.stdout + checked.stderr, checked.returncode) == ("", 0)
    assert agent.cli("health")


def test_prometheus_scrapes_the_agent(lab, prometheus, tmp_path):
    lab.agent(firewall={"mode": "alert"})
    port = programs.free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        "  - job_name: agent\n"
        "    static_configs: [{targets: ['127.0.0.1:9090']}]\n"
    )
    command = [
        "nsenter", f"--net=/run/netns/{lab.guarded}", str(prometheus / "prometheus"),
        f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (
        programs.running(command, until="ready to receive", within_s=60, cwd=tmp_path),
        lab.inside(lab.guarded),
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", trust_env=False) as client,
    ):
        (found,) = until(lambda: scraped(client, "ebpfsentinel_memory_usage_bytes"))
        assert float(found["value"][1]) > 10_000_000
        (target,) = client.get("/targets").json()["data"]["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        kinds = client.get("/metadata").json()["data"]
        assert kinds["ebpfsentinel_processing_duration_seconds"][0]["type"] == "histogram"


def scraped(client, query):
    return client.get("/query", params={"query": query}).json()["data"]["result"]


@pytest.mark.parametrize("command", [("check", RULES), ("test", TESTS)], ids=lambda each: each[0])
def test_our_alert_rules_fire_where_they_should(prometheus, command):
    verb, file = command
    told = subprocess.run(
        [prometheus / "promtool", verb, "rules", file],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr
