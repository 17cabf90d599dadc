"""Two network namespaces and a cable between them: the host's own network is never in the path.

Only the network namespace is entered, never the mount namespace, so that bpffs stays in sight.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """One end of the cable."""

    namespace: str
    interface: str
    ipv4: str
    ipv6: str


SERVER = Host(f"ebpf-demo-server-{os.getpid()}", "server0", "10.99.0.2", "fd99::2")
CLIENT = Host(f"ebpf-demo-client-{os.getpid()}", "client0", "10.99.0.1", "fd99::1")
ATTACKER = "10.99.0.66"
"""A second address of the client, which the demo's rules deny altogether."""


def enter(host: Host) -> None:
    """Put the calling thread, and what it starts, into the host's network namespace.

    Raises:
        OSError: setns(2) refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", host.namespace).open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, f"entering {host.namespace}: {os.strerror(number)}")


@contextlib.contextmanager
def cabled() -> Iterator[None]:
    """Both hosts, joined by a veth pair; they are gone afterwards.

    Checksums are made in software: one left to the hardware would be wrong behind a veth, and a
    packet that died of that would look like one that was dropped.

    Raises:
        DemoError: the machine allows no namespaces.
    """
    try:
        for host in (SERVER, CLIENT):
            _run("ip", "netns", "add", host.namespace)
        _run(
            *("ip", "link", "add", SERVER.interface, "netns", SERVER.namespace, "type", "veth"),
            *("peer", "name", CLIENT.interface, "netns", CLIENT.namespace),
        )
        for host in (SERVER, CLIENT):
            _configure(host)
        _run("ip", "-n", CLIENT.namespace, "addr", "add", f"{ATTACKER}/24", "dev", "client0")
        yield
    finally:
        for host in (SERVER, CLIENT):
            if Path("/run/netns", host.namespace).exists():
                _run("ip", "netns", "delete", host.namespace)


def _configure(host: Host) -> None:
    inside = ("ip", "-n", host.namespace)
    _run(*inside, "addr", "add", f"{host.ipv4}/24", "dev", host.interface)
    _run(*inside, "addr", "add", f"{host.ipv6}/64", "dev", host.interface, "nodad")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "link", "set", host.interface, "up")
    _run("ip", "netns", "exec", host.namespace, "ethtool", "-K", host.interface, "tx", "off")


def _run(*command: str) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        raise DemoError(f"`{' '.join(command)}` failed: {result.stderr.strip()}")
