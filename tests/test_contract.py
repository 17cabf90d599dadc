"""The whole API against its own description: schemathesis asks a running agent, and it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

URL = "http://127.0.0.1:8080"
STREAMS = "/stream$|/events$"
"""Answers that do not end."""
SYSTEM = "^/api/v1/firewall/rules$"
"""The system's rules have a priority that nobody may ask for, so their list does not fit."""
TOOL = Path(sys.executable).with_name("schemathesis")


def ask(agent: Any, checks: str, *options: str) -> str:
    done = agent.lab.run(
        agent.lab.guarded, str(TOOL), "run", f"{URL}/api-docs/openapi.json", "--url", URL,
        "--checks", checks, "--seed", "1", "--generation-deterministic", "--no-shrink",
        "--warnings", "off", "--no-color", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr + agent.log()[-2000:]
    return done.stdout


@pytest.mark.slow
def test_no_request_brings_the_api_down_and_every_answer_is_as_described(lab: Any) -> None:
    agent = lab.agent(firewall={"mode": "alert"})
    said = ask(
        agent,
        "not_a_server_error,status_code_conformance,content_type_conformance",
        *("--max-examples", "3", "--exclude-path-regex", STREAMS),
    )
    assert int(re.search(r"(\d+) generated", said)[1]) > 1000
    ask(
        agent,
        "response_schema_conformance",
        *("--max-examples", "2", "--phases", "fuzzing"),
        *("--exclude-path-regex", f"{STREAMS}|{SYSTEM}"),
    )
    assert agent.cli("health")
    assert agent.cli("audit", "verify")["intact"]
