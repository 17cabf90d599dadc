"""``memory``: what a configuration takes of it, worked out before anything is loaded."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import ebpfsentinel.kernel
from ebpfsentinel.changes import is_enabled
from ebpfsentinel.cli import tables
from ebpfsentinel.cli.installed import DEFAULT_CONFIG, discovered
from ebpfsentinel.cli.session import REFUSED, Failure, Session
from ebpfsentinel.config import load
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.declared import read_object
from ebpfsentinel.kernel.flows import Layout
from ebpfsentinel.kernel.memory import MB, behind, limit_bytes, needs
from ebpfsentinel.kernel.owners import cgroups, executables
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.rules import Cel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.domain import Domain

PROCESSES_MB = 170
"""What the agent and its keeper take beside their maps, at most (docs/performance.md)."""
_DISPATCH = Path(ebpfsentinel.kernel.__file__).parent / "dispatch.bpf.o"
_SHARED = "shared"


@click.command("memory")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def memory(ctx: click.Context, file: Path | None) -> None:
    """What a configuration needs of memory, and what there may be. Nothing is loaded.

    Exit code 1 where it does not fit into the control group that the command runs in.
    """
    session: Session = ctx.obj
    chosen = file or session.config or DEFAULT_CONFIG
    cards = discovered()
    try:
        settings = load(chosen, os.environ, {}, cards).settings
        body = predict(settings, cards)
    except SettingsError as error:
        raise Failure(str(error)) from None
    session.show(body, _text)
    ctx.exit(REFUSED if body["fits"] is False else 0)


def predict(settings: CoreSettings, cards: Sequence[Domain]) -> dict[str, Any]:
    """By domain: maps as they are declared, the largest of them, and what rules are compiled into.

    Raises:
        SettingsError: the rules cannot be taken.
    """
    on = [card for card in cards if is_enabled(getattr(settings, card.name))]
    objects = [(_SHARED, _DISPATCH), *((c.name, _object(c)) for c in on if c.object)]
    found = list(needs(objects))
    flow_set = Layout.of(read_object(_DISPATCH).btf).set.itemsize
    rows, taken = [], 0
    for name in [_SHARED, *(card.name for card in on)]:
        own = [need for need in found if need.domain == name]
        most = max(own, key=lambda need: need.bytes, default=None)
        card = next((card for card in on if card.name == name), None)
        rules = behind(_plan(card, settings, on), flow_set) if card else 0
        maps = sum(need.bytes for need in own)
        taken += maps + rules
        rows.append(
            {
                "domain": name,
                "maps_bytes": maps,
                "largest": most.map if most else "",
                "largest_bytes": most.bytes if most else 0,
                "rules_bytes": rules,
            }
        )
    limit = limit_bytes()
    return {
        "domains": rows,
        "kernel_bytes": taken,
        "processes_bytes": PROCESSES_MB * MB,
        "limit_bytes": limit,
        "fits": None if limit is None else taken + PROCESSES_MB * MB <= limit,
    }


def _object(card: Domain) -> Path:
    return Path(str(sys.modules[card.engine.__module__].__file__)).parent / card.object


def _plan(card: Domain, settings: CoreSettings, on: Sequence[Domain]) -> Sequence[Any]:
    section, now_ns = getattr(settings, card.name), time.time_ns()
    named = [name for name in settings.agent.interfaces if name != "auto"]
    around = Surroundings(
        interfaces={name: slot for slot, name in enumerate(named, 1)},
        files={path: _read(path, card.name) for path in card.files(section)},
        executables=executables(card.executables(section, {})),
        cgroups=cgroups(card.cgroups(section, {})),
        cpus=possible_cpus(),
        boot_offset_ns=clock.boot_offset_ns(),
        now_ns=now_ns,
        utc_offset_s=time.localtime(now_ns // 1_000_000_000).tm_gmtoff,
        provided=frozenset(name for each in on for name in each.provides),
        api_ports=(settings.agent.http_port,),
    )
    return card.engine(Tools(rules=Cel())).plan(section, {}, around).actions


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(name, f"{path} cannot be read: {error.strerror}") from None


def _text(body: dict[str, Any]) -> str:
    heads = ("Domain", "Maps MB", "Largest", "MB", "Rules and tables MB")
    rows = [
        (
            row["domain"],
            f"{row['maps_bytes'] / MB:.1f}",
            row["largest"],
            f"{row['largest_bytes'] / MB:.1f}",
            f"{row['rules_bytes'] / MB:.1f}",
        )
        for row in body["domains"]
    ]
    kernel, processes = body["kernel_bytes"] / MB, body["processes_bytes"] / MB
    lines = [tables.table(heads, rows), "", f"In the kernel {kernel:.1f} MB, at most."]
    lines.append(f"The processes take up to {processes:.0f} MB beside.")
    if body["limit_bytes"] is None:
        lines.append("This control group has no limit.")
    else:
        limit = body["limit_bytes"] / MB
        words = "it fits" if body["fits"] else "it does not fit: raise MemoryMax, or need less"
        lines.append(f"This control group allows {limit:.1f} MB: {words}.")
    return "\n".join(lines)
