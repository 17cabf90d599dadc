"""The agent's end of the door: the third :class:`~ebpfsentinel.model.kernel.Kernel`.

Calls go to the keeper and wait for its answer. Rings do not: their descriptors come over once, and
are mapped and drained here, as they would be with a kernel of our own.

The keeper may die. What cannot be done without it then raises :class:`KeeperGoneError`, and what
only tells of the kernel tells of nothing, until :meth:`RemoteKernel.regain` finds a keeper again.
Rings go on: under ``on_exit: keep`` programs still judge, and still tell.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

import ebpfsentinel
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.door import calls, channel, wire
from ebpfsentinel.kernel.generated import check_generated
from ebpfsentinel.kernel.ring import Ring
from ebpfsentinel.kernel.routes import routes
from ebpfsentinel.model.kernel import (
    Answers,
    Attachment,
    InterfaceCounters,
    KernelError,
    Ledger,
    NotLoaded,
    ProgramStatus,
    RunResult,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.domain import Domain
    from ebpfsentinel.model.floor import Floor
    from ebpfsentinel.model.flows import Ends
    from ebpfsentinel.model.health import Breach
    from ebpfsentinel.model.kernel import Frames, Route, Way

_ANSWERED_S, _WORKED_S, _STARTED_S, _GREETED_S = 20.0, 120.0, 60.0, 5.0
"""So long an answer may take; that of a call that has to work, such as for the verifier; the first
one of a keeper that may be just starting; and that of one that may be back."""
_WORK = (calls.Load, calls.Attach, calls.Apply, calls.RunMany, calls.Detach, calls.Survey)
_FRAMES = 512
"""So many frames at once: each has at most 64 KiB."""
_REMEDY = "systemctl status ebpfsentinel-keeper, or start it: ebpfsentinel-agent keeper"


class KeeperGoneError(KernelError):
    """There is no keeper: what is in force stays or falls with ``agent.on_exit``."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the keeper cannot be reached: {why}. {_REMEDY}")
        self.why = why


class _Rings:
    """The rings of one load: descriptors, and what is mapped."""

    def __init__(self, found: Sequence[calls.WireRing], handles: Sequence[int]) -> None:
        self.handles = {ring.name: fd for ring, fd in zip(found, handles, strict=True)}
        self.mapped = {
            ring.name: Ring(self.handles[ring.name], ring.size_bytes, ring.record) for ring in found
        }

    def close(self) -> None:
        for ring in self.mapped.values():
            ring.close()
        for fd in self.handles.values():
            os.close(fd)
        self.mapped, self.handles = {}, {}


