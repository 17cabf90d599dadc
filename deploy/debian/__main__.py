"""``make deb``: build the Debian package of the agent from this tree.

The packages that the agent needs are inside, at the versions of ``requirements.lock``: Debian 12
has few of them, and none at these versions. What is needed to build, and not to run, is left out.
Bytecode is made here, for the one version of Python that the wheels are for. With the same tree,
lock and ``SOURCE_DATE_EPOCH`` (the last commit's time, unless it is set) the package is the same.
"""

from __future__ import annotations

import argparse
import compileall
import email.utils
import gzip
import hashlib
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ebpfsentinel
from ebpfsentinel.kernel.build import build as compile_programs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "deb"
KEEPER, AGENT = "ebpfsentinel-keeper.service", "ebpfsentinel.service"
SCRIPTS = ("postinst", "prerm", "postrm")
EXAMPLES = (
    "prometheus/ebpfsentinel.rules.yml",
    "grafana/ebpfsentinel.json",
    "ebpfsentinel-single.service",
)
CONFFILE = "etc/ebpfsentinel/config.yaml"
_NOT_TO_RUN = ("tests", "__pycache__", "*.pyi", "*.pyx", "*.pxd", "*.h", "*.a", "*.c")


def main() -> None:
    """Build, and say where the package is."""
    asked = argparse.ArgumentParser(prog="make deb", description=__doc__.splitlines()[0])
    asked.add_argument("--version", default=ebpfsentinel.__version__)
    asked.add_argument("--out", type=Path, default=ROOT / "dist")
    given = asked.parse_args()
    print(build(given.version, given.out))


