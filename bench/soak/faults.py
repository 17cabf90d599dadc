"""What goes wrong on purpose, and when.

In the first fifth of the time the agent is killed four times, one of its lives with another boot
clock; then no more, so that the memory of one process is judged. Everything else comes round and
round, so that any two rounds are alike. One round is over before memory counts: what is done for
the first time takes memory that it keeps.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.soak.load import OTHER_RULES, RULES
from bench.soak.supervised import ANOTHER_CLOCK
from tests.lab import ip

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.soak.load import Load
    from bench.soak.sinks import Webhooks
    from bench.soak.supervised import Supervised
    from tests.lab import Lab

KILLED = 0.2
"""Before this part of the time is over, the agent is killed; afterwards not."""
ROUNDS = 12
_KILLED = "killed"
_DISK_S = 12.0
"""Less in short runs: an eighth of a round."""
_ROOM = 8 << 30


@dataclass(frozen=True)
class Fault:
    """``at`` is a part of the whole time."""

    at: float
    name: str
    act: Callable[[], None]


class Faults:
    """Carries out what is due; ``done`` says when, how long it took, and what was noticed."""

    def __init__(  # noqa: PLR0913, PLR0917 -- all that can be hurt
        self,
        lab: Lab,
        agent: Supervised,
        webhooks: Webhooks,
        load: Load,
        sections: dict[str, Any],
        seconds: float,
    ) -> None:
        self._lab, self._agent, self._webhooks, self._load = lab, agent, webhooks, load
        self._sections = sections
        self._disk_s = min(_DISK_S, seconds / ROUNDS / 8)
        self.done: list[dict[str, Any]] = []
        self.plan = sorted([*self._kills(), *self._rounds()], key=lambda fault: fault.at)

    def _kills(self) -> list[Fault]:
        wrappers = ([], ANOTHER_CLOCK, [], [])
        return [
            Fault(KILLED * (number + 1) / 5, _KILLED, lambda w=wrapper: self._agent.kill(w))
            for number, wrapper in enumerate(wrappers)
        ]

    def _rounds(self) -> list[Fault]:
        acts: list[tuple[float, str, Callable[[], None]]] = [
            (0.02, "sink fails", lambda: self._flap("/fails")),
            (0.15, "sink hangs", lambda: self._flap("/hangs")),
            (0.30, "sink works", lambda: self._flap("/recover")),
            (0.40, "interface", self._interface),
            (0.50, "reload", lambda: self._reload(OTHER_RULES)),
            (0.55, "broken reload", lambda: self._reload({"mode": "blok"})),
            (0.60, "reload", lambda: self._reload(RULES)),
            (0.75, "disk full", self._disk),
        ]
        first = int(KILLED * ROUNDS)
        return [
            Fault((number + part) / ROUNDS, name, act)
            for number in range(first, ROUNDS)
            for part, name, act in acts
        ]

    @property
    def will_kill(self) -> bool:
        """Is the agent to be killed again?"""
        return any(fault.name == _KILLED for fault in self.plan)

    def step(self, began: float, seconds: float) -> None:
        """The next that is due by now."""
        if self.plan and time.monotonic() - began >= self.plan[0].at * seconds:
            fault = self.plan.pop(0)
            at_s = time.monotonic()
            found: dict[str, Any] = {"at_s": round(at_s - began, 1), "fault": fault.name}
            try:
                fault.act()
            except (OSError, TimeoutError, AssertionError, subprocess.SubprocessError) as error:
                found["failed"] = repr(error)[:300]
            found["seconds"] = round(time.monotonic() - at_s, 2)
            self.done.append(found)
            print(f"{found['at_s']:7.0f} s  {found}", flush=True)

    def _flap(self, mode: str) -> None:
        self._webhooks.ask("flaps", mode)

    def _interface(self) -> None:
        """It goes; once the agent has noticed, it comes back and has to be guarded again."""
        with self._load.road:
            ip("-n", self._lab.sender, "link", "del", "send0")
            self._agent.until(lambda: not self._agent.ready())
            self._lab.connect()
            self._agent.until(self._agent.ready)
            assert self._lab.arrivals(5353, 20) == 0, "it is ready, but lets through"

    def _reload(self, firewall: dict[str, Any]) -> None:
        """The agent sees the file; it counts a broken one, too."""
        counted = "ebpfsentinel_config_reloads_total"
        before = self._agent.count(counted)
        self._agent.agent.write(**self._sections | {"firewall": firewall})
        self._agent.until(lambda: self._agent.count(counted) > before)

    def _disk(self) -> None:
        """No byte more on the file system of the state; then room again, and all is written."""
        state = self._lab.tmp / "disk"
        _fill(state)
        try:
            time.sleep(self._disk_s)
        finally:
            _resize(state, _ROOM)
        self._agent.until(lambda: "store" not in self._agent.get("/readyz"))


def mount_disk(folder: Path) -> None:
    """A small file system of its own for the agent's state."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)]
    subprocess.run(command, check=True)


def _fill(folder: Path) -> None:
    """As large as what is used; again where something was written meanwhile."""
    for _ in range(20):
        found = os.statvfs(folder)
        try:
            _resize(folder, (found.f_blocks - found.f_bfree) * found.f_frsize)
        except subprocess.CalledProcessError:
            continue
        return
    raise TimeoutError("the disk cannot be made full")


def _resize(folder: Path, size: int) -> None:
    """tmpfs takes any size that is not less than what is used, at once."""
    pages = -(-size // 4096) * 4096
    subprocess.run(
        ["mount", "-o", f"remount,size={max(pages, 4096)}", str(folder)],
        check=True,
        capture_output=True,
    )
