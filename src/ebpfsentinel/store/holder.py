"""Which agent uses a state folder: it holds a lock on the file ``lock`` in it.

A lock of fcntl(2) goes with its process, however that ends, is not inherited by children, and
tells whose it is: so there is no file with a process id that could be out of date. Agents share
the lock, for nothing forbids two of them on one folder; who needs the folder alone asks for more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE = "lock"
_FLOCK = struct.Struct("@hhqqi4x")


class Holder:
    """While it is there, this process is one that uses the folder.

    It waits for who has the folder alone, such as a restore: a second, and then it is another
    folder, which has a lock of its own.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):  # a folder that cannot be written is told of elsewhere
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not self._take(folder):
                self.close()

    def _take(self, folder: Path) -> bool:
        self._fd = _open(folder)
        fcntl.lockf(self._fd, fcntl.LOCK_SH)
        return os.path.samestat(os.fstat(self._fd), (folder / _FILE).stat())

    def close(self) -> None:
        """Use it no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def holder(folder: Path) -> int:
    """The process of an agent that uses the folder; 0: none does.

    Raises:
        OSError: it cannot be asked.
    """
    try:
        fd = os.open(folder / _FILE, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    finally:
        os.close(fd)
    return int(pid) if kind == fcntl.F_RDLCK else 0  # who has it alone is no agent


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else uses the folder until the end of the block.

    Raises:
        BlockingIOError: an agent does.
        OSError: the folder cannot be written.
    """
    fd = _open(folder)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _open(folder: Path) -> int:
    """The file is the folder's owner's, whoever makes it: root restores, a user runs on it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(folder / _FILE, flags, 0o600)
    owner = folder.stat()
    if os.geteuid() == 0 and os.fstat(fd).st_uid != owner.st_uid:
        os.fchown(fd, owner.st_uid, owner.st_gid)
    return fd
