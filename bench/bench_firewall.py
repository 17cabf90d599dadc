"""The packet firewall's cost per packet, and that of xdp-filter (Debian's xdp-tools) beside it.

Two ways, both BPF_PROG_RUN of the whole program:

``hot``: one frame 3,000 times in a row; median and worst of 57 frames. Everything a frame
touches is in the nearest cache. After 15 repeats the headroom for XDP metadata is used up (a
repeat does not reset the packet): from then on the program takes the path of a failed
``bpf_xdp_adjust_meta`` with its counter, which costs about what writing the metadata costs.

``mixed``: the 512 frames in turn, 400 times, by ``trace.bpf.c``, which also takes the metadata
back, so that every run writes it. The cost of that wrapper around an empty program is in the
figures of both programs alike, and is given as ``base``.

The trace: half the frames drawn from the rules, half random. Rules say allow, so that a packet
runs the whole way: parse, classification, counters, metadata. xdp-filter has deny lists with 4,096
addresses and 4,096 ports, none of which is in the trace, so that it too runs to the end.

The machine is not ours alone, and gets slower and faster within a second. So both programs take
turns of 2 ms, and the ratio of ``mixed`` is the median of the turns' own.
"""

from __future__ import annotations

import ipaddress
import json
import platform
import random
import statistics
import struct
from pathlib import Path
from typing import Any

from bench.progrun import TRACE, Object, Trace, fd_of, prog_run, update
from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import (
    AntiLockout,
    FirewallRule,
    FirewallSettings,
    Protocol,
)
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.settings import Mode

RUNS = 7
TURNS, TURN_ROUNDS = 51, 40
HOT_REPEAT = 3000
HOT_STEP = 9
SIZES = (16, 256, 1024, 4096, 16384)
ALL_FIELDS = 4096
BITS = {4: 32, 6: 128}
XDP_FILTER = Path(f"/usr/lib/{platform.machine()}-linux-gnu/bpf/xdpfilt_dny_all.o")


def network(pick: random.Random, family: int) -> str:
    """A random CIDR of at least 8 bits."""
    bits = BITS[family]
    length = pick.randrange(8, bits + 1)
    low = bits - length
    base = (pick.getrandbits(bits) if family == 4 else 0x2001 << 112 | pick.getrandbits(112)) >> low
    kind = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    return str(kind((base << low, length)))


def ports(pick: random.Random) -> int | str | None:
    """Any, one, or a range."""
    low, high = sorted((pick.randrange(65536), pick.randrange(65536)))
    return pick.choice((None, low, low, f"{low}-{high}"))


def rules(family: int, count: int, action: str = "allow") -> list[FirewallRule]:
    """Random ranked rules over all five fields."""
    pick = random.Random(f"{family} {count}")
    return [
        FirewallRule(
            id=f"rule-{number}",
            priority=number + 1,
            action=action,
            protocol=pick.choice(("tcp", "udp")),
            src_ip=pick.choice((None, *[network(pick, family)] * 4)),
            dst_ip=network(pick, family),
            src_port=ports(pick),
            dst_port=ports(pick),
        )
        for number in range(count)
    ]


def rich_rules(count: int) -> list[FirewallRule]:
    """Random ranked rules that use every match field there is, each every fourth rule or so."""
    pick = random.Random("rich")
    found = []
    for number, rule in enumerate(rules(4, count)):
        rule.protocol = Protocol.TCP
        fields = {
            "flags": "S/SA",
            "dscp_match": 0,
            "fragment": "none",
            "vlan_id": 0,
            "inner_vlan_id": 0,
            "src_mac": "00:00:00:00:00:01",
            "dst_mac": "02:00:00:00:00:00",
            "expires_at": "2100-01-01T00:00:00Z",
        }
        for name, value in fields.items():
            if pick.random() < 0.25:
                setattr(rule, name, value)
        if number % 16 == 0:
            rule.protocol, rule.src_port, rule.dst_port = Protocol.ICMP, None, None
            rule.flags, rule.icmp_type = None, 8
        found.append(rule)
    return found


