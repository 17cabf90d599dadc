"""Address translation: what a packet of an established flow costs, and nftables beside it.

**Cost.** BPF_PROG_RUN of a TC chain over a trace of 512 frames of 80 bytes, each of another
established flow, restored before every run: with the translator in the chain and without it, in
turn. ``egress`` is the way out (the source is rewritten), ``ingress`` the answers. Half of the
flows have another port too.

**Packets.** Live frames (IPv4 UDP, 80 bytes, 512 flows) come into a router, which forwards them
out of another veth, where they are counted; nobody takes them. All of it happens on one core, whose
seconds are counted. The router masquerades: by an agent that does nothing else, by nftables with
the same one rule, or not at all.

**Traffic.** A client, a router and a server in namespaces of their own, veth between them, their
offloads on; the same three ways (without translation the server has a route back). Throughput is
iperf3's; connections are made by one client, one after the other, to one server (``greeting.py``),
both on one core, whose seconds are counted. All ways take turns in any order, of a second, or of
some connections: how fast the machine is changes twofold within a minute. Each has six rows of
hosts, and is the first to be made in two: where memory happens to be is worth two percent. A ratio
is that of one turn, of the mean of a way's rows; spreads are those of the middle half.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import socket
import statistics
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from bench import greeting
from bench.bench_enforce import _middle, _row
from bench.flood import BATCH, LIVE_FRAMES, core_seconds, nft, on_one_core
from bench.progrun import TRACE, Object, fd_of, prog_run, update
from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.tests import routed
from ebpfsentinel.domains.nat.tests.judge import Judge
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.load import LinuxKernel
from tests.lab import Lab, ip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

RUNS, ROUNDS, REPEATS = 9, 5, 400
FRAME_BYTES = 80
ROWS, TURNS, SECONDS = 6, 7, 1
CONNECTION_TURNS, CONNECTIONS = 200, 40
MUST, AIM = 120, 80
_LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
_NFT = """add table inet bench
add chain inet bench post { type nat hook postrouting priority srcnat; }
add rule inet bench post oifname wan0 masquerade
"""


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*costs(), *packets(), *traffic()]


class Turns:
    """A TC program over 512 frames in turn."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(__file__).parent / "turns.bpf.c"
            self._object = Object(compile_object(source, Path(folder) / "turns.bpf.o"))

    def load(self, frames: list[bytes]) -> None:
        """The frames of the trace."""
        assert len(frames) == TRACE
        body = b"".join(frame[:FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for frame in frames)
        update(self._object.map("trace"), bytes(4), bytes(8) + body)

    def run(self, program: int) -> int:
        """Nanoseconds per packet."""
        update(self._object.map("target"), bytes(4), program.to_bytes(4, "little"))
        wrapper = self._object.program("tc_turns")
        return prog_run(wrapper, bytes(FRAME_BYTES), TRACE * REPEATS)[1]

    def send(self, lab: Lab, count: int) -> None:
        """So many live frames out of ``send0``, from this thread, on whose core they go on."""
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(bytes(FRAME_BYTES)),
            data_size_in=FRAME_BYTES,
            repeat=count,
            flags=LIVE_FRAMES,
            batch_size=BATCH,
        )
        with lab.inside(lab.sender):
            index = socket.if_nametoindex("send0").to_bytes(4, "little")
            update(self._object.map("way_out"), bytes(4), index)
            program = self._object.program("xdp_turns")
            check(lib().bpf_prog_test_run_opts(program, options), "sending live frames")

    def close(self) -> None:
        self._object.close()


def costs() -> Iterator[dict[str, Any]]:
    """Added nanoseconds per packet."""
    kernel, turns = LinuxKernel(), Turns()
    kernel.load([DOMAIN])
    try:
        judge = Judge(kernel)
        for family in (4, 6):
            yield from _of_family(kernel, judge, turns, family)
        judge.rules(snat_rules=[_rule("203.0.113.1"), _rule("2001:db8:ffff::1")])
        turns.load(
            [bytes(_frame("198.51.100.9", "10.9.0.1", 20000 + n, 443)) for n in range(TRACE)]
        )
        yield _added(kernel, turns, "ingress", "IPv4, flows that no rule translates")
    finally:
        turns.close()
        kernel.detach()


def _rule(address: str) -> dict[str, Any]:
    return {"id": f"s{len(address)}", "type": "snat", "translated_addr": address}


