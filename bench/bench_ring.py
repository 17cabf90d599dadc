"""Ring to engine: records of 56 bytes, drained and filtered while programs produce on all CPUs.

``median`` is what one core of the reader can take: records by CPU time of the reading thread.
``sustained`` is what went through by the clock, the reader sharing its core with a producer; it is
bounded by what the producers can make.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.objects import LoadedObject, load_object
from ebpfsentinel.kernel.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RUNS = 7
SECONDS = 1.0
REPEAT = 2000
PAUSE = 0.0005  # seconds between drains, as the flow would poll


def produce(program: int, cpu: int, stop: threading.Event) -> None:
    """Run the program on one CPU until told to stop."""
    os.sched_setaffinity(0, {cpu})
    frame = bytes(64)
    options = sized(
        "opts_run", data_in=ffi.from_buffer(frame), data_size_in=len(frame), repeat=REPEAT
    )
    while not stop.is_set():
        check(lib().bpf_prog_test_run_opts(program, options), "producing")


def read(drain: Callable[[], NDArray[Any]], seconds: float = SECONDS) -> tuple[float, float]:
    """Records a second of CPU time, and by the clock; every record is looked at."""
    records, started, used = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - started < seconds:
        rows = drain()
        records += len(rows) - np.count_nonzero(rows["serial"] > 31)
        time.sleep(PAUSE)
    return records / (time.thread_time() - used), records / (time.perf_counter() - started)


def measure(loaded: LoadedObject) -> tuple[list[float], list[float], Ring]:
    """All runs with one producer on every CPU."""
    found = loaded.maps["bench_ring"]
    ring = Ring(found.fd, found.max_entries, loaded.record("bench_ring"))
    stop, program = threading.Event(), loaded.programs["bench_produce"].fd
    producers = [
        threading.Thread(target=produce, args=(program, cpu, stop))
        for cpu in sorted(os.sched_getaffinity(0))
    ]
    for producer in producers:
        producer.start()
    try:
        speeds = [read(ring.drain) for _ in range(RUNS)]
    finally:
        stop.set()
        for producer in producers:
            producer.join()
    ring.drain()
    return [speed for speed, _ in speeds], [speed for _, speed in speeds], ring


def run() -> dict[str, object]:
    """The figure, its spread, and what the ring's ledger says became of every record."""
    with tempfile.TemporaryDirectory() as folder:
        path = compile_object(Path(__file__).with_name("ring.bpf.c"), Path(folder) / "ring.bpf.o")
        loaded = load_object(path)
    try:
        speeds, sustained, ring = measure(loaded)
        ledger = loaded.maps["bench_ring_led"].total()[0]
        seen, lost = int(ledger["seen"]), int(ledger["ring_full"] + ledger["backpressure"])
    finally:
        lib().bpf_object__close(loaded.handle)
    return {
        "name": "ring to engine, 56-byte records, producers on all CPUs",
        "unit": "records/s",
        "median": round(statistics.median(speeds)),
        "spread": [round(min(speeds)), round(max(speeds))],
        "runs": RUNS,
        "sustained": {
            "median": round(statistics.median(sustained)),
            "spread": [round(min(sustained)), round(max(sustained))],
        },
        "lost_share": round(lost / seen, 4),
        "unaccounted": seen - lost - ring.delivered,
        "malformed": ring.malformed,
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
