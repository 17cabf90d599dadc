"""A whole agent on a router between namespaces: curl, ping, iperf3, fragments, reloads, kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

from ebpfsentinel.domains.nat.tests.routed import (
    CLIENT,
    CLIENT6,
    INSIDE_SERVER,
    INSIDE_SERVER6,
    ISP,
    ISP6,
    LAN,
    LAN6,
    MTU,
    SERVER,
    SERVER6,
    WAN,
    WAN6,
    WAN_SECOND,
    WAN_SECOND6,
    Routed,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

MASQUERADE = {"id": "m", "type": "masquerade", "interface": "wan0"}
OUT = {4: (SERVER, WAN), 6: (SERVER6, WAN6)}


@pytest.fixture
def lab(tmp_path):
    made = Routed(tmp_path)
    yield made
    made.close()


def test_without_translation_nothing_comes_back(lab):
    lab.translating()
    with lab.web(lab.server, SERVER):
        assert lab.curl(lab.client, SERVER, patience=1) == ""


@pytest.mark.parametrize("offload", [True, False])
def test_masquerade_carries_curl_and_iperf(lab, offload):
    lab.offload(on=offload)
    running = lab.translating(snat_rules=[MASQUERADE])
    for server, seen in OUT.values():
        with lab.web(lab.server, server):
            assert lab.curl(lab.client, server) == seen
            assert lab.curl(lab.guarded, server) == seen
        assert "1 received" in lab.ping(server)
        assert _iperf(lab, server) > 50e6
    counts = running.cli("nat", "status")
    assert counts["masq_applied"] > 100
    assert counts["dropped"] == 0
    listed = running.cli("nat", "translations", "--most", "1000")["listed"]
    assert {each["translated_src"].rpartition(":")[0].strip("[]") for each in listed} == {WAN, WAN6}
    assert {each["rule_id"] for each in listed} == {"m"}


def _iperf(lab, server):
    """Bits a second that arrive there."""
    serve = ["nsenter", f"--net=/run/netns/{lab.server}", "iperf3", "-s", "-1", "--forceflush"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as serving:
        try:
            while "listening" not in serving.stdout.readline():
                pass
            told = lab.run(lab.client, "timeout", "20", "iperf3", "-c", server, "-t", "1", "-J")
        finally:
            serving.terminate()
    return json.loads(told.stdout)["end"]["sum_received"]["bits_per_second"]


FORWARDS = {
    4: (WAN, INSIDE_SERVER, LAN, CLIENT),
    6: (WAN6, INSIDE_SERVER6, LAN6, CLIENT6),
}


@pytest.mark.parametrize("family", [4, 6])
def test_curl_through_forward_dnat_and_hairpin(lab, family):
    outside, inside, gate, client = FORWARDS[family]
    peer = OUT[family][0]
    lab.translating(
        dnat_rules=[
            {"id": "f", "type": "port_forward", "ext_port": 8080, "internal_addr": inside,
             "int_port": 80},
            {"id": "d", "type": "dnat", "dst": outside, "dst_port": 81, "protocol": "tcp",
             "translated_addr": inside, "translated_port": 80},
        ],
        hairpin={"enabled": True, "internal_subnet": ["10.0.0.0/24", "fd00::/64"]},
    )  # fmt: skip
    with lab.web(lab.client, inside):
        assert lab.curl(lab.server, outside, 8080) == peer
        assert lab.curl(lab.server, outside, 81) == peer
        assert lab.curl(lab.client, outside, 8080) == gate
        assert lab.curl(lab.client, inside) in (inside, client)
    assert "1 received" in lab.ping("-I", client, gate), "what is not forwarded is the router's"


@pytest.mark.parametrize("family", [4, 6])
def test_curl_through_redirect_and_one_to_one(lab, family):
    _, inside, gate, client = FORWARDS[family]
    second = {4: WAN_SECOND, 6: WAN_SECOND6}[family]
    peer = OUT[family][0]
    lab.translating(
        dnat_rules=[
            {"id": "r", "type": "redirect", "interface": "lan0", "dst_port": 80, "port": 3128},
            {"id": "o", "type": "one_to_one", "interface": "wan0", "external": second,
             "internal": client},
        ],
    )  # fmt: skip
    with lab.web(lab.guarded, gate, 3128):
        assert lab.curl(lab.client, peer) in (client, inside)
    with lab.web(lab.client, client), lab.web(lab.server, peer, 8000):
        assert lab.curl(lab.server, second) == peer
        lab.run(lab.client, "ip", "route", "replace", "default", "via", gate, "src", client)
        assert lab.curl(lab.client, peer, 8000) == second


def test_curl_ping_and_errors_through_nptv6(lab):
    inside, outside = "fd00::/64", "2001:db8:aaaa::/64"
    lab.run(lab.isp, "ip", "route", "add", outside, "via", WAN6)
    running = lab.translating(
        nptv6_rules=[
            {"id": "p", "internal_prefix": inside, "external_prefix": outside, "interface": "wan0"}
        ]
    )
    with lab.web(lab.server, SERVER6):
        seen = lab.curl(lab.client, SERVER6)
        assert seen.startswith("2001:db8:aaaa:")
    assert "1 received" in lab.ping(SERVER6)
    assert f"mtu={MTU}" in lab.ping("-M", "do", "-s", "1400", SERVER6)
    assert f"From {ISP6}" in lab.ping("-t", "2", SERVER6)
    assert running.cli("nat", "nptv6", "list")[0]["packets"] > 20


def test_path_mtu_and_traceroute_through_masquerade(lab):
    """Packets that are too large for the last link: the ISP's router tells who sent them."""
    running = lab.translating(snat_rules=[MASQUERADE])
    assert f"mtu = {MTU}" in lab.ping("-M", "do", "-s", "1400", SERVER)
    assert f"mtu={MTU}" in lab.ping("-M", "do", "-s", "1400", SERVER6)
    for server, hops in ((SERVER, (LAN, ISP)), (SERVER6, (LAN6, ISP6))):
        for hop, address in enumerate(hops, 1):
            assert f"From {address}" in lab.ping("-t", str(hop), server)
        assert "1 received" in lab.ping("-t", "3", server)
    assert running.cli("nat", "status")["icmp_errors"] >= 4


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_fragments_of_pings_go_there_and_back(lab, server):
    running = lab.translating(snat_rules=[MASQUERADE])
    if server == SERVER6:
        lab.ping("-s", "4000", server)  # learns the path's MTU: in IPv6 only hosts cut
    assert "1 received" in lab.ping("-M", "dont", "-s", "4000", server)
    counts = running.cli("nat", "status")
    assert counts["fragments"] >= 4
    assert counts["fragment_unknown"] == 0


