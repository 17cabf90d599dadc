"""What the kernel says of flows and their processes, and crowds of processes to ask it about."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import XdpMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab

CROWD = Path(__file__).with_name("crowd.py")
_TRACKED = {"conntrack": {"enabled": True, "max_entries": 65536}, "sockets": {}}


class Crowd:
    """A run of ``crowd.py`` in a namespace."""

    def __init__(self, namespace: str, *arguments: object) -> None:
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-I", str(CROWD),
             *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the crowd has gone"
        return line.split()

    def lines(self) -> list[list[str]]:
        """All there are until it ends."""
        out, _ = self.process.communicate(timeout=100)
        return [line.split() for line in out.splitlines()]

    def end(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate(timeout=60)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe and not pipe.closed:
                pipe.close()


class Tracked:
    """The programs of this domain and of connection tracking, on the guarded end."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.kernel = LinuxKernel(xdp_mode=XdpMode.TC)
        self.crowds: list[Crowd] = []
        cards = [card for card in discover(domains) if card.name in _TRACKED]
        self.engines = {card.name: card.engine(Tools(rules=None)) for card in cards}
        self.cards = {card.name: card for card in cards}

    def start(self, *interfaces: str) -> None:
        """Load, attach to the guarded end and seed, as an agent does."""
        with self.lab.inside(self.lab.guarded):
            names = list(interfaces or ("guard0",))
            self.kernel.load(list(self.cards.values()))
            self.kernel.reserve(names)
            for name, card in self.cards.items():
                self._plan(name, card)
            self.kernel.attach(names)
        for program in self.kernel.seeds():
            self.kernel.seed(program)

    def _plan(self, name: str, card: Any) -> None:
        around = Surroundings(
            boot_offset_ns=clock.boot_offset_ns(),
            now_ns=time.time_ns(),
            secret=bytes(32),
            provided=frozenset({"owners"}),
            netns=Path(f"/run/netns/{self.lab.guarded}").stat().st_ino,
            interfaces=self.kernel.interface_slots(),
        )
        plan = self.engines[name].plan(msgspec.convert(_TRACKED[name], card.settings), {}, around)
        self.kernel.apply(plan.actions)
        self.engines[name].commit(plan)

    @contextlib.contextmanager
    def crowd(self, namespace: str, *arguments: object) -> Iterator[Crowd]:
        made = Crowd(namespace, *arguments)
        try:
            yield made
        finally:
            made.end()

    def owners(self, protocol: int, port: int) -> dict[int, tuple[int, int]]:
        """By the port of the other end: pids at that end and at ``port``; 0: not known."""
        rows = self.kernel.flows()
        rows = rows[rows["key"]["protocol"] == protocol]
        found = {}
        for ports, owner in zip(
            rows["key"]["port"].tolist(), rows["end"]["owner"]["pid"].tolist(), strict=True
        ):
            if port in ports:
                here = ports.index(port)
                found[ports[1 - here]] = (owner[1 - here], owner[here])
        return found

    def close(self) -> None:
        self.kernel.detach()
