"""The verbs that keep a copy of the agent's state, and put one back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

import ebpfsentinel
from ebpfsentinel.cli import tables
from ebpfsentinel.cli.installed import DEFAULT_CONFIG, default_config, discovered, state_dir
from ebpfsentinel.cli.session import Failure, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.store import Manifest

_PATH = click.Path(path_type=Path)
_FOLDER = click.option("--state-dir", "folder", type=_PATH, help="State of another place.")


@click.command("backup")
@click.argument("file", type=_PATH)
@_FOLDER
@click.pass_obj
def backup(session: Session, file: Path, folder: Path | None) -> None:
    """Copy state and configuration into FILE, with an agent running or not.

    It holds secrets: keys, tokens and passwords of the configuration.
    """
    if file.exists():
        raise Failure(f"{file} is there already. Name another file.")
    made = back_up(session, file.resolve(), folder or state_dir(session.config))
    session.show({"file": str(file), **_about(made)}, _text)


def back_up(session: Session, file: Path, state: Path) -> Manifest:
    """Copy state and configuration into ``file``.

    Raises:
        Failure: something cannot be read or written.
    """
    from ebpfsentinel.store import ArchiveError, archive  # noqa: PLC0415 - not for `version`

    config = dict(_config_files(session.config or default_config()))
    try:
        return archive.write(file, state, config, ebpfsentinel.__version__)
    except ArchiveError as error:
        raise Failure(f"{error}.") from None


def _config_files(config: Path | None) -> Iterator[tuple[str, Path]]:
    """The configuration and, where it has a folder of its own, the files there that it names."""
    from ebpfsentinel.store.archive import OWN_FOLDER  # noqa: PLC0415 - not for `version`

    if config is None or not config.is_file():
        return
    yield config.name, config
    folder = config.resolve().parent
    for name in _named(config) if folder.name == OWN_FOLDER else ():
        path = Path(os.path.normpath(folder / name))
        if path.is_relative_to(folder) and path.is_file():
            yield str(path.relative_to(folder)), path


def _named(config: Path) -> set[str]:
    """Texts of the configuration that might be names of files."""
    from ebpfsentinel.config import load  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.model.settings import SettingsError  # noqa: PLC0415

    try:
        settings = load(config, os.environ, {}, discovered()).settings
    except SettingsError:
        return set()
    return {text for text in _texts(msgspec.to_builtins(settings)) if "/" in text}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and "\0" not in value:
        yield value
    elif isinstance(value, dict):
        yield from (text for each in value.values() for text in _texts(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _texts(each))


@click.command("restore")
@click.argument("file", type=_PATH)
@click.option("--force", is_flag=True, help="Put aside the state that is there.")
@click.option("--check", is_flag=True, help="Only look whether it could be restored.")
@_FOLDER
@click.pass_obj
def restore(session: Session, file: Path, force: bool, check: bool, folder: Path | None) -> None:
    """Put a backup in place, whole or not at all. No agent may run meanwhile."""
    from ebpfsentinel.store import ArchiveError, archive  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.store import restore as restoring  # noqa: PLC0415

    config = session.config or DEFAULT_CONFIG
    body: dict[str, Any] = {"file": str(file)}
    try:
        if check:
            found = archive.check(file)
        else:
            state = folder or state_dir(session.config)
            found, before = restoring.restore(file, state, config, force=force)
            body |= {"state_dir": str(state), "before": str(before)}
    except ArchiveError as error:
        raise Failure(f"{error}.") from None
    session.show(body | _about(found), _text)


def _about(manifest: Manifest) -> dict[str, Any]:
    head = manifest.audit_head
    return {
        "agent": manifest.agent,
        "host": manifest.host,
        "made_ns": manifest.made_ns,
        "files": len(manifest.files),
        "bytes": sum(kept.bytes for kept in manifest.files.values()),
        "audit_head": f"{head.seq}:{head.hash}",
    }


def _text(body: dict[str, Any]) -> str:
    return tables.pairs(body | {"made_ns": tables.time_of(body["made_ns"])})
