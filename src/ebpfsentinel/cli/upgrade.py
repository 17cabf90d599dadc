"""The verbs with which one version of the agent follows another.

Everything is imported at once: while `upgrade` runs, the files of this version become others.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import Any

import click

from ebpfsentinel.cli import packages, tables
from ebpfsentinel.cli.backup import back_up
from ebpfsentinel.cli.installed import DEFAULT_CONFIG, default_config, state_dir
from ebpfsentinel.cli.session import Failure, Session, path
from ebpfsentinel.store import archive
from ebpfsentinel.store import restore as restoring
from ebpfsentinel.store.database import schema
from ebpfsentinel.store.holder import holder
from ebpfsentinel.store.store import FILE

_END_S = 30.0
_LOOK_S = 0.2
_BACK_S = 60.0
"""The version before has this long at least: it did run."""


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


@click.command("upgrade")
@click.argument("file", metavar="PACKAGE", type=click.Path(path_type=Path, exists=True))
@click.option("--within", type=click.IntRange(1, 3600), default=60, show_default=True,
              help="Seconds in which the new version must be ready.")  # fmt: skip
@click.pass_obj
def upgrade(session: Session, file: Path, within: int) -> None:
    """Install the version in PACKAGE, or go back to this one.

    All stays in force meanwhile. The new version is asked first whether it takes the
    configuration; once it runs it must be ready, with nothing broken that is not broken now.
    """
    if os.geteuid():
        raise Failure("Installing packages needs root.")
    new, old = packages.package(file.resolve()), packages.installed()
    folder = _state_dir(session)
    before = _agent(folder)
    packages.CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
    packages.try_out(new, session.config or default_config())
    broken = _broken(session)
    back, kept = packages.pack_installed(old), _backup(session, folder, old)
    trouble = packages.install(new) or _not_ready(session, folder, before, within, broken)
    if trouble:
        _go_back(session, folder, back, kept, within)
        raise Failure(
            f"Version {new.version} is not in use: {trouble}. Version {old} runs again; all was "
            "in force all the time."
        )
    body = {"version": new.version, "before": old, "way_back": str(back.path), "state": str(kept)}
    session.show(body, tables.pairs)


def _agent(folder: Path) -> int:
    pid = holder(folder)
    if not pid:
        raise Failure(f"No agent runs on {folder}: nothing to hand over. Use dpkg or apt.")
    return pid


def _backup(session: Session, folder: Path, version: str) -> Path:
    """State as this version knows it: a newer one may bring the database up to date."""
    target = packages.CACHE / f"state-of-{version}.backup"
    target.unlink(missing_ok=True)
    back_up(session, target, folder)
    return target


def _not_ready(session: Session, folder: Path, before: int, within: float, broken: set[str]) -> str:
    """Wait for another agent that is ready; why there is none, or an empty text."""
    end, why = time.monotonic() + within, "no agent has started"
    while time.monotonic() < end:
        if holder(folder) not in (0, before):
            why = _unready(session) or ", ".join(sorted(_broken(session) - broken))
            if not why:
                return ""
        time.sleep(_LOOK_S)
    return f"{why} within {within:.0f} s"


def _unready(session: Session) -> str:
    try:
        answer = session.ask("GET", "/readyz")
    except Failure as failure:
        return failure.message
    if answer.status_code == 200:
        return ""
    return f"not ready: {answer.text[:200]}"


def _broken(session: Session) -> set[str]:
    """About what the agent's own doctor says that it is broken; nothing where we may not ask."""
    try:
        body = session.get(path("agent", "doctor"))
    except Failure:
        return set()
    return {f"broken: {each['about']}" for each in body["findings"] if each["state"] == "broken"}


def _go_back(
    session: Session, folder: Path, back: packages.Package, kept: Path, within: float
) -> None:
    """The old version again, on the state that it knows.

    Raises:
        Failure: it does not come up either.
    """
    packages.stop()  # or systemd would try the new one again
    before = ended(folder)
    if schema(folder / FILE) > archive.check(kept).schema:
        restoring.restore(kept, folder, session.config or DEFAULT_CONFIG, force=True)
    patient = max(within, _BACK_S)
    trouble = packages.install(back) or _not_ready(session, folder, before, patient, set())
    if trouble:
        raise Failure(f"Version {back.version} does not come up again: {trouble}. All is in force.")
