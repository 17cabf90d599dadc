"""Reads the configuration for the keeper, and writes down what of it the keeper has to know.

A process of its own, run by root, that ends: see :mod:`ebpfsentinel.keeper`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel import domains
from ebpfsentinel.changes import is_enabled
from ebpfsentinel.config import discover, load
from ebpfsentinel.guardian import protection
from ebpfsentinel.kernel import confine
from ebpfsentinel.kernel.door.charter import Card, Charter
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.domain import Domain

_USAGE = "--config=FILE, --set=PLACE=JSON"


def charter(path: Path | None, flags: Mapping[str, Any], cards: Sequence[Domain]) -> Charter:
    """What a configuration allows.

    Raises:
        SettingsError: it cannot be taken.
    """
    settings = load(path, os.environ, flags, cards).settings
    agent = settings.agent
    found = _user(agent.user)
    on = [card for card in cards if is_enabled(getattr(settings, card.name))]
    return Charter(
        path=str(path or "the configuration"),
        socket=agent.keeper_socket,
        user=None if found is None else found.uid,
        group=None if found is None else found.gid,
        on_exit=agent.on_exit,
        xdp_mode=agent.xdp_mode,
        interfaces=tuple(agent.interfaces),
        domains=tuple(_card(card) for card in on),
        kills=_kills(settings, on),
        protection=protection(settings),
    )


def _user(name: str) -> confine.User | None:
    """Who is not there does not call."""
    try:
        return confine.user(name)
    except KernelError:
        return None


def _card(card: Domain) -> Card:
    module = sys.modules[card.engine.__module__]
    folder = Path(str(module.__file__)).parent
    return Card(
        name=card.name,
        object=str(folder / card.object) if card.object else "",
        programs=card.programs,
        survey=_survey(card.survey),
        sealed=card.sealed,
    )


def _survey(place: str) -> tuple[str, str] | None:
    if not place:
        return None
    module, _, name = place.partition(":")
    spec = importlib.util.find_spec(module)
    return (str(spec.origin), name) if spec is not None else None


def _kills(settings: CoreSettings, on: Sequence[Domain]) -> tuple[str, ...] | None:
    """Whom kills spare, by every domain that may kill; None: none may."""
    found = [card.spares(getattr(settings, card.name)) for card in on]
    lists = [each for each in found if each is not None]
    return tuple(path for each in lists for path in each) if lists else None


def main() -> None:
    """Write the charter to standard output, as JSON."""
    config, flags = None, {}
    for word in sys.argv[1:]:
        name, _, value = word.partition("=")
        if name == "--config":
            config = Path(value) if value else None
        elif name == "--set":
            place, _, text = value.partition("=")
            flags[place] = msgspec.json.decode(text)
        else:
            sys.exit(f"{word!r} is none of {_USAGE}")
    try:
        made = charter(config, flags, discover(domains))
    except SettingsError as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(made))
