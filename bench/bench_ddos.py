"""DDoS defence: what it costs, what it keeps out, and how soon.

``chain``: BPF_PROG_RUN of the whole XDP chain over the firewall's mixed trace, as segments of flows
with every 16th a SYN; xdp-filter over the same frames beside it.

``goodput``: a million SYNs a second from 131,072 forged sources on one core (live frames, through a
veth). Real clients, their server and the agent share the other core, and come in by an interface
of their own, as by a queue of their own of a network card.

``delays``: from the first packet of a flood to the alert, and to the first packet that a
mitigation refuses.

``peers``: packets that a core judges in a second, ours and nftables', under the same load.

``memory``: the agent, before and after a million sources.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench import bench_firewall as firewall
from bench import greeting
from bench.bench_enforce import _row
from bench.flood import CPU, core_seconds, nft, nft_counter, on_one_core
from bench.progrun import Trace, fd_of
from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.domains.ddos.tests.defended import echo, tcp, udp
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.action import Swap
from ebpfsentinel.model.domain import Surroundings, Tools
from tests.flood import Flood
from tests.lab import GUARDED, SENDER, Lab, ip

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS, RULES = 7, 4096
SOURCES, FORGED = 1 << 17, "198.18.0.0"
PPS, SECONDS = 1_050_000, 6
CLIENTS = [f"10.78.0.{number}" for number in range(10, 42)]
SERVER, PORT = "10.78.0.2", 80
SYN_GUARD = {"enabled": True, "threshold_pps": 1000}
CHAIN: dict[str, dict[str, Any]] = {
    "ratelimit": {
        "enabled": True,
        "mode": "block",
        "default_rate": 9_000_000,
        "default_burst": 9_000_000,
    },
    "ddos": {
        "enabled": True,
        "mode": "block",
        "syn_protection": {"enabled": True, "threshold_pps": 90_000_000},
        "icmp_protection": {"enabled": True},
        "connection_tracking": {"enabled": True},
        "amplification_protection": {"enabled": True, "ports": [{"port": 53, "max_pps": 100}]},
    },
}


# What it costs


def _installed(names: list[str], rules: list[Any]) -> LinuxKernel:
    """The firewall with its rules, and these domains behind it, as after a while of calm."""
    cards = [card for card in discover(domains) if card.name in ("firewall", *names)]
    kernel = LinuxKernel()
    kernel.load(cards)
    firewall.install(kernel, rules)
    for card in cards:
        if card.name not in CHAIN:
            continue
        wanted = msgspec.convert(CHAIN[card.name], card.settings)
        for action in card.engine(Tools(rules=None)).plan(wanted, {}, Surroundings()).actions:
            if isinstance(action, Swap) and "blocking" in (action.value.dtype.names or ()):
                action.value["blocking"] = 0  # nobody is; only a fresh agent cannot know that
            kernel.apply([action])
    return kernel


def _frames(rules: list[Any]) -> list[bytes]:
    """The firewall's trace; ACKs of flows, and every 16th a SYN."""
    made = firewall.trace(4, rules)
    return [
        frame[:47] + bytes([2 if at % 16 == 0 else 0x10]) + frame[48:]
        for at, frame in enumerate(made)
    ]


def chain() -> Iterator[dict[str, Any]]:
    """Nanoseconds per packet, and the ratio to xdp-filter."""
    rules = firewall.rules(4, RULES)
    driver, peer = Trace(), firewall.xdp_filter()
    driver.load(_frames(rules))
    what = {
        "firewall": [],
        "firewall, rate limit": ["ratelimit"],
        "firewall, DDoS guards": ["ddos"],
        "firewall, rate limit, DDoS guards": ["ratelimit", "ddos"],
    }
    kernels = {name: _installed(behind, rules) for name, behind in what.items()}
    roots = {name: fd_of(kernel, "xdp_root") for name, kernel in kernels.items()}
    found: dict[str, list[float]] = {name: [] for name in (*what, "xdp-filter")}
    try:
        for _ in range(RUNS):
            for name, root in roots.items():
                found[name].append(driver.run(root, frags=True))
            peer_program = peer.program("xdpfilt_dny_all")
            found["xdp-filter"].append(driver.run(peer_program, frags=False))
    finally:
        for kernel in kernels.values():
            kernel.detach()
        driver.close()
        peer.close()
    for name, values in found.items():
        yield _row(f"chain, pass path: {name}", "ns/packet", values)
    alone, whole = found["firewall"], found["firewall, rate limit, DDoS guards"]
    for name, goals in (("rate limit", (60, 35)), ("DDoS guards", (None, None))):
        pairs = zip(found[f"firewall, {name}"], alone, strict=True)
        added = [behind - before for behind, before in pairs]
        yield _row(f"chain: added by {name}", "ns/packet", added, *goals)
    ratios = [ours / other for ours, other in zip(whole, found["xdp-filter"], strict=True)]
    yield _row("chain: firewall, rate limit, DDoS guards / xdp-filter", "ratio", ratios, 2.5, 1.8)


