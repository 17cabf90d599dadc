"""Enforcement by a whole agent: live frames, reloads under a flood, rules added one by one.

Two namespaces with a veth pair. A BPF program sends live frames out of one end
(BPF_F_TEST_XDP_LIVE_FRAMES, batches of 64), and all that happens to them happens on the same core:
they are received, judged and dropped before the next batch is sent. IPv4 UDP, 64 bytes, 4,096
sources, all denied. What is counted is what the dropping side counted, over the time that the
sending thread and that core's ksoftirqd ran: what else the machine does is not in the figures.

The 4,096 rules are random, over both addresses and the destination port, and no two overlap (one
interval set of nftables could not hold them otherwise). The rule that denies comes last. Ours are
those of an agent in block mode with its normal settings, which reports what it drops: every
dropped packet asks for an event, and once the ring is three quarters full is only counted. All take
turns of some milliseconds, since how fast the machine is changes twofold from one second to the
next. A ratio is that of one turn; the spreads are those of the middle half. nftables stands in
prerouting without any XDP program; GRO gives its veth NAPI.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.flood import SOURCE, Flood, core_seconds, nft, nft_counter, on_one_core
from tests.lab import GUARDED, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RULES, ADDED_TO, ADDS = 4096, 4000, 200
ROUNDS, TURNS = 5, 41
DENIED, OTHER = 4242, 4243
_API = 8080
_TABLE = "add table ip bench\ndelete table ip bench\nadd table ip bench\n"
_HOOK = "type filter hook prerouting priority -300"
_FIELDS = 3
_FIRST = 1 << 12
"""Frames before a turn is timed."""


def _span(pick: random.Random, field: int) -> tuple[int, int]:
    if field == 2:
        low, high = sorted((pick.randrange(65536), pick.randrange(65536)))
        return pick.choice(((low, low), (low, min(high, low + 1000))))
    low = 32 - pick.randrange(12, 33)
    base = pick.getrandbits(32) >> low << low
    return base, base + (1 << low) - 1


def apart(count: int, first: list[tuple[int, int]], seed: int) -> list[list[tuple[int, int]]]:
    """``count`` random boxes over source, destination and port; no two have a packet in common."""
    pick, found = random.Random(seed), np.zeros((count, _FIELDS, 2), np.int64)
    found[0], have = first, 1
    while have < count:
        box = np.array([_span(pick, field) for field in range(_FIELDS)])
        known = found[:have]
        meets = (known[:, :, 0] <= box[:, 1]) & (known[:, :, 1] >= box[:, 0])
        if not meets.all(axis=1).any():
            found[have], have = box, have + 1
    return found.tolist()


def boxes(seed: int = 1) -> list[list[tuple[int, int]]]:
    """The rules; the last is the one that the flood meets."""
    network = ipaddress.ip_network(f"{SOURCE}/16")
    guarded = int(ipaddress.ip_address(GUARDED))
    source = int(network.network_address), int(network.broadcast_address)
    met = [source, (guarded, guarded), (DENIED, DENIED)]
    return apart(RULES, met, seed)[::-1]


def _cidr(span: tuple[int, int]) -> str:
    length = 33 - (span[1] - span[0] + 1).bit_length()
    return f"{ipaddress.ip_address(span[0])}/{length}"


def _ports(span: tuple[int, int]) -> str:
    return str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"


def rules(seed: int = 1) -> list[dict[str, Any]]:
    """The boxes as an agent's configuration has them: the last denies, the others allow."""
    made = [
        {
            "id": f"rule-{number}",
            "priority": 10,
            "action": "allow",
            "protocol": "udp",
            "src_ip": _cidr(src),
            "dst_ip": _cidr(dst),
            "dst_port": _ports(port),
        }
        for number, (src, dst, port) in enumerate(boxes(seed))
    ]
    made[-1]["action"] = "deny"
    return made


def linear() -> str:
    """The boxes as as many rules of nftables."""
    lines = [
        f"add rule ip bench in ip saddr {_cidr(src)} ip daddr {_cidr(dst)} "
        f"udp dport {_ports(port)} counter name hits drop"
        for src, dst, port in boxes()
    ]
    return _chain() + "\n".join(lines) + "\n"


def interval_set() -> str:
    """The boxes as one concatenated interval set of nftables."""
    elements = ", ".join(
        f"{_cidr(src)} . {_cidr(dst)} . {_ports(port)}" for src, dst, port in boxes()
    )
    return (
        f"{_chain()}add set ip bench boxes {{ type ipv4_addr . ipv4_addr . inet_service; "
        f"flags interval; elements = {{ {elements} }}; }}\n"
        "add rule ip bench in ip saddr . ip daddr . udp dport @boxes counter name hits drop\n"
    )


