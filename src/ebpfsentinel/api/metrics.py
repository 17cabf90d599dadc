"""Prometheus exposition: the agent's samples, the kernel's and the process's own, by seed names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from ebpfsentinel.api.modes import mode_metrics
from ebpfsentinel.model.domain import Metric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebpfsentinel.api.agent import Agent
    from ebpfsentinel.model.kernel import Kernel

PREFIX = "ebpfsentinel_"


class Exposition:
    """Renders ``/metrics``. What the agent counts under a name and labels wins over ours."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._process = ProcessReadings()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type, as the ``Accept`` header asks."""
        encoder, media_type = choose_encoder(accept)
        return encoder(self), media_type

    def collect(self) -> Iterator[Family]:
        """The families; this is what makes us a collector."""
        for name in self._agent.domains:
            self._agent.refresh(name)
        yield from _families(
            [
                *self._agent.metrics(),
                *kernel_metrics(self._agent.kernel),
                *mode_metrics(self._agent),
                *_rules(self._agent),
                *_store(self._agent),
                *_access(self._agent),
                *self._process.metrics(),
            ]
        )


def _families(samples: Iterable[Metric]) -> Iterator[Family]:
    families: dict[str, Family] = {}
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for sample in samples:
        identity = (sample.name, tuple(sorted(sample.labels.items())))
        if identity in seen:
            continue
        seen.add(identity)
        name = PREFIX + sample.name.removesuffix("_total")
        family = families.setdefault(name, Family(name, sample.help, sample.kind))
        _add(family, name, sample)
    yield from families.values()


def _add(family: Family, name: str, sample: Metric) -> None:
    labels = dict(sample.labels)
    if sample.kind == "histogram":
        for bound, count in sample.buckets:
            text = "+Inf" if bound == float("inf") else repr(bound)
            family.add_sample(f"{name}_bucket", {**labels, "le": text}, count)
        family.add_sample(f"{name}_count", labels, sample.buckets[-1][1] if sample.buckets else 0)
        family.add_sample(f"{name}_sum", labels, sample.value)
    else:
        suffix = "_total" if sample.kind == "counter" else ""
        family.add_sample(name + suffix, labels, sample.value)


def _counter(name: str, text: str, value: float, **labels: str) -> Metric:
    return Metric(name, "counter", text, labels, value)


def _gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    return Metric(name, "gauge", text, labels, value)


def kernel_metrics(kernel: Kernel) -> Iterator[Metric]:
    """Packets, programs, rings and failed helpers, as the kernel tells them."""
    for on in kernel.interface_counters():
        for verdict, count in on.packets.items():
            text = "Packets by interface and final verdict"
            yield _counter("packets", text, count, interface=on.interface, verdict=verdict)
        text = "Bytes the first program saw"
        yield _counter(
            "bytes_processed", text, on.bytes, interface=on.interface, direction="ingress"
        )
    for program in kernel.programs():
        name = program.name
        yield _gauge("ebpf_program_status", "1: loaded", float(program.loaded), program=name)
        seconds = program.run_ns / 1e9
        yield _counter("ebpf_program_run_seconds", "Sampled run time", seconds, program=name)
        yield _counter("ebpf_program_runs", "Sampled runs", program.run_count, program=name)
    for ring in kernel.ledgers():
        name = ring.ring
        yield _counter("ringbuf_events", "Records delivered", ring.delivered, ring=name)
        yield _counter("ringbuf_events_seen", "Records due", ring.seen, ring=name)
        for reason, count in ring.lost.items():
            text = "Records lost, by reason"
            yield _counter("events_dropped", text, count, ring=name, reason=reason)
    for helper, count in kernel.failures().items():
        yield _counter("kernel_helper_failures", "Failed helper calls", count, helper=helper)


def _rules(agent: Agent) -> Iterator[Metric]:
    for name, engine in agent.engines.items():
        count = engine.status().get("rule_count")
        if count is not None:
            yield _gauge("rules_loaded", "Rules in force", float(count), domain=name)


def _store(agent: Agent) -> Iterator[Metric]:
    store = agent.store
    yield _gauge("store_up", "0: nothing can be written", float(not store.trouble))
    yield _gauge("store_waiting", "Records waiting to be written", float(store.waiting))
    for room, count in store.lost.items():
        yield _counter("store_lost", "Records given up, by room", float(count), room=room)


def _access(agent: Agent) -> Iterator[Metric]:
    yield from agent.gatekeeper.metrics()
    expires_s = agent.tls.expires_s()
    if expires_s is not None:
        text = "When the certificate in use expires, Unix time"
        yield _gauge("tls_certificate_expires_seconds", text, expires_s)


class ProcessReadings:
    """Memory, CPU, files and threads of our own process, from ``/proc/self``."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), time.process_time())

    def metrics(self) -> Iterator[Metric]:
        """The readings; CPU is the share since the last call, 100 being one core."""
        yield _gauge("memory_usage_bytes", "Resident memory", resident_bytes())
        yield _gauge("cpu_usage_percent", "CPU since the last scrape", self._cpu())
        yield _gauge("open_fds", "Open file descriptors", _entries("/proc/self/fd"))
        yield _gauge("threads", "Threads", _entries("/proc/self/task"))

    def _cpu(self) -> float:
        wall, used = self._last
        self._last = (time.monotonic(), time.process_time())
        passed = self._last[0] - wall
        return 100 * (self._last[1] - used) / passed if passed > 0 else 0.0


def resident_bytes() -> int:
    """Resident memory of this process (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _entries(folder: str) -> int:
    with os.scandir(folder) as found:
        return sum(1 for _ in found)