class RemoteKernel:
    """The :class:`~ebpfsentinel.model.kernel.Kernel` contract, carried out by the keeper.

    ``connect`` gives a fresh connection to a keeper, or raises OSError.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        self._order = threading.RLock()
        self._door: socket.socket | None = None
        self._gone = ""
        self._left = self._stale = False
        self._rings = _Rings((), ())
        self._owners: dict[str, str] = {}
        self._seeds: list[str] = []
        self._slots: dict[str, int] | None = None
        self._places: list[Attachment] | None = None

    # The connection.

    def _call(self, call: calls.Part) -> Any:
        answer, handles = self._ask(call)
        for handle in handles:
            os.close(handle)
        return answer

    def _ask(self, call: calls.Part) -> tuple[Any, list[int]]:
        with self._order:
            try:
                data = wire.encode(call)
            except wire.WireError as error:
                raise KernelError(f"what is asked does not fit through the door: {error}") from None
            if self._door is None:
                self._open()
            answer, handles = self._exchange(call, data)
        if isinstance(answer, calls.Refused):
            raise wire.error_of(answer)
        return answer.value, handles

    def _exchange(self, call: calls.Part, data: bytes) -> tuple[Any, list[int]]:
        assert self._door is not None  # noqa: S101 (opened by whoever calls)
        self._door.settimeout(_WORKED_S if isinstance(call, _WORK) else _ANSWERED_S)
        try:
            return _exchanged(self._door, call, data)
        except (channel.ClosedError, wire.WireError) as error:
            self._lose(str(error))
            raise KeeperGoneError(self._gone) from None

    def _open(self) -> None:
        if self._gone:
            raise KeeperGoneError(self._gone)
        try:
            self._door = self._greeted(_STARTED_S)
        except KeeperGoneError as error:
            self._gone = error.why
            raise

    def _lose(self, why: str) -> None:
        """Everything that was loaded went with it."""
        with self._order:
            if self._door is not None:
                self._door.close()
            self._door, self._gone = None, why  # a new one would know nothing: see regain()
            self._seeds, self._slots, self._places = [], None, None

    def _forget(self) -> None:
        self._rings.close()
        self._owners, self._seeds, self._slots, self._places = {}, [], None, None

    def trouble(self) -> str:
        """See the contract."""
        return str(KeeperGoneError(self._gone)) if self._gone else ""

    def regain(self) -> None:
        """See the contract."""
        with self._order:
            if self._gone:
                self._door = self._greeted(_GREETED_S)
                self._gone, self._stale = "", True

    def _greeted(self, patience_s: float) -> socket.socket:
        """A connection to a keeper that answers, and is of our version.

        One that is not begins anew when we hang up, and then is what is installed by now.

        Raises:
            KeeperGoneError: there is none; one that hangs is as gone as one that is not there.
        """
        ours, theirs = ebpfsentinel.__version__, ""
        for _ in range(2):
            try:
                door = self._connect()
            except OSError as error:
                raise KeeperGoneError(error.strerror or str(error)) from None
            door.settimeout(patience_s)
            theirs = _greet(door, ours)
            if theirs == ours:
                return door
            door.close()
        raise KeeperGoneError(f"it is of version {theirs}, and we are of {ours}")

    def _told(self, call: calls.Part, otherwise: Any) -> Any:
        """What only tells of the kernel tells of nothing while the keeper is gone."""
        if self._left:
            return otherwise
        try:
            return self._call(call)
        except KeeperGoneError:
            return otherwise

    # Loading and attaching.

    def load(self, domains: Sequence[Domain]) -> None:
        """See the contract."""
        with self._order:
            self._left = False
            self._call(calls.Load([domain.name for domain in domains]))
            self._take(domains)

    def _take(self, domains: Sequence[Domain]) -> None:
        """Learn what is loaded; rings that were there stay mapped, with their counts."""
        found, handles = self._ask(calls.Structure())
        if self._stale:
            self._rings.close()
            self._rings, self._stale = _Rings((), ()), False
        before = self._rings
        fresh, kept = [], []
        for ring, fd in zip(found.rings, handles, strict=True):
            if ring.name in before.mapped:
                kept.append(fd)
            else:
                fresh.append((ring, fd))
        for fd in kept:
            os.close(fd)
        more = _Rings([ring for ring, _ in fresh], [fd for _, fd in fresh])
        before.mapped |= more.mapped
        before.handles |= more.handles
        self._owners, self._seeds, self._places = found.owners, found.seeds, None
        for domain in domains:
            check_generated(domain, found.records.get(domain.name, {}))

    def reserve(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        self._slots = None
        self._call(calls.Reserve(list(interfaces)))

    def claim(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        self._call(calls.Claim(list(interfaces)))

    def attach(self, interfaces: Sequence[str]) -> None:
        """See the contract."""
        self._slots = self._places = None
        self._call(calls.Attach(list(interfaces)))

    def detach(self) -> None:
        """See the contract."""
        with self._order:
            with contextlib.suppress(KernelError):
                if self._door is not None:
                    self._call(calls.Detach())
            if self._door is not None:
                self._door.close()
                self._door = None
            self._forget()
            self._gone, self._left = "", True

    def outlive(self, *, on: bool) -> None:
        """See the contract."""
        if on:
            self._call(calls.Outlive(on))
        else:
            self._told(calls.Outlive(on), None)

    # Changes.

    def apply(self, actions: Sequence[Action]) -> None:
        """See the contract."""
        try:
            parts = [wire.to_wire(action) for action in actions]
        except wire.WireError as error:
            raise KernelError(str(error)) from None
        self._places = None
        if parts:
            self._call(calls.Apply(parts))  # type: ignore[arg-type]

    def protect(self, floor: Floor) -> None:
        """See the contract; the keeper spares these beside those that it works out itself."""
        self._call(calls.Protect(wire.floor_to_wire(floor)))

    def protected(self) -> Floor:
        """See the contract."""
        return wire.floor_of(self._call(calls.Protected()))

    def lapse(self, at_ns: int, domains: Sequence[str]) -> None:
        """See the contract."""
        self._call(calls.Lapse(at_ns, list(domains)))

    def measure(self, *, on: bool) -> None:
        """See the contract."""
        self._told(calls.Measure(on), None)

    # Reading.

    def _map(self, name: str) -> str:
        if name not in self._owners and not self._gone:
            raise NotLoaded(name)
        return name

    def read(self, map_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """See the contract."""
        keys, values = self._call(calls.Read(self._map(map_name)))
        return keys, values

    def total(self, map_name: str, most: int | None = None) -> NDArray[Any]:
        """See the contract."""
        found: NDArray[Any] = self._call(calls.Total(self._map(map_name), most))
        return found

    def flows(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """See the contract."""
        found: NDArray[Any] = self._call(calls.FlowsIn(first, count))
        return found

    def find_flow(self, ends: Ends) -> NDArray[Any]:
        """See the contract."""
        found: NDArray[Any] = self._call(calls.FindFlow(ends))
        return found

    def look_up(self, map_name: str, key: NDArray[Any]) -> NDArray[Any] | None:
        """See the contract."""
        found: NDArray[Any] | None = self._call(calls.LookUp(self._map(map_name), key))
        return found

    def drain(self, ring: str) -> NDArray[Any]:
        """See the contract."""
        found = self._rings.mapped[ring]
        return found.nothing() if self._stale else found.drain()

    def seed(self, program: str) -> NDArray[Any]:
        """See the contract."""
        found: NDArray[Any] = self._call(calls.Seed(program))
        return found

    def run(self, program: str, frame: bytes, repeat: int = 1, interface: str = "") -> RunResult:
        """See the contract."""
        found: RunResult = self._call(calls.RunOne(program, frame, repeat, interface))
        return found

    def run_many(self, program: str, frames: Frames, behind: str = "") -> Answers:
        """See the contract; so many at a time that each part goes through the door."""
        parts = [
            self._run_part(program, frames[first : first + _FRAMES], behind)
            for first in range(0, max(len(frames), 1), _FRAMES)
        ]
        return Answers(
            np.concatenate([part.retval for part in parts]),
            np.concatenate([part.meta for part in parts]),
            np.concatenate([part.refused for part in parts]),
        )

    def _run_part(self, program: str, frames: Frames, behind: str) -> calls.WireAnswers:
        first = int(frames.offset.min()) if len(frames) else 0
        last = int((frames.offset + frames.length).max()) if len(frames) else 0
        buffer, offset = frames.buffer[first:last], frames.offset - first
        call = calls.RunMany(program, buffer, offset, frames.length, behind)
        found: calls.WireAnswers = self._call(call)
        return found

    def routes(self, ways: Sequence[Way]) -> list[Route]:
        """See the contract; anybody may ask."""
        return routes(ways)

    def wall_ns(self, boot_ns: int) -> int:
        """See the contract."""
        return boot_ns + clock.boot_offset_ns()

    def rings(self) -> dict[str, int]:
        """See the contract."""
        return dict(self._rings.handles)

    def owner(self, source: str) -> str:
        """See the contract."""
        return self._owners[source]

    def seeds(self) -> Sequence[str]:
        """See the contract."""
        return list(self._seeds)

    def interface_slots(self) -> dict[str, int]:
        """See the contract."""
        if self._slots is None:
            self._slots = self._call(calls.Slots())
        return dict(self._slots or {})

    def attachments(self) -> Sequence[Attachment]:
        """See the contract."""
        if self._places is None:
            self._places = self._told(calls.Attachments(), None)
        return list(self._places or ())

    def programs(self) -> Sequence[ProgramStatus]:
        """See the contract."""
        found: list[ProgramStatus] = self._told(calls.Programs(), [])
        return found

    def ledgers(self) -> Sequence[Ledger]:
        """See the contract: the keeper reads what programs counted, we know what we drained."""
        return [self._with_ours(each) for each in self._told(calls.Ledgers(), [])]

    def _with_ours(self, found: Ledger) -> Ledger:
        ring = self._rings.mapped.get(found.ring)
        if ring is None:
            return found
        lost = found.lost | {"malformed": ring.malformed}
        sent = found.seen - sum(lost.values())
        return replace(found, sent=sent, delivered=ring.delivered, lost=lost)

    def failures(self) -> dict[str, int]:
        """See the contract."""
        found: dict[str, int] = self._told(calls.Failures(), {})
        return found

    def interface_counters(self) -> Sequence[InterfaceCounters]:
        """See the contract."""
        found: list[InterfaceCounters] = self._told(calls.Counters(), [])
        return found

    def canary(self, ring: str) -> bool:
        """See the contract."""
        sent: bool = self._call(calls.Canary(ring))
        return sent

    def inspect(self, *, mend: bool = False) -> Sequence[Breach]:
        """See the contract: the keeper is asked, and looks itself."""
        found: list[Breach] = self._told(calls.Inspect(mend), [])
        return found

    def locate(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """See the contract."""
        found: dict[str, tuple[int, int]] = self._call(calls.Locate(list(paths))) if paths else {}
        return found

    def survey(self, domain: Domain) -> Mapping[str, Any]:
        """See the contract."""
        found: Mapping[str, Any] = self._call(calls.Survey(domain.name)) if domain.survey else {}
        return found


def _exchanged(door: socket.socket, call: calls.Part, data: bytes) -> tuple[Any, list[int]]:
    """One call and its answer, with descriptors that are the caller's to close.

    Raises:
        ClosedError, WireError: the keeper is gone, or none of ours.
    """
    channel.send(door, data)
    raw, handles = channel.receive(door, wire.MOST_ANSWER_BYTES)
    try:
        return wire.decode_answer(call, raw), handles
    except wire.WireError:
        for handle in handles:
            os.close(handle)
        raise


def _greet(door: socket.socket, version: str) -> str:
    """The version of the keeper at the other end.

    Raises:
        KeeperGoneError: it does not say; the connection is closed.
    """
    greeting = calls.Greet(version)
    try:
        answer, _ = _exchanged(door, greeting, wire.encode(greeting))
    except (channel.ClosedError, wire.WireError) as error:
        door.close()
        raise KeeperGoneError(str(error)) from None
    if isinstance(answer, calls.Refused):
        door.close()
        raise KeeperGoneError(answer.text)
    return str(answer.value)
