"""The verbs about changes that wait to be confirmed."""

from __future__ import annotations

from typing import Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Failure, Session, path

CONFIRM = click.option(
    "--confirm",
    type=click.IntRange(1, 86400),
    metavar="SECONDS",
    help="Undo it after SECONDS, unless it is confirmed over a new connection.",
)


@click.command("changes")
@click.pass_obj
def changes(session: Session) -> None:
    """Changes that wait to be confirmed."""
    session.show(session.get(path("changes")), _table)


def _table(body: dict[str, Any]) -> str:
    if not body["changes"]:
        return "No change waits to be confirmed."
    rows = [
        [each.get(name) for name in ("id", "seconds_left", "actor", "summary")]
        for each in body["changes"]
    ]
    return tables.table(["ID", "SECONDS LEFT", "ACTOR", "CHANGE"], rows)


@click.command("confirm")
@click.argument("change", required=False)
@click.pass_obj
def confirm(session: Session, change: str | None) -> None:
    """Keep a change that waits; without an id, the only one."""
    chosen = change or _only(session)
    body = session.call("POST", path("changes", chosen, "confirm"))
    session.show(body, lambda _: f"change {tables.printable(chosen)} is confirmed.")


def _only(session: Session) -> str:
    found = session.get(path("changes"))["changes"]
    if len(found) != 1:
        told = ", ".join(each["id"] for each in found) or "none"
        raise Failure(f"Which change? These wait: {told}.")
    return str(found[0]["id"])
