"""What privilege separation costs: records, writes, memory.

**Ring to engine**: the same reading as ``bench_ring`` (records by CPU time of the reading thread),
of a ring of our own and of one that a keeper handed over, in alternating turns; the row is how the
two compare within a pair of turns, which are short, so that what else the machine does meets both.

**Writes**: one rule added over REST with 4,000 present, by two agents that stand side by side, one
of them beside a keeper, in alternating turns.

**Memory**: the agent with all domains, all of the API (TLS, keys, JWT) and a webhook on, and its
keeper, a minute after both were ready, idle.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bench.bench_agent import _rss_mb
from bench.bench_api import PRESENT, Client, everything, rule
from bench.bench_ring import produce, read
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.door.charter import Card, Charter
from ebpfsentinel.kernel.door.remote import RemoteKernel
from ebpfsentinel.kernel.libbpf import lib
from ebpfsentinel.kernel.maps import RINGBUF, Map
from ebpfsentinel.kernel.objects import LoadedObject, load_object
from ebpfsentinel.kernel.ring import Ring
from ebpfsentinel.model.domain import Domain
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

PAIRS, TURN_S = 61, 0.15
WRITES = 200
SETTLED_S = 75
USER = "64321"
_KEEPER = "from ebpfsentinel.keeper import main; main()"
_OTHERS = ("conntrack", "ddos", "nat", "ratelimit", "scrub", "sockets", "dns")


class _Engine:
    """A card wants one."""


@contextlib.contextmanager
def keeper(folder: Path, path: Path) -> Iterator[RemoteKernel]:
    """A kernel behind the door that has the object of the bench loaded."""
    charter = Charter(pin_root=str(folder), domains=(Card(name="bench", object=str(path)),))
    place = folder / "charter.json"
    place.write_bytes(msgspec.json.encode(charter))
    ours, theirs = socket.socketpair()
    with theirs:
        options = [f"--charter={place}", f"--connected={theirs.fileno()}"]
        child = subprocess.Popen(
            [sys.executable, "-c", _KEEPER, *options], pass_fds=[theirs.fileno()],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
    kernel = RemoteKernel(lambda: ours)
    engine: Any = _Engine
    kernel.load([Domain("bench", "", msgspec.Struct, engine, object=str(path))])
    try:
        yield kernel
    finally:
        kernel.detach()
        child.wait()


def speed(loaded: LoadedObject, drain: Callable[[], NDArray[Any]]) -> float:
    """One turn, with a producer on every CPU."""
    stop, program = threading.Event(), loaded.programs["bench_produce"].fd
    producers = [
        threading.Thread(target=produce, args=(program, cpu, stop))
        for cpu in sorted(os.sched_getaffinity(0))
    ]
    for producer in producers:
        producer.start()
    try:
        found, _ = read(drain, TURN_S)
    finally:
        stop.set()
        for producer in producers:
            producer.join()
    drain()
    return found


def rings() -> dict[str, Any]:
    """How a ring that was handed over compares to one of our own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = compile_object(Path(__file__).with_name("ring.bpf.c"), folder / "ring.bpf.o")
        own = load_object(path)
        found = own.maps["bench_ring"]
        ring = Ring(found.fd, found.max_entries, own.record("bench_ring"))
        with keeper(folder, path) as kernel:
            handed = Map(
                "bench_ring", kernel.rings()["bench_ring"], RINGBUF, found.key, found.value,
                found.max_entries,
            )  # fmt: skip
            theirs = load_object(path, shared={"bench_ring": handed})
            ratios = []
            for turn in range(PAIRS):
                turns = [(own, ring.drain), (theirs, lambda: kernel.drain("bench_ring"))]
                order = turns if turn % 2 else turns[::-1]
                pair = [speed(*each) for each in order]
                one, two = pair if turn % 2 else pair[::-1]
                ratios.append(two / one)
            lib().bpf_object__close(theirs.handle)
        lib().bpf_object__close(own.handle)
    return _row("ring to engine, two processes against one", "", 0.95, 1.0, ratios)


@contextlib.contextmanager
def laboratory(*, separated: bool, **sections: Any) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        lab = Lab(folder)
        try:
            agent = sections.pop("agent", {}) | {"privilege_separation": separated, "user": USER}
            agent["keeper_socket"] = str(folder / "kernel.sock")
            lab.agent(agent=agent, **sections)
            yield lab
        finally:
            lab.close()


def writes() -> list[dict[str, Any]]:
    """One rule more, with one process and with two, in turns."""
    firewall = {"mode": "block", "rules": [rule(number) for number in range(PRESENT)]}
    taken: dict[bool, list[float]] = {False: [], True: []}
    with (
        laboratory(separated=False, firewall=firewall) as one,
        laboratory(separated=True, firewall=firewall) as two,
    ):
        clients = {False: Client(one), True: Client(two)}
        for number in range(WRITES):
            body = rule(PRESENT + number, "w")
            for separated in (False, True) if number % 2 else (True, False):
                took = clients[separated].ask("POST", "/api/v1/firewall/rules", body)
                taken[separated].append(1000 * took)
    added = f"one rule added by API with {PRESENT:,} present"
    return [
        _row(f"{added}, beside a keeper, p50", "ms", 0, 0, taken[True]),
        _row(f"{added}, with a kernel of its own, p50", "ms", 0, 0, taken[False]),
    ]


def memory() -> dict[str, Any]:
    """RSS of the agent with everything on, and of its keeper, idle."""
    on = {name: {"enabled": True} for name in _OTHERS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        api = everything(folder)
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, int(USER))
        with laboratory(separated=True, firewall={"mode": "block"}, **on, **api) as lab:
            time.sleep(SETTLED_S)
            agent = lab.agents[0].process
            assert agent is not None
            children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
            both = [_rss_mb(pid) for pid in (agent.pid, *map(int, children[:1]))]
    return _row("RSS of agent and keeper, all features on, idle", "MB", 170, 120, [sum(both)])


def _row(name: str, unit: str, must: float, aim: float, values: list[float]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "unit": unit,
        "median": round(statistics.median(values), 3),
        "spread": [round(min(values), 3), round(max(values), 3)],
        "runs": len(values),
    }
    return found | ({"must": must, "aim": aim} if must else {})


def run() -> list[dict[str, Any]]:
    """All rows."""
    return [rings(), *writes(), memory()]
