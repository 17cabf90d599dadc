"""What the programs note of this very process, by itself: without any flow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ebpfsentinel.domains.sockets import DOMAIN
from ebpfsentinel.domains.sockets.settings import SocketsSettings
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.flows import Ends
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

TCP, UDP = 6, 17
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class Noted:
    """The loaded programs, attached for the whole host, and their engine."""

    def __init__(self):
        self.kernel = LinuxKernel()
        self.kernel.load([DOMAIN])
        self.engine = DOMAIN.engine(Tools(rules=None))
        netns = Path("/proc/self/ns/net").stat().st_ino
        self.engine.commit(self.engine.plan(SocketsSettings(), {}, Surroundings(netns=netns)))

    def listener(self, protocol, host, port):
        source = "2001:db8::1" if ":" in host else "192.0.2.1"
        ends = Ends(protocol, source, 40000, host, port)
        return self.engine.processes_of(ends, self.kernel)[1]

    def count(self, what):
        rows = self.kernel.total("sockets_count")
        self.engine.feed("sockets_count", rows, time.time_ns())
        return self.engine.status()[what]

    def owner(self, pid):
        """Start and facts of the process."""
        keys, facts = self.kernel.read("owners")
        (at,) = np.flatnonzero(keys["pid"] == pid)
        return int(keys["start_ns"][at]), facts[at]


@pytest.fixture(scope="module")
def before():
    """Sockets that are there before the programs."""
    listener = socket.create_server(("127.0.0.1", 0))
    receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.bind(("::1", 0))
    with listener, receiver:
        yield listener, receiver


@pytest.fixture(scope="module")
def noted(before):  # noqa: ARG001 -- those come first
    made = Noted()
    made.kernel.attach([])
    yield made
    made.kernel.detach()


def start_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_all_programs_are_there(noted):
    missing = [p.name for p in noted.kernel.programs() if p.domain == "sockets" and not p.loaded]
    assert not missing
    hooks = {p.name: p.attached for p in noted.kernel.programs() if p.domain == "sockets"}
    assert all(hooks.values()) or [name for name, on in hooks.items() if not on] == ["sockets_seed"]


def test_what_was_there_before_is_seeded(noted, before):
    rows = noted.kernel.seed("sockets_seed")
    mine = {
        (int(row["protocol"]), int(row["port"]))
        for row in rows
        if row["owner"]["pid"] == os.getpid()
    }
    listener, receiver = (each.getsockname()[1] for each in before)
    assert {(TCP, listener), (UDP, receiver)} <= mine
    assert noted.listener(TCP, "127.0.0.1", listener).pid == os.getpid()
    assert noted.listener(UDP, "::1", receiver).pid == os.getpid()


def test_a_process_is_known_by_what_it_runs(noted):
    before = noted.count("connected")
    program = (
        "import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        "input()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as child:
        until(lambda: noted.count("connected") > before and child.pid in pids(noted))
        start_ns, facts = noted.owner(child.pid)
        assert start_ns // TICK_NS == start_ticks(child.pid)
        image = Path(f"/proc/{child.pid}/exe").stat()
        assert int(facts["exe_inode"]) == image.st_ino
        assert divmod(int(facts["exe_device"]), 1 << 20) == (
            os.major(image.st_dev),
            os.minor(image.st_dev),
        )
        comm = Path(f"/proc/{child.pid}/comm").read_text().strip()
        child.communicate(b"\n")
    known = noted.engine.describe_process(child.pid, start_ns, noted.kernel)
    assert known["comm"] == comm, "it has ended, and is still known"
    assert known["uid"] == os.getuid()
    assert noted.engine.describe_process(child.pid, start_ns + 1, noted.kernel) is None


def pids(noted):
    return noted.kernel.read("owners")[0]["pid"].tolist()


@pytest.mark.parametrize(
    ("host", "found_at", "not_at"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2", "::1"]),
        ("0.0.0.0", ["127.0.0.1", "10.9.8.7"], ["::1"]),
        ("::1", ["::1"], ["127.0.0.1"]),
        ("::", ["::1", "2001:db8::9", "127.0.0.1"], []),
        ("::ffff:127.0.0.1", ["127.0.0.1"], ["::1"]),
    ],
)
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_who_listens_is_found_until_it_stops(noted, protocol, host, found_at, not_at):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if protocol == TCP else socket.SOCK_DGRAM)
    with made:
        made.bind((host, 0))
        port = made.getsockname()[1]
        if protocol == TCP:
            assert noted.listener(TCP, found_at[0], port) is None
            made.listen()
        for address in found_at:
            assert noted.listener(protocol, address, port).pid == os.getpid()
        for address in not_at:
            assert noted.listener(protocol, address, port) is None
    for address in found_at:
        assert noted.listener(protocol, address, port) is None


def test_one_that_takes_ipv6_only_is_not_found_at_ipv4(noted):
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=False) as made:
        port = made.getsockname()[1]
        assert noted.listener(TCP, "::1", port).pid == os.getpid()
        assert noted.listener(TCP, "127.0.0.1", port) is None


def test_of_two_that_share_a_port_the_last_is_named_until_it_goes(noted):
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as first:
        port = first.getsockname()[1]
        with socket.create_server(("127.0.0.1", port), reuse_port=True):
            assert noted.listener(TCP, "127.0.0.1", port).pid == os.getpid()
        assert noted.listener(TCP, "127.0.0.1", port) is None


def test_accepting_and_sending_are_noted(noted):
    accepted, connected = noted.count("accepted"), noted.count("connected")
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        far, _ = server.accept()
        far.close()
        client.close()
    assert noted.count("accepted") > accepted
    assert noted.count("connected") > connected
    assert noted.count("errors") == 0
