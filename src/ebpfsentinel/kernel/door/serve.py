"""The keeper's end of the door: calls come in, are checked, and reach the real kernel.

What decides is here and in :mod:`~ebpfsentinel.kernel.door.charter`: every call has one method
below, which lets through what the configuration allows and the kernel can take, and nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ebpfsentinel
from ebpfsentinel.kernel.door import calls, wire
from ebpfsentinel.kernel.flows import MAP as FLOW_TABLES
from ebpfsentinel.kernel.maps import ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY, RINGBUF
from ebpfsentinel.kernel.owners import executables
from ebpfsentinel.kernel.protection import Protector, joined
from ebpfsentinel.model import action as model
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.kernel import Frames, KernelError, NotLoaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebpfsentinel.kernel.door.charter import Charter
    from ebpfsentinel.kernel.load import LinuxKernel
    from ebpfsentinel.model.health import Breach

logger = logging.getLogger(__name__)

_ROOTS = "dispatch"
_SHARED = frozenset({"steer_cpus", "tr_head", "tr_tables"})
"""Maps of the roots that domains write to; all others are the floor's, the chains', the counts'."""
_LEDGER = "_led"
_CHAINED = ("xdp", "tc", "egress")
_MOST_FLOWS_BYTES, _MOST_FRAMES, _MOST_FRAMES_BYTES = 1 << 30, 1 << 17, 1 << 28
_LOOK_S = 10.0
_MOST_TOLD, _TOLD_NS, _MOST_TEXT = 20, 60_000_000_000, 500


class Refusals:
    """Tells of what was refused: some a minute in full, the rest as a number."""

    def __init__(self) -> None:
        self._since_ns, self._told, self._more = 0, 0, 0
        self.total = 0

    def tell(self, call: str, error: Exception) -> None:
        """Log one."""
        now_ns = time.monotonic_ns()
        self.total += 1
        if now_ns - self._since_ns > _TOLD_NS:
            if self._more:
                logger.warning("%d more calls were refused", self._more)
            self._since_ns, self._told, self._more = now_ns, 0, 0
        if self._told < _MOST_TOLD:
            self._told += 1
            text = "".join(each if each.isprintable() else " " for each in str(error))
            logger.warning("refused: %s: %s", call, text[:_MOST_TEXT])
        else:
            self._more += 1


