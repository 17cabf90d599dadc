"""The verbs about the configuration: before an agent runs, and of the one that does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.changes import CONFIRM
from ebpfsentinel.cli.session import Failure, Session, path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.domain import Domain


@click.group("config")
def config() -> None:
    """The configuration."""


def _cards(ctx: click.Context) -> Sequence[Domain]:
    from ebpfsentinel.cli.root import Root  # noqa: PLC0415 - the root imports us

    found = ctx.find_root().command
    return found.cards() if isinstance(found, Root) else ()


@config.command("schema")
@click.pass_context
def schema(ctx: click.Context) -> None:
    """The JSON Schema of a configuration file."""
    from ebpfsentinel.config import schema as make  # noqa: PLC0415 - not for `version`

    click.echo(json.dumps(make(_cards(ctx)), indent=2))


@config.command("example")
@click.pass_context
def example(ctx: click.Context) -> None:
    """A configuration with every setting, its default and what it is for."""
    from ebpfsentinel.config import example as make  # noqa: PLC0415 - not for `version`

    click.echo(make(_cards(ctx)), nl=False)


@config.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_context
def check(ctx: click.Context, file: Path | None) -> None:
    """Would an agent take this configuration? Nothing is touched."""
    from ebpfsentinel.cli.installed import DEFAULT_CONFIG  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.config import load  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.model.settings import SettingsError  # noqa: PLC0415

    session: Session = ctx.obj
    chosen = file or session.config or DEFAULT_CONFIG
    try:
        loaded = load(chosen, os.environ, {}, _cards(ctx))
    except SettingsError as error:
        raise Failure(str(error)) from None
    body = {"file": str(chosen), "valid": True, "warnings": list(loaded.warnings)}
    session.show(body, _checked)


def _checked(body: dict[str, Any]) -> str:
    warnings = [f"warning: {tables.printable(text)}" for text in body["warnings"]]
    return "\n".join([*warnings, f"{tables.printable(body['file'])} is valid."])


@config.command("show")
@click.pass_obj
def show(session: Session) -> None:
    """The configuration in force, secrets masked."""
    session.show(session.get(path("config")), _yaml)


def _yaml(body: Any) -> str:
    import yaml  # noqa: PLC0415 - only here

    text: str = yaml.safe_dump(body, sort_keys=False, allow_unicode=False)
    return text.rstrip()


@config.command("reload")
@CONFIRM
@click.pass_obj
def reload(session: Session, confirm: int | None) -> None:
    """Let the agent read its configuration again: all of it, or nothing changes."""
    body, change = session.change("POST", path("config", "reload"), confirm=confirm)
    session.show_change(body, change, confirm, _reloaded)


def _reloaded(body: dict[str, Any]) -> str:
    sections = dict(body.get("sections", {}))
    lines = [tables.pairs(sections)] if sections else []
    return "\n".join(
        [*lines, f"{tables.cell(body.get('status'))}: {tables.cell(body.get('message'))}."]
    )
