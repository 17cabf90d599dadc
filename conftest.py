"""``make test`` runs tests two at a time: each worker has its own mounts, and so its own pins."""

from __future__ import annotations

import ctypes
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_CLONE_NEWNS = 0x00020000


def pytest_configure(config: pytest.Config) -> None:
    """A worker begins; what runs all tests itself stays where it is."""
    if hasattr(config, "workerinput") and not os.geteuid():
        _mount_apart()


def _mount_apart() -> None:
    """A mount namespace, and a BPF file system that no other worker sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
