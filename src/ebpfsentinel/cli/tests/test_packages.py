"""What `upgrade` refuses before anything is touched."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from ebpfsentinel.cli.packages import package
from ebpfsentinel.cli.session import Failure

if TYPE_CHECKING:
    from pathlib import Path


def built(folder: Path, name: str, machine: str) -> Path:
    """A package with nothing in it."""
    control = folder / "stage/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: 1.2.3\nArchitecture: {machine}\nMaintainer: A <a@b.invalid>\n"
        "Description: nothing\n"
    )
    target = folder / "made.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", folder / "stage", target]
    subprocess.run(command, check=True, capture_output=True)
    return target


def here() -> str:
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_package_of_the_agent_is_taken(tmp_path):
    assert package(built(tmp_path, "ebpfsentinel", here())).version == "1.2.3"


def test_another_package_is_refused(tmp_path):
    with pytest.raises(Failure, match="is the package hello, not ebpfsentinel"):
        package(built(tmp_path, "hello", here()))


def test_another_machines_package_is_refused(tmp_path):
    other = "arm64" if here() != "arm64" else "amd64"
    with pytest.raises(Failure, match=f"is for {other}, this is {here()}"):
        package(built(tmp_path, "ebpfsentinel", other))


def test_what_is_no_package_is_refused_in_the_words_of_dpkg(tmp_path):
    (tmp_path / "text.deb").write_text("no package")
    with pytest.raises(Failure, match="dpkg-deb refuses"):
        package(tmp_path / "text.deb")