class Server:
    """One client's calls upon one kernel.

    ``charter`` gives what is allowed as it is now; ``own`` are the processes of both halves.
    """

    def __init__(
        self, kernel: LinuxKernel, charter: Callable[[], Charter], own: Sequence[int]
    ) -> None:
        self._kernel, self._charter, self._halves = kernel, charter, own
        self._protector, self._asked = Protector(), Floor()
        self._floor: Floor | None = None
        self._noticed: list[Breach] = []
        self._looked_s = time.monotonic()
        self.left = False
        self.refusals = Refusals()

    def answer(self, data: bytes | bytearray) -> tuple[bytes, list[int]]:
        """What to send back, with descriptors (which stay the kernel's).

        Raises:
            WireError: it was no call: whoever sent it is not one of ours.
        """
        call = wire.decode_call(data)
        handles: list[int] = []
        try:
            found: calls.Refused | calls.Done[Any] = calls.Done(self._carry_out(call, handles))
            return wire.encode(found), handles
        except (KernelError, KeyError, wire.WireError) as error:
            self.refusals.tell(_told(call), error)
            return wire.encode(wire.refusal(error)), []
        except Exception as error:  # noqa: BLE001 (whatever it sends, we live)
            self.refusals.tell(_told(call), error)
            text = f"{type(call).__name__}: {type(error).__name__}: {error}"
            return wire.encode(calls.Refused("kernel", text)), []

    def _carry_out(self, call: calls.Part, handles: list[int]) -> Any:
        if isinstance(call, calls.Structure):
            return self._structure(handles)
        name = type(call).__name__.lower()
        return getattr(self, f"_{name}")(call)

    def look_after(self) -> None:
        """Time has passed: the owner may stand elsewhere by now."""
        try:
            self._put_floor()
        except (KernelError, KeyError) as error:
            logger.warning("the never-block floor is as it was: %s", error)
        try:
            self._look_around()
        except (KernelError, KeyError) as error:
            logger.warning("what is ours cannot be looked at: %s", error)

    def _put_floor(self) -> None:
        """Our own working out, and what the agent asked for beside; nothing takes ours away."""
        if self._floor is None:
            return
        own = self._protector.work_out(self._charter().protection)
        floor = joined(own, self._asked)
        if floor == self._floor:
            return
        try:
            self._kernel.protect(floor)
        except KernelError:  # such as too many: what is asked for must not crowd out ours
            self._asked = self._floor = Floor()
            self._kernel.protect(own)
            self._floor = own
            raise
        self._floor = floor

    # What is loaded, and where it is attached.

    def _greet(self, _: calls.Greet) -> str:
        return ebpfsentinel.__version__

    def _load(self, call: calls.Load) -> None:
        self._kernel.load(self._charter().cards(call.domains))
        if self._floor is None:
            self._floor = Floor()
        self._put_floor()

    def _reserve(self, call: calls.Reserve) -> None:
        self._check_interfaces(call.interfaces)
        self._kernel.reserve(call.interfaces)

    def _claim(self, call: calls.Claim) -> None:
        self._check_interfaces(call.interfaces)
        self._kernel.claim(call.interfaces)

    def _attach(self, call: calls.Attach) -> None:
        self._check_interfaces(call.interfaces)
        self._put_floor()
        self._kernel.attach(call.interfaces)

    def _check_interfaces(self, names: Sequence[str]) -> None:
        self._charter().check_interfaces(names, self._kernel.interface_slots())

    def _detach(self, _: calls.Detach) -> None:
        self._kernel.detach()
        self.left, self._floor = True, None

    def _outlive(self, call: calls.Outlive) -> None:
        self._kernel.outlive(on=call.on)

    def _protect(self, call: calls.Protect) -> None:
        self._asked = wire.floor_of(call.floor)
        if self._floor is None:
            raise NotLoaded("floor_head")
        self._put_floor()

    def _protected(self, _: calls.Protected) -> calls.WireFloor:
        return wire.floor_to_wire(self._kernel.protected())

    def _lapse(self, call: calls.Lapse) -> None:
        self._kernel.lapse(call.at_ns, call.domains)

    # Actions.

    def _apply(self, call: calls.Apply) -> None:
        """In order, each checked before it is carried out: those before a refusal are in force."""
        for part in call.actions:
            action = wire.to_action(part)
            self._check(action)
            self._kernel.apply([action])

    def _check(self, action: model.Action) -> None:
        match action:
            case model.MapWrite() | model.MapReplace():
                self._check_pairs(action.map, action.keys, action.values)
            case model.MapDelete():
                self._check_pairs(action.map, action.keys)
            case model.Swap():
                self._own(action.map)
                _one_or_none(action.value)
            case model.Lend():
                self._own(action.map)
                self._own(action.inner)
            case model.Switch() | model.Patch():
                self._own(action.map)
                self._own(action.head_map)
            case model.Engage() | model.Run():
                self._check_program(action.program)
            case model.FlowTable():
                _check_flow_table(action)
            case model.Kill():
                self._charter().check_kill(action.pid, self._own_pids())

    def _own_pids(self) -> list[int]:
        return [os.getpid(), *self._halves]

    def _own(self, name: str) -> int:
        """May the agent write to the map? Its type, where it may.

        Raises:
            NotLoaded: there is none.
            KernelError: it is not a domain's.
        """
        found = self._kernel.map(name)
        if self._kernel.owner(name) == _ROOTS and name not in _SHARED:
            raise KernelError(f"map {name} is the keeper's own: the agent may not write to it")
        if name.endswith(_LEDGER) and name.removesuffix(_LEDGER) in self._kernel.rings():
            raise KernelError(f"map {name} is a ledger of losses: only programs write to it")
        if found.type in (PROG_ARRAY, RINGBUF):
            raise KernelError(
                f"map {name} holds programs or records: the agent may not write to it"
            )
        return found.type

    def _check_pairs(self, name: str, *arrays: Any) -> None:
        if self._own(name) in (ARRAY_OF_MAPS, HASH_OF_MAPS):
            raise KernelError(f"map {name} is a map of maps: it is swapped, not written to")
        for each in arrays:
            if each.ndim != 1:
                raise KernelError(f"map {name}: keys and values have one dimension")

    def _check_program(self, name: str) -> None:
        with contextlib.suppress(KeyError):  # whoever carries it out says that there is none
            if self._kernel.owner(name) == _ROOTS:
                raise KernelError(f"{name} is the keeper's own program")

    # Reading.

    def _read(self, call: calls.Read) -> Any:
        if self._kernel.map(call.map).type in (PROG_ARRAY, RINGBUF):
            raise KernelError(f"map {call.map} has no values to read")
        keys, values = self._kernel.read(call.map)
        return keys, np.ascontiguousarray(values)

    def _total(self, call: calls.Total) -> Any:
        return self._kernel.total(call.map, call.most)

    def _flowsin(self, call: calls.FlowsIn) -> Any:
        return self._kernel.flows(call.first, call.count)

    def _findflow(self, call: calls.FindFlow) -> Any:
        return self._kernel.find_flow(call.ends)

    def _lookup(self, call: calls.LookUp) -> Any:
        return self._kernel.look_up(call.map, call.key)

    def _seed(self, call: calls.Seed) -> Any:
        return self._kernel.seed(call.program)

    def _runone(self, call: calls.RunOne) -> Any:
        self._check_runs(call.program)
        return self._kernel.run(call.program, call.frame, call.repeat, call.interface)

    def _runmany(self, call: calls.RunMany) -> calls.WireAnswers:
        self._check_runs(call.program)
        if call.behind:
            self._check_runs(call.behind)
        frames = _frames(call)
        found = self._kernel.run_many(call.program, frames, call.behind)
        return calls.WireAnswers(found.retval, found.meta, found.refused)

    def _check_runs(self, program: str) -> None:
        if self._kernel.kind(program) not in _CHAINED:
            raise KernelError(f"{program} judges no frames")

    def _structure(self, handles: list[int]) -> calls.Loaded:
        found = self._kernel.inventory()
        handles += [ring.fd for ring, _ in found.rings.values()]
        rings = [
            calls.WireRing(name, ring.max_entries, record)
            for name, (ring, record) in found.rings.items()
        ]
        return calls.Loaded(rings, found.owners, list(self._kernel.seeds()), found.records)

    def _slots(self, _: calls.Slots) -> dict[str, int]:
        return self._kernel.interface_slots()

    def _attachments(self, _: calls.Attachments) -> Any:
        return list(self._kernel.attachments())

    def _programs(self, _: calls.Programs) -> Any:
        return list(self._kernel.programs())

    def _ledgers(self, _: calls.Ledgers) -> Any:
        return list(self._kernel.ledgers())

    def _failures(self, _: calls.Failures) -> Any:
        return self._kernel.failures()

    def _counters(self, _: calls.Counters) -> Any:
        return list(self._kernel.interface_counters())

    def _measure(self, call: calls.Measure) -> None:
        self._kernel.measure(on=call.on)

    def _canary(self, call: calls.Canary) -> bool:
        return self._kernel.canary(call.ring)

    def _inspect(self, call: calls.Inspect) -> Any:
        """What was noticed since the last call, too; the floor is ours to mend."""
        found, self._noticed = [*self._noticed, *self._kernel.inspect(mend=call.mend)], []
        if call.mend and self._floor is not None and any(each.kind == "map" for each in found):
            self._kernel.protect(self._floor)
        return found

    def _look_around(self) -> None:
        """We look, too, and write it down: the agent may be silent, or silenced."""
        now_s = time.monotonic()
        if self._floor is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        for each in self._kernel.inspect():
            told = {(known.kind, known.subject) for known in self._noticed}
            if (each.kind, each.subject) not in told:
                logger.warning("somebody else: %s %s: %s", each.kind, each.subject, each.text)
                self._noticed.append(each)

    def _locate(self, call: calls.Locate) -> Any:
        """Executables only: what else there is, where only root may look, is nobody's business."""
        found = executables(call.paths)
        nowhere = 0, 0
        return {path: found[path] if _is_executable(path) else nowhere for path in found}

    def _survey(self, call: calls.Survey) -> Any:
        return surveyed(self._charter().card(call.domain).survey)


