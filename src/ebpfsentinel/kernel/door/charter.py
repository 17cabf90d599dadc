"""What the configuration allows the agent to have the keeper do.

The keeper reads the configuration itself (in a process that ends, so that what reads it takes no
memory afterwards) and keeps of it what stands here. What is refused is named, with place and
remedy: the agent cannot talk the keeper into more than root has written down.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.kernel import interfaces as links
from ebpfsentinel.kernel.protection import Protection
from ebpfsentinel.model.domain import Domain, Program
from ebpfsentinel.model.kernel import DomainRefused, KernelError, OnExit, XdpMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ebpfsentinel.model.domain import Engine, Tools


class Card(msgspec.Struct, kw_only=True):
    """What is needed of a domain's card: where its object is, and what its programs are.

    ``survey`` is a file and a function in it.
    """

    name: str
    object: str = ""
    programs: tuple[Program, ...] = ()
    survey: tuple[str, str] | None = None
    sealed: tuple[str, ...] = ()


class Charter(msgspec.Struct, kw_only=True):
    """What is allowed. ``domains`` are those that are enabled.

    ``kills`` None: no process may be killed; else patterns of executables that never are.
    ``user`` is the id of the one user, beside root, who may call, None: there is none; ``group``
    may reach the ``socket``.
    ``interfaces`` as the configuration has them, ``auto`` included; ``every_interface``: any will
    do. ``path`` is the configuration, for words.
    """

    path: str = "the configuration"
    socket: str = "/run/ebpfsentinel/kernel.sock"
    user: int | None = None
    group: int | None = None
    on_exit: OnExit = OnExit.DETACH
    xdp_mode: XdpMode = XdpMode.AUTO
    pin_root: str = ""
    interfaces: tuple[str, ...] = ()
    every_interface: bool = False
    domains: tuple[Card, ...] = ()
    kills: tuple[str, ...] | None = None
    protection: Protection = msgspec.field(default_factory=Protection)

    def cards(self, names: Iterable[str]) -> list[Domain]:
        """Cards to load, in the order of the names.

        Raises:
            KernelError: a domain is not enabled.
        """
        known = {card.name: card for card in self.domains}
        for name in names:
            if name not in known:
                error = self.refused(f"domain {name} is not enabled", f"Enable section {name}")
                raise DomainRefused(name, str(error))
        return [_domain(known[name]) for name in names]

    def card(self, name: str) -> Card:
        """One card.

        Raises:
            KernelError: it is not enabled.
        """
        self.cards([name])
        return next(card for card in self.domains if card.name == name)

    def beside(self, before: Charter) -> Charter:
        """What is guarded by either: a change may be undone, and then the one before holds."""
        names = {card.name for card in self.domains}
        return msgspec.structs.replace(
            self,
            domains=(*self.domains, *(card for card in before.domains if card.name not in names)),
            interfaces=tuple({*self.interfaces, *before.interfaces}),
        )

    def check_interfaces(self, names: Sequence[str], known: Iterable[str]) -> None:
        """May these be guarded? Those that have a slot were asked for while they were up.

        Raises:
            KernelError: one is not named.
        """
        if self.every_interface:
            return
        allowed = {*self.interfaces, *known}
        if "auto" in self.interfaces:
            allowed.update(links.up())
        for name in names:
            if name not in allowed:
                remedy = f"Add {name} to agent.interfaces"
                raise self.refused(f"interface {name} is not named", remedy)

    def check_kill(self, pid: int, own: Iterable[int]) -> None:
        """May this process be killed? ``own`` are both halves; their ancestors count.

        Raises:
            KernelError: no.
        """
        if self.kills is None:
            raise self.refused("nothing may be killed", "Set what lets rules kill: docs")
        family = {one for each in own for one in _with_ancestors(each)}
        if pid <= 1 or pid in family:
            raise KernelError(f"process {pid} is never killed: it is process 1, or one of ours")
        try:
            path = str(Path(f"/proc/{pid}/exe").readlink())
        except FileNotFoundError:
            if Path(f"/proc/{pid}").exists():
                raise KernelError(f"process {pid} is of the kernel: it is never killed") from None
            return  # it has ended: the one who carries it out says so
        except OSError as error:
            raise KernelError(f"what process {pid} runs cannot be read: {error}") from None
        listed = next((each for each in self.kills if _matches(each, path)), "")
        if listed and _sees_our_files(pid):
            raise KernelError(f"process {pid} runs {path}, which is never killed ({listed})")

    def refused(self, what: str, remedy: str) -> KernelError:
        """An error that names the place and the remedy."""
        return KernelError(f"{self.path}: {what}. {remedy}, as root")


class _NoEngine:
    """The keeper judges nothing; a card wants something whose file is known."""

    def __init__(self, tools: Tools) -> None:
        raise NotImplementedError


def _domain(card: Card) -> Domain:
    engine: type[Engine] = _NoEngine  # type: ignore[assignment]
    return Domain(
        name=card.name,
        summary="",
        settings=msgspec.Struct,
        engine=engine,
        object=card.object,
        programs=card.programs,
        sealed=card.sealed,
    )


def _matches(pattern: str, path: str) -> bool:
    plain = path.removesuffix(" (deleted)")
    if pattern.endswith("*"):
        return plain.startswith(pattern[:-1])
    return plain == pattern


def _sees_our_files(pid: int) -> bool:
    """Does its path mean our file of that path? In a container anybody may have such a one."""
    try:
        return os.stat(f"/proc/{pid}/ns/mnt").st_ino == os.stat("/proc/1/ns/mnt").st_ino  # noqa: PTH116
    except OSError:
        return True


def _with_ancestors(pid: int) -> list[int]:
    found: list[int] = []
    while pid > 0 and pid not in found:
        found.append(pid)
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
        except OSError:
            break
        pid = int(after_name.split()[1])
    return found
