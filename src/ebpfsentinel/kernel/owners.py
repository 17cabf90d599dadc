"""Executables and control groups as the kernel's half knows them: by number; and other looks."""

from __future__ import annotations

import contextlib
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.model.domain import Domain

_MINOR_BITS = 20


def executables(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Device and inode of each file; (0, 0), which no file has, of one that is not there.

    Links are followed, as the kernel does when it runs the file.
    """
    return {path: _number(path) for path in paths}


def _number(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return 0, 0
    device = os.major(status.st_dev) << _MINOR_BITS | os.minor(status.st_dev)
    return device, status.st_ino


def surveyed(domain: Domain) -> Mapping[str, Any]:
    """What the card's own look at the machine finds; nothing where it has none."""
    if not domain.survey:
        return {}
    module, _, name = domain.survey.partition(":")
    found: Mapping[str, Any] = getattr(importlib.import_module(module), name)()
    return found


def cgroups(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The ids of the control groups that each word means.

    A path of the unified hierarchy means itself and all below; any other word those in whose name
    it is, such as a container's id, and all below. Where there is no such hierarchy, none.
    """
    if not words:
        return {}
    found = list(_all())
    return {
        word: tuple(sorted(number for path, number in found if _means(word, path)))
        for word in words
    }


def cgroup_root() -> Path:
    """Where the unified (v2) hierarchy of control groups is mounted.

    Raises:
        KernelError: it is not.
    """
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] == "cgroup2" and before.split()[3] == "/":
            return Path(before.split()[4])
    raise KernelError("no cgroup2 is mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified")


def _means(word: str, path: str) -> bool:
    if not word.startswith("/"):
        return word in path
    within = word.rstrip("/")
    return path == within or path.startswith(f"{within}/")


def _all() -> Iterator[tuple[str, int]]:
    """Every group: its path, and its id, which is the inode of its folder (kernfs)."""
    with contextlib.suppress(KernelError):
        root = cgroup_root()
        for folder, _, _ in os.walk(root):
            with contextlib.suppress(OSError):
                yield str(folder).removeprefix(str(root)), Path(folder).stat().st_ino
