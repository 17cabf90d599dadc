"""The pure half of who uses which socket: it answers when somebody asks whose a packet is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.sockets.events import LISTENER_KEY, OWNER_KEY, SOCKETS_COUNT
from ebpfsentinel.model.domain import Metric, Outcome, Plan
from ebpfsentinel.model.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.domains.sockets.settings import SocketsSettings
    from ebpfsentinel.model.domain import Surroundings, Tools
    from ebpfsentinel.model.flows import Ends
    from ebpfsentinel.model.processes import Peek

EVENTS: tuple[str, ...] = SOCKETS_COUNT.names or ()


class SocketsEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._counts = np.zeros(1, SOCKETS_COUNT)
        self._netns = 0
        self._enabled = False

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Nothing is kept: what is there is read from the kernel at every start."""

    def plan(
        self,
        settings: SocketsSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """There is nothing to put into the kernel: the programs know what to do."""
        return Plan((settings.enabled, around.netns))

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        self._enabled, self._netns = plan.state

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Counters are kept; sockets that were there before have been noted in the kernel."""
        if source == "sockets_count":
            self._counts = rows.copy()
        return Outcome()

    def tick(self, now_ns: int) -> Outcome:
        """Time changes nothing here."""
        return Outcome()

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """There are no collections."""
        return ()

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return False

    def processes_of(self, ends: Ends, peek: Peek) -> tuple[Process | None, Process | None]:
        """By the flow; where there is none, the destination is who listens there."""
        if not self._enabled:
            return None, None
        source, destination = of_flow(ends, peek.find_flow(ends))
        return source, destination or self._listener(ends, peek)

    def _listener(self, ends: Ends, peek: Peek) -> Process | None:
        _, address = ends.words()
        for addr in (address, (0, 0, 0, 0)):
            key = np.zeros(1, LISTENER_KEY)
            key["addr"], key["netns"], key["port"] = addr, self._netns, ends.destination_port
            key["protocol"], key["family"] = ends.protocol, ends.family
            found = peek.look_up("listeners", key)
            if found is not None:
                return process_of(found["owner"][0])
        return None

    def describe_process(self, pid: int, start_ns: int, peek: Peek) -> dict[str, Any] | None:
        """What it was when it last did something with a socket."""
        key = np.zeros(1, OWNER_KEY)
        key["pid"], key["start_ns"] = pid, start_ns
        found = peek.look_up("owners", key)
        if found is None:
            return None
        row = found[0]
        return {
            "comm": bytes(row["comm"]).split(b"\0", 1)[0].decode(errors="replace"),
            "uid": int(row["uid"]),
            "cgroup_id": int(row["cgroup_id"]),
            "inode": int(row["exe_inode"]),
            "device": int(row["exe_device"]),
        }

    def status(self) -> dict[str, Any]:
        """What was noted."""
        counts = {name: int(self._counts[name][0]) for name in EVENTS}
        return {"enabled": self._enabled, **counts}

    def metrics(self) -> Sequence[Metric]:
        """What was noted, by event."""
        text = "Sockets whose process was noted, by event; flows named late; failures"
        return [
            Metric("sockets_events", "counter", text, {"event": name}, float(self._counts[name][0]))
            for name in EVENTS
        ]


def of_flow(ends: Ends, rows: NDArray[Any]) -> tuple[Process | None, Process | None]:
    """The processes at the source and at the destination, by a row of the flow table, if any."""
    if not len(rows):
        return None, None
    addr, _ = ends.words()
    key, owner = rows["key"][0], rows["end"]["owner"][0]
    first = tuple(key["addr"][0].tolist()) == tuple(addr) and key["port"][0] == ends.source_port
    source = 0 if first else 1
    return process_of(owner[source]), process_of(owner[1 - source])


def process_of(owner: Any) -> Process | None:
    """A ``struct flow_owner``; None: it is not known."""
    if not int(owner["start_ns"]):
        return None
    return Process(
        int(owner["pid"]), int(owner["start_ns"]), int(owner["uid"]), int(owner["cgroup_id"])
    )
