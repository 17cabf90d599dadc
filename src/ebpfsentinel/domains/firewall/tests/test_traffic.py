"""The firewall on real interfaces: two namespaces, a veth pair, and a receiver that counts."""

import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.tests.guard import Guard
from ebpfsentinel.domains.firewall.tests.judge import PACKET_META
from ebpfsentinel.domains.firewall.tests.network import Network
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib
from ebpfsentinel.kernel.objects import load_object
from ebpfsentinel.model.kernel import XdpMode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

DENIED, ALLOWED = 7001, 7002
TCX_INGRESS = 46
FAMILIES = [socket.AF_INET, socket.AF_INET6]


def rule(**written):
    return msgspec.convert({"id": "r", "priority": 10, "action": "deny", **written}, FirewallRule)


UDP_DENY = rule(protocol="udp", dst_port=DENIED)
TCP_DENY = rule(id="t", protocol="tcp", dst_port=DENIED)


@pytest.fixture
def network():
    made = Network()
    yield made
    made.close()


@pytest.fixture(params=[XdpMode.NATIVE, XdpMode.GENERIC, XdpMode.TC])
def guard(request, network):
    made = Guard(network, request.param)
    try:
        assert made.attach() == request.param.value
        yield made
    finally:
        made.close()


@pytest.fixture
def native(network):
    made = Guard(network, XdpMode.AUTO)
    try:
        assert made.attach() == "native"
        yield made
    finally:
        made.close()


def arrivals(network, family=socket.AF_INET, count=100):
    """How many of ``count`` datagrams reach the denied port, and the allowed one."""
    agent, peer = network.agent, network.peer
    to = agent.ipv4 if family == socket.AF_INET else agent.ipv6
    receivers = {port: agent.socket(socket.SOCK_DGRAM, port, family) for port in (DENIED, ALLOWED)}
    sender = peer.socket(socket.SOCK_DGRAM, 0, family)
    try:
        for number in range(count):
            for port in receivers:
                sender.sendto(number.to_bytes(4, "big"), (to, port))
        allowed = 0
        while allowed < count:  # the pair keeps the order: behind the last one nothing comes
            receivers[ALLOWED].recv(64)
            allowed += 1
        receivers[DENIED].setblocking(False)
        denied = 0
        try:
            while True:
                receivers[DENIED].recv(64)
                denied += 1
        except BlockingIOError:
            return denied, allowed
    finally:
        for each in (sender, *receivers.values()):
            each.close()


def connects(network, port, family=socket.AF_INET):
    """Does a TCP connection to the agent's side come about?"""
    agent, peer = network.agent, network.peer
    server, client = (
        agent.socket(socket.SOCK_STREAM, port, family),
        peer.socket(socket.SOCK_STREAM, 0, family),
    )
    with server, client:
        server.listen()
        client.settimeout(0.7)
        try:
            client.connect((agent.ipv4 if family == socket.AF_INET else agent.ipv6, port))
        except TimeoutError:
            return False
        return True


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_denied_dies_and_what_is_allowed_arrives(guard, network, family):
    assert arrivals(network, family) == (100, 100)
    guard.judge.rules(UDP_DENY, TCP_DENY)
    assert arrivals(network, family) == (0, 100)
    assert guard.judge.hits()["r"][0] == 100
    assert not connects(network, DENIED, family)
    assert connects(network, ALLOWED, family)
    guard.judge.rules(UDP_DENY, TCP_DENY, mode="alert")
    assert arrivals(network, family) == (100, 100)
    assert connects(network, DENIED, family)
    assert guard.judge.hits()["r"][0] == 200


def test_a_default_drop_lets_only_in_what_a_rule_allows(guard, network):
    allow = rule(id="ok", action="allow", protocol="udp", dst_port=ALLOWED)
    guard.judge.rules(allow, policy="drop")
    for family in FAMILIES:
        assert arrivals(network, family) == (0, 100)
        assert not connects(network, ALLOWED, family)


def test_interface_counters_add_up(guard, network):
    guard.judge.rules(UDP_DENY)
    arrivals(network)
    (found,) = guard.kernel.interface_counters()
    assert found.packets["dropped"] == 100
    if "xdp" in guard.kernel._places[network.agent.device].hooks:
        assert found.packets["passed"] >= 100


def test_a_rule_of_one_interface(native, network):
    slots = native.kernel.interface_slots()
    native.judge.rules(
        rule(scope=network.agent.device, protocol="udp", dst_port=DENIED), interfaces=slots
    )
    assert arrivals(network) == (0, 100)
    native.judge.rules(
        rule(scope="other", protocol="udp", dst_port=DENIED), interfaces={**slots, "other": 9}
    )
    assert arrivals(network) == (100, 100)


def test_a_tc_program_reads_the_metadata(network, tmp_path):
    """W1: in the reference it names no rule, and nobody reads it."""
    guard = Guard(network, XdpMode.NATIVE)
    source = Path(__file__).parent / "read_meta.bpf.c"
    try:
        guard.attach()
        guard.judge.rules(rule(id="seen", action="log", protocol="udp", dst_port=ALLOWED))
        reader = load_object(compile_object(source, tmp_path / "read_meta.bpf.o"))
        try:
            fd = reader.programs["read_meta"].fd
            index = network.agent.call(socket.if_nametoindex, network.agent.device)
            link = network.agent.call(lib().bpf_link_create, fd, index, TCX_INGRESS, ffi.NULL)
            check(link, "attaching")
            arrivals(network, count=1)
            _, values = reader.maps["seen"].read()
            os.close(link)
        finally:
            lib().bpf_object__close(reader.handle)
        found = values.view(PACKET_META)[0]
        assert found["rule_id"] == guard.judge.engine._set.numbers["seen"]
        assert (found["action"], found["flags"], found["protocol"]) == (2, 1, 17)
        assert (found["l3_offset"], found["l4_offset"]) == (14, 34)
    finally:
        guard.close()


def test_an_interface_that_is_removed_and_made_again(native, network):
    native.judge.rules(UDP_DENY)
    assert arrivals(network) == (0, 100)
    network.agent.ip("link", "del", network.agent.device)
    network.agent.call(native.kernel.attach, [network.agent.device])
    assert native.kernel.attachments() == []
    network.connect()
    assert native.attach() == "native"
    assert arrivals(network) == (0, 100)


def test_a_renamed_interface_stays_guarded(native, network):
    native.judge.rules(UDP_DENY)
    asked = network.agent.device
    network.agent.ip("link", "set", asked, "name", "other0")
    network.agent.call(native.kernel.attach, [asked])
    (found,) = native.kernel.attachments()
    assert (found.interface, found.how) == ("other0", "native")
    assert arrivals(network) == (0, 100)


def test_leaving_leaves_nothing_behind(network):
    guard = Guard(network, XdpMode.AUTO)
    guard.attach()
    guard.judge.rules(UDP_DENY)
    assert arrivals(network) == (0, 100)
    guard.close()
    assert arrivals(network) == (100, 100)


def test_events_carry_the_interface_and_the_moment(native, network):
    native.judge.rules(UDP_DENY)
    arrivals(network, count=3)
    rows = native.kernel.drain("fw_events")
    index = network.agent.call(socket.if_nametoindex, network.agent.device)
    assert rows["ifindex"].tolist() == [index] * 3
    (alert,) = native.judge.engine.feed("fw_events", rows, time.time_ns()).alerts
    assert (alert.rule_id, alert.action, alert.count) == ("r", "deny", 3)
    assert (alert.src_ip, alert.dst_ip, alert.dst_port) == ("10.77.0.2", "10.77.0.1", DENIED)
