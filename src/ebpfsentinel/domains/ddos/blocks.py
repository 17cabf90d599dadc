"""Who is blocked, until when: here, and in the map whose entries lapse by themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ddos.attacks import attack_id
from ebpfsentinel.domains.ddos.events import DDOS_BLOCK, DDOS_PREFIX
from ebpfsentinel.domains.ddos.settings import AttackType
from ebpfsentinel.domains.ddos.suspects import address_of, number_of, text_of
from ebpfsentinel.model.action import MapDelete, MapWrite
from ebpfsentinel.model.packets import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.ddos.attacks import Attack
    from ebpfsentinel.domains.ddos.suspects import Prefix
    from ebpfsentinel.model.action import Action

_MOST = 16_384
_AT_ONCE = 2_048
"""In one decision; the next is a quarter of a second away."""


@dataclass(slots=True)
class Block:
    """One block; times are wall time."""

    attack: int
    kind: AttackType
    until_ns: int
    packets: int = 0


class Blocks:
    """All blocks there are."""

    def __init__(self) -> None:
        self._by_prefix: dict[Prefix, Block] = {}
        self._adopted = False
        self.total = 0

    def any(self) -> bool:
        """Is anything blocked? What an earlier agent blocked may be, until it was looked at."""
        return bool(self._by_prefix) or not self._adopted

    def room(self) -> int:
        """How many may be added at once."""
        return min(_MOST - len(self._by_prefix), _AT_ONCE)

    def add(
        self,
        prefixes: Sequence[Prefix],
        attack: Attack,
        until_ns: int,
        boot_offset_ns: int,
        now_ns: int,
    ) -> list[Action]:
        """Block those that are not blocked already; a block half over is renewed."""
        kind = attack.policy.attack_type
        fresh = []
        for prefix in prefixes:
            block = self._by_prefix.get(prefix)
            if block and block.until_ns - now_ns > (until_ns - now_ns) // 2:
                continue
            self.total += block is None
            self._by_prefix[prefix] = Block(
                attack.number, kind, until_ns, block.packets if block else 0
            )
            fresh.append(prefix)
        return [self._write(fresh, boot_offset_ns)] if fresh else []

    def _write(self, prefixes: Sequence[Prefix], boot_offset_ns: int) -> Action:
        values = np.zeros(len(prefixes), DDOS_BLOCK)
        for at, prefix in enumerate(prefixes):
            block = self._by_prefix[prefix]
            values["until_ns"][at] = block.until_ns - boot_offset_ns
            values["attack"][at], values["type"][at] = block.attack, block.kind.number
            values["packets"][at] = block.packets
        return MapWrite("ddos_blocked", _keys(prefixes), values)

    def expire(self, now_ns: int) -> list[Action]:
        """Take what has lapsed off the list, and out of the map."""
        gone = [prefix for prefix, block in self._by_prefix.items() if block.until_ns <= now_ns]
        for prefix in gone:
            del self._by_prefix[prefix]
        return [MapDelete("ddos_blocked", _keys(gone))] if gone else []

    def take(self, rows: NDArray[Any], boot_offset_ns: int, now_ns: int) -> None:
        """What the map has: hits, and the blocks that an earlier agent left."""
        for key, value in zip(rows["key"], rows["value"], strict=True):
            family = int(key["family"])
            prefix = (family, int(key["bits"]), number_of(key["addr"], family))
            block = self._by_prefix.get(prefix)
            if block is None:
                kind = list(AttackType)[int(value["type"]) % len(AttackType)]
                until_ns = int(value["until_ns"]) + boot_offset_ns
                block = self._by_prefix[prefix] = Block(int(value["attack"]), kind, until_ns)
            block.packets = int(value["packets"])
        self._adopted = True

    def body(self) -> list[dict[str, Any]]:
        """As JSON, those that lapse last first."""
        found = sorted(self._by_prefix.items(), key=lambda each: -each[1].until_ns)
        return [
            {
                "source": text_of(prefix),
                "attack": attack_id(block.attack),
                "attack_type": block.kind.value,
                "until_ns": block.until_ns,
                "packets": block.packets,
            }
            for prefix, block in found
        ]

    def __len__(self) -> int:
        return len(self._by_prefix)


def _keys(prefixes: Sequence[Prefix]) -> NDArray[Any]:
    keys = np.zeros(len(prefixes), DDOS_PREFIX)
    for at, (family, bits, number) in enumerate(prefixes):
        keys["addr"][at] = words(address_of(family, number))
        keys["family"][at], keys["bits"][at] = family, bits
    return keys