def surveyed(place: tuple[str, str] | None) -> Any:
    """Run the function of that file, without what surrounds the file."""
    if place is None:
        return {}
    spec = importlib.util.spec_from_file_location("surveyed", place[0])
    if spec is None or spec.loader is None:
        raise KernelError(f"{place[0]} cannot be run")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, place[1])()


def _is_executable(path: str) -> bool:
    try:
        return Path(path).is_file() and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False


def _told(call: calls.Part) -> str:
    """A call in a few words, without its bytes."""
    if isinstance(call, calls.Apply):
        kinds = {type(action).__name__: None for action in call.actions}
        return f"apply {', '.join(kinds)}"
    return type(call).__name__.lower()


def _one_or_none(value: Any) -> None:
    if value.ndim > 1:
        raise KernelError("a generation is one value")


def _check_flow_table(action: model.FlowTable) -> None:
    if action.head is None:
        return
    if action.head.size != 1 or "sets" not in (action.head.dtype.names or ()):
        raise KernelError(f"map {FLOW_TABLES}: this is no head of a table")
    if int(action.head.reshape(1)["sets"][0]) << 11 > _MOST_FLOWS_BYTES:
        raise KernelError(f"map {FLOW_TABLES}: so many flows are too many")


def _frames(call: calls.RunMany) -> Frames:
    """Frames that lie within their buffer.

    Raises:
        KernelError: they do not.
    """
    offset, length = call.offset, call.length
    if offset.dtype != np.int64 or length.dtype != np.int64 or call.buffer.dtype != np.uint8:
        raise KernelError("frames are bytes, with places of 64 bits")
    if not offset.ndim == length.ndim == call.buffer.ndim == 1 or len(offset) != len(length):
        raise KernelError("frames have an offset and a length each")
    if len(offset) > _MOST_FRAMES:
        raise KernelError(f"{len(offset)} frames: {_MOST_FRAMES} is the most at once")
    size = call.buffer.size
    within = (offset >= 0) & (length >= 0) & (length <= size) & (offset <= size - length)
    if not within.all():
        raise KernelError("a frame reaches beyond what was sent")
    if int(length.sum()) > _MOST_FRAMES_BYTES:
        raise KernelError(f"frames of {int(length.sum())} bytes are too many at once")
    return Frames(call.buffer, offset, length)
