"""The one door to privilege: the ``Kernel`` contract and the plain values that pass it.

``ebpfsentinel.kernel.load.LinuxKernel`` is the real thing, ``ebpfsentinel.kernel.fake.FakeKernel``
its in-memory twin; one contract suite runs against both. Map keys and values are numpy arrays
whose dtypes come from the BTF of the loaded objects (see the generated ``events.py``).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.domain import Domain
    from ebpfsentinel.model.floor import Floor
    from ebpfsentinel.model.flows import Ends
    from ebpfsentinel.model.health import Breach


class KernelError(Exception):
    """The kernel refused; the text says what, where, and what to do about it."""


class DomainRefused(KernelError):  # noqa: N818 (it says who was)
    """A domain cannot be had: its object does not load, or its hooks are not there."""

    def __init__(self, domain: str, reason: str) -> None:
        super().__init__(domain, reason)
        self.domain, self.reason = domain, reason

    def __str__(self) -> str:
        return f"domain {self.domain}: {self.reason}"


class NotLoaded(KernelError, KeyError):  # noqa: N818 (it says what the map is)
    """The map of a domain that is off, or of none."""

    def __init__(self, map_name: str) -> None:
        super().__init__(map_name)
        self.map_name = map_name

    def __str__(self) -> str:
        remedy = "Where its domain is off, enable that section of the configuration."
        return f"The map {self.map_name} is not loaded. {remedy}"


class CaptureError(Exception):
    """A capture file cannot be used; the text names file, offset and what is wrong."""


class OnExit(enum.StrEnum):
    """What becomes of enforcement when the agent ends: ``keep`` it pinned, or ``detach``."""

    KEEP = "keep"
    DETACH = "detach"


class OnMissing(enum.StrEnum):
    """When a domain cannot be had: ``degrade``, loudly, or ``fail``."""

    DEGRADE = "degrade"
    FAIL = "fail"


class XdpMode(enum.StrEnum):
    """Where XDP programs may run; ``auto`` is native, then generic, then TC.

    ``tc`` is TC only, for what XDP would cost an interface: a veth loses its segmentation offload.
    """

    AUTO = "auto"
    NATIVE = "native"
    GENERIC = "generic"
    OFFLOADED = "offloaded"
    TC = "tc"


NOT_NEEDED = "not needed: what it stands in for works"
"""Why a stand-in is not loaded."""


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """One program as it is now: is it loaded, where is it attached, what does it cost.

    ``run_ns`` and ``run_count`` are BPF run statistics (nanoseconds, runs) of the sampled windows.
    ``reason`` says why a program is not loaded or runs a step down its fallback ladder.
    """

    name: str
    domain: str
    hook: str
    loaded: bool
    attached: tuple[str, ...] = ()
    run_ns: int = 0
    run_count: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A hook on an interface: ``how`` is ``native``, ``generic`` or ``tc``.

    ``asked`` is the name it was asked for by, where it has been renamed since.
    """

    interface: str
    ifindex: int
    how: str
    reason: str = ""
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What became of every record of one ring, since this agent started.

    ``seen`` attempts are ``sent`` plus ``lost`` by reason (``ring_full``, ``backpressure``,
    ``discarded``), and ``sent == delivered`` once the ring has been drained: nothing is lost
    silently.
    """

    ring: str
    seen: int
    sent: int
    delivered: int
    lost: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """Packets and bytes the first program saw on one interface, by final verdict."""

    interface: str
    packets: dict[str, int]
    bytes: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """One ``BPF_PROG_RUN``: return code, the frame after the program, nanoseconds per run.

    ``meta`` is what an XDP program left in front of the frame.
    """

    retval: int
    data: bytes
    duration_ns: int
    meta: bytes = b""


META = np.dtype(
    [
        ("rule_id", "<u4"),
        ("action", "u1"),
        ("limit_status", "u1"),
        ("flags", "u1"),
        ("version", "u1"),
        ("l3_offset", "<u2"),
        ("l4_offset", "<u2"),
        ("packet_flags", "u1"),
        ("protocol", "u1"),
        ("vlan_id", "<u2"),
    ]
)
"""``struct packet_meta`` of ``packet.h``: what the chain leaves in front of a packet that passes.