def _chain() -> str:
    return f"{_TABLE}add counter ip bench hits\nadd chain ip bench in {{ {_HOOK}; }}\n"


@contextlib.contextmanager
def laboratory() -> Iterator[Lab]:
    """Two namespaces, and a folder for the agent in one of them."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            yield lab
        finally:
            lab.close()


def _agent(lab: Lab, wanted: list[dict[str, Any]], **firewall: Any) -> Any:
    return lab.agent(firewall={"mode": "block", "rules": wanted} | firewall)


# Live frames


def rate(flood: Flood, frames: int) -> float:
    """Frames that were sent, judged and dropped in a second of the core."""
    with on_one_core():
        flood.send(_FIRST)
        began = core_seconds()
        flood.send(frames)
        return frames / (core_seconds() - began)


Way = tuple[Flood, int, Callable[[], int]]
"""A flood, how many frames of it make a turn, and how many the dropping side has counted."""


@contextlib.contextmanager
def _ours() -> Iterator[Way]:
    with laboratory() as lab:
        agent = _agent(lab, rules())
        with contextlib.closing(Flood(lab, DENIED)) as flood:
            yield flood, 1 << 18, lambda: int(agent.rule(f"rule-{RULES - 1}")["packets"])


@contextlib.contextmanager
def _bare() -> Iterator[Way]:
    with contextlib.ExitStack() as stack:
        lab = stack.enter_context(laboratory())
        flood = stack.enter_context(contextlib.closing(Flood(lab, DENIED)))
        stack.enter_context(flood.receiver("flood_drop"))
        yield flood, 1 << 18, flood.arrived


@contextlib.contextmanager
def _nftables(text: str, frames: int) -> Iterator[Way]:
    with laboratory() as lab, contextlib.closing(Flood(lab, DENIED)) as flood:
        nft(lab, text)
        lab.run(lab.guarded, "ethtool", "-K", "guard0", "gro", "on")
        yield flood, frames, lambda: nft_counter(lab, "hits")


def _in_turns(ways: Sequence[contextlib.AbstractContextManager[Way]]) -> list[list[float]]:
    """Frames per second of each way, turn by turn; all were dropped (a veth may lose some)."""
    with contextlib.ExitStack() as stack:
        carried = [stack.enter_context(way) for way in ways]
        turns = [[rate(flood, frames) for flood, frames, _ in carried] for _ in range(TURNS)]
        for _, frames, dropped in carried:
            assert dropped() > 0.99 * TURNS * (frames + _FIRST)
    return turns


def live() -> Iterator[dict[str, Any]]:
    """The rows of the flood: all four in short turns, so that they share what the machine does."""
    names = ("bare XDP_DROP", "ours", "nftables linear", "nftables interval set")
    ways = (_bare(), _ours(), _nftables(linear(), 512), _nftables(interval_set(), 1 << 15))
    found = dict(zip(names, zip(*_in_turns(ways), strict=True), strict=True))
    for name in names:
        yield _row(f"live frames, all denied, {name}", "packets/s", _middle(found[name]))
    goals = {names[0]: (0.5, 0.7), names[2]: (100, 400), names[3]: (2, 3)}
    for name, (must, aim) in goals.items():
        ratios = [ours / other for ours, other in zip(found["ours"], found[name], strict=True)]
        what = f"live frames, 4,096 rules: ours / {name}"
        yield _row(what, "ratio", _middle(ratios), must, aim)


def _middle(values: Sequence[float]) -> list[float]:
    """The middle half."""
    quarter = len(values) // 4
    return sorted(values)[quarter : len(values) - quarter]


def _row(
    name: str,
    unit: str,
    values: Sequence[float],
    must: float | None = None,
    aim: float | None = None,
) -> dict[str, Any]:
    digits = 0 if max(values) > 1000 else 2
    shown = [round(value, digits) if digits else round(value) for value in values]
    middle = statistics.median(values)
    goals = {} if must is None else {"must": must, "aim": aim}
    median = round(middle, digits) if digits else round(middle)
    spread = {"median": median, "spread": [min(shown), max(shown)]}
    return {"name": name, "unit": unit, **spread, **goals, "runs": len(values)}


# Changes


class Admin:
    """One connection to the API."""

    def __init__(self, lab: Lab) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", _API, timeout=30)
        with lab.inside(lab.guarded):
            self._connection.connect()

    def ask(self, path: str, body: Any = None) -> float:
        """Milliseconds of a POST that must succeed."""
        text, kind = json.dumps(body) if body else "", {"content-type": "application/json"}
        began = time.perf_counter()
        self._connection.request("POST", path, text, kind)
        answer = self._connection.getresponse()
        told = answer.read()
        took = time.perf_counter() - began
        assert answer.status in {200, 201}, told
        return took * 1e3

    def close(self) -> None:
        self._connection.close()


class Generation:
    """A rule set in two versions: both deny the flood; the second allows its other port."""

    def __init__(self, few: bool) -> None:
        self._sets = [rules(1), rules(1) if few else rules(2)]
        for number, made in enumerate(self._sets):
            if not few:
                for rule in made:
                    rule["id"] += f"-{number}"
            made[-1]["id"] = f"denied-{number}"
            made[0] = made[-1] | {"id": f"other-{number}", "dst_port": OTHER}
            made[0]["action"] = ("deny", "allow")[number]

    def write(self, agent: Any, number: int) -> None:
        """Into the configuration file."""
        agent.write(firewall={"mode": "block", "rules": self._sets[number]})


def _first_arrival(lab: Lab, found: list[float]) -> threading.Thread:
    """A thread that notes when the first datagram comes to the other port."""
    with lab.inside(lab.guarded):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind((GUARDED, OTHER))
    receiver.settimeout(20)

    def wait() -> None:
        with receiver:
            receiver.recv(64)
            found.append(time.perf_counter())

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def reloads(few: bool) -> tuple[list[float], int, int]:
    """Milliseconds to changed verdicts, denied packets that got through, and packets judged."""
    with laboratory() as lab:
        sets = Generation(few)
        agent = _agent(lab, [])
        agent.end()
        sets.write(agent, 0)
        agent.start()
        flood, admin = Flood(lab, DENIED, OTHER, 256), Admin(lab)
        leak = f"add rule ip bench in udp dport {DENIED} counter name hits\n"
        nft(lab, _chain() + leak)
        with flood.flowing():
            took = [_reload(lab, agent, admin, sets) for _ in range(ROUNDS)]
        denied = sum(each["packets"] for each in agent.cli("firewall", "list"))
        leaked = nft_counter(lab, "hits")
        admin.close()
        flood.close()
    return took, leaked, denied


def _reload(lab: Lab, agent: Any, admin: Admin, sets: Generation) -> float:
    """There and back; milliseconds from the call to the first packet by the new rules."""
    arrived: list[float] = []
    waiting = _first_arrival(lab, arrived)
    sets.write(agent, 1)
    began = time.perf_counter()
    admin.ask("/api/v1/config/reload")
    waiting.join()
    time.sleep(2)  # the agent also follows the file by itself: let it see that all is done
    sets.write(agent, 0)
    admin.ask("/api/v1/config/reload")
    time.sleep(2)
    return (arrived[0] - began) * 1e3


def changes() -> Iterator[dict[str, Any]]:
    """The rows of reloads."""
    for few, what in ((False, "all differ"), (True, "two differ")):
        took, leaked, judged = reloads(few)
        name = f"reload of 4,096 rules under a flood, {what}: API call to changed verdicts"
        yield _row(name, "ms", took, 150, 40)
        name = f"packets that both generations deny and that passed in {2 * ROUNDS} reloads, {what}"
        row = {"name": name, "unit": "packets", "median": leaked, "spread": [0, leaked], "must": 0}
        yield row | {"judged": judged}


def adds() -> Iterator[dict[str, Any]]:
    """The rows of rules added one by one, behind the others and before them."""
    for where, priority in (("last", 10), ("first", 1)):
        with laboratory() as lab:
            _agent(lab, rules()[:ADDED_TO])
            admin, more = Admin(lab), rules(3)
            took = [
                admin.ask("/api/v1/firewall/rules", rule | {"priority": priority})
                for rule in (more[n] | {"id": f"added-{n}"} for n in range(ADDS))
            ]
            admin.close()
        p50, p99 = np.percentile(took, (50, 99)).tolist()
        row = _row(f"one rule added by API with 4,000 present, tried {where}, p99", "ms", took)
        yield row | {"median": round(p99, 1), "must": 15, "aim": 3, "p50": round(p50, 1)}


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*live(), *changes(), *adds()]


if __name__ == "__main__":
    print("\n".join(json.dumps(row) for row in run()))
