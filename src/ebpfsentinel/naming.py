"""Flows and processes meet: who is at the end of a packet, and which flows a process has.

Domains do not know each other. Those that can say who uses a socket, and those that know processes,
say so by the methods of :mod:`ebpfsentinel.model.processes`; here they are asked in turn. An alert
costs a few look-ups of one entry each; flows of processes are read at most once a second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.flows import Ends, Stage, last_seen_ns, opened_by, stages
from ebpfsentinel.model.packets import PROTOCOLS, address
from ebpfsentinel.model.processes import DescribesProcesses, NamesProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Engine
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.model.processes import Process

MOST_FLOWS = 16
"""Of a process, in an alert."""
_FRESH_S = 1.0


class Naming:
    """Asks the engines; ``kernel`` answers their look-ups."""

    def __init__(self, kernel: Kernel, engines: Mapping[str, Engine]) -> None:
        self._kernel, self._engines = kernel, engines
        self._flows: tuple[float, NDArray[Any] | None] = (-_FRESH_S, None)

    def name(self, alerts: Sequence[Alert]) -> None:
        """Put the process into alerts about packets, and the flows into those about processes."""
        for alert in alerts:
            if alert.pid is None:
                self._name_packet(alert)
            elif start_ns := _start_of(alert):
                flows = list(self.flows_of(alert.pid, start_ns))
                alert.context |= {"flows": flows} if flows else {}

    def _name_packet(self, alert: Alert) -> None:
        """Who sent it, if that was a process here; else who was to get it.

        What a domain knows of the process is in the context under the domain's name, as in the
        alerts of the domain itself; of who was to get it where both are here, under ``peer``.
        """
        if not alert.src_ip or not alert.dst_ip or not alert.dst_port:
            return
        ends = Ends(alert.protocol, alert.src_ip, alert.src_port, alert.dst_ip, alert.dst_port)
        found = [each for each in self.processes_of(ends) if each]
        if not found:
            return
        alert.pid = found[0].pid
        alert.context |= self._known(found[0])
        if len(found) > 1:
            alert.context["peer"] = {"pid": found[1].pid} | self._known(found[1])

    def _known(self, process: Process) -> dict[str, Any]:
        """What each domain knows of it, by the domain's name."""
        return {
            name: {"pid": process.pid, "start_ns": process.start_ns, **known}
            for name, known in self._descriptions(process.pid, process.start_ns)
        }

    def _descriptions(self, pid: int, start_ns: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, engine in self._engines.items():
            if isinstance(engine, DescribesProcesses):
                known = engine.describe_process(pid, start_ns, self._kernel)
                if known is not None:
                    yield name, known

    def processes_of(self, ends: Ends) -> tuple[Process | None, Process | None]:
        """Whose the source and the destination are, of those that somebody knows."""
        source = destination = None
        for engine in self._engines.values():
            if isinstance(engine, NamesProcesses):
                one, other = engine.processes_of(ends, self._kernel)
                source, destination = source or one, destination or other
        return source, destination

    def process(self, pid: int, start_ns: int) -> dict[str, Any]:
        """All that is known of a process; at least its ``pid`` and ``start_ns``."""
        found: dict[str, Any] = {"pid": pid, "start_ns": start_ns}
        for _, known in self._descriptions(pid, start_ns):
            found |= {word: value for word, value in known.items() if value or word not in found}
        return found

    def flows_of(self, pid: int, start_ns: int) -> Iterator[dict[str, Any]]:
        """The flows of a process, the last seen first, at most :data:`MOST_FLOWS`."""
        rows = self._fresh()
        if rows is None or not len(rows):
            return
        owner = rows["end"]["owner"]
        mine = (owner["pid"] == pid) & (owner["start_ns"] == start_ns)
        at, end = np.nonzero(mine)
        last = np.argsort(last_seen_ns(rows[at]))[::-1][:MOST_FLOWS]
        for row, local in zip(rows[at[last]], end[last].tolist(), strict=True):
            yield _flow(row, local)

    def _fresh(self) -> NDArray[Any] | None:
        """All flows, of now or of less than a second ago."""
        read_s, rows = self._flows
        if time.monotonic() - read_s >= _FRESH_S:
            rows = self._kernel.flows()
            self._flows = (time.monotonic(), rows)
        return rows


def _start_of(alert: Alert) -> int:
    """When the alert's process began, boot clock, if a domain has said so; else 0."""
    for known in alert.context.values():
        if isinstance(known, dict) and known.get("pid") == alert.pid and known.get("start_ns"):
            return int(known["start_ns"])
    return 0


def _flow(row: Any, local: int) -> dict[str, Any]:
    """A flow as the process at its end ``local`` sees it."""
    one = row.reshape(1)
    key, remote = row["key"], 1 - local
    number, ipv6 = int(key["protocol"]), int(key["family"]) == 6
    return {
        "protocol": PROTOCOLS.get(number, str(number)),
        "local_ip": address(key["addr"][local], ipv6),
        "local_port": int(key["port"][local]),
        "remote_ip": address(key["addr"][remote], ipv6),
        "remote_port": int(key["port"][remote]),
        "opened_by": "local" if int(opened_by(one)[0]) == local else "remote",
        "state": Stage(int(stages(one)[0])).word,
        "bytes_out": int(row["end"]["bytes"][local]),
        "bytes_in": int(row["end"]["bytes"][remote]),
    }