def frame(family: int, src: int, dst: int, sport: int, dport: int) -> bytes:
    """A TCP SYN in Ethernet."""
    tcp = struct.pack(">HHIIBBHHH", sport, dport, 1, 0, 0x50, 2, 64240, 0, 0)
    if family == 4:
        ip = struct.pack(">HBBHHHBBHII", 0x0800, 0x45, 0, 40, 1, 0, 64, 6, 0, src, dst)
    else:
        ip = struct.pack(">HIHBB", 0x86DD, 6 << 28, 20, 6, 64)
        ip += src.to_bytes(16, "big") + dst.to_bytes(16, "big")
    return (b"\x02" + bytes(10) + b"\x01" + ip + tcp).ljust(80, b"\0")


def trace(family: int, wanted: list[FirewallRule]) -> list[bytes]:
    """512 frames, every other one inside a rule."""
    pick = random.Random(family)

    def inside(text: str | None) -> int:
        if text is None:
            return pick.getrandbits(BITS[family])
        found = ipaddress.ip_network(text)
        return int(found.network_address) + pick.randrange(found.num_addresses)

    def port(text: Any) -> int:
        low, _, high = str("0-65535" if text is None else text).partition("-")
        return pick.randint(int(low), int(high or low))

    frames = []
    for number in range(TRACE):
        rule = pick.choice(wanted)
        if number % 2:
            rule = FirewallRule(id="any", priority=1, action="allow")
        sides = inside(rule.src_ip), inside(rule.dst_ip), port(rule.src_port), port(rule.dst_port)
        frames.append(frame(family, *sides))
    return frames


def install(kernel: LinuxKernel, wanted: list[FirewallRule]) -> None:
    """Put the rules in force."""
    settings = FirewallSettings(
        rules=wanted, mode=Mode.BLOCK, anti_lockout=AntiLockout(enabled=False)
    )
    kernel.apply(DOMAIN.engine(Tools(rules=None)).plan(settings, {}, Surroundings()).actions)


def xdp_filter() -> Object:
    """xdp-filter with filled lists."""
    found = Object(XDP_FILTER)
    flags = struct.pack("<Q", 0xF) * possible_cpus()
    for number in range(4096):
        update(found.map("filter_ipv4"), (0xE0000000 + number).to_bytes(4, "big"), flags)
        update(found.map("filter_ipv6"), (0xFF << 120 | number).to_bytes(16, "big"), flags)
    return found


def spread(values: list[int]) -> dict[str, Any]:
    """Median and range of the runs."""
    return {"median": round(statistics.median(values)), "spread": [min(values), max(values)]}


def hot(program: int, frames: list[bytes]) -> list[int]:
    """Nanoseconds of each ninth frame, sorted; the kernel takes 20 ms to start each."""
    return sorted(prog_run(program, each, HOT_REPEAT)[1] for each in frames[::HOT_STEP])


class Turns:
    """Ours and the peer, over the trace that is loaded."""

    def __init__(self, driver: Trace, ours: int, peer: int) -> None:
        self._driver, self._ours, self._peer = driver, ours, peer

    def measure(self, frames: list[bytes]) -> dict[str, Any]:
        """Ours, both ways, and what ``mixed`` is of the peer's."""
        self._driver.load(frames)
        pairs = [(self._run(self._ours), self._run(self._peer)) for _ in range(TURNS)]
        return _figures([ours for ours, _ in pairs], self._ours, frames) | {
            "of_peer": statistics.median(ours / peer for ours, peer in pairs)
        }

    def measure_peer(self, frames: list[bytes]) -> dict[str, Any]:
        """The peer, both ways."""
        self._driver.load(frames)
        return _figures([self._run(self._peer) for _ in range(TURNS)], self._peer, frames)

    def _run(self, program: int) -> int:
        frags = program == self._ours
        return self._driver.run(program, frags=frags, rounds=TURN_ROUNDS)


