"""What the documents name exists: links, commands, targets, keys, paths and metrics."""

import json
import os
import re
from pathlib import Path

import click
import pytest
import yaml

from ebpfsentinel import domains
from ebpfsentinel.auth.page import renewed
from ebpfsentinel.cli.root import root
from ebpfsentinel.config import discover, example, load, schema
from ebpfsentinel.domains.process.fields import FIELDS

ROOT = Path(__file__).parents[1]
CARDS = discover(domains)
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "CHANGELOG.d/*.md", "src/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
SCHEMA = schema(CARDS)
CONDITION_FIELDS = {field.name for field in FIELDS}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TUTORIAL = "ping"
"""The domain that CONTRIBUTING.md builds; only that page may name it."""


@pytest.fixture(params=PAGES, ids=NAMES)
def page(request):
    return request.param


def prose(path):
    """The page without its code blocks."""
    return FENCE.sub("", path.read_text())


def commands(path):
    """Lines of code blocks that have no language, and inline code."""
    text = path.read_text()
    for language, block in FENCE.findall(text):
        if not language:
            yield from block.splitlines()
    yield from re.findall(r"`([^`\n]+)`", prose(path))


def test_links_resolve(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    files = [target.split("#")[0] for target in targets if "://" not in target]
    broken = [file for file in files if file and not (page.parent / file).exists()]
    assert not broken


def test_make_targets_exist(page):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = {
        match[1]
        for line in commands(page)
        if (match := re.match(r"make(?: -C \S+)? ([a-z]+)\b", line.strip()))
    }
    assert found <= targets


def verbs(line):
    """The words after the command's name, up to the first option or argument."""
    words = line.partition("ebpfsentinel-agent")[2].split()
    for word in words:
        if not re.fullmatch(r"[a-z-]+", word) or word.startswith("-"):
            return
        yield word


def test_verbs_exist(page):
    for line in commands(page):
        if not re.match(r"(\S*/)?ebpfsentinel-agent ", line.strip()):
            continue
        command, context = root, click.Context(root)
        for word in verbs(line):
            if not isinstance(command, click.Group) or word == TUTORIAL:
                break
            found = command.get_command(context, word)
            assert found is not None, f"{line}: there is no verb {word!r}"
            command = found


def keys_of(node, place=""):
    """All keys of the schema, as ``section.key``."""
    node = resolved(node)
    for name, inner in node.get("properties", {}).items():
        yield f"{place}{name}"
        yield from keys_of(inner, f"{place}{name}.")


def resolved(node):
    for choice in [node, *node.get("anyOf", [])]:
        if "$ref" in choice:
            return SCHEMA["$defs"][choice["$ref"].rpartition("/")[2]]
    return node


def test_configuration_keys_exist(page):
    known = set(keys_of(SCHEMA)) | CONDITION_FIELDS
    sections = {key for key in known if "." not in key}
    found = {
        word
        for word in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)(?:: [^`]*)?`", prose(page))
        if word.partition(".")[0] in sections
        and not word.endswith((".py", ".md", ".c", ".h", ".json", ".yaml"))
    }
    assert found <= known


def test_environment_variables_exist(page):
    known = {key.upper().replace(".", "__") for key in keys_of(SCHEMA)}
    found = set(re.findall(r"EBPFSENTINEL_([A-Z_]+__[A-Z_]+)", page.read_text()))
    assert {name for name in found if not name.startswith(TUTORIAL.upper())} <= known


def test_configurations_in_the_documents_load(page, tmp_path):
    for language, block in FENCE.findall(page.read_text()):
        tree = yaml.safe_load(block) if language == "yaml" else None
        if isinstance(tree, dict) and "agent" in tree:
            path = tmp_path / "config.yaml"
            path.write_text(block)
            path.chmod(0o600)
            assert load(path, {}, {}, CARDS).warnings == ()


def test_the_example_is_fresh_and_loads():
    path = ROOT / "config" / "ebpfsentinel.example.yaml"
    assert path.read_text() == example(CARDS), "run 'make gen'"
    assert load(path, {}, {}, CARDS).warnings == ()


def test_the_table_of_roles_is_fresh():
    path = ROOT / "docs" / "security.md"
    assert path.read_text() == renewed(path.read_text()), "run 'make gen'"


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_domain_has_its_page(card):
    page = f"src/ebpfsentinel/domains/{card.name}/README.md"
    assert (ROOT / page).is_file()
    assert f"](../{page})" in (ROOT / "docs" / "README.md").read_text()


def test_every_decision_is_listed():
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for path in (ROOT / "docs" / "decisions").glob("0*.md"):
        assert f"]({path.name})" in index
        assert all(f"**{part}.**" in path.read_text() for part in ("Context", "Choice", "Rejected"))


def test_the_lock_files_name_no_registry_and_no_path():
    for path in ROOT.glob("requirements*.lock"):
        lines = path.read_text().splitlines()
        allowed = re.compile(r"|#.*|[a-z0-9-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
        assert [line for line in lines if not allowed.fullmatch(line)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_paths_and_metrics_exist(lab):
    agent = lab.agent()
    got = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:8080/api-docs/openapi.json")
    paths = {re.sub(r"\{\w+\}", "{}", path) for path in json.loads(got.stdout)["paths"]}
    paths |= {"/api/v1/alerts/ws", "/swagger-ui", "/api-docs/openapi.json"}
    scraped = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:9090/metrics").stdout
    metrics = set(re.findall(r"^# TYPE (\w+?)(?:_total)? ", scraped, re.MULTILINE))
    lazily = "".join(found.read_text() for found in (ROOT / "src").rglob("*.py"))
    missing = []
    for path in PAGES:
        named = re.findall(
            r"(/(?:api/v1|swagger-ui|api-docs)[\w/{}.-]*)(?![\w/{}.<*-])", prose(path)
        )
        shapes = {found: re.sub(r"\{\w+\}", "{}", found.rstrip("/.")) for found in named}
        missing += [
            f"{path.name}: {found}" for found, shape in shapes.items() if shape not in paths
        ]
        for name in re.findall(r"`ebpfsentinel_(\w+?)(?:_total)?[`{]", prose(path)):
            if f"ebpfsentinel_{name}" not in metrics and f'"{name}"' not in lazily:
                missing.append(f"{path.name}: {name}")
    assert missing == []
    assert agent.cli("health")["ready"] is True
