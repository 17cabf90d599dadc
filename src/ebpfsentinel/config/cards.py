"""Finding the domain cards: one folder under the package that the caller names, one card."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from ebpfsentinel.model.domain import Domain

if TYPE_CHECKING:
    from types import ModuleType


def discover(package: ModuleType) -> tuple[Domain, ...]:
    """The ``DOMAIN`` of every sub-package of ``package``, sorted by name.

    Raises:
        TypeError: a folder has no card, or a card under another name than its folder's.
    """
    found = pkgutil.iter_modules(package.__path__)
    return tuple(_card(f"{package.__name__}.{item.name}") for item in found if item.ispkg)


def _card(path: str) -> Domain:
    card = getattr(importlib.import_module(path), "DOMAIN", None)
    if not isinstance(card, Domain) or card.name != path.rpartition(".")[2]:
        raise TypeError(f"{path} needs DOMAIN = Domain(name={path.rpartition('.')[2]!r}, ...)")
    return card
