"""From a fault to its alarm, with the settings that come with the product.

Each fault is made in an agent of this process, at a random moment between two canaries; how long
until the agent itself raised the alert of it. Five agents live one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsentinel import domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.libbpf import lib
from tests.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Callable

MUST_S, AIM_S, MOST_S = 300, 60, 120
RUNS = 3


def _detach(agent: Any) -> None:
    """As BPF_LINK_DETACH does: the link stays, on nothing."""
    for place in agent.kernel._places.values():  # noqa: SLF001
        for hook in place.hooks.values():
            assert not lib().bpf_link_detach(hook.fd)


def _exec_hook(agent: Any) -> None:
    lib().bpf_link__destroy(agent.kernel._tracing.pop("process_exec"))  # noqa: SLF001


def _ring(agent: Any) -> None:
    drain = agent.kernel.drain
    agent.kernel.drain = lambda ring: drain(ring)[:0] if ring == "execs" else drain(ring)


def _engine(agent: Any) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("hurt")

    agent.engines["firewall"].feed = fails


def _sink(agent: Any) -> None:
    """Nobody takes what it sends any more, and nobody says so."""
    (destination,) = agent.router._destinations.values()  # noqa: SLF001

    async def hang(_: Any) -> None:
        await asyncio.sleep(3600)

    destination.sender.send = hang


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "hook, a program detached from its interface": (_detach, "watch.tamper.hook"),
    "hook, an exec that nobody sees": (_exec_hook, "watch.silent.hook.execs"),
    "ring, nobody reads it": (_ring, "watch.silent.ring.execs"),
    "engine, it fails": (_engine, "watch.silent.engine.firewall"),
    "sink, it never answers": (_sink, "watch.silent.sink.siem"),
}


def run() -> list[dict[str, Any]]:
    """A row a fault."""
    return [_row(name, *fault) for name, fault in FAULTS.items()]


def _row(name: str, hurt: Callable[[Any], None], rule_id: str) -> dict[str, Any]:
    found = [_once(hurt, rule_id) for _ in range(RUNS)]
    return {
        "name": f"alarm after a fault: {name}",
        "unit": "s",
        "median": round(statistics.median(found), 1),
        "spread": [round(min(found), 1), round(max(found), 1)],
        "runs": RUNS,
        "must": MUST_S,
        "aim": AIM_S,
    }


def _once(hurt: Callable[[Any], None], rule_id: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            with lab.inside(lab.guarded):
                return asyncio.run(_within(Path(folder), hurt, rule_id))
        finally:
            lab.close()


async def _within(folder: Path, hurt: Callable[[Any], None], rule_id: str) -> float:
    config = folder / "within.json"
    file = {"name": "siem", "destination": "file", "file": {"path": f"{folder}/alerts.json"}}
    section = {"interfaces": ["guard0"], "state_dir": str(folder / "state")}
    config.write_text(json.dumps({"agent": section, "alerting": {"routes": [file]}}))
    config.chmod(0o600)
    agent = Agent(config, {}, discover(domains))
    await agent.prepare()
    await agent.start()
    over = asyncio.Event()
    running = asyncio.create_task(agent.run(over))
    try:
        wanted = agent.settings.agent.canary
        await asyncio.sleep(wanted.interval_secs * random.uniform(0, 1))
        hurt(agent)
        return await _alarm(agent, rule_id)
    finally:
        over.set()
        with contextlib.suppress(Exception):
            await running
        await agent.stop()


async def _alarm(agent: Agent, rule_id: str) -> float:
    began = time.monotonic()
    while time.monotonic() - began < MOST_S:
        if any(f"watch.{each.key}".startswith(rule_id) for each in agent.health().troubles):
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise TimeoutError(rule_id)
