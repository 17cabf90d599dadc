"""Rules that can never match, because earlier ones take all that they would.

The problem. A rule is a box: a range in each dimension (:mod:`.conditions`). It is shadowed when
the boxes before it cover its own. One covering box is a comparison; a union of boxes is, in many
dimensions, a hard problem, and a wrong "never matches" makes a user delete a rule that he needs.

The way. Borders become ranks, so that addresses of 128 bits are small integers and all pairs are
compared at once in numpy; that answers for one covering rule, exactly. For unions, a few corners of
the box are looked at first: a corner that no earlier rule has settles it. What is left is worked
out exactly, by cutting the earlier boxes out of it until nothing is left, with a budget. Where the
budget ends, the rule is *undecided*, and said to be.

A rule with several ranges in a field is several boxes. An opaque condition (a schedule, a field of
very many ranges) never helps it to cover, except a rule that has the very same. A rule that lapses
by itself covers nothing, and one that follows DNS or namespaces neither covers nor is covered. So
every claim is true; a shadowed rule may be missed where conditions are opaque, or where only what
no packet can be is uncovered.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.conditions import DIMENSIONS, conditions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.firewall.conditions import Box, Conditions, Opaque
    from ebpfsentinel.domains.firewall.ranking import CheckedRule
    from ebpfsentinel.domains.firewall.settings import FirewallSettings

_STRIPE = 128
_CORNERS = 12
_PER_RULE, _IN_ALL = 20_000, 300_000  # boxes cut
_FEW_SETS = 256
_BOXES, _BOXES_OF_ONE = 20_000, 128


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A rule that can never match, and the earlier ones that take what it would: one, or all."""

    id: str
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shadows:
    """What was found; of the ``undecided`` it was not worth the time to find out."""

    shadowed: tuple[Shadowed, ...]
    undecided: tuple[str, ...]


def find_shadows(rules: Sequence[Conditions]) -> Shadows:
    """The shadowed among rules that are in force, in the order in which they are tried."""
    budget = [_IN_ALL]
    by_family = {family: _Boxes(rules, family, budget).search() for family in (4, 6)}
    shadowed, undecided = [], []
    for at, rule in enumerate(rules):
        found = [by_family[family].get(at) for family in rule.asks]
        if rule.changes or not found or None in found:
            continue
        by = sorted(set().union(*(each or set() for each in found)))
        if -1 in by:
            undecided.append(rule.id)
        else:
            shadowed.append(Shadowed(rule.id, tuple(rules[i].id for i in by)))
    return Shadows(tuple(shadowed), tuple(undecided))


def shadows_of(settings: FirewallSettings, rules: Sequence[CheckedRule]) -> dict[str, Any]:
    """The body of an answer: what is shadowed among the rules in force."""
    used = [each for each in rules if each.rule.enabled]
    found = find_shadows([conditions_of(each, settings.aliases) for each in used])
    about = {each.rule.id: each for each in used}
    rows = [
        {
            "id": each.id,
            "action": about[each.id].rule.action.value,
            "origin": about[each.id].origin,
            "by": list(each.by),
        }
        for each in found.shadowed
    ]
    return {"rules": len(used), "shadowed": rows, "undecided": list(found.undecided)}