def test_masquerade_follows_a_new_address(lab):
    lab.translating(snat_rules=[MASQUERADE])
    with lab.web(lab.server, SERVER):
        assert lab.curl(lab.client, SERVER) == WAN
        lab.run(lab.guarded, "ip", "addr", "flush", "dev", "wan0")
        lab.give(lab.guarded, "wan0", "203.0.113.66")
        lab.run(lab.guarded, "ip", "route", "add", "default", "via", ISP)
        for _ in range(200):
            if (seen := lab.curl(lab.client, SERVER, patience=1)) == "203.0.113.66":
                break
        assert seen == "203.0.113.66"


class Conversation:
    """One TCP connection from the client to an echo on the server, and many datagrams beside it."""

    def __init__(self, lab):
        with lab.inside(lab.server):
            self._listener = socket.create_server((SERVER, 7000))
            self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sink.bind((SERVER, 7001))
        with lab.inside(lab.client):
            self.client = socket.create_connection((SERVER, 7000), timeout=60)
            self._source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server, peer = self._listener.accept()
        self.seen = {peer[0]}
        self.datagrams = 0
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._flood, self._hear)]

    def says(self, text):
        self.client.sendall(text)
        assert self._server.recv(64) == text
        self._server.sendall(text)
        assert self.client.recv(64) == text

    def _flood(self):
        while not self._ends.is_set():
            with contextlib.suppress(OSError):
                self._source.sendto(b"x", (SERVER, 7001))
            self._ends.wait(0.0005)

    def _hear(self):
        self._sink.settimeout(0.2)
        while not self._ends.is_set():
            with contextlib.suppress(TimeoutError):
                self.seen.add(self._sink.recvfrom(16)[1])
                self.datagrams += 1

    def __enter__(self):
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        for each in self._threads:
            each.join()
        for each in (self._listener, self._sink, self.client, self._source, self._server):
            each.close()


def test_a_reload_under_load_changes_no_flow(lab):
    running = lab.translating(snat_rules=[MASQUERADE])
    with Conversation(lab) as talk:
        talk.says(b"before")
        for number in range(5):
            other = {"id": f"x{number}", "type": "snat", "translated_addr": "203.0.113.99"}
            running.cli("nat", "add", "--json", json.dumps({**other, "priority": 1}))
            talk.says(b"during")
            running.cli("nat", "delete", f"x{number}")
        before = talk.datagrams
        talk.says(b"after")
        assert before > 100
    assert {each[0] if isinstance(each, tuple) else each for each in talk.seen} == {WAN}
    assert len(talk.seen) == 2, "one connection, and one flow of datagrams with one port"


