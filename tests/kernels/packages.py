"""Debian's cloud kernels, fetched through apt and unpacked below ``.kernels/``.

The machine's own apt state is asked first. What it does not offer (kernels of older and newer
releases) comes through a private apt state, made from the archive that the machine uses already:
its own sources stay as they are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

CACHE = Path(__file__).resolve().parents[2] / ".kernels"
FLAVOUR = "cloud-amd64"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES = ("bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports")
_SECURITY = ("bullseye-security", "bookworm-security", "trixie-security")
_STALE_S = 24 * 3600


class FetchError(Exception):
    """No such kernel, or no way to it; the text says what to do."""


class Kernel(NamedTuple):
    """An unpacked kernel: ``root`` has ``vmlinuz`` and ``lib/modules/<release>``."""

    series: str
    release: str
    root: Path


def fetch(series: str) -> Kernel:
    """The newest kernel of a series such as ``6.1``; one that is here already is taken.

    Raises:
        FetchError: the archive has none.
    """
    here = [path.parent for path in CACHE.glob(f"{series}.*-{FLAVOUR}/ready")]
    if here:
        root = max(here, key=lambda path: _order(path.name))
        return Kernel(series, root.name, root)
    options: list[str] = []
    release = _newest(series, options)
    if not release:
        options = _private_state()
        release = _newest(series, options)
    if not release:
        raise FetchError(f"the archive has no {FLAVOUR} kernel {series}")
    return Kernel(series, release, _unpacked(release, options))


def _run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, timeout=600
    )
    if result.returncode:
        raise FetchError(f"{' '.join(command[:3])}: {result.stderr.strip()[-500:]}")
    return result.stdout


def _order(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]


def _newest(series: str, options: list[str]) -> str:
    pattern = f"^linux-image-{re.escape(series)}"
    found = re.findall(
        rf"^linux-image-({re.escape(series)}\.\d\S*-{FLAVOUR}) ",
        _run("apt-cache", *options, "search", "--names-only", pattern),
        re.MULTILINE,
    )
    return max(found, key=_order, default="")


def _private_state() -> list[str]:
    """An apt state of our own, refreshed once a day; returns the options that select it."""
    state = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    urls = _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    archive = re.match(r"\S+?://[^/\s]+", urls)
    if archive is None:
        raise FetchError("apt has no sources: a Debian machine is needed")
    lines = [f"deb [signed-by={_KEYRING}] {archive[0]}/debian {suite} main" for suite in _SUITES]
    lines += [
        f"deb [signed-by={_KEYRING}] {archive[0]}/debian-security {suite} main"
        for suite in _SECURITY
    ]
    (state / "sources.list").write_text("\n".join(lines) + "\n")
    options = [
        f"-oDir::Etc::sourcelist={state}/sources.list",
        "-oDir::Etc::sourceparts=/dev/null",
        f"-oDir::State::lists={state}/lists",
        f"-oDir::Cache={state}/cache",
        "-oAPT::Sandbox::User=root",
    ]
    stamp = state / "stamp"
    if not stamp.exists() or time.time() - stamp.stat().st_mtime > _STALE_S:
        _run("apt-get", *options, "-qq", "update")
        stamp.touch()
    return options


def _unpacked(release: str, options: list[str]) -> Path:
    """Download and unpack; newer packages split the image and the modules."""
    fresh = CACHE / f".new-{release}"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "deb").mkdir(parents=True)
    wanted = {f"linux-{part}-{release}" for part in ("image", "binary", "modules", "base")}
    depends = _run("apt-cache", *options, "depends", f"linux-image-{release}")
    parts = wanted & set(re.findall(r"Depends: (\S+)", depends)) | {f"linux-image-{release}"}
    _run("apt-get", *options, "-qq", "download", *sorted(parts), cwd=fresh / "deb")
    for package in (fresh / "deb").iterdir():
        _run("dpkg", "-x", str(package), str(fresh))
    shutil.rmtree(fresh / "deb")
    if not (fresh / "lib").exists():
        (fresh / "lib").symlink_to("usr/lib")
    images = [fresh / f"boot/vmlinuz-{release}", fresh / f"lib/modules/{release}/vmlinuz"]
    shutil.copy(next(image for image in images if image.exists()), fresh / "vmlinuz")
    _run("depmod", "-b", str(fresh), release)
    (fresh / "ready").touch()
    root = CACHE / release
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
    return root
