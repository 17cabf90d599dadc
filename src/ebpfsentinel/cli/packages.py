"""The agent as a Debian package: what is installed, what a file brings, and the way back."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.cli.session import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "ebpfsentinel"
CACHE = Path("/var/cache/ebpfsentinel")
SYSTEMD = Path("/run/systemd/system")
"""There is this folder where systemd runs (sd_booted(3))."""
_INFO = Path("/var/lib/dpkg/info")
_TRY = "import sys; sys.path.insert(0, sys.argv.pop(1)); from ebpfsentinel.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Package:
    """A file that dpkg can install."""

    path: Path
    version: str


def package(path: Path) -> Package:
    """The package of the agent in this file.

    Raises:
        Failure: it is another, for another machine, or none.
    """
    format_ = "${Package}\n${Version}\n${Architecture}"
    name, version, machine = _said("dpkg-deb", "--show", f"--showformat={format_}", path).split(
        "\n"
    )
    if name != NAME:
        raise Failure(f"{path} is the package {name}, not {NAME}.")
    if machine != (here := _said("dpkg", "--print-architecture")):
        raise Failure(f"{path} is for {machine}, this is {here}.")
    return Package(path, version)


def installed() -> str:
    """The version that is installed.

    Raises:
        Failure: none is, by dpkg.
    """
    shown = _said("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}", NAME)
    status, _, version = shown.partition(" ")
    if status not in ("installed", "half-configured", "unpacked"):
        raise Failure(f"{NAME} is not installed as a Debian package.")
    return version


def try_out(new: Package, config: Path | None) -> None:
    """Would the new version take the configuration? It is asked before it is installed.

    Raises:
        Failure: it would not, with its own words.
    """
    folder = CACHE / "tried"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _said("dpkg-deb", "--extract", new.path, folder)
        code = folder / "usr/lib/ebpfsentinel/packages"
        words = ["-c", config, "config", "check"] if config else ["version"]
        _said("/usr/bin/python3", "-IBc", _TRY, code, *words)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def pack_installed(version: str) -> Package:
    """The installed version as a package again, out of its files: the way back.

    Raises:
        Failure: it cannot be made.
    """
    stage = CACHE / "back"
    shutil.rmtree(stage, ignore_errors=True)
    target = CACHE / f"{NAME}_{version}_before.deb"
    try:
        for name in _said("dpkg-query", "--listfiles", NAME).split("\n"):
            source, to = Path(name), stage / name.lstrip("/")
            if source.is_dir():
                to.mkdir(parents=True, exist_ok=True)
            elif source.is_file():
                shutil.copy2(source, to)
        _control(stage / "DEBIAN")
        _said("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", stage, target)
    except OSError as error:
        raise Failure(f"There is no way back: {error}.") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return Package(target, version)


def _control(folder: Path) -> None:
    """Its own words as dpkg keeps them, without what dpkg has added."""
    folder.mkdir(mode=0o755)
    kept = _said("dpkg-query", "--status", NAME).split("\n")
    lines: list[str] = []
    skipping = False
    for line in kept:
        if not line.startswith(" "):
            skipping = line.startswith(("Status:", "Conffiles:", "Config-Version:"))
        if not skipping:
            lines.append(line)
    (folder / "control").write_text("\n".join(lines) + "\n")
    for path in _INFO.glob(f"{NAME}.*"):
        if path.suffix in (".postinst", ".prerm", ".postrm", ".conffiles", ".md5sums"):
            shutil.copy2(path, folder / path.suffix[1:])


def stop() -> None:
    """Let systemd, where it runs, start the agent no more; all stays in force."""
    if SYSTEMD.is_dir():
        _run(("systemctl", "kill", "--signal=SIGUSR1", "ebpfsentinel.service"))
        _run(("systemctl", "stop", "ebpfsentinel.service"))


def install(chosen: Package) -> str:
    """Let dpkg install it; what went wrong, or an empty text."""
    command = ["dpkg", "--install", "--force-confold", "--force-downgrade", str(chosen.path)]
    done = _run(command)
    return "" if done.returncode == 0 else (done.stderr.strip() or done.stdout.strip())


def _said(*command: str | Path) -> str:
    """What a program says.

    Raises:
        Failure: it fails; with its words.
    """
    try:
        done = _run(command)
    except OSError as error:
        raise Failure(f"{command[0]} cannot be run: {error}.") from None
    if done.returncode:
        raise Failure(f"{command[0]} refuses: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Without what tells the agent's own Python where its packages are."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(  # noqa: S603 - dpkg, and our own code
        command, capture_output=True, text=True, check=False, env=clean
    )