def test_translations_outlive_the_agent_that_made_them(lab):
    running = lab.translating("keep", snat_rules=[MASQUERADE])
    try:
        with Conversation(lab) as talk:
            talk.says(b"before")
            running.signal(signal.SIGKILL)
            running.wait()
            talk.says(b"orphaned")
            with lab.web(lab.server, SERVER):
                assert lab.curl(lab.client, SERVER) == WAN
            running.end()
            running.start()
            talk.says(b"adopted")
            listed = running.cli("nat", "translations")["listed"]
            assert {each["rule_id"] for each in listed} == {"m"}
            assert any(each["dst"] == f"{SERVER}:7000" for each in listed)
        assert len(talk.seen) == 2
    finally:
        running.end()
        running.cli("detach", "--all")


def test_the_hosts_own_nat_is_named(lab):
    lab.run(lab.guarded, "nft", "add", "table", "ip", "own")
    chain = "{ type nat hook postrouting priority 100; }"
    lab.run(lab.guarded, "nft", "add", "chain", "ip", "own", "post", chain)
    lab.run(lab.guarded, "nft", "add", "rule", "ip", "own", "post", "oifname", "wan0", "masquerade")
    running = lab.translating(snat_rules=[MASQUERADE])
    (found,) = running.cli("nat", "status")["host_nat"]
    assert found.startswith("nftables ip own post: masquerade")
    for _ in range(50):
        if alerts := running.alerts("host-nat"):
            break
    assert alerts[0]["action"] == "overlap"
    assert "nftables ip own post" in running.log()
    with lab.web(lab.server, SERVER):
        assert lab.curl(lab.client, SERVER) == WAN, "both translate, and both undo it"


@pytest.mark.parametrize("there", [True, False])
def test_iptables_of_the_older_kind_is_named_where_it_is_there_and_never_made(lab, there):
    rule = ("POSTROUTING", "-o", "wan0", "-j", "MASQUERADE")
    if there:
        told = lab.run(lab.guarded, "iptables-legacy", "-t", "nat", "-A", *rule)
        assert told.returncode == 0, told.stderr
    running = lab.translating(snat_rules=[MASQUERADE])
    found = running.cli("nat", "status")["host_nat"]
    assert found == [f"iptables-legacy: -A {' '.join(rule)}"] * there
    tables = lab.run(lab.guarded, "cat", "/proc/net/ip_tables_names").stdout.split()
    assert ("nat" in tables) is there, "its hooks would cost every packet"


def test_rules_come_and_go_by_api_and_cli(lab):
    running = lab.translating()
    body = {"id": "m", "type": "masquerade", "interface": "wan0"}
    running.cli("nat", "add", "--json", json.dumps(body))
    prefix = {"id": "p", "internal_prefix": "fd07::/48", "external_prefix": "2001:db8:7::/48"}
    running.cli("nat", "nptv6", "add", "--json", json.dumps(prefix))
    assert [each["id"] for each in running.cli("nat", "list")] == ["m"]
    assert [each["id"] for each in running.cli("nat", "nptv6", "list")] == ["p"]
    with lab.web(lab.server, SERVER):
        assert lab.curl(lab.client, SERVER) == WAN
        running.cli("nat", "delete", "m")
        assert lab.curl(lab.client, SERVER, patience=1) == ""
    running.cli("nat", "nptv6", "delete", "p")
    assert running.cli("nat", "nptv6", "list") == []


@pytest.mark.parametrize("family", [4, 6])
def test_the_flow_table_has_one_flow_by_its_inner_tuple(lab, family):
    """Where connections are tracked too: NAT stands outside of it, in both directions."""
    outside, inside, _, client = FORWARDS[family]
    server = OUT[family][0]
    sections = lab.sections(
        snat_rules=[MASQUERADE],
        dnat_rules=[{"id": "f", "type": "port_forward", "ext_port": 8080, "int_port": 80,
                     "internal_addr": inside}],
        hairpin={"enabled": True, "internal_subnet": ["10.0.0.0/24", "fd00::/64"]},
    )  # fmt: skip
    running = lab.agent(**sections, conntrack={"enabled": True})
    with lab.web(lab.server, server), lab.web(lab.client, inside):
        assert lab.curl(lab.client, server) == outside
        assert lab.curl(lab.server, outside, 8080) == server
        assert lab.curl(lab.client, outside, 8080) == FORWARDS[family][2]
    found = running.cli("conntrack", "list")
    flows = [each for each in found["connections"] if each["dst_port"] in (80, 8080)]
    ends = {(each["src_ip"], each["dst_ip"], each["dst_port"]) for each in flows}
    assert len(flows) == 3, flows
    assert {dst for _, dst, _ in ends} == {server, inside}
    assert (server, inside, 80) in ends
    assert not any(outside in (src, dst) for src, dst, _ in ends), client
