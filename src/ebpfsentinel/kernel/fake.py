"""The kernel in memory: the twin of :class:`~ebpfsentinel.kernel.load.LinuxKernel` for tests.

It is built from the same cards and the same object files, so that no test repeats a layout::

    kernel = FakeKernel(interfaces=["eth0"])
    kernel.load([DOMAIN])
    kernel.attach(["eth0"])
    kernel.put("execs", rows)          # as if the programs had seen it
    ...
    kernel.read("process_names")       # what the engine's actions made of the maps

Nothing runs in it: a program is what a test registers under its name (:attr:`FakeKernel.act`). What
the kernel would refuse is refused here with the same exception, and its rings fill and lose records
by the rules of ``include/record.h``. One contract suite (``tests/test_contract.py``) holds both to
the same behaviour.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.apply import Others, apply_actions
from ebpfsentinel.kernel.declared import DeclaredObject, read_object
from ebpfsentinel.kernel.fake_maps import FakeArray, FakeMap, FakeMapOfMaps, fake_map
from ebpfsentinel.kernel.floor import HEAD, floor_actions, head_action
from ebpfsentinel.kernel.flows import END, MOVE, FakeFlows, Layout
from ebpfsentinel.kernel.maps import RINGBUF
from ebpfsentinel.kernel.objects import HOST_KINDS, INTERFACE_KINDS, can_do_without, kind_of
from ebpfsentinel.kernel.owners import executables, surveyed
from ebpfsentinel.kernel.ring import record_stride
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.health import CANARY_WORD, Breach
from ebpfsentinel.model.kernel import (
    DRY,
    META,
    NOT_NEEDED,
    REPLAY,
    Answers,
    Attachment,
    DomainRefused,
    InterfaceCounters,
    KernelError,
    Ledger,
    OnExit,
    ProgramStatus,
    Route,
    RunResult,
    XdpMode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action, Engage, Kill, Run
    from ebpfsentinel.model.domain import Domain, Program
    from ebpfsentinel.model.flows import Ends
    from ebpfsentinel.model.kernel import Frames, Kernel, Way

_DISPATCH = "dispatch"
_DISPATCH_OBJECT = Path(__file__).parent / "dispatch.bpf.o"
_SLOTS = 64
_XDP_PASS = 2
_ETHERNET_BYTES = 14
BOOT_OFFSET_NS = 1_700_000_000_000_000_000


@dataclass(slots=True)
class _Ring:
    """Records waiting in a ring, and how full that makes it."""

    record: np.dtype[Any]
    size: int
    waiting: list[NDArray[Any]] = field(default_factory=list)
    pending: int = 0
    delivered: int = 0
    fd: int = -1

    def room(self) -> tuple[int, str]:
        """How many records more are taken, and why the next one is not."""
        stride, limit = record_stride(self.record.itemsize), self.size // 4 * 3
        until_limit = (limit - self.pending) // stride + 1 if self.pending <= limit else 0
        until_full = (self.size - 1 - self.pending) // stride
        return min(until_limit, until_full), (
            "backpressure" if until_limit <= until_full else "ring_full"
        )


@dataclass(slots=True)
class _Loaded:
    """One object's programs: those in force by section, and those refused by reason."""

    declared: DeclaredObject
    cards: dict[str, Program]
    programs: dict[str, str]
    refused: dict[str, str]


