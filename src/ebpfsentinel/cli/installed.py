"""What is installed here: the cards, and the configuration in its usual place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.domain import Domain

DEFAULT_CONFIG = Path("/etc/ebpfsentinel/config.yaml")


def discovered() -> Sequence[Domain]:
    """The cards of this installation."""
    from ebpfsentinel import domains  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.config import discover  # noqa: PLC0415

    return discover(domains)


def default_config() -> Path | None:
    """The configuration in its usual place, if there is one."""
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
