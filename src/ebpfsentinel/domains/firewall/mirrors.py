"""``mirror`` of a rule: the interface by which copies of its packets leave.

The kernel's half finds it by the rule's number, in ``fw_mirrors``; the tables say no more than that
there is one. So an interface that comes back under another index is one entry, not a new rule set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.domains.firewall.events import PacketMirror
from ebpfsentinel.domains.firewall.settings import RuleAction
from ebpfsentinel.model.action import Engage, MapDelete, MapWrite
from ebpfsentinel.model.settings import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from ebpfsentinel.domains.firewall.settings import FirewallRule
    from ebpfsentinel.model.action import Action

MOST = 16384
"""``FW_MIRRORS`` of ``firewall.h``."""
LOOPBACK = "lo"
_MAP = "fw_mirrors"
_PROGRAM = "tc_firewall"


def check_mirror(rule: FirewallRule, place: str) -> int:
    """An ``enum packet_mirror``.

    Raises:
        SettingsError: such a rule cannot have one, or not this one.
    """
    if rule.mirror is None:
        return PacketMirror.MIRROR_NONE
    if rule.action is RuleAction.REJECT:
        raise SettingsError(
            f"{place}.mirror", "the packet that reject answers becomes the answer: none is left",
            "Leave mirror out, or write deny.",
        )  # fmt: skip
    if rule.mirror == LOOPBACK:
        raise SettingsError(
            f"{place}.mirror", "what leaves by lo comes in again", "Name another interface."
        )
    return PacketMirror.MIRROR_COPY


def check_present(
    written: Sequence[tuple[FirewallRule, str, str]],
    links: Mapping[str, int],
    known: Collection[str],
) -> None:
    """Every mirror of the rules ``(rule, place, origin)`` is there, or was ``known`` before.

    Raises:
        SettingsError: names the first that is not, and how many there may be.
    """
    mirrors = [(rule.mirror, place) for rule, place, _ in written if rule.mirror is not None]
    if len(mirrors) > MOST:
        raise SettingsError(
            "firewall.rules", f"{len(mirrors)} rules have a mirror; {MOST} is the most"
        )
    for name, place in mirrors:
        if name not in links and name not in known:
            there = [link for link in links if link != LOOPBACK]
            remedy = nearest(name, there, "This machine has")
            raise SettingsError(f"{place}.mirror", f"there is no interface {name!r}", remedy)


def links_of(wanted: Mapping[int, str], links: Mapping[str, int] | None) -> dict[str, int]:
    """The interfaces that are wanted, and the index of each; 0: it is not there."""
    if links is None:
        return {}
    return {name: links.get(name, 0) for name in sorted(set(wanted.values()))}


def absent(links: Mapping[str, int]) -> list[str]:
    """Those that are not there, in words."""
    return [f"interface {name}" for name, index in links.items() if not index]


def mirrors_before(
    wanted: Mapping[int, str], had: Mapping[int, str], links: Mapping[str, int], *, anew: bool
) -> Iterator[Action]:
    """What must be done before rules come in force that want these, by number.

    Where ``links`` has no such interface (yet), the kernel has no entry either.
    """
    there = {number: links[name] for number, name in wanted.items() if name in links}
    if there:
        yield MapWrite(
            _MAP, np.array(list(there), np.uint32), np.array(list(there.values()), np.uint32)
        )
    if wanted and (anew or not had):
        yield Engage(_PROGRAM, on=True)


def mirrors_behind(
    wanted: Mapping[int, str], had: Mapping[int, str], links: Mapping[str, int], *, anew: bool
) -> Iterator[Action]:
    """What is done once rules are in force that want no others."""
    if not wanted and (had or anew):
        yield Engage(_PROGRAM, on=False)
    gone = [n for n in {**had, **wanted} if n not in wanted or wanted[n] not in links]
    if gone:
        yield MapDelete(_MAP, np.array(sorted(gone), np.uint32))
