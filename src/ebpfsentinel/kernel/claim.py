"""One agent an interface: who guards it holds a name that no other process can take.

The name is an abstract Unix socket (unix(7)) with the interface's index. Such names belong to the
network namespace, as interfaces do, need no file that all agents would have to share, and go when
their process goes, however it ends: what a dead agent left pinned stops nobody. The socket's
credentials, which the kernel vouches for, tell who holds it.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from ebpfsentinel.model.kernel import KernelError


class Claims:
    """The interfaces that this process guards, by index."""

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = {}

    def take(self, name: str, ifindex: int) -> None:
        """Claim an interface.

        Raises:
            KernelError: another agent guards it; names its process.
        """
        if ifindex in self._held:
            return
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            claim.bind(_name(ifindex))
            claim.listen(1)
        except OSError:
            claim.close()
            self._explain(name, ifindex)
        else:
            self._held[ifindex] = claim

    @staticmethod
    def _explain(name: str, ifindex: int) -> None:
        pid, user = _holder(ifindex)
        if pid in (0, os.getpid()) or user not in (0, os.geteuid()):
            return  # ended just now, ourselves, or an unprivileged user who wants us out
        raise KernelError(
            f"{name} is guarded by another agent: pid {pid} ({_command(pid)}). "
            "End that one, or name other interfaces in agent.interfaces"
        )

    def keep(self, wanted: set[int]) -> None:
        """Give up all but these."""
        for ifindex in set(self._held) - wanted:
            self._held.pop(ifindex).close()


def _name(ifindex: int) -> bytes:
    return f"\0ebpfsentinel/interface/{ifindex}".encode()


def _holder(ifindex: int) -> tuple[int, int]:
    """Process and user who hold the name (SO_PEERCRED); (0, 0) when nobody does any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.setblocking(False)
        try:
            asking.connect(_name(ifindex))
        except OSError:
            return 0, 0
        pid, user, _ = struct.unpack(
            "=iII", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
    return pid, user


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "of another pid namespace"
    return b" ".join(words).decode(errors="replace").strip()[:200]