def _figures(mixed: list[int], program: int, frames: list[bytes]) -> dict[str, Any]:
    hots = [hot(program, frames) for _ in range(3)]
    return {
        "mixed": spread(mixed),
        "hot": spread([each[len(each) // 2] for each in hots]),
        "hot_max": min(each[-1] for each in hots),
    }


def run() -> list[dict[str, Any]]:
    """The rows of the table; nanoseconds per packet."""
    kernel, driver, peer = LinuxKernel(), Trace(), xdp_filter()
    try:
        kernel.load([DOMAIN])
        return list(_rows(kernel, driver, peer))
    finally:
        kernel.detach()
        driver.close()
        peer.close()


def _rows(kernel: LinuxKernel, driver: Trace, peer: Object):
    root = fd_of(kernel, "xdp_root")
    turns = Turns(driver, root, peer.program("xdpfilt_dny_all"))
    figures: dict[tuple[str, int, int], dict[str, Any]] = {}
    for family in (4, 6):
        for size in SIZES:
            wanted = rules(family, size)
            install(kernel, wanted)
            figures["ours", family, size] = turns.measure(trace(family, wanted))
        figures["peer", family, 0] = turns.measure_peer(trace(family, wanted)) | {"of_peer": 1.0}
    rich = rich_rules(ALL_FIELDS)
    install(kernel, rich)
    figures["rich", 4, ALL_FIELDS] = turns.measure(trace(4, rich))
    base = spread([driver.run(None, frags=True) for _ in range(RUNS)])
    for (who, family, size), found in figures.items():
        what = {
            "ours": f"firewall, {size} rules",
            "rich": f"firewall, {size} rules with all match fields",
            "peer": "xdp-filter, 4,096 addresses",
        }[who]
        yield {"name": f"{what}, IPv{family} TCP", "unit": "ns/packet", **found, "base": base}
    yield from _ratios(figures)
    yield from _floors(kernel, driver, root, base)
    install(kernel, rules(4, 4096, "deny"))
    driver.load(trace(4, rules(4, 4096, "deny")))
    yield {
        "name": "firewall, 4096 deny rules, half the packets denied and reported, IPv4 TCP",
        "unit": "ns/packet",
        "mixed": spread([driver.run(root, frags=True) for _ in range(RUNS)]),
        "base": base,
    }


def _floors(kernel: LinuxKernel, driver: Trace, root: int, base: dict[str, Any]):
    """What the never-block floor costs packets that are not on it, and those that are."""
    everybody = frozenset(ipaddress.ip_network(text) for text in ("0.0.0.0/1", "128.0.0.0/1"))
    floors = {
        "with nothing on it": Floor(),
        "of a network and three ports, which no packet is on": Floor(
            networks=frozenset({ipaddress.ip_network("192.0.2.0/24")}),
            ports=frozenset({22, 8080, 50051}),
        ),
        "that every packet is on": Floor(networks=everybody),
    }
    wanted = rules(4, 4096)
    install(kernel, wanted)
    driver.load(trace(4, wanted))
    for name, floor in floors.items():
        kernel.protect(floor)
        runs = [driver.run(root, frags=True) for _ in range(RUNS)]
        what = f"firewall, 4096 rules, IPv4 TCP, a never-block floor {name}"
        yield {"name": what, "unit": "ns/packet", "mixed": spread(runs), "base": base}
    kernel.protect(Floor())


def _ratios(figures: dict[tuple[str, int, int], dict[str, Any]]):
    def ratio(name: str, above: Any, below: Any, must: float | None, aim: float) -> dict[str, Any]:
        over, under = figures[above], figures[below]
        return {
            "name": name,
            "unit": "ratio",
            "must": must,
            "aim": aim,
            "mixed": round(over["of_peer"] / under["of_peer"], 2),
            "hot": round(over["hot"]["median"] / under["hot"]["median"], 2),
        }

    ours = ("ours", 4, 4096)
    yield ratio("firewall / xdp-filter, IPv4", ours, ("peer", 4, 0), 1.3, 1.0)
    rich = ("rich", 4, ALL_FIELDS)
    yield ratio("firewall with all match fields / xdp-filter, IPv4", rich, ("peer", 4, 0), 1.6, 1.2)
    yield ratio("4,096 / 16 rules, IPv4", ours, ("ours", 4, 16), 2.2, 1.6)
    yield ratio("16,384 / 4,096 rules, IPv4", ("ours", 4, 16384), ours, None, 1.5)
    yield ratio("IPv6 / IPv4, 4,096 rules", ("ours", 6, 4096), ours, 1.5, 1.2)


if __name__ == "__main__":
    print("\n".join(json.dumps(row) for row in run()))
