"""A flood between two namespaces of a lab: live frames from a BPF program, on one core."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.progrun import Object, update
from ebpfsentinel.domains.firewall.building import checksum
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized

if TYPE_CHECKING:
    from collections.abc import Iterator

LIVE_FRAMES, BATCH = 2, 64
SOURCE = "198.18.0.0"
_ATTACH_XDP = 37
_CHUNK = 1 << 17
CPU = max(os.sched_getaffinity(0))


class Flood:
    """``send0`` floods ``guard0``: UDP to ``port``, and one frame in ``every`` to another."""

    def __init__(self, lab: Any, port: int, other_port: int = 0, every: int = 0) -> None:
        self._lab = lab
        with tempfile.TemporaryDirectory() as folder:
            source = Path(__file__).parent / "flood.bpf.c"
            self._object = Object(compile_object(source, Path(folder) / "flood.bpf.o"))
        self._frame = _frame(lab, port)
        with lab.inside(lab.sender):
            ifindex = socket.if_nametoindex("send0")
        base = struct.unpack(">H", self._frame[24:26])[0]
        value = struct.pack("<IHHHHI", ifindex, base, port, other_port, every, 0)
        update(self._object.map("flood_map"), bytes(4), value)

    def send(self, count: int) -> None:
        """Send so many frames from this thread; they are received on its core too.

        In one call: each makes the kernel wait for tens of milliseconds before it begins.
        """
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(self._frame),
            data_size_in=len(self._frame),
            repeat=count,
            flags=LIVE_FRAMES,
            batch_size=BATCH,
        )
        with self._lab.inside(self._lab.sender):
            program = self._object.program("flood_send")
            check(lib().bpf_prog_test_run_opts(program, options), "sending live frames")

    @contextlib.contextmanager
    def flowing(self, pps: float = math.inf) -> Iterator[None]:
        """In the background, on one core, as long as the context lasts; on average at ``pps``.

        In bursts of a few milliseconds: while BPF_PROG_RUN goes on, no grace period of RCU ends on
        its core, as it would between the polls of a network card, and changes wait for those.
        """
        ended = threading.Event()

        def carry() -> None:
            with on_one_core():
                due = time.perf_counter()
                while not ended.is_set():
                    self.send(_CHUNK)
                    due += _CHUNK / pps
                    if (left := due - time.perf_counter()) > 0:
                        ended.wait(left)

        thread = threading.Thread(target=carry)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def receiver(self, program: str) -> Iterator[None]:
        """One of the flood's own programs at ``guard0``."""
        with self._lab.inside(self._lab.guarded):
            ifindex = socket.if_nametoindex("guard0")
            descriptor = self._object.program(program)
            link = check(
                lib().bpf_link_create(descriptor, ifindex, _ATTACH_XDP, ffi.NULL), "attaching"
            )
        try:
            yield
        finally:
            os.close(link)

    def arrived(self) -> int:
        """What ``flood_drop`` counted, on all CPUs."""
        values = ffi.new("uint64_t[]", possible_cpus())
        found = lib().bpf_map_lookup_elem(
            self._object.map("arrived"), ffi.from_buffer(bytes(4)), values
        )
        check(found, "reading the count")
        return sum(values)

    def close(self) -> None:
        self._object.close()


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """This thread, always on the same one."""
    thread = threading.get_native_id()
    before = os.sched_getaffinity(thread)
    os.sched_setaffinity(thread, {CPU})
    try:
        yield
    finally:
        os.sched_setaffinity(thread, before)


@cache
def _ksoftirqd() -> Path:
    """The kernel thread that receives packets on our core when its interrupts are too many."""
    name = f"ksoftirqd/{CPU}"
    found = (each for each in Path("/proc").glob("[0-9]*/comm") if each.read_text().strip() == name)
    return next(found).with_name("schedstat")


def core_seconds() -> float:
    """How long this thread and the ksoftirqd of its core have run."""
    return time.thread_time() + int(_ksoftirqd().read_text().split()[0]) / 1e9


def _frame(lab: Any, port: int) -> bytes:
    """64 bytes: Ethernet, IPv4, UDP without a checksum (RFC 768 allows that)."""
    told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
    mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
    first = struct.pack(">BBHHHBB", 0x45, 0, 50, 1, 0, 64, 17)
    ends = socket.inet_aton(SOURCE) + socket.inet_aton("10.77.0.2")
    head = first + struct.pack(">H", checksum(first + ends)) + ends
    datagram = struct.pack(">HHHH", 4000, port, 30, 0) + bytes(22)
    return mac + b"\x02" + bytes(5) + b"\x08\x00" + head + datagram


def nft(lab: Any, text: str) -> None:
    """Commands for nftables in the guarded namespace."""
    command = ["nsenter", f"--net=/run/netns/{lab.guarded}", "nft", "-f", "-"]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


def nft_counter(lab: Any, name: str, family: str = "ip") -> int:
    """Packets that a named counter of table ``bench`` has seen."""
    told = lab.run(lab.guarded, "nft", "-j", "list", "counter", family, "bench", name).stdout
    found = next(each["counter"] for each in json.loads(told)["nftables"] if "counter" in each)
    return int(found["packets"])
