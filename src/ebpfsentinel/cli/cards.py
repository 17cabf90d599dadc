"""The verbs that every card gives: its status, its collections, and its own extras."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.changes import CONFIRM
from ebpfsentinel.cli.session import Session, path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.domain import Collection, Domain

_FEW = 6
"""Columns of a collection whose card names none."""


def group_of(card: Domain) -> click.Group:
    """``<domain> status``, ``<domain> <collection> list|add|delete``, and the card's own verbs.

    The first collection's verbs stand directly below the domain as well.
    """
    group = click.Group(card.name, help=card.summary)
    group.add_command(_status(card))
    for collection in card.collections:
        verbs = _verbs(card, collection)
        about = f"The {collection.name} of {card.name}."
        group.add_command(click.Group(collection.name, verbs, help=about))
        for name, verb in verbs.items() if collection is card.collections[0] else ():
            group.add_command(verb, name)
    for verb in _extras(card, group):
        group.add_command(verb)
    return group


def _extras(card: Domain, group: click.Group) -> Sequence[click.Command]:
    if not card.commands:
        return ()
    module, _, name = card.commands.partition(":")
    made: Sequence[click.Command] | None = getattr(importlib.import_module(module), name)(group)
    return made or ()


def _status(card: Domain) -> click.Command:
    @click.command("status", help=f"What {card.name} is doing.")
    @click.pass_obj
    def status(session: Session) -> None:
        session.show(session.get(path(card.name, "status")), tables.pairs)

    return status


def _verbs(card: Domain, collection: Collection) -> dict[str, click.Command]:
    return {
        "list": _list(card, collection),
        "add": _add(card, collection),
        "delete": _delete(card, collection),
    }


def _list(card: Domain, collection: Collection) -> click.Command:
    @click.command("list", help=f"All {collection.name} in force.")
    @click.pass_obj
    def listed(session: Session) -> None:
        body = session.get(path(card.name, collection.name))
        session.show(body, lambda items: _table(collection, items))

    return listed


def _table(collection: Collection, items: Sequence[dict[str, Any]]) -> str:
    if not items:
        return f"No {card_words(collection.name)} configured."
    columns = collection.columns or tuple(
        (field.encode_name.replace("_", " ").upper(), field.encode_name)
        for field in msgspec.structs.fields(collection.item)[:_FEW]
    )
    headings = [heading for heading, _ in columns]
    rows = [[item.get(field) for _, field in columns] for item in items]
    return f"{tables.table(headings, rows)}\n{tables.total(len(items), collection.singular)}"


def card_words(name: str) -> str:
    """A collection's name as words."""
    return name.replace("-", " ").replace("_", " ")


def _add(card: Domain, collection: Collection) -> click.Command:
    singular = collection.singular

    @click.command("add", help=f"Add a {singular}; it outlives a restart.")
    @click.option(
        "--json",
        "body",
        required=True,
        metavar="BODY",
        callback=_json_text,
        help=f"The {singular} as JSON, @FILE, or - for stdin.",
    )
    @CONFIRM
    @click.pass_obj
    def add(session: Session, body: str, confirm: int | None) -> None:
        where = path(card.name, collection.name)
        made, change = session.change("POST", where, confirm=confirm, body=body)
        session.show_change(
            made, change, confirm, lambda item: f"{singular} {_key(item, collection)} added."
        )

    return add


def _key(item: Any, collection: Collection) -> str:
    return tables.cell(item.get(collection.key) if isinstance(item, dict) else None)


def _json_text(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    """The JSON that was given, checked so that a slip of the shell is told at once."""
    if value == "-" or value.startswith("@"):
        try:
            with click.open_file(value.removeprefix("@"), encoding="utf-8") as file:
                value = file.read()
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(str(error)) from None
    try:
        json.loads(value)
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {error}. Quote it for the shell: --json '{{\"id\": ...}}'."
        raise click.BadParameter(problem) from None
    return value


def _delete(card: Domain, collection: Collection) -> click.Command:
    singular = collection.singular

    @click.command("delete", help=f"Delete a {singular} that was added here.")
    @click.argument("key")
    @CONFIRM
    @click.pass_obj
    def delete(session: Session, key: str, confirm: int | None) -> None:
        where = path(card.name, collection.name, key)
        body, change = session.change("DELETE", where, confirm=confirm)
        done = {collection.key: key, "deleted": True} if body is None else body
        session.show_change(
            done, change, confirm, lambda _: f"{singular} {tables.printable(key)} deleted."
        )

    return delete
