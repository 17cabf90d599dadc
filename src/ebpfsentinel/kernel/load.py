"""The real kernel: loads the domains' objects, chains and attaches their programs.

The way in: ``load`` (objects, ladders, chains), ``attach`` (interfaces and tracing hooks), then
``drain``, ``seed``, ``apply`` and the read models, and ``detach`` at the end. Under
``on_exit: keep`` the maps and interface links are pinned from the start, so that even SIGKILL of
the agent changes no verdict; a restart takes the maps over with their contents and puts its own
programs into the links.
"""

from __future__ import annotations

import os
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel import attach as hooks
from ebpfsentinel.kernel import clock, pins
from ebpfsentinel.kernel.apply import Others, apply_actions, kill, touched
from ebpfsentinel.kernel.claim import Claims
from ebpfsentinel.kernel.declared import read_object
from ebpfsentinel.kernel.floor import HEAD, LOOPBACK, floor_actions, head_action
from ebpfsentinel.kernel.flows import MOVE, Flows, Layout
from ebpfsentinel.kernel.generated import check_generated
from ebpfsentinel.kernel.inspect import (
    Seals,
    link_breach,
    pin_breach,
    put_back,
    slot_breach,
    tracing_breach,
)
from ebpfsentinel.kernel.interfaces import present as present_interfaces
from ebpfsentinel.kernel.libbpf import check, check_pointer, explain, ffi, lib, sized
from ebpfsentinel.kernel.maps import DEVMAP_HASH, RINGBUF, pointer
from ebpfsentinel.kernel.memory import MB, needs, room_bytes
from ebpfsentinel.kernel.objects import (
    CANARY,
    HOST_KINDS,
    INTERFACE_KINDS,
    IncompatiblePinsError,
    LoadedObject,
    LoadedProgram,
    load_object,
)
from ebpfsentinel.kernel.owners import cgroup_root, executables, surveyed
from ebpfsentinel.kernel.ring import Ring, record_stride
from ebpfsentinel.kernel.routes import routes
from ebpfsentinel.kernel.run import run_many, run_once
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.health import Breach
from ebpfsentinel.model.kernel import (
    DRY,
    REPLAY,
    Attachment,
    DomainRefused,
    InterfaceCounters,
    KernelError,
    Ledger,
    NotLoaded,
    OnExit,
    ProgramStatus,
    RunResult,
    XdpMode,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.kernel.btf import Btf
    from ebpfsentinel.kernel.maps import Map
    from ebpfsentinel.model.action import Action, Engage, Run
    from ebpfsentinel.model.domain import Domain, Program
    from ebpfsentinel.model.flows import Ends
    from ebpfsentinel.model.kernel import Answers, Frames, Route, Way

_HERE = Path(__file__).parent
_DISPATCH = "dispatch"
_CHAIN_SLOTS = 32
_INTERFACE_SLOTS = 64
_PACKETS = ("passed", "dropped", "would_drop", "spared", "egress_dropped")
_RUN_STATS = 0
_SEALED = ("interfaces", "floor_head", "floor_net")
"""Maps of our own that programs only read."""
_XDP = {"generic": 1, "offloaded": 1, "native": 2}
"""``enum interface_xdp``; what is offloaded has no CPUs to steer to."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is loaded: rings and their records, owners of maps and programs, records by object."""

    rings: dict[str, tuple[Map, np.dtype[Any]]]
    owners: dict[str, str]
    records: dict[str, dict[str, np.dtype[Any]]]


class LinuxKernel:
    """The :class:`~ebpfsentinel.model.kernel.Kernel` contract on this machine.

    ``lends_rings``: another process drains them; here their memory is not even mapped.
    """

    def __init__(
        self,
        on_exit: OnExit = OnExit.DETACH,
        xdp_mode: XdpMode = XdpMode.AUTO,
        pin_root: Path = pins.ROOT,
        *,
        lends_rings: bool = False,
    ) -> None:
        self._lends_rings = lends_rings
        self._keep = on_exit is OnExit.KEEP
        self._outlives = self._keep or pins.handed_over(pin_root)
        self._mode = xdp_mode
        self._root = pin_root
        self._objects: dict[str, LoadedObject] = {}
        self._enabled: tuple[str, ...] = ()
        self._maps: dict[str, Map] = {}
        self._rings: dict[str, Ring] = {}
        self._past: dict[str, dict[str, int]] = {}
        self._tracing: dict[str, Any] = {}
        self._untraced: dict[str, str] = {}
        self._places: dict[str, hooks.Place] = {}
        self._slots: dict[str, int] = {}
        self._stats_fd = -1
        self._claims = Claims()
        self._head = np.zeros(1, HEAD)
        self._floor = Floor()
        self._fragments = True
        self._engaged: set[str] = set()
        self._held: list[int] = []
        self._layout: tuple[Btf, Layout] | None = None
        self._lapse: tuple[int, Sequence[str]] = (0, ())
        self._seals = Seals()
        self._noticed: list[Breach] = []
        self._told: set[int] = set()

    def load(self, domains: Sequence[Domain]) -> None:
        """See the contract. A loaded domain that is not named any more leaves the chains."""
        if self._outlives:
            pins.prepare(self._root)
        if _DISPATCH not in self._objects:
            self._take(_DISPATCH, self._load_dispatch())
        fresh = [d for d in domains if d.object and d.name not in self._objects]
        self._check_room(fresh)
        with ThreadPoolExecutor(max(len(fresh), 1)) as pool:  # the verifier is the slow part
            coming = {domain.name: pool.submit(self._load_domain, domain) for domain in fresh}
        refused = {name: found.exception() for name, found in coming.items() if found.exception()}
        for name in [name for name in coming if name not in refused]:
            self._take(name, coming[name].result())
        for name, error in refused.items():
            if not isinstance(error, KernelError):
                coming[name].result()
            raise DomainRefused(name, str(error))
        self._seals.names = {*_SEALED, *(name for each in domains for name in each.sealed)}
        self._enabled = tuple(domain.name for domain in domains)
        if not self._has(MOVE):
            self.apply([FlowTable(None)])  # nobody writes it: what it says would grow old
        if self._places or not self._outlives:
            self._fill_chains()

    def _check_room(self, domains: Sequence[Domain]) -> None:
        """Before anything is allocated: a control group without room would have us killed later.

        Raises:
            DomainRefused: the maps of one do not fit beside those before it.
        """
        if (room := room_bytes()) is None:
            return
        for domain in domains:
            found = needs([(domain.name, _object_path(domain))])
            wanted = [need for need in found if need.map not in self._maps]
            total = sum(need.bytes for need in wanted)
            if total > room:
                most = max(wanted, key=lambda need: need.bytes)
                raise DomainRefused(
                    domain.name,
                    f"its maps take {total / MB:.1f} MB ({most.map}: {most.bytes / MB:.1f}), and "
                    f"the control group has {room / MB:.1f} MB left: raise MemoryMax, or switch "
                    "off what is not needed (ebpfsentinel-agent memory shows all)",
                )
            room -= total

    def _has(self, program: str) -> bool:
        """Is it of an enabled domain?"""
        found = (self._objects[name] for name in self._enabled if name in self._objects)
        return any(program in loaded.programs for loaded in found)

    def _fill_chains(self) -> None:
        """Put the programs in force into the chains.

        At a start under ``on_exit: keep`` the chains may be in use already: they are filled only
        when interfaces are attached, after the rules, so that the programs of the last run judge
        until those of this one have something to judge by.
        """
        for kind in INTERFACE_KINDS:
            self._fill(f"{kind}_chain", [program.fd for program in self._chain(kind)])

    def _load_dispatch(self) -> LoadedObject:
        """The roots; where the kernel has no XDP fragments, they tell so, and none are asked for.

        Frames that a driver would hand on in several buffers are then not taken by native XDP on
        that interface: attaching says so, and the ladder goes on.
        """
        try:
            return self._load_object(_HERE / "dispatch.bpf.o", ())
        except KernelError:
            self._fragments = False
            return self._load_object(_HERE / "dispatch.bpf.o", ())

    def _load_domain(self, domain: Domain) -> LoadedObject:
        loaded = self._load_object(_object_path(domain), domain.programs)
        check_generated(domain, loaded.records())
        return loaded

    def _load_object(self, path: Path, cards: Sequence[Program]) -> LoadedObject:
        folder = self._root / "maps" if self._outlives else None
        shared = self._objects[_DISPATCH].maps if _DISPATCH in self._objects else {}
        try:
            return load_object(path, cards, shared, folder, fragments=self._fragments)
        except IncompatiblePinsError:
            own = [name for name in read_object(path).maps if name not in shared]
            self._held += pins.hold(own, self._root)
            pins.drop_maps(own, self._root)
            return load_object(path, cards, shared, folder, fragments=self._fragments)

    def _take(self, name: str, loaded: LoadedObject) -> None:
        """Make an object's maps and rings known."""
        self._objects[name] = loaded
        self._maps |= loaded.maps
        for found in loaded.maps.values():
            if found.type == RINGBUF:
                record = loaded.record(found.name)
                ring = Ring(found.fd, found.max_entries, record)
                self._rings[found.name] = ring
                self._past[found.name] = self._ledger_now(found.name)
                waiting = ring.pending_bytes() // record_stride(record.itemsize)
                self._past[found.name]["seen"] -= waiting
                if self._lends_rings:
                    ring.close()
        for program in loaded.programs.values():
            if program.card and program.card.called_from:
                table, slot = program.card.called_from
                self._put_program(table, slot, program.fd)

    def _put_program(self, table: str, slot: int, program: int) -> None:
        key, value = ffi.new("uint32_t *", slot), ffi.new("uint32_t *", program)
        updated = lib().bpf_map_update_elem(self._maps[table].fd, key, value, 0)
        check(updated, f"slot {slot} of {table}")

    def _chain(self, kind: str) -> list[LoadedProgram]:
        """The enabled programs of a chained hook, in the order of their cards."""
        found = [
            program
            for name in self._enabled
            if name in self._objects
            for program in self._objects[name].programs.values()
            if program.kind == kind and self._is_chained(program)
        ]
        return sorted(found, key=lambda program: program.card.order if program.card else 0)

    def _is_chained(self, program: LoadedProgram) -> bool:
        card = program.card
        if card is None:
            return True
        return not card.called_from and (not card.on_call or card.name in self._engaged)

    def _fill(self, chain: str, programs: Sequence[int]) -> None:
        if len(programs) > _CHAIN_SLOTS:
            raise KernelError(f"{chain} has {_CHAIN_SLOTS} slots for {len(programs)} programs")
        for slot in range(_CHAIN_SLOTS):
            if slot < len(programs):
                self._put_program(chain, slot, programs[slot])
            else:
                lib().bpf_map_delete_elem(self._maps[chain].fd, ffi.new("uint32_t *", slot))

    def reserve(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        for name in interfaces:
            self._slots.setdefault(name, len(self._slots) + 1)
        if len(self._slots) >= _INTERFACE_SLOTS:
            raise KernelError(f"{len(self._slots)} interfaces: {_INTERFACE_SLOTS - 1} is the most")

    def claim(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        present = present_interfaces()
        for name in interfaces:
            if name in present:
                self._claims.take(name, present[name])

    def attach(self, interfaces: Sequence[str]) -> None:
        """See the contract. An interface that is not there (yet) is no error: call again."""
        self._attach_tracing()
        self.reserve(interfaces)
        self.claim(interfaces)
        present = present_interfaces()
        self._forget(present)
        if not self._places:
            self._fill_chains()
        wanted = [name for name in interfaces if name not in self._places]
        for name in [name for name in self._places if name not in interfaces]:
            hooks.leave(self._places.pop(name), keep=False)
        if any(self._chain(kind) for kind in INTERFACE_KINDS):
            coming = {name: present[name] for name in wanted if name in present}
            self._write_interfaces(coming)
            for name, ifindex in coming.items():
                self._attach_interface(name, ifindex)
        self._follow_engaged()
        self._claims.keep(
            {present[name] for name in interfaces if name in present} | self._indices()
        )
        self._write_interfaces()
        self._write_loopback()
        self._let_go()

    def _let_go(self) -> None:
        """Those of the last run have judged until now; an empty chain lets everything pass."""
        while self._held:
            os.close(self._held.pop())

    def _indices(self) -> set[int]:
        return {place.ifindex for place in self._places.values()}

    def _attach_interface(self, name: str, ifindex: int) -> None:
        mode = XdpMode.TC if self._lacks_xdp() else self._mode
        self._places[name] = hooks.attach(name, ifindex, self._roots(), mode, self._links())

    def _lacks_xdp(self) -> bool:
        """Was an XDP program refused that TC has a stand-in for?

        Then TC judges everywhere, since where XDP judges the stand-ins keep out.
        """
        return any(
            program.card is not None
            and program.card.instead_of in self._objects[name].refused
            and program.kind == "tc"
            for name in self._enabled
            if name in self._objects
            for program in self._objects[name].programs.values()
        )

    def _roots(self) -> hooks.Roots:
        programs = self._objects[_DISPATCH].programs
        own_work = any(
            p.name in self._engaged or not (p.card and p.card.instead_of) for p in self._chain("tc")
        )
        return hooks.Roots(
            programs["xdp_root"].fd,
            programs["tc_root"].fd,
            programs["egress_root"].fd,
            tc_needed=own_work,
            egress_needed=bool(self._chain("egress")),
        )

    def _forget(self, present: Mapping[str, int]) -> None:
        """Drop places whose interface is gone; one that was renamed keeps its place and slot."""
        name_of = {index: name for name, index in present.items()}
        for asked, place in list(self._places.items()):
            if place.ifindex not in name_of or hooks.link_target(place) != place.ifindex:
                if place.ifindex in name_of and place.ifindex not in self._told:
                    self._noticed.append(Breach("hook", place.name, "our program was detached"))
                self._told.discard(place.ifindex)
                hooks.leave(self._places.pop(asked), keep=False)
            elif name_of[place.ifindex] != place.name:
                place.name = name_of[place.ifindex]
                place.asked, place.reason = asked, f"renamed from {asked}"

    def _write_interfaces(self, coming: Mapping[str, int] | None = None) -> None:
        """Tell the programs which slot an interface has, and which XDP judges there.

        Those that are ``coming`` have their slot before their first packet.
        """
        target = self._maps["interfaces"]
        table = np.zeros(1, target.value)
        found = {name: (index, 0) for name, index in (coming or {}).items()}
        for asked, place in self._places.items():
            found[asked] = place.ifindex, _XDP[place.how] if "xdp" in place.hooks else 0
        for asked, (ifindex, xdp) in found.items():
            if ifindex < table["by_ifindex"].shape[1]:
                row = table["by_ifindex"][0, ifindex : ifindex + 1]
                row["slot"], row["xdp"] = self._slots[asked], xdp
        target.write(np.zeros(1, target.key), table)
        self._seals.written(("interfaces",), self._maps)

    def _attach_tracing(self) -> None:
        """Attach what is enabled and not attached yet; detach what is no longer enabled."""
        wanted = {
            program.name: program
            for name in self._enabled
            if name in self._objects
            for program in self._objects[name].programs.values()
            if program.kind in HOST_KINDS
        }
        if any(program.kind == "tracing" for program in wanted.values()):
            pins.prepare_tracing()
        gone = [name for name in self._tracing if name not in wanted]
        _destroy([self._tracing.pop(name) for name in gone])
        for name, program in wanted.items():
            if name in self._tracing:
                continue
            link = _attach_host(program)
            if link == ffi.NULL:
                self._untraced[name] = explain(ffi.errno)
                if not (program.card and program.card.optional):
                    raise DomainRefused(
                        self.owner(name), f"{program.section}: {self._untraced[name]}"
                    )
            else:
                self._tracing[name] = link

    def detach(self) -> None:
        """See the contract."""
        self.measure(on=False)
        self._let_go()
        for place in self._places.values():
            hooks.leave(place, keep=self._outlives)
        self._places.clear()
        self._claims.keep(set())
        _destroy(list(self._tracing.values()))
        self._tracing.clear()
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()
        for loaded in self._objects.values():
            lib().bpf_object__close(loaded.handle)
        self._objects.clear()
        self._maps.clear()

    def outlive(self, *, on: bool) -> None:
        """See the contract. A clsact filter (before Linux 6.6) has no link that could be pinned."""
        if self._outlives == (on or self._keep):
            return
        if on:
            self._hand_over()
        else:
            pins.detach_all(self._root)
        self._outlives = on
        for place in self._places.values():
            hooks.repin(place, self._links())

    def _hand_over(self) -> None:
        if pins.occupied(self._root):
            raise KernelError(
                f"{self._root} holds what another agent kept: "
                "end that one, and run: ebpfsentinel-agent detach --all"
            )
        folder, links = self._root / "maps", self._root / "links"
        pinned = {folder / m.name: m.fd for m in self._maps.values() if m.type != DEVMAP_HASH}
        for place in self._places.values():
            pinned |= hooks.to_pin(place, links)
        pins.hand_over(pinned, self._root)

    def apply(self, actions: Sequence[Action]) -> None:
        """See the contract."""
        others = Others(kill, self._engage, self._run_action, self._flows)
        try:
            apply_actions(actions, self._maps, others)
        finally:
            self._seals.written(touched(actions), self._maps)

    def _run_action(self, action: Run) -> None:
        self.run(action.program, action.frame, action.repeat)

    def _flows(self) -> Flows:
        btf = self._objects[_DISPATCH].btf
        if self._layout is None or self._layout[0] is not btf:
            self._layout = btf, Layout.of(btf)
        return Flows(self._maps, self._layout[1], self._run_action)

    def flows(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """See the contract."""
        return self._flows().read(first, count)

    def find_flow(self, ends: Ends) -> NDArray[Any]:
        """See the contract."""
        return self._flows().find(ends)

    def look_up(self, map_name: str, key: NDArray[Any]) -> NDArray[Any] | None:
        """See the contract."""
        found = self._map(map_name)
        if found.per_cpu or np.shape(key) != (1,):
            raise KernelError(f"map {map_name}: one key is looked up, where CPUs share a value")
        asked, value = np.array(key, found.key), np.zeros(1, found.value)
        missing = lib().bpf_map_lookup_elem(found.fd, pointer(asked), pointer(value))
        return None if missing else value

    def _engage(self, action: Engage) -> None:
        if any(action.program in loaded.refused for loaded in self._objects.values()):
            return  # it was optional, and what is refused is shown
        if not any(action.program in loaded.programs for loaded in self._objects.values()):
            raise KernelError(f"{action.program} is not loaded")
        if (action.program in self._engaged) == action.on:
            return
        before = set(self._engaged)
        self._forget(present_interfaces())
        (self._engaged.add if action.on else self._engaged.discard)(action.program)
        try:
            if self._places:
                self._fill_chains()
            self._follow_engaged()
        except KernelError:
            self._engaged = before
            raise
        self.lapse(*self._lapse)  # places in the chains may be others now

    def _follow_engaged(self) -> None:
        """TC is where it has work to do, and nowhere else."""
        roots = self._roots()
        for place in self._places.values():
            hooks.follow(place, roots, self._links())

    def _links(self) -> Path | None:
        """Where links are pinned, if they are."""
        return self._root / "links" if self._outlives else None

    def protect(self, floor: Floor) -> None:
        """See the contract."""
        self._floor = floor
        self._head["loopback"] = LOOPBACK * (floor.loopback and LOOPBACK in self._indices())
        self.apply(floor_actions(floor, self._head))

    def protected(self) -> Floor:
        """See the contract."""
        return self._floor

    def _write_loopback(self) -> None:
        """Lo was attached to, or left."""
        loopback = LOOPBACK * (self._floor.loopback and LOOPBACK in self._indices())
        if self._head["loopback"][0] != loopback:
            self._head["loopback"] = loopback
            self.apply([head_action(self._head)])

    def lapse(self, at_ns: int, domains: Sequence[str]) -> None:
        """See the contract."""
        for kind in INTERFACE_KINDS:
            own = {
                p.fd
                for d in domains
                if d in self._objects
                for p in self._objects[d].programs.values()
            }
            places = [place for place, p in enumerate(self._chain(kind)) if p.fd in own]
            self._head[f"lapse_{kind}"] = sum(1 << place for place in places)
        self._head["lapse_ns"] = at_ns
        self._lapse = at_ns, domains
        self.apply([head_action(self._head)])

    def trouble(self) -> str:
        """See the contract: it is always there."""
        return ""

    def regain(self) -> None:
        """See the contract."""

    def locate(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See the contract."""
        return executables(paths)

    def survey(self, domain: Domain) -> Mapping[str, Any]:
        """See the contract."""
        return surveyed(domain)

    def inventory(self) -> Inventory:
        """What is loaded, for who shares it with others."""
        objects = self._objects.items()
        return Inventory(
            {name: (self._maps[name], loaded.record(name)) for name, loaded in self._ring_owners()},
            {each: name for name, found in reversed(objects) for each in found.names()},
            {name: found.records() for name, found in objects},
        )

    def _ring_owners(self) -> list[tuple[str, LoadedObject]]:
        return [(name, self._objects[self.owner(name)]) for name in self._rings]

    def map(self, name: str) -> Map:
        """A loaded map, as it is.

        Raises:
            NotLoaded: there is none.
        """
        return self._map(name)

    def kind(self, program: str) -> str:
        """What kind of program it is: see :func:`ebpfsentinel.kernel.objects.kind_of`.

        Raises:
            KeyError: no loaded object has it.
        """
        return self._program(program).kind

    def _map(self, name: str) -> Map:
        if name not in self._maps:
            raise NotLoaded(name)
        return self._maps[name]

    def read(self, map_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """See the contract."""
        return self._map(map_name).read()

    def total(self, map_name: str, most: int | None = None) -> NDArray[Any]:
        """See the contract."""
        return self._map(map_name).total(most)

    def drain(self, ring: str) -> NDArray[Any]:
        """See the contract."""
        return self._rings[ring].drain()

    def seed(self, program: str) -> NDArray[Any]:
        """See the contract."""
        loaded = self._objects[self.owner(program)]
        if loaded.programs[program].kind != "iter":
            raise KernelError(f"{program} is no iterator")
        link = check_pointer(
            lib().bpf_program__attach(loaded.programs[program].handle), f"attaching {program}"
        )
        try:
            fd = check(lib().bpf_iter_create(lib().bpf_link__fd(link)), f"running {program}")
            with os.fdopen(fd, "rb", buffering=0) as reader:
                raw = b"".join(iter(lambda: reader.read(1 << 16), b""))
        finally:
            lib().bpf_link__destroy(link)
        return np.frombuffer(raw, loaded.record(program))

    def run(self, program: str, frame: bytes, repeat: int = 1, interface: str = "") -> RunResult:
        """See the contract."""
        return run_once(self._program(program), frame, repeat, interface)

    def run_many(self, program: str, frames: Frames, behind: str = "") -> Answers:
        """See the contract."""
        then = self._program(behind) if behind else None
        return run_many(self._program(program), frames, then)

    def _program(self, name: str) -> LoadedProgram:
        return self._objects[self.owner(name)].programs[name]

    def routes(self, ways: Sequence[Way]) -> list[Route]:
        """See the contract."""
        return routes(ways)

    def wall_ns(self, boot_ns: int) -> int:
        """See the contract."""
        return boot_ns + clock.boot_offset_ns()

    def rings(self) -> dict[str, int]:
        """See the contract."""
        return {name: self._maps[name].fd for name in self._rings}

    def owner(self, source: str) -> str:
        """See the contract."""
        for name, loaded in self._objects.items():
            if source in loaded.maps or source in loaded.programs:
                return name
        raise KeyError(source)

    def seeds(self) -> Sequence[str]:
        """See the contract."""
        return [
            program.name
            for name in self._enabled
            if name in self._objects
            for program in self._objects[name].programs.values()
            if program.kind == "iter"
        ]

    def interface_slots(self) -> dict[str, int]:
        """See the contract."""
        return dict(self._slots)

    def attachments(self) -> Sequence[Attachment]:
        """See the contract."""
        return [place.attachment() for place in self._places.values()]

    def programs(self) -> Sequence[ProgramStatus]:
        """See the contract."""
        found = []
        for name, loaded in self._objects.items():
            for program in loaded.programs.values():
                if program.kind == "canary":
                    continue
                run_ns, run_count = _run_stats(program.fd)
                found.append(
                    ProgramStatus(
                        program.name,
                        name,
                        program.section,
                        loaded=True,
                        attached=self._where(name, program),
                        run_ns=run_ns,
                        run_count=run_count,
                        reason=self._untraced.get(program.name, ""),
                    )
                )
            found += [
                ProgramStatus(refused, name, "", loaded=False, reason=reason)
                for refused, reason in loaded.refused.items()
            ]
        return found

    def _where(self, domain: str, program: LoadedProgram) -> tuple[str, ...]:
        """Interfaces, or the hook, that a program runs on now."""
        if program.kind in HOST_KINDS:
            return (program.section,) if program.name in self._tracing else ()
        if (
            program.kind == "iter"
            or program.name in (DRY, REPLAY)
            or (domain != _DISPATCH and domain not in self._enabled)
        ):
            return ()
        card = program.card
        if card and card.on_call and program.name not in self._engaged:
            return ()
        stand_in = bool(card and card.instead_of) and program.name not in self._engaged
        return tuple(
            place.name
            for place in self._places.values()
            if program.kind in place.hooks and not (stand_in and "xdp" in place.hooks)
        )

    def measure(self, *, on: bool) -> None:
        """Switch BPF run statistics on or off; they cost about 20 ns a run while on."""
        if on and self._stats_fd < 0:
            self._stats_fd = max(lib().bpf_enable_stats(_RUN_STATS), -1)
        elif not on and self._stats_fd >= 0:
            os.close(self._stats_fd)
            self._stats_fd = -1

    def canary(self, ring: str) -> bool:
        """See the contract."""
        loaded = self._objects[self.owner(ring)].programs.get(f"{ring}{CANARY}")
        if loaded is None:
            return False
        options = sized("opts_run")
        check(lib().bpf_prog_test_run_opts(loaded.fd, options), f"the canary of ring {ring}")
        return bool(options.retval)

    def inspect(self, *, mend: bool = False) -> Sequence[Breach]:
        """See the contract."""
        found, self._noticed = self._noticed, []
        found += self._inspect_hooks(mend=mend)
        if self._places:
            found += self._inspect_chains(mend=mend)
        if self._outlives:
            found += self._inspect_pins(mend=mend)
        found += self._seals.look(self._maps)
        return found

    def _inspect_hooks(self, *, mend: bool) -> Iterator[Breach]:
        programs = self._objects[_DISPATCH].programs
        present = set(present_interfaces().values())
        for place in [each for each in self._places.values() if each.ifindex in present]:
            for kind, hook in place.hooks.items():
                root = programs[f"{kind}_root"].fd
                subject = f"{place.name} {kind}"
                if hook.fd < 0:
                    breach = hooks.clsact_breach(subject, place.ifindex, kind, root)
                else:
                    breach = link_breach(subject, hook.fd, root, place.ifindex)
                if breach and mend and hook.fd >= 0:
                    put_back(hook.fd, root)
                if breach:
                    self._told.add(place.ifindex)
                    yield breach
        for name, link in self._tracing.items():
            program = self._program(name)
            cgroup = program.kind == "cgroup"
            fd = lib().bpf_link__fd(link)
            if breach := tracing_breach(program.section, fd, program.fd, cgroup=cgroup):
                yield breach

    def _inspect_chains(self, *, mend: bool) -> Iterator[Breach]:
        """The chains of interfaces, and the tables that programs call each other by."""
        wanted = {
            (f"{kind}_chain", slot): (program.fd, program.name)
            for kind in INTERFACE_KINDS
            for slot, program in enumerate(self._chain(kind))
        }
        for kind in INTERFACE_KINDS:
            for slot in range(len(self._chain(kind)), _CHAIN_SLOTS):
                wanted[f"{kind}_chain", slot] = 0, ""
        for loaded in self._objects.values():
            for program in loaded.programs.values():
                if program.card and program.card.called_from:
                    wanted[program.card.called_from] = program.fd, program.name
        for (table, slot), (fd, name) in wanted.items():
            if breach := slot_breach(self._maps[table], slot, fd, name):
                if mend and fd:
                    self._put_program(table, slot, fd)
                elif mend:
                    lib().bpf_map_delete_elem(self._maps[table].fd, ffi.new("uint32_t *", slot))
                yield breach

    def _inspect_pins(self, *, mend: bool) -> Iterator[Breach]:
        pinned = {
            self._root / "maps" / m.name: m.fd for m in self._maps.values() if m.type != DEVMAP_HASH
        }
        for place in self._places.values():
            pinned |= {h.pin: h.fd for h in place.hooks.values() if h.pin is not None}
        for path, fd in pinned.items():
            if breach := pin_breach(path, fd, mend=mend):
                yield breach

    def ledgers(self) -> Sequence[Ledger]:
        """See the contract."""
        return [self._ledger(name, ring) for name, ring in self._rings.items()]

    def _ledger_now(self, name: str) -> dict[str, int]:
        row = self._maps[f"{name}_led"].total()[0]
        return {field: int(row[field]) for field in row.dtype.names}

    def _ledger(self, name: str, ring: Ring) -> Ledger:
        now = self._ledger_now(name)
        lost = {key: value - self._past[name][key] for key, value in now.items()}
        seen = lost.pop("seen")
        lost["malformed"] = ring.malformed
        return Ledger(name, seen, seen - sum(lost.values()), ring.delivered, lost)

    def failures(self) -> dict[str, int]:
        """See the contract."""
        names = dict(self._objects[_DISPATCH].btf.enums())["failure"]
        totals = self._maps["failures"].total()
        return {
            name.removeprefix("FAILURE_").lower(): int(totals[number])
            for name, number in names.items()
            if number < len(totals)
        }

    def interface_counters(self) -> Sequence[InterfaceCounters]:
        """See the contract."""
        totals = self._maps["interface_count"].total()
        found = []
        for asked, slot in self._slots.items():
            row = totals[slot]
            name = self._places[asked].name if asked in self._places else asked
            packets = {key: int(row[key]) for key in _PACKETS}
            found.append(InterfaceCounters(name, packets, int(row["bytes"])))
        return found


def _object_path(domain: Domain) -> Path:
    return Path(str(sys.modules[domain.engine.__module__].__file__)).parent / domain.object


def _attach_host(program: LoadedProgram) -> Any:
    """Attach to its tracepoint, or to the cgroup that all processes are in; NULL where it fails."""
    if program.kind != "cgroup":
        return lib().bpf_program__attach(program.handle)
    root = os.open(cgroup_root(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return lib().bpf_program__attach_cgroup(program.handle, root)
    finally:
        os.close(root)


def _destroy(links: list[Any]) -> None:
    """Destroy links side by side: closing one tracepoint waits for all CPUs, some 70 ms."""
    if links:
        with ThreadPoolExecutor(len(links)) as pool:
            list(pool.map(lib().bpf_link__destroy, links))


def _run_stats(program: int) -> tuple[int, int]:
    """``run_time_ns`` and ``run_cnt`` of struct bpf_prog_info."""
    info, size = ffi.new("char[]", 256), ffi.new("uint32_t *", 224)
    if lib().bpf_obj_get_info_by_fd(program, info, size):
        return 0, 0
    run_ns, run_count = struct.unpack_from("QQ", ffi.buffer(info), 192)
    return int(run_ns), int(run_count)
