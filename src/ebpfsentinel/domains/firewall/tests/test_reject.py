"""Reject: what is answered, how, how often, and what real clients make of it."""

import contextlib
import errno
import os
import socket
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.tests.guard import Guard
from ebpfsentinel.domains.firewall.tests.judge import DROP, PASS, Judge
from ebpfsentinel.domains.firewall.tests.network import Network
from ebpfsentinel.domains.firewall.tests.packets import (
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    Raw,
    ether,
)
from ebpfsentinel.kernel import build
from ebpfsentinel.kernel.libbpf import check, ffi, lib
from ebpfsentinel.kernel.objects import load_object
from ebpfsentinel.model.kernel import XdpMode
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

TX, CLOSED, OPEN = 3, 7001, 7002
XDP = 37  # enum bpf_attach_type
BURST = 20
FAMILIES = [socket.AF_INET, socket.AF_INET6]
ANSWERED = ("reset", "unreachable")


def reject(**written):
    return msgspec.convert({"id": "r", "priority": 10, "action": "reject", **written}, FirewallRule)


@pytest.fixture
def judge(loaded):
    made = Judge(loaded)
    made.rules(reject())
    return made


def counted(kernel):
    row = kernel.total("fw_rejects")[0]
    return {name: int(row[name]) for name in row.dtype.names}


_sources = iter(range(1, 1 << 16))


def fresh(family=4):
    """A source that no test has used: each has a bucket of its own."""
    number = next(_sources)
    return f"10.9.{number >> 8}.{number & 255}" if family == 4 else f"2001:db8::{number:x}"


def answer(judge, frame):
    """The frame that goes back."""
    result = judge.kernel.run("xdp_root", frame)
    assert result.retval == TX
    return result.data


SHAPES_4 = [(), (Dot1Q(vlan=5),), (Dot1AD(vlan=3), Dot1Q(vlan=4))]


@pytest.mark.parametrize("tags", SHAPES_4)
@pytest.mark.parametrize("options", [b"", b"\x01" * 12])
def test_a_reset_for_ipv4(judge, tags, options):
    src = fresh()
    tcp = TCP(sport=4321, dport=80, seq=1000, flags="S")
    sent = ether(IP(src=src, dst="10.0.0.2", options=options) / tcp / Raw(b"abcde"), *tags)
    got = answer(judge, sent)
    head = 14 + 4 * len(tags)
    assert got[:6] == sent[6:12]
    assert got[6:12] == sent[:6]
    assert got[12:head] == sent[12:head]
    wanted = IP(src="10.0.0.2", dst=src, flags="DF", id=0) / TCP(
        sport=80, dport=4321, seq=0, ack=1006, flags="RA", window=0
    )
    assert got[head:] == bytes(wanted)


def test_a_reset_for_ipv6_behind_extension_headers(judge):
    src = fresh(6)
    tcp = TCP(sport=4321, dport=80, seq=0xFFFFFFFF, flags="SF")
    for between in ((), (IPv6ExtHdrDestOpt(),)):
        packet = IPv6(src=src, dst="2001:db8::ff")
        for header in between:
            packet /= header
        got = answer(judge, ether(packet / tcp / Raw(b"ab")))
        wanted = IPv6(src="2001:db8::ff", dst=src, hlim=64) / TCP(
            sport=80, dport=4321, seq=0, ack=3, flags="RA", window=0
        )
        assert got[14:] == bytes(wanted)


def test_a_reset_takes_the_sequence_number_that_was_acknowledged(judge):
    src = fresh()
    tcp = TCP(sport=1, dport=2, seq=7, ack=0xDEADBEEF, flags="PA")
    got = answer(judge, ether(IP(src=src, dst="10.0.0.2") / tcp / Raw(b"data" * 300)))
    wanted = IP(src="10.0.0.2", dst=src, flags="DF", id=0) / TCP(
        sport=2, dport=1, seq=0xDEADBEEF, ack=0, flags="R", window=0
    )
    assert got[14:] == bytes(wanted)


