"""Connection tracking: what it costs per packet, and whether a million connections leave a trace.

**Cost.** BPF_PROG_RUN of the TC chain, in and out, with connection tracking as its only program,
less the same with an empty chain. One established flow; 512 in turn; all flows in an order that no
cache foresees (each packet then waits for memory three times); the table 50 % and 95 % full.

**Asking.** What it costs an XDP program to ask what a packet is to the flows there are.

**New flows.** A SYN of a flow that is not there, into an empty table, and into one that is full of
others that are unreplied, which give way.

**A million connections** are opened and closed, 7 packets each, through a table of 65,536: those
that have closed give way. Every flow is accounted for, and the kernel's memory is what it was.
"""

from __future__ import annotations

import contextlib
import statistics
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bench.progrun import Object, fd_of, prog_run, update
from ebpfsentinel.domains.conntrack import DOMAIN
from ebpfsentinel.domains.conntrack.tests.packets import Ends
from ebpfsentinel.domains.conntrack.tests.tracked import Tracked
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.domain import Domain, Program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FLOWS, MILLION = 262_144, 1_000_000
ROUNDS, PACKETS = 15, 200_000
SYN, SYN_ACK, ACK, FIN_ACK, LEAVES = 0x02, 0x12, 0x10, 0x11, 0x80
HANDSHAKE = (SYN, SYN_ACK | LEAVES, ACK)
WHOLE = (*HANDSHAKE, FIN_ACK, ACK | LEAVES, FIN_ACK | LEAVES, ACK)
_CHUNK = 500_000


class Talk:
    """Packets of many connections into the chains of a kernel."""

    def __init__(self, kernel: LinuxKernel) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(__file__).parent / "flows.bpf.c"
            self._object = Object(compile_object(source, Path(folder) / "flows.bpf.o"))
        for slot, name in enumerate(("tc_root", "egress_root")):
            program = fd_of(kernel, name)
            update(self._object.map("targets"), struct.pack("<I", slot), struct.pack("<I", program))
        self._frame = Ends().tcp("A", b"x" * 10)

    def run(
        self,
        steps: Sequence[int],
        connections: int,
        *,
        first: int = 0,
        packets: int = 0,
        scattered: bool = False,
    ) -> int:
        """Nanoseconds a packet; by default each connection goes once through its steps."""
        wanted = bytes(steps).ljust(8, b"\0")
        head = struct.pack("<QIII8sI", 0, connections, len(steps), first, wanted, scattered)
        update(self._object.map("script"), bytes(4), head)
        left, spent = packets or connections * len(steps), 0
        whole = left
        while left:
            repeat = min(left, _CHUNK)
            spent += prog_run(self._object.program("talk"), self._frame, repeat)[1] * repeat
            left -= repeat
        return round(spent / whole)

    def close(self) -> None:
        self._object.close()


@contextlib.contextmanager
def tracker() -> Iterator[tuple[Tracked, Talk]]:
    """A kernel with connection tracking alone, and who talks to it."""
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    kernel._fill_chains()  # noqa: SLF001 (without an interface)
    talk = Talk(kernel)
    try:
        yield Tracked(kernel), talk
    finally:
        talk.close()
        kernel.detach()


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    with tracker() as (tracked, talk):
        return [*costs(tracked, talk), *asking(tracked), million(tracked, talk)]


def switch(tracked: Tracked, *, on: bool) -> None:
    """Connection tracking in the chains, or not; the table stays."""
    kernel = tracked.kernel
    kernel._enabled = (DOMAIN.name,) if on else ()  # noqa: SLF001
    kernel._fill_chains()  # noqa: SLF001


def added(tracked: Tracked, name: str, measure: Any, **limits: float) -> dict[str, Any]:
    """A row: with the tracker less without it, in turn."""
    found = []
    for _ in range(ROUNDS):
        switch(tracked, on=False)
        without = measure()
        switch(tracked, on=True)
        found.append(measure() - without)
    return {
        "name": f"connection tracking, added a packet: {name}",
        "unit": "ns",
        "median": round(statistics.median(found)),
        "spread": [min(found), max(found)],
        **limits,
    }


def costs(tracked: Tracked, talk: Talk) -> Iterator[dict[str, Any]]:
    """Rows of what a packet costs."""
    limits = {"must": 90, "aim": 50}
    for ends, family in ((Ends(), "IPv4"), (Ends().six(), "IPv6")):
        empty(tracked, FLOWS)
        tracked.come(ends.tcp("S"))
        tracked.leave(ends.back("SA"))
        tracked.come(ends.tcp("A"))
        yield added(
            tracked,
            f"one established flow, {family}",
            lambda ends=ends: tracked.kernel.run("tc_root", ends.tcp("A"), PACKETS).duration_ns,
            **limits,
        )
    for percent in (50, 95):
        flows = FLOWS * percent // 100
        empty(tracked, FLOWS)
        talk.run(HANDSHAKE, flows)
        there = len(tracked.kernel.flows())
        for name, some, fields in (
            ("512 established flows in turn", 512, limits),
            ("any of all flows, from memory", flows, {}),
        ):
            yield added(
                tracked,
                f"{name}, table {percent} % full",
                lambda some=some: talk.run((ACK,), some, packets=PACKETS, scattered=True),
                **fields,
            ) | {"flows": there}
    empty(tracked, FLOWS)
    tracked.settings(max_entries=FLOWS, window_checks=True)
    talk.run(HANDSHAKE, 1)
    yield added(
        tracked,
        "one established flow, windows checked",
        lambda: talk.run((ACK,), 1, packets=PACKETS),
    )
    yield from new_flows(tracked, talk)


