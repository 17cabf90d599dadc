"""What operators install beside the agent speaks of things that there are."""

import json
import re
from pathlib import Path

import click
import pytest

from ebpfsentinel.cli.root import root

ROOT = Path(__file__).parents[1]
RULES = ROOT / "deploy/prometheus/ebpfsentinel.rules.yml"
DASHBOARD = ROOT / "deploy/grafana/ebpfsentinel.json"
METRIC = re.compile(r"\bebpfsentinel_([a-z0-9_]+)\b")
SUFFIX = re.compile(r"_(total|bucket|count|sum)$")


def known():
    """Every text in the source that is a whole word: among them the names of all metrics."""
    sources = (path.read_text() for path in (ROOT / "src").rglob("*.py"))
    return {name for text in sources for name in re.findall(r'"([a-z0-9_]+)"', text)}


@pytest.mark.parametrize("file", [RULES, DASHBOARD], ids=lambda path: path.name)
def test_metrics_that_are_asked_for_exist(file):
    asked = set(METRIC.findall(file.read_text()))
    assert len(asked) > 10
    names = known()
    families = {name: name.split("_", 1) for name in asked}
    missing = {
        name
        for name, (first, rest) in families.items()
        if not {name, SUFFIX.sub("", name)} & names
        and not (first in names and SUFFIX.sub("", rest) in names)
    }
    assert not missing


def test_verbs_that_are_recommended_exist():
    for line in re.findall(r"ebpfsentinel-agent ([a-z -]+)", RULES.read_text()):
        command: click.Command = root
        for word in line.split():
            if not isinstance(command, click.Group) or word.startswith("-"):
                break
            found = command.get_command(click.Context(command), word)
            if found is None:
                break
            command = found
        assert not isinstance(command, click.Group), line


def test_the_dashboard_is_whole():
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)  # none covers another
    assert max(x for x, _ in cells) < 24
