"""Which privileges the agent runs with: its own kernel, or a keeper that holds one for it.

Started by root without a keeper that listens, the agent starts one for itself, hands it one end of
a pair of sockets, and then is root no more.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.kernel import confine
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.kernel import Kernel

logger = logging.getLogger(__name__)

_CONNECT_S = 5.0


def enter(settings: CoreSettings, config: Path | None, flags: Mapping[str, Any]) -> Kernel:
    """The kernel to work with; under privilege separation, without privilege from here on.

    ``config`` and ``flags`` are what the agent is started with: a keeper of its own reads the same.

    Raises:
        KernelError: it cannot be had.
    """
    agent = settings.agent
    if not agent.privilege_separation:
        from ebpfsentinel.kernel.load import LinuxKernel  # noqa: PLC0415 - not beside a keeper

        return LinuxKernel(agent.on_exit, agent.xdp_mode)
    from ebpfsentinel.kernel.door.remote import RemoteKernel  # noqa: PLC0415 - not without one

    door = Door(Path(agent.keeper_socket))
    if os.geteuid():
        door.open()
    else:
        wanted = confine.user(agent.user)
        if not door.is_open():
            door.first = _start_keeper(config, flags)
        _hand_over(Path(agent.state_dir), wanted)
        confine.become(wanted)
        _check_reachable(Path(agent.state_dir), wanted)
        if config is not None:
            _check_readable(config, wanted)
    confine.seal()
    return RemoteKernel(door)


def _start_keeper(config: Path | None, flags: Mapping[str, Any]) -> socket.socket:
    """A keeper of our own, on the other end of what is returned."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    options = [f"--config={config or ''}", f"--connected={theirs.fileno()}"]
    options += [
        f"--set={place}={msgspec.json.encode(value).decode()}"
        for place, value in flags.items()
        if value is not None
    ]
    program = "from ebpfsentinel.keeper import main; main()"
    with theirs:
        subprocess.Popen(  # noqa: S603 (our own interpreter)
            [sys.executable, "-P", "-c", program, *options],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for us: it leaves when we do
        )
    return ours


def _check_reachable(folder: Path, wanted: confine.User) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        text = f"agent.state_dir: user {wanted.name} cannot reach {folder}: chmod o+x what it is in"
        raise KernelError(text)


def _check_readable(config: Path, wanted: confine.User) -> None:
    if not os.access(config, os.R_OK):
        text = "user %s may not read %s: changes of it are not followed: chgrp %d and chmod g+r it"
        logger.warning(text, wanted.name, config, wanted.gid)


class Door:
    """Connections to a keeper: the one that was started for us first, then who listens."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.first: socket.socket | None = None

    def __call__(self) -> socket.socket:
        """A connection that nobody has used yet.

        Raises:
            OSError: there is no keeper.
        """
        if self.first is not None:
            found, self.first = self.first, None
            return found
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(_CONNECT_S)
        try:
            made.connect(str(self._path))
            _check_root(made)
        except OSError:
            made.close()
            raise
        return made

    def is_open(self) -> bool:
        """Does a keeper listen?"""
        try:
            self.first = self()
        except OSError:
            return False
        return True

    def open(self) -> None:
        """Reach the keeper that listens.

        Raises:
            KernelError: none does.
        """
        try:
            self.first = self()
        except OSError as error:
            raise KernelError(
                f"no keeper at {self._path} ({error.strerror or error}): systemctl start "
                "ebpfsentinel-keeper, or start the agent as root"
            ) from None


def _check_root(door: socket.socket) -> None:
    """Only root's keeper is one.

    Raises:
        OSError: somebody else listens there.
    """
    _, uid, _ = struct.unpack("=iII", door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if uid:
        raise PermissionError(1, f"what listens there is user {uid}'s, not root's")


def _hand_over(folder: Path, wanted: confine.User) -> None:
    """The state folder becomes the user's: what root left in it, too.

    Who has taken over an agent may change names under our hands: so everything is named from the
    open folder that it is in, no link is followed, and what has a second name stays root's.

    Raises:
        KernelError: it cannot.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _, folders, files, here in os.fwalk(folder, follow_symlinks=False):
            for name in (".", *folders, *files):
                found = os.stat(name, dir_fd=here, follow_symlinks=False)
                alone = stat.S_ISDIR(found.st_mode) or found.st_nlink == 1
                if not found.st_uid and alone and not stat.S_ISLNK(found.st_mode):
                    os.chown(name, wanted.uid, wanted.gid, dir_fd=here, follow_symlinks=False)
    except OSError as error:
        raise KernelError(f"agent.state_dir: {error.strerror}: {error.filename}") from None
