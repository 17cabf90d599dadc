"""Where enforcement is pinned, so that it outlives the agent, and how to take it away.

Layout below the root (default ``/sys/fs/bpf/ebpfsentinel``): ``maps/<map>`` and
``links/<ifindex>-<hook>``. Nothing is pinned under ``on_exit: detach``, unless one agent hands over
to the next: then there is a folder ``handed-over-<network namespace>`` beside them, until the next
has settled.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.kernel.libbpf import check, lib
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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


def hold(names: Iterable[str], root: Path = ROOT) -> list[int]:
    """Descriptors of pinned maps: while they are open, chains keep their programs unpinned."""
    found = (lib().bpf_obj_get(os.fsencode(root / "maps" / name)) for name in names)
    return [fd for fd in found if fd >= 0]


def drop_maps(names: Iterable[str], root: Path = ROOT) -> None:
    """Unpin maps; what uses them goes on until it is replaced."""
    for name in names:
        (root / "maps" / name).unlink(missing_ok=True)


def occupied(root: Path = ROOT) -> bool:
    """Is anything kept here?"""
    return any((root / "maps").glob("*")) or any((root / "links").glob("*"))


def _mark(root: Path) -> Path:
    """Interfaces have their numbers by network namespace: only an agent of the same is the next."""
    return root / f"handed-over-{Path('/proc/self/ns/net').stat().st_ino}"


def handed_over(root: Path = ROOT) -> bool:
    """Did an agent leave what is kept here to the next one?"""
    return _mark(root).is_dir()


def hand_over(pinned: Mapping[Path, int], root: Path = ROOT) -> None:
    """Pin descriptors where the next agent looks for them; all of them, or none.

    Raises:
        KernelError: one cannot be pinned.
    """
    prepare(root)
    try:
        for path, fd in pinned.items():
            check(lib().bpf_obj_pin(fd, os.fsencode(path)), f"pinning {path}")
        _mark(root).mkdir(mode=0o700, exist_ok=True)
    except BaseException:
        detach_all(root)
        raise


def detach_all(root: Path = ROOT) -> list[str]:
    """Remove everything that an agent kept; returns what was removed, links first."""
    removed = []
    for folder in ("links", "maps"):
        for pin in sorted((root / folder).glob("*")):
            pin.unlink()
            removed.append(f"{folder}/{pin.name}")
    shutil.rmtree(root, ignore_errors=True)
    return removed