# Floods


@contextlib.contextmanager
def laboratory() -> Iterator[tuple[Lab, str, Flood]]:
    """A lab with clients in a namespace of their own, and a flood."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        clients = f"{lab.sender}-c"
        ip("netns", "add", clients)
        try:
            _connect(lab, clients)
            flood = Flood(lab, Path(folder))
            flood.take(clients, "send1")
            yield lab, clients, flood
            flood.close()
        finally:
            ip("netns", "del", clients)
            lab.close()


def _connect(lab: Lab, clients: str) -> None:
    ip("-n", lab.guarded, "route", "add", "default", "via", SENDER)
    ip("-n", clients, "link", "add", "send1", "type", "veth", "peer", "guard1",
       "netns", lab.guarded)  # fmt: skip
    ip("-n", lab.guarded, "addr", "add", f"{SERVER}/24", "dev", "guard1")
    for client in CLIENTS:
        ip("-n", clients, "addr", "add", f"{client}/24", "dev", "send1")
    for name, device in ((clients, "send1"), (lab.guarded, "guard1")):
        ip("-n", name, "link", "set", device, "up")
        lab.run(name, "ethtool", "-K", device, "tx", "off", "rx", "off")


def _agent(lab: Lab, **sections: Any) -> Any:
    """An agent on the core that is not flooded."""
    wrapper = ["taskset", "-c", "0"]
    interfaces = {"interfaces": ["guard0", "guard1"]}
    lab.tmp.joinpath("config.json").unlink(missing_ok=True)
    return lab.agent_within(
        wrapper, agent=interfaces, process={"enabled": False}, ddos={"enabled": True} | sections
    )


def _aim(lab: Lab, flood: Flood, frame: bytes, base: str, sources: int) -> None:
    told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
    mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
    flood.aim(mac + frame[6:], base, sources)


@contextlib.contextmanager
def _served(lab: Lab) -> Iterator[None]:
    server = greeting.running(lab.guarded, "serve", "0.0.0.0", str(PORT))
    assert server.stdout is not None
    server.stdout.readline()
    try:
        yield
    finally:
        server.kill()
        server.communicate()


def _asked(clients: str, seconds: float = SECONDS) -> float:
    """Greetings a second."""
    asking = greeting.running(clients, "ask", SERVER, str(PORT), str(seconds), *CLIENTS)
    return int(asking.communicate()[0].split()[0]) / seconds


def goodput() -> Iterator[dict[str, Any]]:
    """What real clients keep of their connections under a SYN flood."""
    kept, rates, quiet = [], [], []
    with laboratory() as (lab, clients, flood), _served(lab):
        agent = _agent(lab, mode="block", syn_protection=SYN_GUARD)
        _aim(lab, flood, tcp(SENDER, GUARDED, "S", 4242, PORT), FORGED, SOURCES)
        for _ in range(3):
            quiet.append(_asked(clients))
            began, before = time.monotonic(), flood.sent
            with flood.flowing(PPS, CPU):
                kept.append(_asked(clients) / quiet[-1])
            rates.append((flood.sent - before) / (time.monotonic() - began))
        cookies = agent.cli("ddos", "status")["cookies"]
    assert cookies["sent"] > sum(rates), "the flood was not answered with cookies"
    yield _row("SYN flood: SYNs, one core", "packets/s", rates)
    yield _row("SYN flood: connections of real clients without it", "connections/s", quiet)
    yield _row("SYN flood: goodput kept, attacked / not", "ratio", kept, 0.9, 0.97)


def delays() -> Iterator[dict[str, Any]]:
    """Seconds from the first packet to the alert, and to the first that is refused for it."""
    alerts, measures = [], []
    for _ in range(5):
        with laboratory() as (lab, _, flood):
            policy = {"id": "p", "attack_type": "volumetric", "detection_threshold_pps": 20_000}
            agent = _agent(lab, mode="block", policies=[policy | {"mitigation_action": "throttle"}])
            _aim(lab, flood, tcp(SENDER, GUARDED, "P", 4242, PORT), FORGED, SOURCES)
            began_ns = time.time_ns()
            with flood.flowing(100_000, CPU):
                refused = _first(agent, "guard-volumetric", began_ns)
                alerts.append(_first(agent, "p", began_ns))
            measures.append(refused)
    yield _row("flood begins -> alert", "s", alerts, 2, 0.5)
    yield _row("flood begins -> mitigation in force", "s", measures, 3, 1)


def _first(agent: Any, rule_id: str, began_ns: int) -> float:
    over = time.monotonic() + 20
    while not (found := agent.alerts(rule_id)):
        assert time.monotonic() < over, f"there is no alert of {rule_id}"
    return (min(alert["timestamp_ns"] for alert in found) - began_ns) / 1e9


# The same by nftables

_TABLE = (
    "add table ip bench\ndelete table ip bench\nadd table ip bench\nadd counter ip bench hits\n"
)
_HOOK = "add chain ip bench c { type filter hook prerouting priority -300; }\n"
_LIMITED = (
    "add set ip bench m { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 10s; }\n"
    "add rule ip bench c icmp type echo-request update @m "
    "{ ip saddr limit rate over 10/second burst 10 packets } counter name hits drop\n"
)
_BLOCKED = (
    "add set ip bench b { type ipv4_addr; flags interval; }\n"
    f"add element ip bench b {{ {SENDER}, {FORGED}/24 }}\n"
    "add rule ip bench c ip saddr @b counter name hits drop\n"
)
_SYNPROXY = (
    "add chain ip bench p { type filter hook prerouting priority -300; }\n"
    f"add rule ip bench p tcp dport {PORT} tcp flags syn notrack\n"
    "add chain ip bench i { type filter hook input priority 0; }\n"
    f"add rule ip bench i tcp dport {PORT} ct state invalid,untracked "
    "counter name hits synproxy mss 1460 wscale 7 timestamp sack-perm\n"
)


def _judged(flood: Flood, frames: int) -> float:
    """Frames a second of the core."""
    with on_one_core():
        flood.send(1 << 14)
        began = core_seconds()
        flood.send(frames)
        return frames / (core_seconds() - began)


def _theirs(lab: Lab, flood: Flood, text: str, frames: int) -> float:
    nft(lab, _TABLE + text)
    lab.run(lab.guarded, "ethtool", "-K", "guard0", "gro", "on")
    try:
        before = nft_counter(lab, "hits")
        rate = _judged(flood, frames)
        assert nft_counter(lab, "hits") - before > frames * 0.9, "nftables did not see the flood"
        return rate
    finally:
        nft(lab, "delete table ip bench\n")


def _ours(lab: Lab, flood: Flood, frames: int, sections: dict[str, Any], warm: bool) -> float:
    agent = _agent(lab, mode="block", **sections)
    try:
        if warm:
            with flood.flowing(3_000_000, CPU):
                _first(agent, "ddos-1", time.time_ns())
                time.sleep(1)  # it is sampled less closely when it is known how much there is
        rate = _judged(flood, frames)
        gone = sum(agent.cli("ddos", "status")["refused"].values())
        assert gone > frames * 0.9, f"{gone} of {frames} were refused"
        return rate
    finally:
        agent.end()


def peers() -> Iterator[dict[str, Any]]:
    """The same task, the same flood, the same core."""
    ping = echo(SENDER, GUARDED, 22)
    block = {
        "id": "b",
        "attack_type": "icmp_flood",
        "detection_threshold_pps": 1000,
        "mitigation_action": "block",
    }
    guard = {"icmp_protection": {"enabled": True, "max_pps": 10}}
    syn = {"syn_protection": SYN_GUARD | {"threshold_mode": False}}
    tasks: list[tuple[str, bytes, tuple[str, int], dict[str, Any], str, bool]] = [
        ("echo requests of one source limited", ping, (SENDER, 1), guard, _HOOK + _LIMITED, False),
        ("a source blocked", ping, (SENDER, 1), {"policies": [block]}, _HOOK + _BLOCKED, True),
        (
            "SYN cookies",
            tcp(SENDER, GUARDED, "S", 4242, PORT),
            (FORGED, SOURCES),
            syn,
            _SYNPROXY,
            False,
        ),
    ]
    for name, frame, source, sections, text, warm in tasks:
        ours, theirs = [], []
        with laboratory() as (lab, _, flood), _served(lab):
            lab.run(lab.guarded, "sysctl", "-qw", "net.ipv4.tcp_syncookies=2")
            _aim(lab, flood, frame, *source)
            for _ in range(3):
                theirs.append(_theirs(lab, flood, text, 1_000_000))
                ours.append(_ours(lab, flood, 1_500_000, sections, warm))
        yield _row(f"{name}: ours, one core", "packets/s", ours)
        yield _row(f"{name}: nftables, one core", "packets/s", theirs)
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        yield _row(f"{name}: ours / nftables", "ratio", ratios, 1, 3)


def accuracy() -> Iterator[dict[str, Any]]:
    """What each guard lets through of a flood, against what it should: its rate and its burst."""
    limits = {"rst_threshold": 500, "fin_threshold": 2000, "ack_threshold": 200}
    ports = [{"port": 53, "max_pps": 20_000}]
    sections = {
        "icmp_protection": {"enabled": True, "max_pps": 1000, "max_payload_size": 0},
        "amplification_protection": {"enabled": True, "ports": ports},
        "connection_tracking": {"enabled": True} | limits,
    }
    tasks = {
        "icmp_flood": (echo(SENDER, GUARDED, 22), 1000),
        "udp_amplification": (udp(SENDER, GUARDED, 53), 20_000),
        "rst_flood": (tcp(SENDER, GUARDED, "R"), 500),
        "fin_flood": (tcp(SENDER, GUARDED, "F"), 2000),
    }
    with laboratory() as (lab, _, flood):
        agent = _agent(lab, mode="block", **sections)
        for kind, (frame, rate) in tasks.items():
            _aim(lab, flood, frame, SENDER, 1)
            began, sent = time.monotonic(), flood.sent
            with flood.flowing(100_000, CPU):
                time.sleep(5)
            took = time.monotonic() - began
            refused = agent.cli("ddos", "status")["refused"][kind]
            passed = flood.sent - sent - refused
            yield _row(
                f"guard {kind}, {rate:,} packets/s asked of 100,000: passed / allowed",
                "ratio",
                [passed / (rate * (took + 1))],
            )


def memory() -> Iterator[dict[str, Any]]:
    """Resident bytes before and after a million sources."""
    with laboratory() as (lab, _, flood):
        policy = {"id": "p", "attack_type": "volumetric", "detection_threshold_pps": 20_000}
        agent = _agent(
            lab,
            mode="block",
            policies=[policy | {"mitigation_action": "block"}],
            icmp_protection={"enabled": True},
        )
        assert agent.process is not None
        seen = [_resident(agent.process.pid)]
        _aim(lab, flood, echo(SENDER, GUARDED, 22), "198.0.0.0", 1 << 20)
        with flood.flowing(300_000, CPU):
            _first(agent, "p", time.time_ns())
            for _ in range(2):
                time.sleep(8)
                seen.append(_resident(agent.process.pid))
    quiet, soon, later = seen
    name = "RSS with 1 M sources, 300,000 packets/s"
    yield _row(f"{name}: after 8 s / before", "ratio", [soon / quiet])
    yield _row(f"{name}: after 16 s / after 8 s", "ratio", [later / soon])


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1])


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*chain(), *goodput(), *delays(), *accuracy(), *peers(), *memory()]


if __name__ == "__main__":
    asked = sys.argv[1:] or ["chain", "goodput", "delays", "accuracy", "peers", "memory"]
    for part in asked:
        for row in globals()[part]():
            print(json.dumps(row))
