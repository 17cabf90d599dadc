"""The stream, as grpcurl sees it: reflection, health, alerts of a real agent."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
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


def test_the_commands_of_the_documentation_work(asked):
    page = (Path(__file__).parents[2] / "docs" / "grpc.md").read_text()
    lines = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1].splitlines()
    commands = [shlex.split(line) for line in lines]
    assert [command[:2] for command in commands] == [["grpcurl", "-plaintext"]] * 3
    for command in commands[:2]:
        assert asked(*command[2:])
    said = asked("-max-time", "1", *commands[2][2:], good=False)
    assert "DeadlineExceeded" in said  # it was streaming until then


def test_grpcurl_is_told_what_is_wrong_with_a_filter(asked):
    bad = json.dumps({"min_severity": "worst"})
    said = asked("-d", bad, TARGET, f"{STREAM}/StreamAlerts", good=False)
    assert "InvalidArgument" in said
    assert "low, medium, high, critical" in said


@pytest.mark.usefixtures("asked")
def test_grpcurl_sees_an_alert_as_it_happens(lab, grpcurl):
    request = json.dumps({"min_severity": "low"})
    command = [
        "ip", "netns", "exec", lab.guarded, str(grpcurl), "-plaintext", "-d", request,
        TARGET, f"{STREAM}/StreamAlerts",
    ]  # fmt: skip
    folder = Path(tempfile.mkdtemp(prefix="probe-", dir="/tmp"))
    alerts = queue.SimpleQueue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        reader = threading.Thread(target=read, args=(following.stdout, alerts))
        reader.start()
        try:
            told = follow(folder, alerts)
        finally:
            following.terminate()
            reader.join()
            shutil.rmtree(folder)
    assert told["rule_id"] == "suspicious_temp_execution"
    assert told["mitre_tactic"] == "execution"


def follow(folder, alerts):
    """Run programs, each of another name, until the stream has begun and tells of one."""
    for number in range(30):
        program = folder / f"program-{number}"
        shutil.copy("/bin/true", program)
        subprocess.run([program], check=True)
        with contextlib.suppress(queue.Empty):
            while folder.name not in (told := alerts.get(timeout=1))["context_json"]:
                pass
            return told
    raise AssertionError("no alert was told")


def read(lines, alerts):
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            alerts.put(json.loads(text))
            text = ""
