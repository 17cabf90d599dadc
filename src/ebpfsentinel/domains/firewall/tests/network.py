"""Two network namespaces with a veth pair between them, and one thread in each.

``setns`` moves a thread, not the process: what a side does runs on its own thread, so the test's
other threads stay where they are. A socket belongs to the namespace it was made in and can be used
from anywhere.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _enter(name: str) -> None:
    handle = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if _LIBC.setns(handle, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"entering {name}")
    finally:
        os.close(handle)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Side:
    """One namespace with its end of the pair."""

    def __init__(self, name: str, device: str, number: int) -> None:
        self.name, self.device, self.number = name, device, number
        self.ipv4, self.ipv6 = f"10.77.0.{number}", f"fd00:77::{number}"
        ip("netns", "add", name)
        self._thread = ThreadPoolExecutor(1, initializer=_enter, initargs=(name,))

    def call(self, function, *arguments, **named):
        """Run in this namespace."""
        return self._thread.submit(function, *arguments, **named).result(240)

    def ip(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)

    def up(self) -> None:
        """Addresses, checksums in software, and up."""
        self.ip("addr", "add", f"{self.ipv4}/24", "dev", self.device)
        self.ip("addr", "add", f"{self.ipv6}/64", "dev", self.device, "nodad")
        self.ip("link", "set", "lo", "up")
        self.ip("link", "set", self.device, "up")
        off = ["ethtool", "-K", self.device, "tx", "off"]
        self.call(subprocess.run, off, check=True, capture_output=True)

    def socket(self, kind: int, port: int = 0, family: int = socket.AF_INET) -> socket.socket:
        """A socket bound to this side's address."""

        def make():
            made = socket.socket(family, kind)
            made.settimeout(60)
            made.bind((self.ipv4 if family == socket.AF_INET else self.ipv6, port))
            return made

        return self.call(make)

    def close(self) -> None:
        self._thread.shutdown()
        if Path(f"/run/netns/{self.name}").exists():
            ip("netns", "del", self.name)


class Network:
    """``agent`` is protected, ``peer`` sends."""

    def __init__(self) -> None:
        self.agent = self.peer = None
        try:
            self.agent = Side(f"fw{os.getpid()}a", "va0", 1)
            self.peer = Side(f"fw{os.getpid()}b", "vb0", 2)
            self.connect()
        except BaseException:
            self.close()
            raise

    def connect(self) -> None:
        """Make the pair; also again, after one end was removed."""
        agent, peer = self.agent, self.peer
        pair = ["type", "veth", "peer", "name", peer.device, "netns", peer.name]
        ip("link", "add", agent.device, "netns", agent.name, *pair)
        agent.up()
        peer.up()

    def close(self) -> None:
        for side in (self.agent, self.peer):
            if side is not None:
                side.close()