``flags`` is 0 where it left nothing."""


class LimitStatus(enum.IntEnum):
    """``enum limit_status`` of ``packet.h``: had a rate limit to do with the packet?"""

    NONE = 0
    WITHIN = 1
    OVER = 2


DRY = "xdp_dry"
"""The chain as a question: its verdict is in the metadata, the frame is neither counted nor
reported nor dropped."""


REPLAY = "tc_replay"
"""What comes in behind a question: what it did not end leaves behind what later frames are judged
by, such as flows."""


@dataclass(frozen=True, slots=True)
class Frames:
    """Many frames in one buffer, with no object per frame.

    ``buffer`` is ``(total,)`` bytes; frame ``i`` is ``length[i]`` of them from ``offset[i]`` on.
    """

    buffer: NDArray[np.uint8]
    offset: NDArray[np.int64]
    length: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, part: slice) -> Frames:
        """Some of them, over the same buffer."""
        return Frames(self.buffer, self.offset[part], self.length[part])

    def frame(self, at: int) -> bytes:
        """The bytes of one."""
        first = int(self.offset[at])
        return self.buffer[first : first + int(self.length[at])].tobytes()

    @classmethod
    def of(cls, frames: Sequence[bytes]) -> Frames:
        """Frames that are objects already."""
        length = np.array([len(frame) for frame in frames], np.int64)
        return cls(np.frombuffer(b"".join(frames), np.uint8), np.cumsum(length) - length, length)


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of many frames: ``retval`` (``uint32``) and ``meta`` (:data:`META`), ``(n,)``.

    ``refused`` are those the kernel did not run (shorter than an Ethernet header, or larger than
    it takes): their ``retval`` and ``meta`` say nothing.
    """

    retval: NDArray[np.uint32]
    meta: NDArray[Any]
    refused: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Way:
    """From where to where, and the index of the interface that it came in on."""

    src_ip: str
    dst_ip: str
    ifindex: int


@dataclass(frozen=True, slots=True)
class Route:
    """Where the routing tables lead: what alerts say of it, under these names in their context.

    ``route`` is ``local``, ``unicast``, ``broadcast``, ``multicast``, ``anycast``, ``none`` or
    ``unknown``. ``next_hop`` is there where it is not the destination itself, ``egress`` (an
    interface) where the packet would leave. ``anomaly`` is ``no_route``, or ``martian`` for
    addresses that cannot come in there.
    """

    route: str
    next_hop: str | None = None
    egress: str | None = None
    anomaly: str | None = None


