"""The Helm chart, rendered by helm, checked by what Kubernetes' own API says of its objects."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import artefacts
import jsonschema_rs
import pytest
import yaml

from ebpfsentinel import domains
from ebpfsentinel.config import discover, load

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/ebpfsentinel"
KUBERNETES = "1.29.0"
ALL = {
    "serviceMonitor.enabled": "true",
    "serviceMonitor.tokenSecret.name": "scrape",
    "prometheusRule.enabled": "true",
    "config.agent.bind_address": "0.0.0.0",
    "config.agent.allow_unauthenticated_api": "true",
    "envFromSecret": "keys",
    "secretMounts[0]": "tls",
    "imagePullSecrets[0].name": "pull",
    "nodeSelector.role": "edge",
}
VALUES = {
    "as it is": {},
    "everything": ALL,
    "privileged": {"keeper.privileged": "true", "image.digest": "sha256:" + "0" * 64},
}


@pytest.fixture(scope="session")
def helm() -> Path:
    return artefacts.go_program(artefacts.HELM)


@pytest.fixture(scope="session")
def definitions() -> dict[str, Any]:
    """Kubernetes' own description of its API, as JSON Schema in which nothing else may stand."""
    module = artefacts.go_module(artefacts.KUBECTL)
    found = json.loads((module / "testdata/openapi/swagger.json").read_text())["definitions"]
    for schema in found.values():
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    for name in ("IntOrString", "Quantity"):  # written as a string there, and read as both
        for full in [each for each in found if each.endswith(f".{name}")]:
            found[full] = {"type": ["string", "integer"]}
    return found


def rendered(helm: Path, values: dict[str, str], good: bool = True) -> Any:
    command = [str(helm), "template", "guard", str(CHART), "--namespace", "security",
               "--kube-version", KUBERNETES]  # fmt: skip
    for key, value in values.items():
        kind = "--set" if value in ("true", "false") else "--set-string"
        command += [kind, f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is good, done.stderr
    return list(filter(None, yaml.safe_load_all(done.stdout))) if good else done.stderr


def one(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def test_helm_has_nothing_to_say_against_it(helm: Path) -> None:
    command = [str(helm), "lint", "--strict", str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_one_that_kubernetes_takes(
    name: str, helm: Path, definitions: dict[str, Any]
) -> None:
    kinds = {}
    for schema, described in definitions.items():
        for group in described.get("x-kubernetes-group-version-kind", ()):
            kinds[group["group"], group["version"], group["kind"]] = schema
    checked = []
    for each in rendered(helm, VALUES[name]):
        group, _, version = each["apiVersion"].rpartition("/")
        if group == "monitoring.coreos.com":
            continue  # of the Prometheus operator; see below
        schema = {"$ref": f"#/definitions/{kinds[group, version, each['kind']]}"}
        validator = jsonschema_rs.Draft4Validator(schema | {"definitions": definitions})
        wrong = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(each)]
        assert not wrong
        checked.append(each["kind"])
    assert {"ConfigMap", "DaemonSet", "ServiceAccount"} <= set(checked)


def test_what_the_schema_is_for(helm: Path, definitions: dict[str, Any]) -> None:
    """A misspelt field is refused: the check above can fail."""
    found = one(rendered(helm, {}), "DaemonSet")
    found["spec"]["template"]["spec"]["hostNetwrk"] = True
    schema = {"$ref": "#/definitions/io.k8s.api.apps.v1.DaemonSet", "definitions": definitions}
    assert not jsonschema_rs.Draft4Validator(schema).is_valid(found)


@pytest.mark.parametrize("name", VALUES)
def test_the_agent_takes_the_configuration(name: str, helm: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(one(rendered(helm, VALUES[name]), "ConfigMap")["data"]["config.yaml"])
    path.chmod(0o600)
    assert load(path, {}, {}, discover(domains)).settings.agent.privilege_separation


def test_the_agent_has_no_privilege_and_the_keeper_what_its_unit_has(helm: Path) -> None:
    pod = one(rendered(helm, {}), "DaemonSet")["spec"]["template"]["spec"]
    containers = {each["name"]: each["securityContext"] for each in pod["containers"]}
    agent, keeper = containers["agent"], containers["keeper"]
    assert agent["runAsNonRoot"] is True
    assert agent["capabilities"] == {"drop": ["ALL"]}
    assert "privileged" not in keeper
    unit = (ROOT / "deploy/ebpfsentinel-keeper.service").read_text()
    line = next(each for each in unit.splitlines() if each.startswith("CapabilityBoundingSet="))
    assert {f"CAP_{name}" for name in keeper["capabilities"]["add"]} == set(
        line.partition("=")[2].split()
    )
    assert pod["hostNetwork"] is pod["hostPID"] is True


def test_a_changed_configuration_restarts_the_pods(helm: Path) -> None:
    def checksum(values: dict[str, str]) -> str:
        template = one(rendered(helm, values), "DaemonSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({})
    assert checksum({}) != checksum({"config.firewall.mode": "block"})


def test_the_rules_of_prometheus_are_those_of_the_repository(helm: Path) -> None:
    rule = one(rendered(helm, ALL), "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(
        (ROOT / "deploy/prometheus/ebpfsentinel.rules.yml").read_text()
    )
    monitor = one(rendered(helm, ALL), "ServiceMonitor")
    service = one(rendered(helm, ALL), "Service")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("imag.tag", "1", "imag"),
        ("image.digest", "latest", "digest"),
        ("config.agent.privilege_separation", "false", "privilege_separation"),
        ("config.agent.user", "10002", "must be the same"),
        ("serviceMonitor.enabled", "true", "bind_address"),
        ("keeper.privileged", "yes", "privileged"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(
    key: str, value: str, told: str, helm: Path
) -> None:
    assert told in rendered(helm, {key: value}, good=False)
