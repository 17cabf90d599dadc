"""Real clients and servers through a whole agent, with everything on."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from tests.lab import GUARDED, GUARDED6, SENDER, SENDER6, Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

EVERYTHING = {
    "min_ttl": 64,
    "min_hop_limit": 64,
    "max_mss": 1100,
    "random_ip_id": True,
    "clear_df": True,
    "scrub_tcp_flags": True,
    "illegal_tcp_flags": "drop",
    "strip_ecn": True,
    "dscp": "af21",
    "strip_tcp_timestamps": True,
    "fragments": "strict",
}
TIMESTAMPS, ECN = 1, 8
"""Bits of ``tcpi_options``."""
IP_RECVTTL = 12
NOBODY = {"process": {"enabled": False}, "firewall": {"anti_lockout": {"enabled": False}}}
SIZE = 3_000_000


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    for namespace in (made.sender, made.guarded):
        made.run(namespace, "sysctl", "-qw", "net.ipv4.tcp_ecn=1")
    yield made
    made.close()


def agent(lab, xdp_mode="auto", mode="block", **scrub):
    return lab.agent(
        agent={"xdp_mode": xdp_mode}, scrub={"enabled": True, "mode": mode} | scrub, **NOBODY
    )


@contextlib.contextmanager
def connected(lab, to, client="sender", port=5555):
    """A client's and a server's end of a new connection to ``to``, from the other namespace."""
    home, away = (lab.sender, lab.guarded) if client == "sender" else (lab.guarded, lab.sender)
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with lab.inside(away):
        listener = socket.create_server((to, port), family=family)
    with lab.inside(home):
        near = socket.socket(family)
    near.settimeout(60)
    with listener, near:
        near.connect((to, port))
        far, _ = listener.accept()
        with far:
            far.settimeout(60)
            yield near, far


def carries(near, far, size=SIZE):
    """Does data arrive whole, both ways?"""
    body = os.urandom(1 << 16) * (size >> 16)
    for sender, receiver in ((near, far), (far, near)):
        thread = threading.Thread(target=sender.sendall, args=(body,))
        thread.start()
        found = bytearray()
        while len(found) < len(body):
            found += receiver.recv(1 << 20)
        thread.join()
        if found != body:
            return False
    return True


def options(end):
    """``tcpi_options`` and the MSS that it sends with."""
    info = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return info[5], int.from_bytes(info[16:20], sys.byteorder)


def checksum_errors(lab):
    """Segments and datagrams that died of their checksum, in both namespaces."""
    found = 0
    for namespace in (lab.sender, lab.guarded):
        shown = lab.run(namespace, "nstat", "-asz", "--json").stdout
        found += sum(
            count for name, count in json.loads(shown)["kernel"].items() if "CsumErrors" in name
        )
    return found


WAYS = [
    (GUARDED, "sender"),
    (GUARDED6, "sender"),
    (SENDER, "guarded"),
    (SENDER6, "guarded"),
]


@pytest.mark.parametrize("xdp_mode", ["auto", "tc"])
@pytest.mark.parametrize("offload", ["on", "off"])
def test_connections_of_both_families_work_with_everything_on(lab, xdp_mode, offload):
    for namespace, device in ((lab.sender, "send0"), (lab.guarded, "guard0")):
        lab.run(namespace, "ethtool", "-K", device, "tx", offload, "rx", offload)
    running = agent(lab, xdp_mode, **EVERYTHING)
    for to, client in WAYS:
        with connected(lab, to, client) as (near, far):
            assert carries(near, far)
            for end in (near, far):
                bits, mss = options(end)
                assert not bits & (TIMESTAMPS | ECN)
                assert mss <= 1100
    assert checksum_errors(lab) == 0
    status = running.cli("scrub", "status")
    assert status["errors"] == 0
    assert status["mss_clamped"] == 2 * len(WAYS), "SYN and SYN+ACK"
    assert status["tcp_ts_stripped"] == status["ecn_stripped"] == len(WAYS), "the SYN alone"
    for way in ("ingress", "egress"):
        assert status[way]["tos_normalized"] > 100
        assert status[way]["df_cleared"] > 100
        assert status[way]["ipid_randomized"] > 100


def test_a_flow_that_has_agreed_before_goes_on_as_agreed(lab):
    with contextlib.ExitStack() as stack:
        ends = [
            stack.enter_context(connected(lab, to, client, 6000 + at))
            for at, (to, client) in enumerate(WAYS)
        ]
        agreed = [[options(end)[0] for end in pair] for pair in ends]
        assert all(bits & TIMESTAMPS and bits & ECN for pair in agreed for bits in pair)
        agent(lab, "tc", **EVERYTHING)
        for (near, far), before in zip(ends, agreed, strict=True):
            assert carries(near, far)
            assert [options(end)[0] for end in (near, far)] == before
    assert checksum_errors(lab) == 0


def test_alert_mode_changes_nothing(lab):
    running = agent(lab, "tc", mode="alert", **EVERYTHING)
    with connected(lab, GUARDED) as (near, far):
        assert carries(near, far)
        bits, mss = options(near)
        assert bits & TIMESTAMPS
        assert bits & ECN
        assert mss > 1100
    status = running.cli("scrub", "status")
    assert status["mss_clamped"] == 2
    assert status["tcp_ts_stripped"] == 1


def test_auto_clamps_to_the_mtu_of_the_interface(lab):
    lab.run(lab.guarded, "ip", "link", "set", "guard0", "mtu", "1400")
    agent(lab, "tc", max_mss="auto")
    for to, headers in ((GUARDED, 40), (GUARDED6, 60)):
        with connected(lab, to) as (near, far):
            assert carries(near, far)
            stamps = 12
            assert options(near)[1] == options(far)[1] == 1400 - headers - stamps


@pytest.mark.parametrize(("policy", "answered"), [("strict", True), ("drop", False)])
def test_pings_in_pieces(lab, policy, answered):
    agent(lab, "tc", fragments=policy, max_mss=1100)
    for to in (GUARDED, GUARDED6):
        asked = lab.run(lab.sender, "ping", "-c", "1", "-W", "1", "-s", "4000", to)
        assert (asked.returncode == 0) is answered
        assert lab.run(lab.sender, "ping", "-c", "1", "-W", "5", to).returncode == 0


def test_datagrams_arrive_with_the_ttl_that_was_set(lab):
    agent(lab, "tc", min_ttl=77, min_hop_limit=78, dscp="cs1", direction="ingress")
    for to, level, set_ttl, get_ttl, wanted in (
        (GUARDED, socket.IPPROTO_IP, socket.IP_TTL, IP_RECVTTL, 77),
        (GUARDED6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVHOPLIMIT, 78),
    ):
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with lab.inside(lab.guarded):
            receiver = socket.socket(family, socket.SOCK_DGRAM)
        with lab.inside(lab.sender):
            sender = socket.socket(family, socket.SOCK_DGRAM)
        with receiver, sender:
            receiver.bind((to, 7777))
            receiver.settimeout(60)
            receiver.setsockopt(level, get_ttl, 1)
            sender.setsockopt(level, set_ttl, 5)
            sender.sendto(b"here", (to, 7777))
            body, about, _, _ = receiver.recvmsg(16, 64)
            assert body == b"here"
            assert int.from_bytes(about[0][2], sys.byteorder) == wanted
    assert checksum_errors(lab) == 0


def test_iperf3_and_curl_with_everything_on(lab, tmp_path):
    agent(lab, "tc", **EVERYTHING)
    (tmp_path / "page").write_bytes(os.urandom(SIZE))
    serve = [sys.executable, "-m", "http.server", "8000", "--bind", "::", "-d", str(tmp_path)]
    with (
        serving(lab, serve, "Serving"),
        serving(lab, ["iperf3", "-s", "--forceflush"], "listening"),
    ):
        for to in (GUARDED, f"[{GUARDED6}]"):
            got = subprocess.run(
                ["nsenter", f"--net=/run/netns/{lab.sender}", "curl", "-sS", "-m", "20", "-g",
                 f"http://{to}:8000/page"],
                capture_output=True,
                check=True,
            )  # fmt: skip
            assert got.stdout == (tmp_path / "page").read_bytes()
        for to, *more in ((GUARDED,), (GUARDED6, "-R"), (GUARDED, "-u", "-b", "50M")):
            ran = lab.run(lab.sender, "iperf3", "-J", "-t", "1", "-c", to, *more)
            assert ran.returncode == 0, ran.stdout
    assert checksum_errors(lab) == 0


@contextlib.contextmanager
def serving(lab, command, says):
    """A server in the guarded namespace, once it says so."""
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.guarded}", "stdbuf", "-oL", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        while says not in (line := server.stdout.readline()):
            assert line, f"{command[0]} did not start"
        yield
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
