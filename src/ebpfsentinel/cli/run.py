"""Running the agent: from the first log line to the last, with signals and file changes between."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfsentinel import domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.cli.service import ServiceManager
from ebpfsentinel.config import discover
from ebpfsentinel.kernel import heap
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.parts import set_up_logging
from ebpfsentinel.sinks import announce

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebpfsentinel.api.serve import Listeners

logger = logging.getLogger(__name__)

_DEBOUNCE_MS = 500


def run_agent(config: Path | None, overrides: Mapping[str, Any]) -> int:
    """Run the agent until SIGTERM or SIGINT; returns the exit code.

    Without a configuration it guards all interfaces that are up, in alert mode.

    Raises:
        SettingsError, KernelError: it cannot start.
    """
    heap.one_arena()
    flags = dict(overrides)
    if config is None:
        flags.setdefault("agent.interfaces", ["auto"])
    return asyncio.run(_run(config, flags))


async def _run(config: Path | None, flags: dict[str, Any]) -> int:
    agent = Agent(config, flags, discover(domains))
    set_up_logging(agent.loaded)
    announce(agent.version, str(config or "defaults"))
    for warning in agent.loaded.warnings:
        logger.warning("%s", warning)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    loop.add_signal_handler(signal.SIGUSR1, _hand_over, agent, ended)
    preparing = asyncio.create_task(agent.prepare())
    await asyncio.sleep(0)  # the verifier is at work while we import
    if preparing.done():  # refused at once, such as by another agent: say that first
        await agent.stop()
        await preparing
    from ebpfsentinel.api.serve import Listeners  # noqa: PLC0415

    reloads = asyncio.create_task(_follow(agent, ended))
    listeners: Listeners | None = None
    try:
        listeners = Listeners(agent)
        await listeners.start()
        await preparing
        await agent.start()
        click.echo(banner(agent, listeners))
        async with ServiceManager(os.environ).told_of(agent):
            await agent.run(ended)
    finally:
        ended.set()
        await asyncio.gather(preparing, return_exceptions=True)
        agent.alerts.close()
        if listeners is not None:
            await listeners.stop()
        await agent.stop()
        reloads.cancel()
        await asyncio.gather(reloads, return_exceptions=True)
    logger.info("eBPFsentinel agent ended")
    return 0


def _hand_over(agent: Agent, ended: asyncio.Event) -> None:
    """End, and leave everything in force: the next version is about to start."""
    try:
        agent.hand_over()
    except KernelError as error:
        logger.error("nothing is handed over, the agent goes on: %s", error)  # noqa: TRY400
    else:
        logger.info("what is in force is left to the next agent")
        ended.set()


async def _follow(agent: Agent, ended: asyncio.Event) -> None:
    """Reload on SIGHUP and when a file changes."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    watching = asyncio.create_task(_watch(agent, asked, ended))
    try:
        while True:
            await asked.wait()
            asked.clear()
            try:
                await agent.reload("file or SIGHUP", asked=False)
            except (SettingsError, KernelError):
                continue  # the agent has logged it; the old configuration stays in force
    finally:
        watching.cancel()


async def _watch(agent: Agent, asked: asyncio.Event, ended: asyncio.Event) -> None:
    """Watch the folders of the files: editors replace files rather than write them."""
    from watchfiles import awatch  # noqa: PLC0415 - not before the agent is up

    def names() -> set[str]:
        return {os.path.abspath(name) for name in agent.watched_files()}  # noqa: PTH100 (links stay)

    folders = {os.path.dirname(name) for name in names()}  # noqa: PTH120
    if not folders:
        return
    async for changes in awatch(*folders, debounce=_DEBOUNCE_MS, recursive=False, stop_event=ended):
        if names() & {path for _, path in changes}:
            asked.set()


def _watch_command(agent: Agent) -> str:
    name = Path(sys.argv[0]).name
    on_path = shutil.which(name) == sys.argv[0]
    words = [name if on_path else sys.argv[0], "alerts watch"]
    if agent.tls.enabled:
        words.append("--tls --ca CA.pem")
    if agent.settings.auth.enabled:
        words.append("--token-file FILE")
    return " ".join(words)


def _differing(agent: Agent) -> Iterator[str]:
    """What is not as it was asked for."""
    from ebpfsentinel.api.modes import modes  # noqa: PLC0415 - not before the agent is up

    for mode in modes(agent):
        if not mode.as_asked:
            yield f"  DIFFERS    {mode.what}: {mode.asked} asked, {mode.effective} in effect"
    if not agent.ready:
        yield f"  NOT READY  {agent.not_ready_reason}"


def banner(agent: Agent, listeners: Listeners) -> str:
    """One screen: what is attached where and how, where to look, how to see an alert."""
    host = agent.settings.agent.bind_address
    scheme = "https" if agent.tls.enabled else "http"
    url = f"{scheme}://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{listeners.http_port}"  # noqa: S104
    lines = [f"eBPFsentinel {agent.version} is guarding this host.", ""]
    for place in agent.kernel.attachments():
        how = {"tc": "TC"}.get(place.how, f"XDP, {place.how}")
        lines.append(f"  interface  {place.interface:<15} {how}")
    hooks = {p.domain: 0 for p in agent.kernel.programs() if p.domain in agent.engines}
    for program in agent.kernel.programs():
        if program.domain in hooks and program.attached:
            hooks[program.domain] += 1
    for name, engine in agent.engines.items():
        status = engine.status()
        how = f"mode {status['mode']}" if "mode" in status else "on"
        rules = f"{status['rule_count']} rules, " if "rule_count" in status else ""
        shown = f"{how:<11} {rules}{hooks.get(name, 0)} programs attached"
        lines.append(f"  {name:<10} {shown if status.get('enabled', True) else 'off'}")
    lines += _differing(agent)
    lines += [
        "",
        f"  API        {url}/api/v1/agent/status",
        f"  API docs   {url}/swagger-ui/",
        f"  metrics    {scheme}://127.0.0.1:{listeners.metrics_port}/metrics",
        *([f"  gRPC       127.0.0.1:{listeners.grpc_port}"] if listeners.grpc_port else []),
        "",
        "  See the first alert, in another terminal:",
        f"      {_watch_command(agent)}",
        "      cp /bin/true /tmp/try-me && /tmp/try-me",
        "",
        "  Ctrl-C ends it and leaves nothing behind."
        if agent.settings.agent.on_exit.value == "detach"
        else "  Ctrl-C ends the agent; enforcement stays (ebpfsentinel-agent detach --all).",
    ]
    return "\n".join(lines)
