"""Chains to one list in which the first match decides, wherever that is exact.

A jump is inlined: what it asks for is asked of every rule of its chain. A goto from a base chain
ends in that chain's policy. A conditional ``return`` (or a goto from a user's chain) has no place
in such a list: what stands behind it in its chain would also judge the packets that have left. So
that is left out too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.imports.foreign import ForeignRule, Wants

if TYPE_CHECKING:
    from ebpfsentinel.domains.firewall.imports.foreign import Foreign, ForeignChain

_DEPTH = 16
_MOST = 50_000
_DECIDES = ("accept", "drop", "reject")


@dataclass(frozen=True, slots=True)
class Flat:
    """A rule in its place: ``reasons`` not to carry it over, empty where it can be."""

    rule: ForeignRule
    chain: str
    wants: Wants
    action: str
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class Flattened:
    """Rules in the order in which they decide, then the policy."""

    flats: list[Flat] = field(default_factory=list)
    policy: str = "accept"


class _Walk:
    def __init__(self, foreign: Foreign, base: ForeignChain) -> None:
        self.found = Flattened(policy=base.policy)
        self._foreign, self._base = foreign, base
        self._path: list[str] = []

    def chain(self, chain: ForeignChain, wants: Wants, missing: tuple[str, ...]) -> None:
        """Everything that the chain does with packets that satisfy ``wants``."""
        self._path.append(chain.name)
        for rule in chain.rules:
            both = wants.both(rule.wants)
            if both is None:
                continue  # no packet comes here that it would match
            reasons = (*missing, *rule.missing)
            if rule.verdict in ("jump", "goto"):
                self._enter(chain, rule, both, reasons)
            else:
                self._add(chain, rule, both, reasons)
            if (left := self._left(chain, rule)) is None:
                continue
            if rule.whole:
                break  # what is behind it is never reached from here
            missing = (*missing, left)
        self._path.pop()

    def _add(
        self, chain: ForeignChain, rule: ForeignRule, wants: Wants, reasons: tuple[str, ...]
    ) -> None:
        if rule.verdict == "return" and (rule.whole or chain is self._base):
            if chain is not self._base:
                return  # the end of the chain
            action = self._base.policy
        elif rule.verdict in _DECIDES:
            action = rule.verdict
        else:
            why = "a conditional return" if rule.verdict == "return" else _undecided(rule)
            reasons, action = reasons if rule.missing else (*reasons, why), ""
        self._put(Flat(rule, chain.name, wants, action, reasons))

    def _put(self, flat: Flat) -> None:
        if len(self.found.flats) < _MOST:
            self.found.flats.append(flat)

    def _enter(
        self, chain: ForeignChain, rule: ForeignRule, wants: Wants, reasons: tuple[str, ...]
    ) -> None:
        target = self._foreign.chain(chain.table, rule.target)
        problem = ""
        if target is None:
            problem = f"there is no chain {rule.target!r}"
        elif target.name in self._path or len(self._path) >= _DEPTH:
            problem = f"chain {rule.target!r} leads back to itself, or too deep"
        if target is None or problem:
            self._put(Flat(rule, chain.name, wants, "", (*reasons, problem)))
            return
        self.chain(target, wants, reasons)
        if rule.verdict == "goto" and chain is self._base:
            self._put(Flat(rule, chain.name, wants, self._base.policy, reasons))

    def _left(self, chain: ForeignChain, rule: ForeignRule) -> str | None:
        """Why what stands behind the rule in its chain is not reached by all; None: it is."""
        if rule.verdict == "return" and chain is not self._base:
            return f"stands behind a conditional return (line {rule.line})"
        if rule.verdict == "goto" and chain is not self._base:
            return f"stands behind a conditional goto (line {rule.line})"
        return None


def _undecided(rule: ForeignRule) -> str:
    if rule.logs:
        return "logs and goes on; a log rule here decides, and lets pass"
    return "decides nothing (rules count by themselves here)"


def flatten(foreign: Foreign, base: ForeignChain) -> Flattened:
    """One base chain and all that it leads to."""
    walk = _Walk(foreign, base)
    walk.chain(base, Wants(families=base.families), ())
    return walk.found
