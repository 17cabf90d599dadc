"""What the kernel is told to collect, and whom to leave out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.process.events import (
    PROCESS_NAME_KEY,
    PROCESS_PATH_KEY,
    PROCESS_WANTED,
    ProcessCapture,
    ProcessEvent,
)
from ebpfsentinel.model.action import MapReplace, MapWrite
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.process.ruleset import RuleSet
    from ebpfsentinel.domains.process.settings import ProcessSettings
    from ebpfsentinel.model.action import Action

_ON_DEMAND = {
    "exec_failed": ProcessEvent.PROCESS_EXEC_FAILED,
    "ptrace": ProcessEvent.PROCESS_PTRACE,
    "setuid": ProcessEvent.PROCESS_SETUID,
}
_NAME_BYTES = 15


class Patterns:
    """Names and paths, each exact or, with ``*`` at its end, a prefix."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.names = [each for each in patterns if not each.startswith("/")]
        self.paths = [each for each in patterns if each.startswith("/")]

    def match(self, comm: str, path: str) -> str:
        """The pattern that matches, or an empty string."""
        pairs = [(each, comm) for each in self.names] + [(each, path) for each in self.paths]
        return next((pattern for pattern, word in pairs if _matches(pattern, word)), "")


def _matches(pattern: str, word: str) -> bool:
    if pattern.endswith("*"):
        return word.startswith(pattern[:-1])
    return word == pattern


def check_ignored(patterns: Sequence[str]) -> None:
    """Refuse what could never match or would match everything.

    Raises:
        SettingsError: with the place and the remedy.
    """
    for index, pattern in enumerate(patterns):
        place = f"process.ignored[{index}]"
        if pattern in {"*", "/*"}:
            raise SettingsError(
                place, f"{pattern!r} is every process", "Set process.enabled: false."
            )
        if "*" in pattern[:-1]:
            raise SettingsError(
                place, f"'*' inside {pattern!r}", "Only the last character may be '*'."
            )
        if not pattern.startswith("/") and len(pattern.rstrip("*").encode()) > _NAME_BYTES:
            remedy = (
                f"Write {pattern.encode()[:_NAME_BYTES].decode(errors='ignore')!r}, or the path."
            )
            raise SettingsError(
                place, f"the kernel cuts names to 15 bytes, {pattern!r} is longer", remedy
            )


def collection(settings: ProcessSettings, rules: RuleSet) -> tuple[Action, ...]:
    """The map writes that make the kernel collect what these rules and settings can use."""
    ignored = Patterns(settings.ignored)
    wanted = np.zeros(1, PROCESS_WANTED)
    wanted["events"] = sum(1 << event for word, event in _ON_DEMAND.items() if rules.judges(word))
    wanted["ptrace_requests"] = rules.ptrace_requests()
    wanted["setuid_calls"] = rules.setuid_calls()
    argv = ProcessCapture.CAPTURE_ARGV * (settings.capture_args or rules.reads_arguments)
    wanted["capture"] = argv | ProcessCapture.CAPTURE_CWD * (
        settings.capture_cwd or rules.reads_cwd
    )
    wanted["ignored_names"] = len(ignored.names)
    wanted["ignored_paths"] = len(ignored.paths)
    return (
        _replace("process_names", "name", ignored.names, PROCESS_NAME_KEY),
        _replace("process_paths", "path", ignored.paths, PROCESS_PATH_KEY),
        MapWrite("process_wanted", np.zeros(1, np.uint32), wanted),
    )


def _replace(name: str, field: str, patterns: list[str], key: np.dtype[Any]) -> MapReplace:
    """Keys of a longest-prefix trie: an exact pattern takes its NUL into the prefix."""
    keys: NDArray[Any] = np.zeros(len(patterns), key)
    for row, pattern in zip(keys, patterns, strict=True):
        word = pattern.removesuffix("*").encode()
        row[field] = word
        row["prefix_bits"] = 8 * min(len(word) + (not pattern.endswith("*")), key[field].itemsize)
    return MapReplace(name, keys, np.ones(len(patterns), np.uint32))