class _Boxes:
    """The rules of one family as boxes of ranks: ``low`` and ``behind`` are ``(n, dimensions)``.

    ``owner`` is the rule that a box is of; the boxes stand in the rules' order.
    """

    def __init__(self, rules: Sequence[Conditions], family: int, budget: list[int]) -> None:
        most = min(max(_BOXES // max(len(rules), 1), 1), _BOXES_OF_ONE)
        boxes: list[Box] = []
        owners: list[int] = []
        opaque: list[Opaque] = []
        for at, rule in enumerate(rules):
            if family in rule.asks:
                own, further = rule.boxes(family, most)
                boxes += own
                owners += [at] * len(own)
                opaque += [further] * len(own)
        columns = [_ranked([box[at] for box in boxes]) for at in range(len(DIMENSIONS))]
        self.owner = np.array(owners, np.intp)
        self.low = np.stack([low for low, _ in columns], axis=1)
        self.behind = np.stack([behind for _, behind in columns], axis=1)
        steady = [not (rule.lapses or rule.changes) for rule in rules]
        self.covering = np.array([steady[at] for at in owners], np.bool_)
        self._set, self._within = _subsets(opaque)
        self._budget = budget

    def search(self) -> dict[int, set[int]]:
        """Rules of which every box is covered, with the rules that cover them.

        -1 among these: of some box it was not worth the time to find out.
        """
        found: dict[int, set[int]] = {}
        for first in range(0, len(self.low), _STRIPE):
            stripe = np.arange(first, min(first + _STRIPE, len(self.low)))
            single, overlaps = self._compare(stripe)
            for row, at in enumerate(stripe.tolist()):
                if single[row].any():
                    found[at] = {int(self.owner[single[row].argmax()])}
                    continue
                others = [
                    i
                    for i in np.flatnonzero(overlaps[row]).tolist()
                    if i not in found or -1 in found[i]
                ]
                union = self._union(at, np.array(others, np.intp))
                if union is None:
                    found[at] = {-1}
                elif union:
                    found[at] = {int(self.owner[i]) for i in union}
        return self._whole(found)

    def _whole(self, found: dict[int, set[int]]) -> dict[int, set[int]]:
        """From boxes to rules."""
        rules: dict[int, set[int]] = {}
        open_ones = {int(self.owner[at]) for at in range(len(self.low)) if at not in found}
        for at, by in found.items():
            owner = int(self.owner[at])
            if owner not in open_ones:
                rules.setdefault(owner, set()).update(by)
        return rules

    def _compare(self, stripe: NDArray[np.intp]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which earlier rule covers, and which overlaps, each rule of the stripe: ``(s, n)``."""
        count = int(stripe[-1]) + 1
        earlier = self.owner[:count][None, :] < self.owner[stripe][:, None]
        earlier &= self.covering[None, :count]
        earlier &= self._within[self._set[:count][None, :], self._set[stripe][:, None]]
        covers, overlaps = earlier.copy(), earlier
        for at in range(self.low.shape[1]):
            low, behind = self.low[:count, at][None, :], self.behind[:count, at][None, :]
            own_low, own_behind = self.low[stripe, at][:, None], self.behind[stripe, at][:, None]
            covers &= (low <= own_low) & (behind >= own_behind)
            overlaps &= (low < own_behind) & (behind > own_low)
        return covers, overlaps

    def _union(self, at: int, others: NDArray[np.intp]) -> set[int] | None:
        """Rules that together cover rule ``at``; none where they do not; None: undecided."""
        if len(others) < 2 or self._has_free_corner(at, others):
            return set()
        box: Box = tuple(zip(self.low[at].tolist(), self.behind[at].tolist(), strict=True))
        left, used, cut = [box], set(), 0
        for other in self._largest_first(at, others):
            taken: Box = tuple(
                zip(self.low[other].tolist(), self.behind[other].tolist(), strict=True)
            )
            rest = [piece for each in left for piece in _without(each, taken)]
            if rest != left:
                used.add(other)
            cut += len(left)
            self._budget[0] -= len(left)
            left = rest
            if not left:
                return used
            if cut > _PER_RULE or self._budget[0] < 0:
                return None
        return set()

    def _largest_first(self, at: int, others: NDArray[np.intp]) -> list[int]:
        """Those that take most first: few pieces, and few rules named."""
        low = np.maximum(self.low[others], self.low[at])
        behind = np.minimum(self.behind[others], self.behind[at])
        own = (self.behind[at] - self.low[at]).astype(float)
        share = ((behind - low) / own).prod(axis=1)
        return list(others[np.argsort(-share, kind="stable")].tolist())

    def _has_free_corner(self, at: int, others: NDArray[np.intp]) -> bool:
        """Is there a corner of the box that none of the others has?"""
        bits = np.arange(_CORNERS)[:, None] * 0x9E3779B1 >> np.arange(self.low.shape[1]) & 1
        bits[0], bits[1] = 0, 1
        points = np.where(bits, self.behind[at] - 1, self.low[at])
        within = np.ones((_CORNERS, len(others)), np.bool_)
        for axis in range(points.shape[1]):
            value = points[:, axis][:, None]
            within &= (self.low[others, axis] <= value) & (value < self.behind[others, axis])
        return not bool(within.any(axis=1).all())


def _ranked(ranges: Sequence[tuple[int, int]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Inclusive ranges as ranks among their borders: first, and behind the last."""
    borders = sorted({border for low, high in ranges for border in (low, high + 1)})
    low = [bisect.bisect_left(borders, low) for low, _ in ranges]
    behind = [bisect.bisect_left(borders, high + 1) for _, high in ranges]
    return np.array(low, np.int32), np.array(behind, np.int32)


def _subsets(
    sets: Sequence[Opaque],
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """A number for each distinct set, and which lies within which: ``(distinct, distinct)``.

    Of very many, only the empty one and equal ones are seen to.
    """
    numbers: dict[Opaque, int] = {frozenset(): 0}
    which = np.array([numbers.setdefault(each, len(numbers)) for each in sets], np.intp)
    within = np.eye(len(numbers), dtype=np.bool_)
    within[0] = True
    if len(numbers) <= _FEW_SETS:
        for small, row in numbers.items():
            for large, column in numbers.items():
                within[row, column] = small <= large
    return which, within


def _without(box: Box, taken: Box) -> list[Box]:
    """What is left of a box when another is cut out of it, as disjoint boxes."""
    if any(a[0] >= b[1] or b[0] >= a[1] for a, b in zip(box, taken, strict=True)):
        return [box]
    pieces: list[Box] = []
    rest = list(box)
    for axis, (low, behind) in enumerate(taken):
        own_low, own_behind = rest[axis]
        if own_low < low:
            pieces.append((*rest[:axis], (own_low, low), *rest[axis + 1 :]))
        if behind < own_behind:
            pieces.append((*rest[:axis], (behind, own_behind), *rest[axis + 1 :]))
        rest[axis] = (max(own_low, low), min(own_behind, behind))
    return pieces
