"""Upgrades under traffic: other programs take over, and no packet goes unjudged or missing."""

import contextlib
import dataclasses
import os
import shutil
import socket
import threading
import uuid
from pathlib import Path

import msgspec
import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.domains.firewall.tests.network import Network
from ebpfsentinel.kernel import pins
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import lib
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.objects import IncompatiblePinsError, load_object
from ebpfsentinel.model.kernel import OnExit, XdpMode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

HERE = Path(__file__).parents[1]
DENIED, ALLOWED = 7001, 7002
OTHER_PROGRAM = ("return xdp_act(", "bpf_get_prandom_u32();\n\treturn xdp_act(")
OTHER_MAP = ("#define FW_REJECT_SOURCES 16384", "#define FW_REJECT_SOURCES 8192")


def build(tmp, *changes):
    """The card with an object of changed sources."""
    for path in [*HERE.glob("*.h"), HERE / "firewall.bpf.c"]:
        text = path.read_text()
        for before, after in changes:
            text = text.replace(before, after)
        (tmp / path.name).write_text(text)
    made = compile_object(tmp / "firewall.bpf.c", tmp / "other.bpf.o")
    return dataclasses.replace(DOMAIN, object=str(made))


_SO_RCVBUFFORCE = 33


class Traffic:
    """Datagrams to a denied and to an allowed port in turn, until told to stop, slowly enough."""

    def __init__(self, network):
        self._receivers = {
            port: network.agent.socket(socket.SOCK_DGRAM, port) for port in (DENIED, ALLOWED)
        }
        for receiver in self._receivers.values():  # our threads may wait for one another
            receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
        self._sender = network.peer.socket(socket.SOCK_DGRAM)
        self._to = network.agent.ipv4
        self._stop = threading.Event()
        self.sent = 0
        self.arrived = {DENIED: 0, ALLOWED: 0}
        self._threads = [threading.Thread(target=self._send)]
        self._threads += [
            threading.Thread(target=self._receive, args=(port,)) for port in self._receivers
        ]
        for thread in self._threads:
            thread.start()

    def _send(self):
        while not self._stop.wait(0.0002):
            for port in (DENIED, ALLOWED):
                self._sender.sendto(b"x", (self._to, port))
            self.sent += 1

    def _receive(self, port):
        with contextlib.suppress(TimeoutError):
            while self._receivers[port].recv(16):
                self.arrived[port] += 1

    def wait(self, more=200):
        """Until so many more have been sent."""
        goal = self.sent + more
        while self.sent < goal:
            self._stop.wait(0.01)

    def end(self):
        """Stop; receivers end when nothing has come for a second."""
        for receiver in self._receivers.values():
            receiver.settimeout(1)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for each in (self._sender, *self._receivers.values()):
            each.close()


def start(network, card, root, mode, memo=None):
    """As the agent starts: load, plan with the memo of the last run, attach."""
    kernel = network.agent.call(LinuxKernel, OnExit.KEEP, mode, root)
    network.agent.call(kernel.load, [card])
    kernel.reserve([network.agent.device])
    judge = Judge(kernel)
    judge.engine.recall(memo or {})
    written = {"id": "no", "priority": 1, "action": "deny", "dst_port": DENIED, "protocol": "udp"}
    rule = msgspec.convert(written | {"scope": network.agent.device}, FirewallRule)
    judge.rules(rule, interfaces=kernel.interface_slots())
    network.agent.call(kernel.attach, [network.agent.device])
    return judge


@pytest.mark.parametrize("changes", [(OTHER_PROGRAM,), (OTHER_PROGRAM, OTHER_MAP)])
@pytest.mark.parametrize("mode", [XdpMode.NATIVE, XdpMode.TC])
def test_another_version_takes_over_without_a_packet_unjudged_or_lost(tmp_path, changes, mode):
    network, root = Network(), pins.ROOT.with_name(f"upgrade-{uuid.uuid4().hex[:8]}")
    try:
        first = start(network, DOMAIN, root, mode)
        traffic = Traffic(network)
        try:
            traffic.wait()
            network.agent.call(first.kernel.detach)  # what SIGKILL leaves: the pins
            traffic.wait()
            other, memo = build(tmp_path, *changes), {"numbers": first.engine._set.numbers}
            second = start(network, other, root, mode, memo)
            traffic.wait()
            failures, hits = second.kernel.failures(), second.hits()["no"][0]
            network.agent.call(second.kernel.detach)
            traffic.wait()
        finally:
            traffic.end()
        assert traffic.arrived == {DENIED: 0, ALLOWED: traffic.sent}
        assert sum(failures.values()) == 0
        if OTHER_MAP not in changes:  # maps that still fit keep their counts
            assert hits > 400
    finally:
        pins.detach_all(root)
        shutil.rmtree(root, ignore_errors=True)
        network.close()


def test_tables_of_another_layout_are_not_taken_over(tmp_path):
    """What is behind a map of maps is no part of its type; how many slots it has is."""
    root = pins.ROOT.with_name(f"layout-{uuid.uuid4().hex[:8]}")
    pins.prepare(root)
    try:
        other = build(tmp_path, ("#define FW_FRESH 128", "#define FW_FRESH 64"))
        first = load_object(Path(other.object), other.programs, {}, root / "maps")
        lib().bpf_object__close(first.handle)
        with pytest.raises(IncompatiblePinsError):
            load_object(HERE / DOMAIN.object, DOMAIN.programs, {}, root / "maps")
    finally:
        pins.detach_all(root)
