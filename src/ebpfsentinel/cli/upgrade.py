"""The verbs with which one version of the agent follows another."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Any

import click

from ebpfsentinel.cli.installed import state_dir
from ebpfsentinel.cli.session import Failure, Session

_END_S = 30.0


@click.command("hand-over")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Of the agent that is meant.")
@click.pass_obj
def hand_over(session: Session, state_dir: Path | None) -> None:
    """End the agent of this host, and leave all in force for the next one.

    Whatever agent.on_exit says. The next start takes over without a gap.
    """
    folder = state_dir or _state_dir(session)
    pid = ended(folder)
    session.show({"state_dir": str(folder), "pid": pid or None}, _handed_over)


def _state_dir(session: Session) -> Path:
    return state_dir(session.config)


def _handed_over(body: dict[str, Any]) -> str:
    if body["pid"] is None:
        return f"No agent runs on {body['state_dir']}."
    return f"Agent {body['pid']} has ended; what it enforced stays in force."


def ended(folder: Path) -> int:
    """Ask the agent that uses the folder to hand over, and see it end; 0: there is none.

    Raises:
        Failure: it goes on, or may not be asked.
    """
    from ebpfsentinel.store.holder import holder  # noqa: PLC0415 - not for `version`

    try:
        pid = holder(folder)
        if not pid:
            return 0
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGUSR1)
            gone, _, _ = select.select([process], [], [], _END_S)
        finally:
            os.close(process)
    except OSError as error:
        raise Failure(f"The agent on {folder} cannot be asked: {error}. It needs root.") from None
    if not gone:
        raise Failure(f"Agent {pid} hands nothing over and goes on. Its log says why.")
    return pid
