"""Four hosts in a row: a client, a router with the agent, an ISP's router, and a server.

Nobody outside has a route to the inside networks: what is not translated gets no answer.
The last link has a smaller MTU, so that the ISP's router has errors to send.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from typing import TYPE_CHECKING

from tests.lab import Lab, ip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT, INSIDE_SERVER, LAN = "10.0.0.7", "10.0.0.80", "10.0.0.1"
WAN, WAN_SECOND, ISP = "203.0.113.1", "203.0.113.2", "203.0.113.254"
SERVER, ISP_FAR = "198.51.100.9", "198.51.100.254"
CLIENT6, INSIDE_SERVER6, LAN6 = "fd00::7", "fd00::80", "fd00::1"
WAN6, WAN_SECOND6, ISP6 = "2001:db8:ffff::1", "2001:db8:ffff::2", "2001:db8:ffff::fe"
SERVER6, ISP_FAR6 = "2001:db8:9::9", "2001:db8:9::fe"
MTU = 1300


class Routed(Lab):
    """``client``, ``guarded`` (the router, with ``lan0`` and ``wan0``), ``isp`` and ``server``."""

    mtu = MTU

    def __init__(self, tmp: Path) -> None:
        tag = uuid.uuid4().hex[:6]
        self.isp, self.server = f"lab-{tag}-c", f"lab-{tag}-d"
        for name in (self.isp, self.server):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        super().__init__(tmp)
        self.client = self.sender

    def connect(self) -> None:
        """Make the three links, their addresses and routes."""
        for one, device, other, peer, mtu in (
            (self.sender, "eth0", self.guarded, "lan0", 1500),
            (self.guarded, "wan0", self.isp, "near0", 1500),
            (self.isp, "far0", self.server, "eth0", self.mtu),
        ):
            ip("-n", one, "link", "add", device, "mtu", str(mtu), "type", "veth", "peer", "name",
               peer, "mtu", str(mtu), "netns", other)  # fmt: skip
        for name, device, addresses in (
            (self.sender, "eth0", (CLIENT, INSIDE_SERVER, CLIENT6, INSIDE_SERVER6)),
            (self.guarded, "lan0", (LAN, LAN6)),
            (self.guarded, "wan0", (WAN, WAN_SECOND, WAN6, WAN_SECOND6)),
            (self.isp, "near0", (ISP, ISP6)),
            (self.isp, "far0", (ISP_FAR, ISP_FAR6)),
            (self.server, "eth0", (SERVER, SERVER6)),
        ):
            for address in addresses:
                self.give(name, device, address)
            ip("-n", name, "link", "set", device, "up")
        for name, gate, gate6 in (
            (self.sender, LAN, LAN6),
            (self.guarded, ISP, ISP6),
            (self.server, ISP_FAR, ISP_FAR6),
        ):
            ip("-n", name, "route", "add", "default", "via", gate)
            ip("-n", name, "route", "add", "default", "via", gate6)
        for name in (self.guarded, self.isp):
            self.run(
                name, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"
            )

    def give(self, name: str, device: str, address: str) -> None:
        """Another address of a host."""
        if ":" in address:
            ip("-n", name, "addr", "add", f"{address}/64", "dev", device, "nodad")
        else:
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)

    def offload(self, *, on: bool) -> None:
        """Checksum and segmentation offload of every link."""
        word = "on" if on else "off"
        for name, device in (
            *((self.sender, "eth0"), (self.guarded, "lan0"), (self.guarded, "wan0")),
            *((self.isp, "near0"), (self.isp, "far0"), (self.server, "eth0")),
        ):
            self.run(
                name, "ethtool", "-K", device, "tx", word, "rx", word, "tso", word, "gso", word
            )

    def translating(self, on_exit: str = "detach", **nat):
        """A started agent that translates on both interfaces, and does nothing else."""
        return self.agent(**self.sections(on_exit, **nat))

    @staticmethod
    def sections(on_exit: str = "detach", **nat):
        """Its configuration."""
        return {
            "agent": {"interfaces": ["lan0", "wan0"], "xdp_mode": "tc", "on_exit": on_exit},
            "nat": {"enabled": True, **nat},
            "firewall": {"enabled": False},
            "process": {"enabled": False},
        }

    @contextlib.contextmanager
    def web(self, name: str, address: str, port: int = 80) -> Iterator[None]:
        """A web server that answers with the address of its client, then 100 KB."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with self.inside(name):
            listener = socket.create_server((address, port), family=family)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = listener.accept()
                    with connection:
                        connection.recv(4096)
                        head = b"HTTP/1.0 200 OK\r\n\r\n"
                        connection.sendall(head + peer[0].encode() + b"\n" + b"x" * 100_000)
                        connection.shutdown(socket.SHUT_WR)
                        connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join()

    def curl(self, name: str, address: str, port: int = 80, *, patience: int = 5) -> str:
        """Who the web server there took us for; empty where there is no whole answer."""
        host = f"[{address}]" if ":" in address else address
        told = self.run(name, "curl", "-s", "--max-time", str(patience), f"http://{host}:{port}/")
        who, _, load = told.stdout.partition("\n")
        return who if load == "x" * 100_000 else ""

    def ping(self, *arguments: str) -> str:
        """What ping says."""
        told = self.run(self.client, "ping", "-n", "-c", "1", "-W", "2", *arguments)
        return told.stdout + told.stderr

    def close(self) -> None:
        super().close()
        for name in (self.isp, self.server):
            ip("netns", "del", name)
