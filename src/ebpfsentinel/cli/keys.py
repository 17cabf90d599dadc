"""The verbs about API keys."""

from __future__ import annotations

import json
from typing import Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Failure, Session, path

_ROLES = click.Choice(["viewer", "analyst", "operator", "admin"])


@click.command("whoami")
@click.pass_obj
def whoami(session: Session) -> None:
    """Who the agent takes us for, and the role that we have."""
    session.show(session.get(path("auth", "me")), tables.pairs)


@click.group("keys")
def keys() -> None:
    """API keys."""


@keys.command("list")
@click.pass_obj
def listed(session: Session) -> None:
    """All keys; the keys themselves are not kept anywhere."""
    session.show(session.get(path("auth", "keys")), _table)


def _table(body: dict[str, Any]) -> str:
    if not body["keys"]:
        return "No API keys."
    rows = [
        [each.get(name) for name in ("id", "name", "role", "namespaces", "source")]
        + [_when(each.get("expires_ns")), _when(each.get("last_used_ns"))]
        for each in body["keys"]
    ]
    headings = ["ID", "NAME", "ROLE", "NAMESPACES", "SOURCE", "EXPIRES", "LAST USED"]
    shown = tables.table(headings, rows, whole=("ID",))
    return f"{shown}\n{tables.total(len(rows), 'key')}"


def _when(timestamp_ns: int | None) -> str | None:
    return tables.date_of(timestamp_ns) if timestamp_ns else None


@keys.command("create")
@click.argument("name")
@click.option("--role", type=_ROLES, default="viewer", show_default=True)
@click.option(
    "--namespace", "namespaces", multiple=True, metavar="NAME", help="Where an operator may write."
)
@click.option("--expires", metavar="TIME", help="As 90d, or 2030-01-31T12:00:00Z.")
@click.pass_obj
def create(
    session: Session, name: str, role: str, namespaces: tuple[str, ...], expires: str | None
) -> None:
    """Make a key for NAME; it is shown this once."""
    wanted: dict[str, Any] = {"name": name, "role": role, "namespaces": list(namespaces)}
    if expires:
        wanted["expires_at" if "T" in expires else "ttl"] = expires
    body = session.call("POST", path("auth", "keys"), body=json.dumps(wanted))
    session.show(body, _made)


@keys.command("rotate")
@click.argument("key")
@click.option(
    "--grace",
    type=click.IntRange(0, 604800),
    default=0,
    metavar="SECONDS",
    help="How long the old one stays good.",
)
@click.pass_obj
def rotate(session: Session, key: str, grace: int) -> None:
    """Put another key in the place of KEY (its id or name); it is shown this once."""
    where = path("auth", "keys", _id_of(session, key), "rotate")
    session.show(session.call("POST", where, query={"grace_seconds": grace}), _made)


@keys.command("revoke")
@click.argument("key")
@click.pass_obj
def revoke(session: Session, key: str) -> None:
    """KEY (its id or name) is good no more."""
    found = _id_of(session, key)
    session.call("DELETE", path("auth", "keys", found))
    body = {"id": found, "revoked": True}
    session.show(body, lambda _: f"key {tables.printable(key)} revoked.")


def _id_of(session: Session, key: str) -> str:
    """The id of a key that is named by its id, its name, or what it begins with."""
    for each in session.get(path("auth", "keys"))["keys"]:
        if key and key in (each["id"], each["name"], each["prefix"]):
            if not each["id"]:
                raise Failure(f"{key} is a key of the configuration. Change it there.")
            return str(each["id"])
    raise Failure(f"There is no key {key!r}. See: ebpfsentinel-agent keys list")


def _made(body: dict[str, Any]) -> str:
    return (
        f"{tables.printable(body['key'])}\n"
        f"This is the key of {tables.printable(body['name'])} ({body['role']}). "
        "It is not shown again: keep it safe."
    )
