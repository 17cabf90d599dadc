"""Is anybody deaf? Canaries go out, and what does not come back in time is an alarm.

What goes out is :mod:`ebpfsentinel.canaries`; whether what is ours is still ours,
:mod:`ebpfsentinel.tamper`. Here both become troubles: each has a name, words, and an alert of
component ``agent`` when it comes and when it has gone. A trouble that lasts is told once.
"""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.domain import Deed, Metric
from ebpfsentinel.model.health import Proof, Trouble
from ebpfsentinel.model.kernel import DRY, KernelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ebpfsentinel.canaries import Canaries, Way
    from ebpfsentinel.model.domain import Canary, Domain
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.sinks import Router

logger = logging.getLogger(__name__)

_FRAME = bytes(12) + b"\x88\xb5" + b"ebpfsentinel canary".ljust(46, b"\0")
"""An Ethernet frame of a type for local experiments (IEEE 802): no stack takes it for anything."""
_XDP_PASS = 2
_PACKETS_FIRST = 200
"""An interface on which so many came in, while our programs saw none, is one they are not on."""
_FALLBACK = "/bin/true"


class Troubles:
    """Those that last; :meth:`follow` gives the alerts of what has changed."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Trouble]] = {}
        self.counts: dict[str, int] = {}

    def all(self) -> list[Trouble]:
        """Now, those that were there first first."""
        return [trouble for found in self._known.values() for trouble in found.values()]

    def follow(self, source: str, now: Iterable[Trouble]) -> list[Alert]:
        """``now`` is all that ``source`` knows: what is new is told, and what has gone."""
        found = {trouble.key: trouble for trouble in now}
        before = self._known.get(source, {})
        fresh = [trouble for key, trouble in found.items() if key not in before]
        gone = [trouble for key, trouble in before.items() if key not in found]
        self._known[source] = found
        return [*map(self.alarm, fresh), *map(over, gone)]

    def alarm(self, trouble: Trouble) -> Alert:
        """The alert of a trouble; it is counted and logged."""
        self.counts[trouble.kind] = self.counts.get(trouble.kind, 0) + 1
        logger.error("%s", trouble.text)
        return _alert(trouble.key, trouble.text, trouble.severity)


def over(trouble: Trouble) -> Alert:
    """It is well again."""
    logger.warning("over: %s", trouble.text)
    return _alert(f"{trouble.key}.over", f"over: {trouble.text}", Severity.LOW)


def _alert(rule_id: str, text: str, severity: Severity) -> Alert:
    return Alert(
        timestamp_ns=time.time_ns(),
        component="agent",
        severity=severity,
        rule_id=f"watch.{rule_id}",
        action="log",
        message=text,
    )


class Watch:
    """Sends canaries, and says what is silent. ``faults``: of each domain's engine, so far."""

    def __init__(
        self,
        kernel: Kernel,
        canaries: Canaries,
        router: Router,
        domains: Mapping[str, Domain],
    ) -> None:
        self._kernel, self._canaries, self._router = kernel, canaries, router
        self._domains = domains
        self._numbers: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._engine_faults: dict[str, int] = {}
        self._traffic: dict[str, tuple[int, int, int]] = {}
        self._children: list[subprocess.Popen[bytes]] = []
        self._unable = False

    def send(self, enabled: Sequence[Domain], faults: Mapping[str, int]) -> None:
        """One canary on every way that there is; those of ways that are gone are forgotten."""
        names = {domain.name for domain in enabled}
        self._canaries.keep(self._wanted(enabled))
        for domain in enabled:
            self._send_to_engine(domain.name, faults.get(domain.name, 0))
        for ring in self._kernel.rings():
            if self._kernel.owner(ring) in names:
                self._send_to_ring(ring)
        for domain in enabled:
            for canary in domain.canaries:
                self._do(canary)
        for place in self._kernel.attachments():
            self._ask_chain(place.interface)
        for view in self._router.views():
            if view.canary and not self._canaries.way("sink", view.name).waits:
                self._numbers[view.name] = self._router.canary(view.name)
                self._canaries.way("sink", view.name).send()

    def _wanted(self, enabled: Sequence[Domain]) -> set[str]:
        names = {domain.name for domain in enabled}
        found = {f"engine {name}" for name in names}
        found |= {f"ring {r}" for r in self._kernel.rings() if self._kernel.owner(r) in names}
        found |= {f"hook {c.hook}" for domain in enabled for c in domain.canaries}
        found |= {f"hook {place.interface}" for place in self._kernel.attachments()}
        found |= {f"sink {view.name}" for view in self._router.views() if view.canary}
        return found | {"pipeline alerts"}

    def _send_to_ring(self, ring: str) -> None:
        way = self._canaries.way("ring", ring)
        try:
            sent = self._kernel.canary(ring)
        except KernelError as error:
            way.fault = str(error)
        else:
            way.fault = "" if sent else "it is full, or its canary did not load"
        if not way.fault:
            self._canaries.send_to(ring)
        else:
            way.send()

    def _send_to_engine(self, name: str, faults: int) -> None:
        """It is heard at the next look, unless it failed meanwhile."""
        self._engine_faults.setdefault(name, faults)
        self._canaries.way("engine", name).send()

    def _do(self, canary: Canary) -> None:
        """A deed, and what has to tell of it."""
        if canary.deed is Deed.EXEC:
            pid = self._execute()
            if canary.ring and pid:
                self._canaries.expect(canary.hook, canary.ring, pid)
        elif canary.deed is Deed.SOCKET:
            self._canaries.way("hook", canary.hook).send()
            self._counts.setdefault(canary.hook, self._counted(canary))
            connect()

    def _execute(self) -> int:
        """``true``, in a process that is waited for at the next look; its pid, 0: it cannot be."""
        self._children = [child for child in self._children if child.poll() is None]
        program = shutil.which("true") or _FALLBACK
        try:
            child = subprocess.Popen([program], close_fds=True)  # noqa: S603 (a fixed word)
        except OSError as error:
            if not self._unable:
                logger.warning("no canary can be executed: %s", error)
            self._unable = True
            return 0
        self._children.append(child)
        return child.pid

    def _counted(self, canary: Canary) -> int:
        name, field = canary.count
        return int(self._kernel.total(name)[field].sum())

    def _ask_chain(self, interface: str) -> None:
        way = self._canaries.way("hook", interface)
        way.send()
        began = time.monotonic()
        try:
            found = self._kernel.run(DRY, _FRAME, interface=interface)
        except (KernelError, KeyError) as error:
            way.fault = f"its chain cannot be run: {error}"
            return
        if found.retval != _XDP_PASS:
            way.fault = f"its chain ended with {found.retval} for a frame that nothing denies"
            return
        way.hear()
        way.latency_s = time.monotonic() - began

    def look(self, faults: Mapping[str, int]) -> None:
        """Hear what does not come by itself: engines, counters, destinations."""
        self._children = [child for child in self._children if child.poll() is None]
        for way in list(self._canaries.ways.values()):
            if way.kind == "engine" and way.waits:
                self._look_at_engine(way, faults.get(way.name, 0))
        for domain in self._domains.values():
            for canary in domain.canaries:
                hook = self._canaries.ways.get(f"hook {canary.hook}")
                if canary.count[0] and hook and hook.waits and self._rose(canary):
                    hook.hear()
                    del self._counts[canary.hook]
        for view in self._router.views():
            number = self._numbers.get(view.name, 0)
            if view.canary and number and view.acknowledged >= number:
                self._canaries.way("sink", view.name).hear()

    def _rose(self, canary: Canary) -> bool:
        return self._counted(canary) > self._counts.get(canary.hook, 0)

    def _look_at_engine(self, way: Way, faults: int) -> None:
        """Well: all its rings' canaries were fed to it, or it ticked, and it failed at none."""
        before = self._engine_faults.get(way.name, 0)
        self._engine_faults[way.name] = faults
        if faults > before:
            way.fault = f"it failed {faults - before} times"
            return
        rings = [
            found
            for found in self._canaries.ways.values()
            if found.kind == "ring" and self._owner(found.name) == way.name
        ]
        if not any(found.waits for found in rings):
            way.hear()

    def _owner(self, ring: str) -> str:
        try:
            return self._kernel.owner(ring)
        except KeyError:
            return ""

    def troubles(self, patience_s: float) -> Iterator[Trouble]:
        """What has been silent for longer than that."""
        now_s = time.monotonic()
        for way in self._canaries.ways.values():
            if (silent_s := way.silent_s(now_s)) > patience_s:
                why = f" ({way.fault})" if way.fault else ""
                text = f"{way.kind} {way.name}: no canary came back for {silent_s:.0f} s{why}"
                severity = Severity.HIGH if way.kind == "sink" else Severity.CRITICAL
                yield Trouble(way.kind, f"silent.{way.kind}.{way.name}", text, severity)
        yield from self._failing_sinks(patience_s)

    def _failing_sinks(self, patience_s: float) -> Iterator[Trouble]:
        """Those without canaries, that alerts wait for."""
        for view in self._router.views():
            if view.failing_secs > patience_s and not view.canary:
                text = f"sink {view.name}: it has failed for {view.failing_secs:.0f} s"
                text += f", {view.waiting} alerts wait ({view.last_error})"
                yield Trouble("sink", f"silent.sink.{view.name}", text, Severity.HIGH)

    def unseen(self) -> Iterator[Trouble]:
        """Interfaces on which packets come in that our programs do not see."""
        counters = {found.interface: found for found in self._kernel.interface_counters()}
        received = packets_in()
        for place in self._kernel.attachments():
            name = place.interface
            if name not in counters or name not in received or not place.how or place.how == "tc":
                continue
            seen = counters[name].packets["passed"] + counters[name].packets["dropped"]
            index, before, ours = self._traffic.get(name, (0, 0, 0))
            if index != place.ifindex or seen != ours:
                self._traffic[name] = place.ifindex, received[name], seen
            elif received[name] - before >= _PACKETS_FIRST:
                text = f"interface {name}: {received[name] - before} packets came in, and our "
                text += "programs saw none"
                yield Trouble("hook", f"unseen.{name}", text)

    def proofs(self, patience_s: float) -> list[Proof]:
        """Every way, as it is now."""
        now_s = time.monotonic()
        found = []
        for way in self._canaries.ways.values():
            silent = way.silent_s(now_s) > patience_s
            state = "silent" if silent else "well" if way.heard_s else "unproven"
            latency = None if way.latency_s is None else round(way.latency_s * 1000, 3)
            found.append(
                Proof(
                    kind=way.kind,
                    name=way.name,
                    state=state,
                    latency_ms=latency,
                    heard_ns=way.heard_ns,
                    why=way.fault,
                )
            )
        return sorted(found, key=lambda proof: (proof.kind, proof.name))

    def metrics(self, patience_s: float) -> Iterator[Metric]:
        """How long the last canary took, and whether one is missing."""
        for proof in self.proofs(patience_s):
            labels = {"kind": proof.kind, "name": proof.name}
            text = "1: a canary on this way did not come back in time"
            yield Metric("canary_silent", "gauge", text, labels, float(proof.state == "silent"))
            if proof.latency_ms is not None:
                text = "How long the last canary took"
                yield Metric(
                    "canary_latency_seconds", "gauge", text, labels, proof.latency_ms / 1000
                )

    def close(self) -> None:
        """Wait for what was executed."""
        for child in self._children:
            child.wait(5)


def connect() -> None:
    """A UDP socket, connected to itself: nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.connect(one.getsockname())


def packets_in() -> dict[str, int]:
    """Packets that came in by interface, as the kernel counts them."""
    found: dict[str, int] = {}
    for line in Path("/proc/self/net/dev").read_text().splitlines()[2:]:
        name, _, counts = line.partition(":")
        found[name.strip()] = int(counts.split()[1])
    return found