def build(version: str, out: Path) -> Path:
    """The package of this version, in the folder ``out``."""
    if "SOURCE_DATE_EPOCH" not in os.environ:
        os.environ["SOURCE_DATE_EPOCH"] = _last_commit()
    stage = WORK / version
    shutil.rmtree(stage, ignore_errors=True)
    _lay_out(stage, version)
    values = {
        "VERSION": version,
        "ARCHITECTURE": _said(["dpkg", "--print-architecture"]),
        "SIZE": str(sum(path.stat().st_size for path in _files(stage)) // 1024),
        "PYTHON": f"3.{sys.version_info.minor}",
        "NEXT_PYTHON": f"3.{sys.version_info.minor + 1}",
        "KEEPER": KEEPER,
        "AGENT": AGENT,
    }
    _control(stage, values)
    out.mkdir(parents=True, exist_ok=True)
    made = out / f"ebpfsentinel_{version}_{values['ARCHITECTURE']}.deb"
    _run(["dpkg-deb", "--root-owner-group", "--build", str(stage), str(made)])
    shutil.rmtree(stage)
    return made


def _lay_out(stage: Path, version: str) -> None:
    """The files of the package, below ``stage``."""
    compile_programs(ROOT / "src" / "ebpfsentinel")
    packages = stage / "usr/lib/ebpfsentinel/packages"
    shutil.copytree(_dependencies(), packages, copy_function=os.link)
    ours = packages / "ebpfsentinel"
    shutil.copytree(ROOT / "src/ebpfsentinel", ours, ignore=shutil.ignore_patterns(*_NOT_TO_RUN))
    first = ours / "__init__.py"
    first.write_text(
        re.sub(
            r'^__version__ = ".*"$',
            f'__version__ = "{version}"',
            first.read_text(),
            flags=re.MULTILINE,
        )
    )
    _compile(ours, packages)
    _put(HERE / "ebpfsentinel-agent", stage / "usr/bin/ebpfsentinel-agent", 0o755)
    _put(HERE / "config.yaml", stage / CONFFILE, 0o640)
    for unit in (KEEPER, AGENT):
        _put(ROOT / "deploy" / unit, stage / "lib/systemd/system" / unit)
    _put(HERE / "lintian-overrides", stage / "usr/share/lintian/overrides/ebpfsentinel")
    completion = stage / "usr/share/bash-completion/completions/ebpfsentinel-agent"
    completion.parent.mkdir(parents=True)
    completion.write_text(_completion())
    page = stage / "usr/share/man/man8/ebpfsentinel-agent.8.gz"
    page.parent.mkdir(parents=True)
    page.write_bytes(gzip.compress((HERE / "ebpfsentinel-agent.8").read_bytes(), mtime=0))
    _document(stage / "usr/share/doc/ebpfsentinel", version)
    for path in stage.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def _document(folder: Path, version: str) -> None:
    _put(HERE / "copyright", folder / "copyright")
    _put(ROOT / "config/ebpfsentinel.example.yaml", folder / "examples/config.yaml")
    for name in EXAMPLES:
        _put(ROOT / "deploy" / name, folder / "examples" / Path(name).name)
    when = email.utils.formatdate(int(os.environ["SOURCE_DATE_EPOCH"]))
    maintainer = re.search(r"^Maintainer: (.*)$", (HERE / "control").read_text(), re.MULTILINE)
    assert maintainer is not None
    text = (
        f"ebpfsentinel ({version}) stable; urgency=medium\n\n"
        f"  * As in its documentation.\n\n -- {maintainer[1]}  {when}\n"
    )
    (folder / "changelog.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def _dependencies() -> Path:
    """What the agent imports of others, at the versions of the lock; made once for each lock."""
    lock = ROOT / "requirements.lock"
    kept = WORK / f"packages-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    if kept.exists():
        return kept
    fresh = kept.with_suffix(".part")
    shutil.rmtree(fresh, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    _run([*pip, "--no-input", "--progress-bar", "off", "--require-hashes", "--no-deps",
          "--no-compile", "--target", str(fresh), "-r", str(lock)])  # fmt: skip
    _thin(fresh)
    _compile(fresh, fresh)
    fresh.rename(kept)
    return kept


def _thin(folder: Path) -> None:
    """Without distributions that only building needs, and files that no program reads."""
    wanted = _reachable(folder)
    for found in importlib.metadata.distributions(path=[str(folder)]):
        if canonicalize_name(found.name) not in wanted:
            for file in found.files or ():
                Path(str(found.locate_file(file))).unlink(missing_ok=True)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for pattern in _NOT_TO_RUN:
        for path in sorted(folder.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file():
            path.chmod(0o644)
        elif not any(path.iterdir()):
            path.rmdir()


def _reachable(folder: Path) -> set[str]:
    """Names of the distributions that the agent's own dependencies lead to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    there = {
        canonicalize_name(found.name): found
        for found in importlib.metadata.distributions(path=[str(folder)])
    }
    reached: set[str] = set()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if name in reached and not asked.extras:
            continue
        reached.add(name)
        for text in there[name].requires or ():
            more = Requirement(text)
            if _applies(more, asked.extras) and canonicalize_name(more.name) in there:
                waiting.append(more)
    return reached


def _applies(wanted: Requirement, extras: set[str]) -> bool:
    if wanted.marker is None:
        return True
    return any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _compile(folder: Path, below: Path) -> None:
    """Bytecode that names the place where it will be, and does not look at times of files."""
    done = compileall.compile_dir(
        folder,
        quiet=2,
        workers=0,
        stripdir=str(below),
        prependdir="/usr/lib/ebpfsentinel/packages",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    assert done or folder == below, f"{folder} does not compile"


def _completion() -> str:
    agent = Path(sys.executable).with_name("ebpfsentinel-agent")
    asked = os.environ | {"_EBPFSENTINEL_AGENT_COMPLETE": "bash_source"}
    return _said([str(agent)], asked) + "\n"


def _control(stage: Path, values: Mapping[str, str]) -> None:
    """The package's own words: ``DEBIAN/``."""
    names = [path.relative_to(stage) for path in _files(stage)]
    sums = "".join(f"{_md5(stage / name)}  {name}\n" for name in names if str(name) != CONFFILE)
    folder = stage / "DEBIAN"
    folder.mkdir()
    (folder / "md5sums").write_text(sums)
    (folder / "conffiles").write_text(f"/{CONFFILE}\n")
    for name in ("control", *SCRIPTS):
        text = (HERE / name).read_text()
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755 if name in SCRIPTS else 0o644)


def _md5(path: Path) -> str:
    """What dpkg --verify compares."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _put(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def _last_commit() -> str:
    return _said(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"])


def _said(command: list[str], environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return done.stdout.strip()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
