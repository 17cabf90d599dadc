"""The stream, as grpcurl sees it: reflection, health, alerts of a real agent."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

STREAM = "ebpfsentinel.v1.AlertStreamService"
TARGET = "127.0.0.1:50051"


@pytest.fixture
def asked(lab, grpcurl):
    """A running agent, and what grpcurl says of it."""
    agent = lab.agent(agent={"grpc_reflection": True})

    def ask(*arguments, good=True, within_s=20):
        command = ["ip", "netns", "exec", lab.guarded, str(grpcurl), "-plaintext", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, check=False
        )
        assert (done.returncode == 0) == good, done.stderr
        return done.stdout if good else done.stderr

    ask.agent = agent
    return ask


def test_grpcurl_finds_the_service_and_its_health(asked):
    assert STREAM in asked(TARGET, "list").splitlines()
    assert "rpc StreamAlerts" in asked(TARGET, "describe", STREAM)
    told = json.loads(asked(TARGET, "grpc.health.v1.Health/Check"))
    assert told == {"status": "SERVING"}


def test_grpcurl_is_told_what_is_wrong_with_a_filter(asked):
    bad = json.dumps({"min_severity": "worst"})
    said = asked("-d", bad, TARGET, f"{STREAM}/StreamAlerts", good=False)
    assert "InvalidArgument" in said
    assert "low, medium, high, critical" in said


@pytest.mark.usefixtures("asked")
def test_grpcurl_sees_an_alert_as_it_happens(lab, grpcurl, tmp_path):
    request = json.dumps({"min_severity": "low"})
    command = [
        "ip", "netns", "exec", lab.guarded, str(grpcurl), "-plaintext", "-d", request,
        TARGET, f"{STREAM}/StreamAlerts",
    ]  # fmt: skip
    program = Path(f"/tmp/{tmp_path.name}-probe")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        try:
            shutil.copy("/bin/true", program)
            told, lines = {}, iter(following.stdout.readline, "")
            subprocess.run([program], check=True)
            while program.name not in told.get("context_json", ""):
                told = _next(lines)
        finally:
            following.terminate()
            program.unlink()
    assert told["rule_id"] == "suspicious_temp_execution"


def _next(lines):
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return json.loads(text)
    raise AssertionError("the stream ended")