def _of_family(
    kernel: LinuxKernel, judge: Judge, turns: Turns, family: int
) -> Iterator[dict[str, Any]]:
    outside, server = {
        4: ("203.0.113.1", "198.51.100.9"),
        6: ("2001:db8:ffff::1", "2001:db8:9::9"),
    }[family]
    judge.rules(snat_rules=[_rule(outside)])
    out, back = [], []
    for n in range(TRACE):  # of two hosts that chose the same ports
        inside = ("10.0.0.", "fd00::")[family == 6] + str(2 + n % 2)
        out.append(_frame(inside, server, 20000 + n // 2, 443))
        went = judge.leaves(out[-1])
        back.append(_frame(server, outside, 443, went[TCP].sport))
        assert judge.comes(back[-1]).payload.dst == inside
        judge.leaves(out[-1])
    for name, frames in (("egress", out), ("ingress", back)):
        turns.load([bytes(frame) for frame in frames])
        before = judge.counts()["snat_applied"]
        row = _added(kernel, turns, name, f"IPv{family}, established flow", must=MUST, aim=AIM)
        assert judge.counts()["snat_applied"] - before >= RUNS * TRACE * REPEATS
        yield row


def _frame(src: str, dst: str, sport: int, dport: int) -> Ether:
    layer = IPv6 if ":" in src else IP
    return _LINK / layer(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags="A")


def _added(
    kernel: LinuxKernel, turns: Turns, way: str, what: str, **goals: float
) -> dict[str, Any]:
    """With the translator in the chain and without it, in turn."""
    root, chain, program = {
        "egress": ("egress_root", "egress_chain", "egress_nat"),
        "ingress": ("tc_root", "tc_chain", "tc_nat"),
    }[way]
    found = []
    for _ in range(RUNS):
        kernel._fill(chain, [fd_of(kernel, program)])  # noqa: SLF001 (a chain of ours)
        translated = turns.run(fd_of(kernel, root))
        kernel._fill(chain, [])  # noqa: SLF001
        found.append(translated - turns.run(fd_of(kernel, root)))
    kernel._fill(chain, [fd_of(kernel, program)])  # noqa: SLF001
    return _row(
        f"NAT, {way}, {what}: added", "ns/packet", found, goals.get("must"), goals.get("aim")
    )


_OURS = [{"id": "m", "type": "masquerade", "interface": "wan0"}]


@contextlib.contextmanager
def _translating(lab: Lab, how: str) -> Iterator[None]:
    """By an agent, by nftables, or not."""
    agent = None
    if how == "ours":
        inside = "lan0" if isinstance(lab, _Lab) else "guard0"
        sections = routed.Routed.sections(snat_rules=_OURS)
        sections["agent"]["interfaces"] = [inside, "wan0"]
        agent = lab.agent(**sections)
    elif how == "nftables":
        nft(lab, _NFT)
    try:
        yield
    finally:
        if agent:
            agent.end()
        elif how == "nftables":
            nft(lab, "delete table inet bench")


# Packets


class _Forwarding(Lab):
    """What comes in by ``guard0``, from ``send0``, the router sends on by ``wan0`` to ``sink0``."""

    def __init__(self, tmp: Path) -> None:
        self.sink = f"lab-{uuid.uuid4().hex[:6]}-s"
        ip("netns", "add", self.sink)
        super().__init__(tmp)

    def connect(self) -> None:
        """And a route for the flood's destination and sources."""
        super().connect()
        ip("-n", self.guarded, "addr", "flush", "dev", "guard0")
        ip("-n", self.guarded, "addr", "add", "10.66.0.1/24", "dev", "guard0")
        ip("-n", self.guarded, "link", "add", "wan0", "type", "veth", "peer", "sink0",
           "netns", self.sink)  # fmt: skip
        for name, device, address in (
            (self.guarded, "wan0", routed.WAN),
            (self.sink, "sink0", routed.ISP),
        ):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        ip("-n", self.guarded, "route", "add", "10.77.0.2", "via", routed.ISP)
        ip("-n", self.guarded, "route", "add", "198.18.0.0/16", "dev", "guard0")
        self.run(self.guarded, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.run(self.guarded, "ping", "-c", "1", routed.ISP)
        for device in ("guard0", "wan0"):
            self.run(self.guarded, "ethtool", "-K", device, "gro", "on")

    def frames(self) -> list[bytes]:
        """UDP of 512 flows to somebody behind the router."""
        told = self.run(self.guarded, "ip", "-j", "link", "show", "guard0").stdout
        link = Ether(src="02:00:00:00:00:01", dst=json.loads(told)[0]["address"])
        return [
            bytes(link / IP(src=f"198.18.{n // 250}.{n % 250}", dst="10.77.0.2")
                  / UDP(sport=4000 + n, dport=4242) / bytes(38))
            for n in range(TRACE)
        ]  # fmt: skip

    def forwarded(self) -> int:
        """Packets that came out."""
        told = self.run(self.sink, "ip", "-j", "-s", "link", "show", "sink0").stdout
        return int(json.loads(told)[0]["stats64"]["rx"]["packets"])

    def close(self) -> None:
        super().close()
        ip("netns", "del", self.sink)


def packets() -> Iterator[dict[str, Any]]:
    """Small packets a second of one core."""
    ways = ("ours", "nftables", "plain forwarding")
    found: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        lab = _Forwarding(Path(folder))
        turns = Turns()
        turns.load(lab.frames())
        try:
            for _ in range(ROUNDS):
                for way in ways:
                    with _translating(lab, way), on_one_core():
                        turns.send(lab, 100_000)
                        found[way].append(_forwarded(lab, turns, 1_000_000))
        finally:
            turns.close()
            lab.close()
    for way in ways:
        yield _row(f"80-byte packets forwarded by one core, {way}", "packets/s", found[way])
    for other, goals in (("nftables", (1.0, 1.5)), ("plain forwarding", (None, None))):
        yield _row(f"NAT, packets/s: ours / {other}", "ratio", _ratios(found, other), *goals)


def _forwarded(lab: _Forwarding, turns: Turns, count: int) -> float:
    before, began = lab.forwarded(), core_seconds()
    turns.send(lab, count)
    seconds, arrived = core_seconds() - began, lab.forwarded() - before
    assert arrived > count * 0.95, f"{arrived} of {count} were forwarded"
    return arrived / seconds


# Traffic


class _Lab(routed.Routed):
    """All links alike; the ISP has a route to the inside, for when nobody translates."""

    mtu = 1500

    def connect(self) -> None:
        """As it says."""
        super().connect()
        self.offload(on=True)
        self.run(self.isp, "ip", "route", "add", "10.0.0.0/24", "via", routed.WAN)


def traffic() -> Iterator[dict[str, Any]]:
    """Throughput and connections: ours, nftables, and plain forwarding."""
    ways = ("ours", "nftables", "plain forwarding")
    bits, connections = _in_turn(ways, _translating)
    for way in ways:
        gigabits = [each / 1e9 for each in bits[way]]
        yield _row(f"iperf3 through a router that masquerades, {way}", "Gbit/s", _middle(gigabits))
        yield _row(f"connections through it, {way}", "connections/s", _middle(connections[way]))
    for name, found, goals in (
        ("throughput: ours / nftables", _ratios(bits, "nftables"), (1.0, 1.5)),
        ("connections/s: ours / nftables", _ratios(connections, "nftables"), (1.0, 1.5)),
        ("throughput: ours / no translation", _ratios(bits, "plain forwarding"), (0.9, 0.95)),
    ):
        yield _row(f"NAT, {name}", "ratio", _middle(found), *goals)


def _in_turn(
    ways: Sequence[str], routing: Callable[[_Lab, str], AbstractContextManager[None]]
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Bits and connections a second of each way, by turn: the mean of its rows of hosts."""
    with contextlib.ExitStack() as stack:
        hosts = []
        for row, each in itertools.product(range(ROWS), range(len(ways))):
            way = ways[(row + each) % len(ways)]
            lab = stack.enter_context(_laboratory())
            stack.enter_context(routing(lab, way))
            hosts.append((way, lab, stack.enter_context(contextlib.closing(_Peers(lab)))))
        bits = [_turn(hosts, turn, lambda lab, _: _iperf3(lab)) for turn in range(TURNS)]
        connections = [
            _turn(hosts, turn, lambda _, peers: peers.connections())
            for turn in range(CONNECTION_TURNS)
        ]
    return _by_way(ways, bits), _by_way(ways, connections)


def _shuffled(count: int, seed: int) -> list[int]:
    return [int(each) for each in np.random.default_rng(seed).permutation(count)]


def _turn(
    hosts: Sequence[tuple[str, _Lab, _Peers]], turn: int, measure: Callable[[_Lab, _Peers], float]
) -> dict[str, float]:
    """What each way's rows have, on average."""
    found = collections.defaultdict(list)
    for at in _shuffled(len(hosts), seed=turn):
        way, lab, peers = hosts[at]
        found[way].append(measure(lab, peers))
    return {way: statistics.mean(each) for way, each in found.items()}


def _by_way(ways: Sequence[str], turns: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    return {way: [turn[way] for turn in turns] for way in ways}


@contextlib.contextmanager
def _laboratory() -> Iterator[_Lab]:
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(_Lab(Path(folder))) as lab:
        yield lab


def _ratios(found: dict[str, list[float]], other: str) -> list[float]:
    return [ours / theirs for ours, theirs in zip(found["ours"], found[other], strict=True)]


def _iperf3(lab: _Lab) -> float:
    lab.run(lab.server, "iperf3", "-s", "-D", "-1")
    while ":5201 " not in lab.run(lab.server, "ss", "-ltn").stdout:
        pass
    shown = lab.run(lab.client, "iperf3", "-J", "-t", str(SECONDS), "-c", routed.SERVER).stdout
    return float(json.loads(shown)["end"]["sum_received"]["bits_per_second"])


class _Peers:
    """A server and a client that stay, both on one core."""

    def __init__(self, lab: _Lab) -> None:
        at = routed.SERVER, "8000"
        self._server = greeting.running(lab.server, "serve", *at)
        self._client = greeting.running(lab.client, "rounds", *at, routed.CLIENT)
        for each in (self._server, self._client):
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        self.connections()

    def connections(self) -> float:
        """A round of them, for each second that client and server have run, forwarding included."""
        client, before = self._client, self._seconds()
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{CONNECTIONS}\n")
        client.stdin.flush()
        assert client.stdout.readline() == "0\n", "some connections failed"
        return CONNECTIONS / (self._seconds() - before)

    def _seconds(self) -> float:
        running = (Path(f"/proc/{p.pid}/schedstat") for p in (self._server, self._client))
        return sum(int(file.read_text().split()[0]) for file in running) / 1e9

    def close(self) -> None:
        """End both."""
        for process in (self._client, self._server):
            process.kill()
            process.communicate()


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line), flush=True)
