"""Peers that need more than apt and PyPI: ``make test-peers`` runs what is here, and nothing else.

A peer is a fixture of the session, so that it starts once; one that nobody asks for never starts.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))  # importlib mode knows no packages of tests

import artefacts  # noqa: E402
import programs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.peers)


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with nothing in it; its URL."""
    folder, port = tmp_path_factory.mktemp("opensearch"), programs.free_port()
    jars = artefacts.libraries(HERE / "opensearch" / "pom.xml")
    command = [
        artefacts.tool("java"), "-Xmx512m", "-cp", f"{jars}/*",
        str(HERE / "opensearch" / "Node.java"), str(folder / "node"), str(port),
    ]  # fmt: skip
    with programs.running(command, until="ready ", within_s=90, cwd=folder):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def grpcurl() -> Path:
    """The program."""
    return artefacts.go_program(artefacts.GRPCURL)


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The folder of Debian's programs ``prometheus`` and ``promtool``."""
    return artefacts.debian_package("prometheus") / "usr" / "bin"
