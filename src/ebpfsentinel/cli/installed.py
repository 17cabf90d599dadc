"""What is installed here: the cards, and the configuration in its usual place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.domain import Domain

DEFAULT_CONFIG = Path("/etc/ebpfsentinel/config.yaml")


def state_dir(config: Path | None) -> Path:
    """The state folder of an agent with this configuration, or with the usual one.

    Of a configuration that no agent would take, the usual folder.
    """
    from ebpfsentinel.config import load  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.config.load import DEFAULT_STATE_DIR  # noqa: PLC0415
    from ebpfsentinel.model.settings import SettingsError  # noqa: PLC0415

    try:
        loaded = load(config or default_config(), os.environ, {}, discovered())
    except SettingsError:
        return Path(DEFAULT_STATE_DIR)
    return Path(loaded.settings.agent.state_dir)


def discovered() -> Sequence[Domain]:
    """The cards of this installation."""
    from ebpfsentinel import domains  # noqa: PLC0415 - not for `version`
    from ebpfsentinel.config import discover  # noqa: PLC0415

    return discover(domains)


def default_config() -> Path | None:
    """The configuration in its usual place, if there is one."""
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