class FakeKernel:
    """The :class:`~ebpfsentinel.model.kernel.Kernel` contract in memory.

    Args:
        on_exit: as of the agent; under ``keep``, maps and attachments are still there after detach.
        xdp_mode: what attachments say of themselves; ``auto`` is native.
        interfaces: names of the interfaces that there are.
        cpus: width of per-CPU values.
        refused: programs that do not load, with the reason; ladders and optional programs apply.

    Attributes:
        kills: every :class:`~ebpfsentinel.model.action.Kill` carried out.
        processes: pid to start (boot clock, ns) of the processes there are; ``None``: any.
        act: programs that :meth:`run` can run: frame to return code.
        meta: what programs leave in front of a frame: frame to the bytes of a packet_meta.
        led: the routes there are, by destination.
        enabled: names of the domains loaded last.
        floor: what :meth:`protect` was given last; lapses: what :meth:`lapse` was.
        engaged: names of the stand-ins that run behind XDP too.
        breaches: what the next :meth:`inspect` finds.
    """

    def __init__(
        self,
        on_exit: OnExit = OnExit.DETACH,
        xdp_mode: XdpMode = XdpMode.AUTO,
        interfaces: Iterable[str] = (),
        cpus: int = 2,
        refused: dict[str, str] | None = None,
    ) -> None:
        self.kills: list[Kill] = []
        self.away = ""
        self.processes: dict[int, int] | None = None
        self.act: dict[str, Callable[[bytes], int]] = {}
        self.meta: dict[str, Callable[[bytes], bytes]] = {}
        self.led: dict[str, Route] = {}
        self.enabled: tuple[str, ...] = ()
        self.floor: Floor | None = None
        self.engaged: set[str] = set()
        self.lapses: tuple[int, tuple[str, ...]] = (0, ())
        self.breaches: list[Breach] = []
        self._head = np.zeros(1, HEAD)
        self._keep = self._outlives = on_exit is OnExit.KEEP
        self._cpus = cpus
        self._how = "native" if xdp_mode is XdpMode.AUTO else str(xdp_mode)
        self._refused = refused or {}
        self._objects: dict[str, _Loaded] = {}
        self._maps: dict[str, FakeMap] = {}
        self._rings: dict[str, _Ring] = {}
        self._seeds: dict[str, NDArray[Any]] = {}
        self._present: dict[str, int] = {}
        self._places: dict[str, Attachment] = {}
        self._slots: dict[str, int] = {}
        self._tracing: set[str] = set()
        self._measured = False
        self._runs: Counter[str] = Counter()
        for name in interfaces:
            self.add_interface(name)

    # What a test does in the kernel's place.

    def put(self, ring: str, rows: NDArray[Any]) -> int:
        """Emit records, as a program would; returns how many the ring took.

        What does not fit is counted in the ring's ledger as ``backpressure`` (three quarters full)
        or ``ring_full``.

        Raises:
            KeyError: there is no such ring.
            TypeError: the rows are not of its record type.
        """
        target = self._rings[ring]
        if rows.dtype != target.record:
            raise TypeError(f"ring {ring} carries {target.record}, got {rows.dtype}")
        room, reason = target.room()
        taken = min(room, len(rows))
        self._count(ring, seen=len(rows), **{reason: len(rows) - taken})
        if taken:
            target.waiting.append(rows[:taken].copy())
            target.pending += taken * record_stride(target.record.itemsize)
            if target.fd >= 0:
                os.eventfd_write(target.fd, 1)
        return taken

    def discard(self, ring: str, count: int = 1) -> None:
        """Count records that a program reserved and gave back."""
        self._count(ring, seen=count, discarded=count)

    def _count(self, ring: str, **more: int) -> None:
        ledger = self._array(f"{ring}_led").cells
        for name, count in more.items():
            ledger[name][0, 0] += np.uint64(count)

    def put_seed(self, program: str, rows: NDArray[Any]) -> None:
        """What the iterator program returns from now on."""
        if rows.dtype != self._record(program):
            raise TypeError(f"{program} returns {self._record(program)}, got {rows.dtype}")
        self._seeds[program] = rows.copy()

    def set_total(self, map_name: str, values: NDArray[Any]) -> None:
        """Fill a per-CPU array: its first ``len(values)`` totals become ``values``."""
        cells = self._array(map_name).cells
        cells[: len(values)] = np.zeros((), cells.dtype)
        cells[: len(values), 0] = values

    def generation(self, map_name: str, slot: int = 0) -> NDArray[Any]:
        """What was put behind the slot, shape ``(1,)``; KeyError: nothing."""
        target = self._maps[map_name]
        if not isinstance(target, FakeMapOfMaps):
            raise KernelError(f"map {map_name} is no map of maps")
        return target.lent[slot].read()[1] if slot in target.lent else target.generations[slot]

    def dtypes(self, map_name: str) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """Key and value dtype of a map."""
        declared = self._maps[map_name].declared
        return declared.key, declared.value

    def add_interface(self, name: str) -> None:
        """An interface appears; call :meth:`attach` again."""
        self._present[name] = max(self._present.values(), default=1) + 1

    def remove_interface(self, name: str) -> None:
        """An interface goes, and with it what was attached to it."""
        index = self._present.pop(name)
        for asked in [asked for asked, place in self._places.items() if place.ifindex == index]:
            del self._places[asked]

    def _array(self, name: str) -> FakeArray:
        target = self._maps[name]
        if not isinstance(target, FakeArray):
            raise KernelError(f"map {name} is no array")
        return target

    # The contract.

    def load(self, domains: Sequence[Domain]) -> None:
        """See the contract."""
        if _DISPATCH not in self._objects:
            self._take(_DISPATCH, _DISPATCH_OBJECT, ())
        for domain in domains:
            if domain.object and domain.name not in self._objects:
                module = sys.modules[domain.engine.__module__]
                path = Path(str(module.__file__)).parent / domain.object
                try:
                    self._take(domain.name, path, domain.programs)
                except KernelError as error:
                    raise DomainRefused(domain.name, str(error)) from None
        self.enabled = tuple(domain.name for domain in domains)
        if not any(name == MOVE for name, _, _ in self._enabled_programs(called=True)):
            self.apply([FlowTable(None)])

    def _take(self, name: str, path: Path, cards: Sequence[Program]) -> None:
        if not path.exists():
            raise KernelError(f"{path} is missing: run 'make setup'")
        declared = read_object(path)
        by_name = {card.name: card for card in cards}
        real = {n: s for n, s in declared.programs.items() if kind_of(s) != "canary"}
        programs, refused = _ladder(real, by_name, self._refused)
        self._objects[name] = _Loaded(declared, by_name, programs, refused)
        for map_name, each in declared.maps.items():
            if map_name not in self._maps:
                self._maps[map_name] = fake_map(each, self._cpus)
            if each.type == RINGBUF:
                self._rings[map_name] = _Ring(declared.records[map_name], each.max_entries)

    def reserve(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        for name in interfaces:
            self._slots.setdefault(name, len(self._slots) + 1)
        if len(self._slots) >= _SLOTS:
            raise KernelError(f"{len(self._slots)} interfaces: {_SLOTS - 1} is the most")

    def claim(self, interfaces: Sequence[str]) -> None:
        """See the contract; nobody else is here."""

    def attach(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        self._tracing = {name for name, kind, _ in self._enabled_programs() if kind in HOST_KINDS}
        self.reserve(interfaces)
        chained = any(kind in INTERFACE_KINDS for _, kind, _ in self._enabled_programs())
        self._places = {
            name: Attachment(name, self._present[name], self._how)
            for name in interfaces
            if chained and name in self._present
        }

    def detach(self) -> None:
        """See the contract."""
        for ring in self._rings.values():
            if ring.fd >= 0:
                os.close(ring.fd)
        self._tracing.clear()
        if self._outlives:
            return
        for held in (self._places, self._rings, self._maps, self._objects):
            held.clear()

    def outlive(self, *, on: bool) -> None:
        """See the contract."""
        self._outlives = on or self._keep

    def apply(self, actions: Sequence[Action]) -> None:
        """See the contract."""
        others = Others(self._kill, self._engage, self._run_action, self._flows)
        apply_actions(actions, self._maps, others)

    def _run_action(self, action: Run) -> None:
        """Programs that work on the flow table have twins here; others are counted only."""
        if not any(action.program in loaded.programs for loaded in self._objects.values()):
            raise KernelError(f"{action.program} is not loaded")
        self._runs[action.program] += action.repeat
        if action.program == MOVE:
            self._flows().move_here()
        elif action.program == END:
            self._flows().end_here(action)

    def _flows(self) -> FakeFlows:
        layout = Layout.of(self._objects[_DISPATCH].declared.btf)
        return FakeFlows(self._maps, layout, self._run_action)

    def flows(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """See the contract."""
        return self._flows().read(first, count)

    def find_flow(self, ends: Ends) -> NDArray[Any]:
        """See the contract."""
        return self._flows().find(ends)

    def look_up(self, map_name: str, key: NDArray[Any]) -> NDArray[Any] | None:
        """See the contract."""
        return self._maps[map_name].get(key)

    def put_flows(self, rows: NDArray[Any]) -> int:
        """Put flows into the table in force, as programs would; how many found a place."""
        return self._flows().put_rows(rows)

    def protect(self, floor: Floor) -> None:
        """See the contract."""
        self.floor = floor
        self.apply(floor_actions(floor, self._head))

    def protected(self) -> Floor:
        """See the contract."""
        return self.floor or Floor()

    def lapse(self, at_ns: int, domains: Sequence[str]) -> None:
        """See the contract."""
        self.lapses = (at_ns, tuple(domains))
        self._head["lapse_ns"] = at_ns
        self.apply([head_action(self._head)])

    def _engage(self, action: Engage) -> None:
        if any(action.program in loaded.refused for loaded in self._objects.values()):
            return
        if not any(action.program in loaded.programs for loaded in self._objects.values()):
            raise KernelError(f"{action.program} is not loaded")
        (self.engaged.add if action.on else self.engaged.discard)(action.program)

    def _kill(self, action: Kill) -> None:
        if self.processes is not None:
            if action.pid not in self.processes:
                raise KernelError(f"process {action.pid} cannot be killed: No such process")
            if self.processes[action.pid] != action.start_ns:
                raise KernelError(
                    f"process {action.pid} is not the one that was judged: it is left alone"
                )
            del self.processes[action.pid]
        self.kills.append(action)

    def read(self, map_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """See the contract."""
        return self._maps[map_name].read()

    def total(self, map_name: str, most: int | None = None) -> NDArray[Any]:
        """See the contract."""
        found = self._maps[map_name].total()
        found[len(found) if most is None else most :] = np.zeros((), found.dtype)
        return found

    def drain(self, ring: str) -> NDArray[Any]:
        """See the contract."""
        target = self._rings[ring]
        rows = np.concatenate([np.empty(0, target.record), *target.waiting])
        target.waiting.clear()
        target.pending, target.delivered = 0, target.delivered + len(rows)
        if target.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(target.fd)
        return rows

    def seed(self, program: str) -> NDArray[Any]:
        """See the contract."""
        empty = np.empty(0, self._record(program))
        return self._seeds.get(program, empty).copy()

    def _record(self, program: str) -> np.dtype[Any]:
        for loaded in self._objects.values():
            if program in loaded.programs:
                return loaded.declared.records[program]
        raise KeyError(program)

    def run(self, program: str, frame: bytes, repeat: int = 1, interface: str = "") -> RunResult:
        """See the contract: runs what the test registered in :attr:`act`.

        ``xdp_root`` without one runs the chain: registered programs in the order of their cards
        until one does not return XDP_PASS. ``xdp_dry`` without one passes everything.
        """
        if interface and interface not in self._present:
            raise KernelError(f"there is no interface {interface!r}: 'ip link' lists them")
        if not any(program in loaded.programs for loaded in self._objects.values()):
            raise KeyError(program)
        retval = 0
        self._runs[program] += repeat * self._measured
        for _ in range(repeat):
            retval = self._run(program, frame)
        meta = self.meta[program](frame) if program in self.meta else b""
        return RunResult(retval, frame, 0, meta)

    def run_many(self, program: str, frames: Frames, behind: str = "") -> Answers:
        """See the contract: as :meth:`run`, frame by frame."""
        answers = Answers(
            np.zeros(len(frames), np.uint32),
            np.zeros(len(frames), META),
            frames.length < _ETHERNET_BYTES,
        )
        for at in np.flatnonzero(~answers.refused).tolist():
            found = self.run(program, frames.frame(at))
            answers.retval[at] = found.retval
            if found.meta:
                answers.meta[at] = np.frombuffer(found.meta, META)[0]
            if behind:
                self.run(behind, frames.frame(at))
        return answers

    def _run(self, program: str, frame: bytes) -> int:
        if program in self.act:
            return self.act[program](frame)
        if program in (DRY, REPLAY):
            return _XDP_PASS
        if program != "xdp_root":
            raise KernelError(f"register a callable for {program}: kernel.act[{program!r}] = ...")
        for name, _, _ in sorted(
            (each for each in self._enabled_programs() if each[1] == "xdp"),
            key=lambda each: each[2],
        ):
            retval = self.act[name](frame) if name in self.act else _XDP_PASS
            if retval != _XDP_PASS:
                return retval
        return _XDP_PASS

    def routes(self, ways: Sequence[Way]) -> list[Route]:
        """See the contract; what is not in :attr:`led` has no route."""
        return [self.led.get(way.dst_ip, Route("none", anomaly="no_route")) for way in ways]

    def wall_ns(self, boot_ns: int) -> int:
        """See the contract; the machine booted at :data:`BOOT_OFFSET_NS`."""
        return boot_ns + BOOT_OFFSET_NS

    def rings(self) -> dict[str, int]:
        """See the contract; the descriptors are eventfds, closed by :meth:`detach`."""
        for ring in self._rings.values():
            if ring.fd < 0:
                ring.fd = os.eventfd(int(bool(ring.waiting)), os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return {name: ring.fd for name, ring in self._rings.items()}

    def owner(self, source: str) -> str:
        """See the contract."""
        for name, loaded in self._objects.items():
            if source in loaded.declared.maps or source in loaded.programs:
                return name
        raise KeyError(source)

    def seeds(self) -> Sequence[str]:
        """See the contract."""
        return [name for name, kind, _ in self._enabled_programs() if kind == "iter"]

    def _enabled_programs(self, *, called: bool = False) -> list[tuple[str, str, int]]:
        """Name, kind and order of every program in force of the domains loaded last.

        ``called``: those too that are in no chain.
        """
        return [
            (name, kind_of(section), loaded.cards[name].order if name in loaded.cards else 0)
            for domain in self.enabled
            if (loaded := self._objects.get(domain))
            for name, section in loaded.programs.items()
            if called or not (name in loaded.cards and loaded.cards[name].called_from)
        ]

    def interface_slots(self) -> dict[str, int]:
        """See the contract."""
        return dict(self._slots)

    def attachments(self) -> Sequence[Attachment]:
        """See the contract."""
        return list(self._places.values())

    def programs(self) -> Sequence[ProgramStatus]:
        """See the contract."""
        found = []
        for domain, loaded in self._objects.items():
            for name, section in loaded.programs.items():
                where, runs = self._where(domain, name, section), self._runs[name]
                found.append(
                    ProgramStatus(
                        name, domain, section, loaded=True, attached=where, run_count=runs
                    )
                )
            for name, reason in loaded.refused.items():
                found.append(ProgramStatus(name, domain, "", loaded=False, reason=reason))
        return found

    def _where(self, domain: str, name: str, section: str) -> tuple[str, ...]:
        kind = kind_of(section)
        if kind in HOST_KINDS:
            return (section,) if name in self._tracing else ()
        if kind not in ("xdp", "egress") or name in (DRY, REPLAY):
            return ()
        if domain != _DISPATCH and domain not in self.enabled:
            return ()
        return tuple(place.interface for place in self._places.values())

    def ledgers(self) -> Sequence[Ledger]:
        """See the contract."""
        return [self._ledger(name, ring) for name, ring in self._rings.items()]

    def _ledger(self, name: str, ring: _Ring) -> Ledger:
        row = self._maps[f"{name}_led"].total()[0]
        lost = {field: int(row[field]) for field in row.dtype.names}
        seen = lost.pop("seen")
        return Ledger(name, seen, seen - sum(lost.values()), ring.delivered, lost)

    def failures(self) -> dict[str, int]:
        """See the contract; filled by ``set_total("failures", ...)``."""
        names = dict(self._objects[_DISPATCH].declared.btf.enums())["failure"]
        totals = self._maps["failures"].total()
        return {
            name.removeprefix("FAILURE_").lower(): int(totals[number])
            for name, number in names.items()
            if number < len(totals)
        }

    def canary(self, ring: str) -> bool:
        """See the contract."""
        record = self._rings[ring].record
        words = np.full(record.itemsize // 8, CANARY_WORD, np.uint64)
        return bool(self.put(ring, words.view(record)))

    def inspect(self, *, mend: bool = False) -> Sequence[Breach]:
        """See the contract: what a test put into :attr:`breaches`."""
        found, self.breaches = self.breaches, []
        return found

    def measure(self, *, on: bool) -> None:
        """See the contract; runs by :meth:`run` are counted, at no nanoseconds."""
        self._measured = on

    def trouble(self) -> str:
        """See the contract; ``away`` is the text."""
        return self.away

    def regain(self) -> None:
        """See the contract."""
        if self.away:
            raise KernelError(self.away)

    def locate(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See the contract; files are the real ones."""
        return executables(paths)

    def survey(self, domain: Domain) -> Mapping[str, Any]:
        """See the contract; the machine is the real one."""
        return surveyed(domain)

    def interface_counters(self) -> Sequence[InterfaceCounters]:
        """See the contract; filled by ``set_total("interface_count", ...)``, by slot."""
        totals = self._maps["interface_count"].total()
        return [
            InterfaceCounters(
                name,
                {
                    key: int(totals[slot][key])
                    for key in ("passed", "dropped", "would_drop", "spared", "egress_dropped")
                },
                int(totals[slot]["bytes"]),
            )
            for name, slot in self._slots.items()
        ]


def _ladder(
    sections: dict[str, str], cards: dict[str, Program], refusals: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Which programs are in force, and why the others are not.

    Raises:
        KernelError: one is refused that has no stand-in and is not optional.
    """
    refused = {name: refusals[name] for name in sections if name in refusals}
    for name, reason in refused.items():
        if not can_do_without(name, cards, refused):
            raise KernelError(f"the kernel refused {name}: {reason}")
    for name, card in cards.items():
        waits = kind_of(sections.get(name, "")) in HOST_KINDS and card.instead_of not in refused
        if card.instead_of and waits and name in sections:
            refused.setdefault(name, NOT_NEEDED)
    return {name: section for name, section in sections.items() if name not in refused}, refused


if TYPE_CHECKING:
    _TWIN: Kernel = FakeKernel()
