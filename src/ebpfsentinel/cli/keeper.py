"""The verb ``keeper``: the small privileged process that holds the kernel for the agent."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ebpfsentinel.cli.installed import default_config

if TYPE_CHECKING:
    from ebpfsentinel.cli.session import Session

_PROGRAM = "from ebpfsentinel.keeper import main; main()"


@click.command("keeper")
@click.option(
    "--config", type=click.Path(path_type=Path), help="What allows; the usual file where it is."
)
@click.option(
    "--socket",
    "place",
    type=click.Path(path_type=Path),
    help="Where to listen; agent.keeper_socket where nothing is said.",
)
@click.pass_obj
def keeper(session: Session, config: Path | None, place: Path | None) -> None:
    """Hold the kernel for an agent without privilege. Runs until it is told to end.

    It reads the configuration itself, which only root may write to, and refuses what that does not
    allow: see docs/privilege-separation.md. A socket that a service manager passes is taken.
    """
    found = config or session.config or default_config()
    options = [f"--config={found or ''}"]
    if place is not None:
        options.append(f"--socket={place}")
    sys.stdout.flush()
    # What reads options and settings takes memory that the keeper need not have.
    os.execv(sys.executable, [sys.executable, "-P", "-c", _PROGRAM, *options])  # noqa: S606