@pytest.mark.parametrize("size", [0, 1, 5, 11, 600])
def test_port_unreachable_quotes_what_was_sent(judge, size):
    src = fresh()
    packet = IP(src=src, dst="10.0.0.2") / UDP(sport=9, dport=53) / Raw(b"q" * size)
    raw = bytes(packet)
    got = answer(judge, ether(packet))
    quote = raw[: min(len(raw) // 4 * 4, 68)]
    wanted = IP(src="10.0.0.2", dst=src, flags="DF", id=0) / ICMP(type=3, code=3) / Raw(quote)
    assert got[14:] == bytes(wanted)


@pytest.mark.parametrize("size", [0, 1, 5, 11, 600])
def test_port_unreachable_for_ipv6(judge, size):
    src = fresh(6)
    packet = IPv6(src=src, dst="2001:db8::ff") / UDP(sport=9, dport=53) / Raw(b"q" * size)
    raw = bytes(packet)
    got = answer(judge, ether(packet))
    quote = raw[: min(len(raw) // 4 * 4, 128)]
    head = IPv6(src="2001:db8::ff", dst=src, hlim=64, nh=58)
    wanted = head / Raw(bytes([1, 4, 0, 0, 0, 0, 0, 0]) + quote)
    found = bytearray(got[14:])
    assert checksum6(found) == 0
    found[42:44] = b"\0\0"
    assert bytes(found) == bytes(wanted)


def checksum6(packet):
    """The sum over pseudo header and ICMPv6 message; 0 when it is right (RFC 4443 2.3)."""
    message = bytes(packet[40:])
    data = bytes(packet[8:40]) + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    total = sum(
        int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def test_what_has_no_ports_is_prohibited(judge):
    for packet, place in (
        (IP(src=fresh(), dst="10.0.0.2") / ICMP(type=8), 34),
        (IP(src=fresh(), dst="10.0.0.2", proto=47) / Raw(bytes(30)), 34),
    ):
        assert answer(judge, ether(packet))[place : place + 2] == bytes([3, 13])
    ping = IPv6(src=fresh(6), dst="2001:db8::ff") / ICMPv6EchoRequest()
    assert answer(judge, ether(ping))[54:56] == bytes([1, 1])


NEVER = {
    "a reset": IP(dst="10.0.0.2") / TCP(flags="R"),
    "a reset with ACK": IPv6(dst="2001:db8::2") / TCP(flags="RA"),
    "an ICMP error": IP(dst="10.0.0.2") / ICMP(type=3, code=1) / Raw(bytes(28)),
    "an ICMP answer": IP(dst="10.0.0.2") / ICMP(type=0),
    "an ICMPv6 error": IPv6(dst="2001:db8::2", nh=58) / Raw(bytes([1, 0, 0, 0]) + bytes(60)),
    "an unknown ICMPv6 error": IPv6(dst="2001:db8::2", nh=58) / Raw(bytes([100]) + bytes(9)),
    "neighbour discovery": IPv6(dst="2001:db8::2", nh=58) / Raw(bytes([135]) + bytes(23)),
    "a later fragment": IP(dst="10.0.0.2", frag=9, proto=17) / Raw(bytes(40)),
    "a later IPv6 fragment": IPv6(dst="2001:db8::2")
    / IPv6ExtHdrFragment(nh=17, offset=9)
    / Raw(bytes(40)),
    "to a group": IP(dst="224.0.0.251") / UDP(),
    "to everybody": IP(dst="255.255.255.255") / UDP(),
    "to an IPv6 group": IPv6(dst="ff02::fb") / UDP(),
    "from a group": IP(src="224.0.0.1", dst="10.0.0.2") / UDP(),
    "from nobody": IP(src="0.0.0.0", dst="10.0.0.2") / UDP(),
    "from loopback": IP(src="127.0.0.1", dst="10.0.0.2") / TCP(),
    "from nobody, IPv6": IPv6(src="::", dst="2001:db8::2") / UDP(),
    "from a group, IPv6": IPv6(src="ff02::1", dst="2001:db8::2") / TCP(),
}  # fmt: skip


@pytest.mark.parametrize("what", NEVER)
def test_what_is_never_answered_is_dropped_in_silence(judge, what):
    before = counted(judge.kernel)
    assert judge.judge(ether(NEVER[what])).code == DROP
    after = counted(judge.kernel)
    assert after == before | {"unanswered": before["unanswered"] + 1}


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"])
def test_what_was_sent_to_many_is_never_answered(judge, mac):
    frame = bytes.fromhex(mac.replace(":", "")) + ether(IP(dst="10.0.0.2") / TCP())[6:]
    assert judge.judge(frame).code == DROP


def test_a_frame_cut_short_is_never_answered(judge):
    whole = ether(IP(src=fresh(), dst="10.0.0.2") / TCP())
    for end in range(14 + 20, 14 + 40):
        assert judge.judge(whole[:end]).code == DROP, end
    assert judge.judge(whole).code == TX


def test_each_source_has_a_bucket_of_its_own(judge):
    before = counted(judge.kernel)
    began = time.monotonic()
    src = fresh()
    frame = ether(IP(src=src, dst="10.0.0.2") / UDP(dport=9))
    codes = [judge.judge(frame).code for _ in range(200)]
    refilled = int((time.monotonic() - began) / 0.05) + 1
    assert codes[:BURST] == [TX] * BURST
    assert BURST <= codes.count(TX) <= BURST + refilled
    assert codes.count(TX) + codes.count(DROP) == 200
    assert judge.judge(ether(IP(src=fresh(), dst="10.0.0.2") / UDP(dport=9))).code == TX
    after = counted(judge.kernel)
    assert after["throttled"] - before["throttled"] == codes.count(DROP)
    assert after["unreachable"] - before["unreachable"] == codes.count(TX) + 1


def test_an_empty_bucket_fills_up_again(judge):
    frame = ether(IP(src=fresh(), dst="10.0.0.2") / UDP(dport=9))
    while judge.judge(frame).code == TX:
        pass
    until(lambda: judge.judge(frame).code == TX)


def test_the_table_of_sources_is_bounded(judge):
    frame = bytearray(ether(IP(src="11.0.0.0", dst="10.0.0.2") / UDP(dport=9)))
    for number in range(20_000):
        frame[26:30] = (0x0B000000 + number).to_bytes(4, "big")
        assert judge.quick(bytes(frame))[0] == TX


def test_in_alert_mode_nothing_is_answered(judge):
    judge.rules(reject(), mode="alert")
    before = counted(judge.kernel)
    frame = ether(IP(src=fresh(), dst="10.0.0.2") / TCP())
    found = judge.judge(frame)
    assert (found.code, found.event["action"]) == (PASS, 3)
    assert counted(judge.kernel) == before
    judge.kernel.run("xdp_root", frame)
    (alert,) = judge.engine.feed("fw_events", judge.kernel.drain("fw_events"), 0).alerts
    assert alert.action == "would_reject"
    judge.rules(reject())
    judge.kernel.run("xdp_root", frame)
    (alert,) = judge.engine.feed("fw_events", judge.kernel.drain("fw_events"), 0).alerts
    assert alert.action == "reject"


def test_answers_are_metrics(judge):
    judge.judge(ether(IP(src=fresh(), dst="10.0.0.2") / TCP()))
    judge.engine.feed("fw_rejects", judge.kernel.total("fw_rejects"), 0)
    found = {m.labels["result"]: m.value for m in judge.engine.metrics() if m.name == "rejects"}
    assert found == counted(judge.kernel)


# Real clients


@pytest.fixture
def network():
    made = Network()
    yield made
    made.close()


@contextlib.contextmanager
def passing_all(side):
    """An XDP program on a veth: without one, what the other end sends back by XDP waits there."""
    loaded = load_object(Path(build.__file__).with_name("dispatch.bpf.o"))
    index = side.call(socket.if_nametoindex, side.device)
    link = side.call(lib().bpf_link_create, loaded.programs["xdp_root"].fd, index, XDP, ffi.NULL)
    try:
        check(link, "attaching")
        yield
    finally:
        os.close(link)
        lib().bpf_object__close(loaded.handle)


@pytest.fixture(params=[XdpMode.NATIVE, XdpMode.GENERIC, XdpMode.TC])
def guard(request, network):
    made = Guard(network, request.param)
    try:
        assert made.attach() == request.param.value
        with passing_all(network.peer):
            for family in FAMILIES:  # neighbours are known from here on
                assert connect(network, family, CLOSED)[0] == errno.ECONNREFUSED
            yield made
    finally:
        made.close()


def address(network, family):
    return network.agent.ipv4 if family == socket.AF_INET else network.agent.ipv6


def connect(network, family, port):
    """0, or the error a TCP client gets, and after how long."""
    with network.peer.socket(socket.SOCK_STREAM, 0, family) as client:
        client.settimeout(5)
        began = time.monotonic()
        try:
            client.connect((address(network, family), port))
        except TimeoutError:
            return errno.ETIMEDOUT, 5
        except OSError as error:
            return error.errno, time.monotonic() - began
        return 0, 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_client_is_refused_at_once(guard, network, family):
    guard.judge.rules(reject(protocol="tcp", dst_port=CLOSED))
    with network.agent.socket(socket.SOCK_STREAM, CLOSED, family) as listener:
        listener.listen()
        code, seconds = connect(network, family, CLOSED)
        assert (code, seconds < 0.9) == (errno.ECONNREFUSED, True)  # a SYN comes again after 1 s
        guard.judge.rules(reject(protocol="tcp", dst_port=CLOSED), mode="alert")
        assert connect(network, family, CLOSED) == (0, 0)
    assert counted(guard.kernel)["reset"] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_datagram_socket_gets_the_error(guard, network, family):
    guard.judge.rules(reject(protocol="udp", dst_port=CLOSED))
    receiver = network.agent.socket(socket.SOCK_DGRAM, CLOSED, family)
    sender = network.peer.socket(socket.SOCK_DGRAM, 0, family)
    with receiver, sender:
        sender.connect((address(network, family), CLOSED))
        sender.send(b"?" * 33)
        with pytest.raises(ConnectionRefusedError):
            sender.recv(16)
        guard.judge.rules(reject(protocol="udp", dst_port=CLOSED), mode="alert")
        sender.send(b"passes")
        assert receiver.recv(16) == b"passes"
    assert counted(guard.kernel)["unreachable"] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_an_established_connection_is_reset(guard, network, family):
    guard.judge.rules()
    with network.agent.socket(socket.SOCK_STREAM, OPEN, family) as listener:
        listener.listen()
        client = network.peer.socket(socket.SOCK_STREAM, 0, family)
        with client:
            client.connect((address(network, family), OPEN))
            served, _ = listener.accept()
            with served:
                client.sendall(b"before")
                assert served.recv(16) == b"before"
                guard.judge.rules(reject(protocol="tcp", dst_port=OPEN))
                client.sendall(b"after")
                with pytest.raises(ConnectionResetError):
                    client.recv(16)


@pytest.mark.parametrize("device_fills_in", ["on", "off"])
def test_answers_are_right_where_the_sender_left_the_checksum_to_its_device(
    network, device_fills_in
):
    """A veth hands packets on with the sum still to be filled in; what is sent back keeps that."""
    peer = network.peer
    for side, wanted in ((peer, "on"), (network.agent, device_fills_in)):
        command = ["ethtool", "-K", side.device, "tx", wanted]
        side.call(subprocess.run, command, check=True, capture_output=True)
    guard = Guard(network, XdpMode.TC)
    with contextlib.closing(guard):
        guard.attach()
        guard.judge.rules(reject(dst_port=CLOSED))
        for family in FAMILIES:
            assert connect(network, family, CLOSED)[0] == errno.ECONNREFUSED
            with peer.socket(socket.SOCK_DGRAM, 0, family) as sender:
                sender.connect((address(network, family), CLOSED))
                sender.send(b"?")
                with pytest.raises(ConnectionRefusedError):
                    sender.recv(16)
        assert counted(guard.kernel)["failed"] == 0
