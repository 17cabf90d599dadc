"""Compile the kernel programs: every ``*.bpf.c`` of the package to a CO-RE object beside it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INCLUDE = Path(__file__).resolve().parent / "include"
FLAGS = (
    "-O2",
    "-g",
    "-mcpu=v3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-stack-protector",
    "-fdebug-compilation-dir=.",
)


class CompileError(Exception):
    """clang is missing or refused a source; the text is its own."""


def compile_object(source: Path, target: Path | None = None) -> Path:
    """Compile one ``*.bpf.c``; returns the object's path (default: ``.o`` beside the source).

    Debug sections other than BTF are stripped: the object is a tenth of the size.

    Raises:
        CompileError: clang is not installed, or the source does not compile.
    """
    source = source.resolve()
    target = (target or source.with_suffix(".o")).resolve()
    clang, strip = shutil.which("clang"), shutil.which("llvm-strip")
    if clang is None or strip is None:
        raise CompileError("clang and llvm are not installed: run 'make setup'")
    if source.is_relative_to(PACKAGE):
        source = source.relative_to(PACKAGE)  # no path of the build machine in the object
    includes = (
        f"-I{INCLUDE.relative_to(PACKAGE)}",
        f"-I/usr/include/{platform.machine()}-linux-gnu",
    )
    result = subprocess.run(  # noqa: S603 (our own arguments)
        [clang, "-target", "bpf", *FLAGS, *includes, "-c", str(source), "-o", str(target)],
        capture_output=True,
        text=True,
        check=False,
        cwd=PACKAGE,
    )
    if result.returncode:
        raise CompileError(f"{source} does not compile:\n{result.stderr}")
    subprocess.run([strip, "-g", str(target)], check=True)  # noqa: S603
    return target


def stale(source: Path) -> bool:
    """Is the object missing, or older than its source, a header beside it or a shared header?"""
    target = source.with_suffix(".o")
    if not target.exists():
        return True
    inputs = [source, *source.parent.glob("*.h"), *INCLUDE.glob("*.h")]
    return any(path.stat().st_mtime > target.stat().st_mtime for path in inputs)


def build(package: Path = PACKAGE) -> list[Path]:
    """Compile what is stale below ``package``; returns the objects that were made anew.

    Tests compile their own sources when they run.
    """
    sources = [
        source
        for source in sorted(package.rglob("*.bpf.c"))
        if "tests" not in source.relative_to(package).parts
    ]
    return [compile_object(source) for source in sources if stale(source)]


if __name__ == "__main__":
    try:
        for made in build():
            sys.stdout.write(f"compiled {made.relative_to(PACKAGE)}\n")
    except CompileError as error:
        sys.exit(str(error))
