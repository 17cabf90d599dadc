"""Image and compose file: compose takes it, and it gives no more than the units do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import artefacts
import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deploy/oci/Containerfile"


@pytest.fixture(scope="session")
def schema() -> dict[str, Any]:
    """Of the compose specification, from the library of those who keep it."""
    module = artefacts.go_module(artefacts.COMPOSE)
    found: dict[str, Any] = json.loads((module / "schema/compose-spec.json").read_text())
    return found


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    return found


def test_compose_takes_the_file(compose: dict[str, Any], schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(schema)
    assert [str(error) for error in validator.iter_errors(compose)] == []
    compose["services"]["agent"]["imag"] = "misspelt"
    assert not validator.is_valid(compose)


def test_the_halves_have_what_their_units_have(compose: dict[str, Any]) -> None:
    agent, keeper = compose["services"]["agent"], compose["services"]["keeper"]
    unit = (ROOT / "deploy/ebpfsentinel-keeper.service").read_text()
    kept = re.search(r"^CapabilityBoundingSet=(.*)$", unit, re.MULTILINE)
    assert kept is not None
    assert {f"CAP_{name}" for name in keeper["cap_add"]} == set(kept[1].split())
    assert agent["cap_drop"] == keeper["cap_drop"] == ["ALL"]
    assert "cap_add" not in agent
    assert not any(each.get("privileged") for each in compose["services"].values())
    assert not agent["user"].startswith("0")


def test_the_image_runs_as_nobody_in_particular_and_names_no_registry() -> None:
    lines = re.sub(r"\\\n\s*", " ", CONTAINERFILE.read_text()).splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    steps: dict[str, list[str]] = {}
    for step, rest in words:
        steps.setdefault(step, []).append(rest)
    assert {name.split()[0] for name in steps["FROM"]} == {"${BASE}"}
    (base,) = (each for each in steps["ARG"] if each.startswith("BASE="))
    assert "/" not in base
    assert steps["USER"] == ["ebpfsentinel"]
    assert len(steps["HEALTHCHECK"]) == len(steps["ENTRYPOINT"]) == len(steps["CMD"]) == 1
    sources = {each.split()[-2] for each in steps["COPY"] if not each.startswith("--from")}
    assert sources == {"."}
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "tests", "dist"} <= set(ignored)


def test_what_the_image_is_built_from_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    builder = (ROOT / "deploy/debian/__main__.py").read_text()
    for name in ("src", "deploy", "config", "requirements.lock", "pyproject.toml", "Makefile"):
        assert (ROOT / name).exists()
        assert name not in ignored
    for name in re.findall(r'ROOT / "(\w+)', builder):
        assert name in ("build", "dist") or name not in ignored
