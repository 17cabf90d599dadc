"""``process``, ``cgroup`` and ``container`` of a rule: classes of processes for the classifier.

Each executable that rules name has a class, from 1 on. Each control group has the class of those
that satisfy the same of the rules' words. Field ``FW_OWNER`` has both: the class of the executable
above, that of the control group in the lower eight bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.events import FW_EXE
from ebpfsentinel.domains.firewall.groups import joined
from ebpfsentinel.model.action import MapReplace
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import msgspec

    from ebpfsentinel.domains.firewall.groups import Ranges
    from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.domain import Surroundings

MOST = 255
"""Classes of either kind."""
ABSENT = (0, 0)
"""Where an executable is that is not there."""
_LOW, _ALL = 8, 0xFF


def _rules(
    settings: FirewallSettings, runtime: Mapping[str, Sequence[msgspec.Struct]]
) -> tuple[Sequence[FirewallRule], ...]:
    return settings.rules, runtime.get("rules", ())  # type: ignore[return-value]


def executables_of(
    settings: FirewallSettings, runtime: Mapping[str, Sequence[msgspec.Struct]]
) -> list[str]:
    """The executables that rules name, each once; asked for at every change of thousands."""
    found: dict[str, None] = {}
    for rules in _rules(settings, runtime):
        found |= {rule.process.path: None for rule in rules if rule.process is not None}
    return list(found)


def cgroups_of(
    settings: FirewallSettings, runtime: Mapping[str, Sequence[msgspec.Struct]]
) -> list[str]:
    """The control groups and containers that rules name, each once; as often."""
    found: dict[str, None] = {}
    for rules in _rules(settings, runtime):
        some = [r for r in rules if r.cgroup is not None or r.container is not None]
        found |= {word: None for rule in some if (word := _word(rule))}
    return list(found)


def asks_for_owner(rule: FirewallRule) -> bool:
    """Is the rule about packets of certain processes?"""
    return rule.process is not None or _word(rule) is not None


def _word(rule: FirewallRule) -> str | None:
    return rule.cgroup if rule.cgroup is not None else rule.container


class Owners:
    """The classes, in the surroundings of one plan."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._executables = {path: at for at, path in enumerate(around.executables, 1)}
        kinds: dict[frozenset[str], int] = {}
        self._classes: dict[int, int] = {}
        for number, words in _by_number(around.cgroups).items():
            self._classes[number] = kinds.setdefault(frozenset(words), len(kinds) + 1)
        self._of_word = {
            word: sorted(at for words, at in kinds.items() if word in words)
            for word in around.cgroups
        }
        self.count = max(len(self._executables), len(kinds))

    def ranges(self, rule: FirewallRule, place: str) -> Ranges:
        """Values of ``FW_OWNER`` that the rule asks for; what is not there has none.

        Raises:
            SettingsError: the rule's words are none, or there are too many classes.
        """
        check_owner(rule, place)
        if self.count > MOST:
            raise SettingsError(
                "firewall.rules", f"processes of {self.count} kinds are named; {MOST} is the most"
            )
        word = _word(rule)
        groups = self._of_word.get(word, []) if word else []
        if rule.process is None:
            every = range(len(self._executables) + 1)
        else:
            known = self._executables.get(rule.process.path)
            every = range(known, known + 1) if known else range(0)
        if word is None:
            return tuple((each << _LOW, each << _LOW | _ALL) for each in every)
        return joined((each << _LOW | at,) * 2 for each in every for at in groups)

    def actions(self) -> Iterator[Action]:
        """What programs find classes by."""
        files = {path: at for path, at in self._around.executables.items() if at != ABSENT}
        keys = np.zeros(len(files), FW_EXE)
        for key, (device, inode) in zip(keys, files.values(), strict=True):
            key["device"], key["inode"] = device, inode
        yield MapReplace("fw_exes", keys, _values(self._executables[path] for path in files))
        numbers = np.array(list(self._classes), np.uint64)
        yield MapReplace("fw_cgroups", numbers, _values(self._classes.values()))

    def absent(self) -> list[str]:
        """What is not there, in words."""
        files = (path for path, at in self._around.executables.items() if at == ABSENT)
        groups = (f"control group {word}" for word, ids in self._around.cgroups.items() if not ids)
        return [*files, *groups]

    def __eq__(self, other: object) -> bool:
        """Do they say the same?"""
        mine = self._around
        return isinstance(other, Owners) and (mine.executables, mine.cgroups) == (
            other._around.executables,
            other._around.cgroups,
        )

    __hash__ = None  # type: ignore[assignment]


def _by_number(cgroups: Mapping[str, tuple[int, ...]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for word, numbers in cgroups.items():
        for number in numbers:
            found.setdefault(number, []).append(word)
    return found


def _values(numbers: Iterable[int]) -> Any:
    return np.array(list(numbers), np.uint32)


def check_owner(rule: FirewallRule, place: str) -> None:
    """Paths are whole ones, and there is one control group at most.

    Raises:
        SettingsError: with the place of the field.
    """
    if rule.process is not None and not rule.process.path.startswith("/"):
        problem = f"{rule.process.path!r} is no path of an executable"
        raise SettingsError(place, problem, "Write it from / on, such as /usr/sbin/nginx.")
    if rule.cgroup is not None and rule.container is not None:
        raise SettingsError(f"{place}.container", "there is cgroup too", "Keep one.")
    if rule.cgroup is not None and not rule.cgroup.startswith("/"):
        raise SettingsError(
            f"{place}.cgroup", "is no path", "Write it from / on: /system.slice/nginx.service."
        )
    if rule.container is not None and ("/" in rule.container or len(rule.container) < 4):
        raise SettingsError(
            f"{place}.container", "is no id of a container", "Write its first 12 digits, or all."
        )