class Kernel(Protocol):
    """Everything that needs privilege.

    Every method raises :class:`KernelError` when the kernel refuses, and ``KeyError`` for a map,
    ring or program that no loaded object has.
    """

    def load(self, domains: Sequence[Domain]) -> None:
        """Load the objects of the domains and chain their programs in the order of the cards.

        Raises:
            DomainRefused: one cannot be had; those before it are loaded, so that a second call
                without it is enough.
        """

    def reserve(self, interfaces: Sequence[str]) -> None:
        """Give each interface its slot, before rules that name it are planned."""

    def claim(self, interfaces: Sequence[str]) -> None:
        """Be the one agent on these interfaces, as :meth:`attach` will want to be.

        Before :meth:`load`, so that an agent that is already there is named, and left alone.
        """

    def attach(self, interfaces: Sequence[str]) -> None:
        """Attach to the hooks, and to these interfaces only; call again when they change.

        An interface that is not there is no error: it is attached when it comes.
        """

    def detach(self) -> None:
        """Leave: unpin and detach, or, under ``on_exit: keep``, leave everything in force."""

    def outlive(self, *, on: bool) -> None:
        """What is in force stays when this process ends, for the next one to take over.

        Whatever ``on_exit`` says; off, it goes by ``on_exit`` again.

        Raises:
            KernelError: it cannot stay, such as where another agent's is kept; nothing changes.
        """

    def apply(self, actions: Sequence[Action]) -> None:
        """Carry out the actions in order."""

    def protect(self, floor: Floor) -> None:
        """Put the never-block floor in force."""

    def protected(self) -> Floor:
        """The floor in force; an empty one where there was none yet."""

    def lapse(self, at_ns: int, domains: Sequence[str]) -> None:
        """From ``at_ns`` (boot clock) on, the programs of these domains drop nothing; 0: never.

        It happens in the kernel, whether an agent is alive or not.
        """

    def read(self, map_name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys ``(n,)`` and values ``(n,)``; of a per-CPU map, values are ``(n, cpus)``."""

    def total(self, map_name: str, most: int | None = None) -> NDArray[Any]:
        """A per-CPU array summed over CPUs, shape ``(entries,)``.

        Fields named ``last_*`` take the maximum instead. Reading costs a microsecond an entry: so
        where only the first ``most`` are in use, the others are 0 unread.
        """

    def flows(self, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """The flows that are there, shape ``(n,)``: ``struct flow_entry`` with ``lapse_ns``.

        All of them, or those of ``count`` sets of the table from ``first`` on; see
        :mod:`ebpfsentinel.model.flows`.
        """

    def find_flow(self, ends: Ends) -> NDArray[Any]:
        """The flow between these ends, as of :meth:`flows`: shape ``(1,)``, or ``(0,)``: none.

        Reads one or two sets of the table, however large that is.
        """

    def look_up(self, map_name: str, key: NDArray[Any]) -> NDArray[Any] | None:
        """The value of one key, shape ``(1,)`` both, of a map that is not per CPU; None: none."""

    def drain(self, ring: str) -> NDArray[Any]:
        """All complete records of the ring, in order, shape ``(n,)``, owned by the caller."""

    def seed(self, program: str) -> NDArray[Any]:
        """Run an iterator program and return its records, shape ``(n,)``."""

    def run(self, program: str, frame: bytes, repeat: int = 1, interface: str = "") -> RunResult:
        """One frame through a loaded program, as if it had come in on ``interface``.

        Raises:
            KernelError: there is no such interface here, or the frame is too short or too long.
        """

    def run_many(self, program: str, frames: Frames, behind: str = "") -> Answers:
        """Every frame once through a loaded XDP program, in order.

        Each goes through ``behind``, too, before the next: behind :data:`DRY`, :data:`REPLAY`.
        """

    def routes(self, ways: Sequence[Way]) -> list[Route]:
        """Where packets that came in this way are led, by the routing tables of now."""

    def wall_ns(self, boot_ns: int) -> int:
        """Boot clock to wall clock, nanoseconds."""

    def rings(self) -> dict[str, int]:
        """Ring name to a file descriptor that polls readable when records are there."""

    def owner(self, source: str) -> str:
        """Name of the domain that a ring or an iterator program belongs to."""

    def seeds(self) -> Sequence[str]:
        """Names of the iterator programs, to run once after attaching."""

    def interface_slots(self) -> dict[str, int]:
        """Interface name to the slot that programs know it by (0..63)."""

    def attachments(self) -> Sequence[Attachment]:
        """Where we are attached, and how."""

    def programs(self) -> Sequence[ProgramStatus]:
        """Every program, loaded or not."""

    def ledgers(self) -> Sequence[Ledger]:
        """The loss ledger of every ring."""

    def failures(self) -> dict[str, int]:
        """Failed helper calls in the kernel by name."""

    def canary(self, ring: str) -> bool:
        """Put a record of ``CANARY_WORD`` (``record.h``) into the ring, as its programs do theirs.

        False: the ring has no room, or its canary did not load.
        """

    def inspect(self, *, mend: bool = False) -> Sequence[Breach]:
        """What somebody else has made of our hooks, chains, pins and maps since the last call.

        A bounded part of what maps hold is looked at in each call. With ``mend``, programs are put
        back on their hooks and into their chains, and pins are made again; it is told all the same.
        """

    def measure(self, *, on: bool) -> None:
        """Switch the run statistics behind :class:`ProgramStatus` on or off."""

    def interface_counters(self) -> Sequence[InterfaceCounters]:
        """Packets and bytes by interface."""

    def trouble(self) -> str:
        """Why nothing reaches the kernel now; empty: all does.

        Meanwhile there are no rings, attachments or programs to be told of, and what cannot be done
        without the kernel raises :class:`KernelError` with this text.
        """

    def regain(self) -> None:
        """Reach the kernel again. What was loaded and reserved is then gone: begin anew.

        Raises:
            KernelError: it cannot be reached yet.
        """

    def locate(self, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Device (major << 20 | minor) and inode of each file; (0, 0) of one that is not there."""

    def survey(self, domain: Domain) -> Mapping[str, Any]:
        """What the survey of a card that is on finds; nothing where it has none."""