class Nobody:
    """An engine for a card; only its module matters."""


def asking(tracked: Tracked) -> Iterator[dict[str, Any]]:
    """What it costs an XDP program to ask for the state of a packet."""
    with tempfile.TemporaryDirectory() as folder:
        target = compile_object(Path(__file__).parent / "state.bpf.c", Path(folder) / "state.bpf.o")
        card: Any = Domain(
            name="asks",
            summary="Asks.",
            settings=msgspec.Struct,
            engine=Nobody,  # type: ignore[arg-type]
            object=str(target),
            programs=(Program("xdp_asks", order=10),),
        )
        tracked.kernel.load([DOMAIN, card])
    empty(tracked, FLOWS)
    for ends, family in ((Ends(), "IPv4"), (Ends().six(), "IPv6")):
        tracked.come(ends.tcp("S"))
        tracked.leave(ends.back("SA"))
        for name, frame in (("established", ends.tcp("A")), ("new", ends.udp())):
            found = []
            for _ in range(ROUNDS):
                taken = [_chained(tracked, on, frame) for on in ((), ("asks",))]
                found.append(taken[1] - taken[0])
            yield {
                "name": f"XDP asks for the state of a packet that is {name}, {family}",
                "unit": "ns",
                "median": round(statistics.median(found)),
                "spread": [min(found), max(found)],
            }
    tracked.kernel.load([DOMAIN])


def _chained(tracked: Tracked, enabled: tuple[str, ...], frame: bytes) -> int:
    kernel = tracked.kernel
    kernel._enabled = enabled  # noqa: SLF001
    kernel._fill_chains()  # noqa: SLF001
    return kernel.run("xdp_root", frame, PACKETS).duration_ns


def new_flows(tracked: Tracked, talk: Talk) -> Iterator[dict[str, Any]]:
    """Rows of what a SYN costs that begins a flow."""
    for name, before in (("empty", 0), ("full of others that are unreplied", FLOWS)):
        found = []
        for turn in range(5):
            empty(tracked, FLOWS)
            talk.run((SYN,), before, first=MILLION) if before else None
            switch(tracked, on=False)
            without = talk.run((SYN,), 100_000, first=turn * 100_000)
            switch(tracked, on=True)
            found.append(talk.run((SYN,), 100_000, first=turn * 100_000) - without)
        yield {
            "name": f"connection tracking, a SYN that begins a flow, table {name}",
            "unit": "ns",
            "median": round(statistics.median(found)),
            "spread": [min(found), max(found)],
        }


def empty(tracked: Tracked, flows: int) -> None:
    """A new table of that size."""
    tracked.apply(FlowTable(None))
    tracked.settings(max_entries=flows)


def kernel_memory() -> int:
    """Bytes that the kernel has in slabs, page tables and vmalloc."""
    text = Path("/proc/meminfo").read_text()
    found = dict(line.split(":", 1) for line in text.splitlines())
    return sum(int(found[name].split()[0]) for name in ("Slab", "VmallocUsed", "Percpu")) * 1024


def million(tracked: Tracked, talk: Talk) -> dict[str, Any]:
    """The row of a million connections."""
    empty(tracked, 65_536)
    talk.run(WHOLE, 200_000, first=MILLION)  # the table is full, and all that is freed later is
    tracked.poll()
    before = tracked.kernel.total("flow_count")[0].copy()
    memory, there_before = kernel_memory(), len(tracked.kernel.flows())
    talk.run(WHOLE, MILLION)
    row = tracked.kernel.total("flow_count")[0]
    ends = ("expired", "replaced", "ended", "evicted")
    more = {name: np.asarray(row[name] - before[name]).sum() for name in (*ends, "created", "full")}
    gone = sum(int(more[name]) for name in ends)
    there = len(tracked.kernel.flows())
    return {
        "name": "1,000,000 connections opened and closed: flows not accounted for",
        "unit": "flows",
        "median": abs(int(more["created"]) + there_before - gone - there)
        + abs(MILLION - int(more["created"]))
        + int(more["full"]),
        "spread": [0, 0],
        "must": 0,
        "evicted": int(more["evicted"]),
        "there": there,
        "grown_bytes": kernel_memory() - memory,
    }
