"""Where enforcement is pinned, so that it outlives the agent, and how to take it away.

Layout below the root (default ``/sys/fs/bpf/ebpfsentinel``): ``maps/<map>`` and
``links/<ifindex>-<hook>``. Nothing is pinned under ``on_exit: detach``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.kernel.libbpf import lib
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path("/sys/fs/bpf/ebpfsentinel")
_BPFFS_MAGIC, _TRACEFS_MAGIC = 0xCAFE4A11, 0x74726163


def _filesystem(path: Path) -> int:
    """The magic number of the file system that ``path`` lies on (statfs(2))."""
    buffer = ctypes.create_string_buffer(256)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), buffer):
        return 0
    return int.from_bytes(buffer.raw[:8], "little")


def _mount(kind: str, where: Path, magic: int) -> None:
    if _filesystem(where) == magic:
        return
    name = kind.encode()
    if ctypes.CDLL(None, use_errno=True).mount(name, os.fsencode(where), name, 0, None):
        raise KernelError(
            f"{where} is not mounted as {kind} and cannot be "
            f"({os.strerror(ctypes.get_errno())}): mount -t {kind} {kind} {where}"
        )


def prepare_tracing() -> None:
    """Mount tracefs where it is not: libbpf finds tracepoints through it.

    Raises:
        KernelError: it cannot be mounted.
    """
    _mount("tracefs", Path("/sys/kernel/tracing"), _TRACEFS_MAGIC)


def prepare(root: Path = ROOT) -> None:
    """Make the folders, mounting bpffs at its parent where it is not.

    Raises:
        KernelError: there is no bpffs and none can be mounted.
    """
    _mount("bpf", root.parent, _BPFFS_MAGIC)
    for folder in ("maps", "links"):
        (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)


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


def hold(names: Iterable[str], root: Path = ROOT) -> list[int]:
    """Descriptors of pinned maps: while they are open, chains keep their programs unpinned."""
    found = (lib().bpf_obj_get(os.fsencode(root / "maps" / name)) for name in names)
    return [fd for fd in found if fd >= 0]


def drop_maps(names: Iterable[str], root: Path = ROOT) -> None:
    """Unpin maps; what uses them goes on until it is replaced."""
    for name in names:
        (root / "maps" / name).unlink(missing_ok=True)


def detach_all(root: Path = ROOT) -> list[str]:
    """Remove everything that an agent kept; returns what was removed, links first."""
    removed = []
    for folder in ("links", "maps"):
        for pin in sorted((root / folder).glob("*")):
            pin.unlink()
            removed.append(f"{folder}/{pin.name}")
    shutil.rmtree(root, ignore_errors=True)
    return removed
