"""The fast path: what goes past the stack arrives the same, and the host is obeyed."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.domains.nat.tests.routed import SERVER, SERVER6, WAN, WAN6, Routed
from ebpfsentinel.kernel.build import compile_object
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

PORT = 7000
HOPS = 64 - 2
OUTSIDE = {SERVER: WAN, SERVER6: WAN6}
MASQUERADE = {"id": "m", "type": "masquerade", "interface": "wan0"}
IP_RECVERR, IP_RECVTTL, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 11, 12, 10, 2


@pytest.fixture
def lab(tmp_path):
    made = Routed(tmp_path)
    try:
        yield made
    finally:
        made.close()


def start(lab, *, fast_path=True, **sections):
    """An agent on the router that tracks and translates."""
    return lab.agent(
        **{
            **lab.sections(snat_rules=[MASQUERADE]),
            "conntrack": {"enabled": True, "fast_path": fast_path},
            "sockets": {"enabled": False},
            **sections,
        }
    )


class Talk:
    """Datagrams of one flow, there and back; the server notes their source and their TTL."""

    def __init__(self, lab, server=SERVER):
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with lab.inside(lab.server):
            self.server = socket.socket(family, socket.SOCK_DGRAM)
            self.server.bind((server, PORT))
        with lab.inside(lab.client):
            self.client = socket.socket(family, socket.SOCK_DGRAM)
            self.client.connect((server, PORT))
        if family == socket.AF_INET6:
            self.server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        else:
            self.server.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        self.server.settimeout(0.2)
        self.client.settimeout(0.2)
        self.hops, self.sources = set(), set()

    def says(self, text=b"hello"):
        """Does it arrive, and its answer? An error that came instead is raised."""
        self.client.send(text)
        heard = b""
        try:
            while heard != text:
                heard, told, _, peer = self.server.recvmsg(2048, 64)
            self.hops.add(int.from_bytes(told[0][2], "little"))
            self.sources.add(peer[:2])
            self.server.sendto(heard[::-1], peer)
            return self.client.recv(2048) == text[::-1]
        except TimeoutError:
            return False

    def refused(self, text=b"hello"):
        """The number of the error that comes for it; 0: none does."""
        try:
            self.client.send(text)
            self.client.recv(2048)
        except TimeoutError:
            return 0
        except OSError as error:
            return error.errno
        return 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.close()


def path(running):
    return running.cli("conntrack", "status")["fast_path"]


def is_taken(running, talk):
    """Whether packets that are sent now go past the stack."""
    before = path(running)["packets"]

    def look():
        assert all(talk.says() for _ in range(20))
        return path(running)["packets"] - before > 20

    return until(look)


@pytest.mark.parametrize("server", [SERVER, SERVER6])
def test_flows_go_past_the_stack_and_arrive_the_same(lab, server):
    lab.offload(on=False)
    running = start(lab)
    with Talk(lab, server) as talk:
        assert all(talk.says(bytes([n]) * (n * 7 % 200 + 1)) for n in range(200))
        assert talk.hops == {HOPS}
        ((source, _),) = talk.sources
        assert source == OUTSIDE[server]
        found = until(lambda: (told := path(running))["packets"] and told)
    assert found["watched"] == {"netfilter": 0, "tc": 0, "device": 0}
    assert 4 <= found["learned"] < 200, "what is larger than all before is learned anew"
    (flow,) = [f for f in running.cli("conntrack", "list")["connections"] if f["dst_port"] == PORT]
    assert (flow["packets_fwd"], flow["packets_rev"]) == (200, 200)


def test_connections_go_past_the_stack(lab):
    running = start(lab)
    with lab.web(lab.server, SERVER):
        for _ in range(5):
            assert lab.curl(lab.client, SERVER) == WAN
    assert until(lambda: path(running)["packets"] > 50)


def test_netfilter_is_not_passed_over(lab):
    running = start(lab)
    with Talk(lab) as talk:
        assert is_taken(running, talk)
        chain = "{ type filter hook forward priority 0; policy drop; }"
        lab.run(lab.guarded, "nft", f"add table inet own; add chain inet own mine {chain}")
        assert until(lambda: not talk.says())
        assert until(lambda: not talk.says() and path(running)["watched"]["netfilter"])
        lab.run(lab.guarded, "nft", "delete table inet own")
        assert until(talk.says)
        assert is_taken(running, talk)


def test_what_others_attached_to_tc_is_not_passed_over(lab, tmp_path):
    running = start(lab)
    with Talk(lab) as talk:
        assert is_taken(running, talk)
        refuse = compile_object(Path(__file__).with_name("refuse.bpf.c"), tmp_path / "refuse.o")
        lab.run(lab.guarded, "tc", "qdisc", "add", "dev", "lan0", "clsact")
        lab.run(lab.guarded, "tc", "filter", "add", "dev", "lan0", "ingress", "bpf", "da",
                "obj", str(refuse), "sec", "classifier")  # fmt: skip
        assert until(lambda: not talk.says())
        assert until(lambda: not talk.says() and path(running)["watched"]["tc"])
        lab.run(lab.guarded, "tc", "qdisc", "del", "dev", "lan0", "clsact")
        assert until(talk.says)
        assert is_taken(running, talk)


def test_ports_of_a_bridge_are_left_to_the_bridge(lab):
    for command in (
        ("link", "add", "br0", "type", "bridge"),
        ("link", "set", "wan0", "master", "br0"),
        ("link", "set", "br0", "up"),
        ("addr", "flush", "dev", "wan0"),
        ("addr", "add", f"{WAN}/24", "dev", "br0"),
        ("route", "add", "default", "via", "203.0.113.254"),
    ):
        told = lab.run(lab.guarded, "ip", *command)
        assert told.returncode == 0, told.stderr
    lab.run(lab.isp, "ip", "route", "add", "10.0.0.0/24", "via", WAN)
    running = start(lab, nat={"enabled": False})
    with Talk(lab) as talk:
        assert all(talk.says() for _ in range(50))
        assert until(lambda: sum(path(running)["watched"].values()))
        assert path(running)["packets"] == 0


@pytest.mark.parametrize("base", ["lan0", "wan0"])
def test_nothing_past_the_stack_by_what_carries_another_interface(lab, base):
    lab.run(lab.guarded, "ip", "link", "add", "other0", "link", base, "type", "macvlan")
    running = start(lab)
    with Talk(lab) as talk:
        assert all(talk.says() for _ in range(50))
        assert until(lambda: path(running)["watched"]["device"])
        assert path(running)["packets"] == 0


def test_routes_are_obeyed(lab):
    running = start(lab)
    with Talk(lab) as talk:
        assert is_taken(running, talk)
        lab.run(lab.guarded, "ip", "route", "add", "blackhole", f"{SERVER}/32")
        assert until(lambda: not talk.says())
        lab.run(lab.guarded, "ip", "route", "del", "blackhole", f"{SERVER}/32")
        assert is_taken(running, talk)
        lab.run(lab.guarded, "sysctl", "-qw", "net.ipv4.ip_forward=0")
        assert until(lambda: not talk.says())


def test_what_is_too_large_is_told_so_by_the_host(lab):
    running = start(lab)
    with Talk(lab) as talk:
        talk.client.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        assert is_taken(running, talk)
        assert all(talk.says(bytes(1200)) for _ in range(20))
        lab.run(lab.guarded, "ip", "link", "set", "wan0", "mtu", "1000")
        assert until(lambda: talk.refused(bytes(1200)) == errno.EMSGSIZE)
        assert talk.says(bytes(900))


def test_a_last_hop_is_told_by_the_host(lab):
    running = start(lab)
    with Talk(lab) as talk:
        assert is_taken(running, talk)
        talk.client.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        talk.client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        assert talk.refused() == errno.EHOSTUNREACH


def test_a_new_deny_ends_what_went_past_the_stack(lab):
    firewall = {"mode": "block", "anti_lockout": {"enabled": False}}
    running = start(lab, firewall=firewall)
    with Talk(lab) as talk:
        assert is_taken(running, talk)
        rule = '{"id": "d", "priority": 1, "action": "deny", "protocol": "udp", "dst_port": 7000}'
        running.cli("firewall", "add", "--json", rule)
        assert not talk.says()
        running.cli("firewall", "delete", "d")
        assert until(talk.says)


def test_it_can_be_switched_off(lab):
    running = start(lab, fast_path=False)
    with Talk(lab) as talk:
        assert all(talk.says() for _ in range(50))
    assert until(lambda: running.cli("conntrack", "status")["packets"] >= 100)
    assert path(running)["enabled"] is False
    assert path(running)["packets"] == 0


def test_its_program_stands_right_in_front_of_the_one_that_it_steps_over():
    chain = sorted(
        (program.order, program.name)
        for card in discover(domains)
        for program in card.programs
        if program.name.startswith("egress_") and not program.called_from
    )
    names = [name for _, name in chain]
    assert names.index("egress_conntrack") == names.index("egress_fast_path") + 1
    assert len({order for order, _ in chain}) == len(chain)
