"""A flat list of another firewall's rules as ours, and the report of what is not carried over."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.imports.flatten import flatten
from ebpfsentinel.domains.firewall.settings import FirewallRule, RuleAction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.domains.firewall.imports.flatten import Flat
    from ebpfsentinel.domains.firewall.imports.foreign import (
        Foreign,
        ForeignChain,
        Network,
        Range,
        Wants,
    )

_PROTOCOLS = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmpv6"}
_MOST_PARTS = 256
_STEP = 10
_RECENT, _ENOUGH = 64, 64
_REJECTS = "reject" in {each.value for each in RuleAction}
_ICMP_TYPES = "icmp_type" in FirewallRule.__struct_fields__
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(slots=True)
class Carried:
    """What became of one rule set."""

    default_policy: str = "pass"
    rules: list[dict[str, Any]] = field(default_factory=list)
    comments: dict[str, str] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    degraded: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    named: Counter[str] = field(default_factory=Counter)

    def name(self, text: str) -> str:
        """An id that no rule has yet: a number behind '_' for all but the first of a line."""
        stem = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:200]
        self.named[stem] += 1
        count = self.named[stem]
        return stem if count == 1 else f"{stem}_{count}"

    def body(self) -> dict[str, Any]:
        """For JSON."""
        scopes = sorted({rule["scope"] for rule in self.rules if "scope" in rule})
        return {
            "default_policy": self.default_policy,
            "rules": self.rules,
            "comments": self.comments,
            "left_out": self.left_out,
            "degraded": self.degraded,
            "interfaces": scopes,
            "notes": self.notes,
        }


def carry(foreign: Foreign, hook: str) -> Carried:
    """The base chains of ``hook``, as one rule set of ours."""
    carried = Carried()
    bases = [chain for chain in foreign.chains if chain.hook]
    used = _of_each_family([chain for chain in bases if chain.hook == hook], carried)
    for chain in bases:
        if chain not in used:
            _aside(chain, hook, carried)
    policies = {chain.policy for chain in used}
    carried.default_policy = "drop" if policies == {"drop"} else "pass"
    order: list[tuple[Flat, list[str]]] = []
    for chain in used:
        order += _chain(foreign, chain, carried)
        if chain.policy == "drop" and carried.default_policy == "pass":
            _policy_rules(chain, carried)
    for each in foreign.aside:
        _leave_out(carried, each.line, each.text, "; ".join(each.missing) or "not about filtering")
    _tell_changes(order, carried)
    _notes(used, hook, carried)
    return carried


def _of_each_family(chains: Sequence[ForeignChain], carried: Carried) -> list[ForeignChain]:
    """Base chains that no other one overlaps: of two for a family, both would have to accept."""
    used: list[ForeignChain] = []
    for chain in chains:
        if any(chain.families & other.families for other in used):
            reason = f"a second base chain at hook {chain.hook}: both would have to accept"
            _leave_out(carried, chain.line, f"chain {chain.name}", reason)
        else:
            used.append(chain)
    return used


def _aside(chain: ForeignChain, hook: str, carried: Carried) -> None:
    if chain.hook != hook and (chain.rules or chain.policy != "accept"):
        reason = f"is at hook {chain.hook}, not {hook}"
        _leave_out(carried, chain.line, f"chain {chain.name}", reason)


def _leave_out(carried: Carried, line: int, text: str, reason: str) -> None:
    known = {"line": line, "text": text, "reason": reason}
    if not any(known.items() <= row.items() for row in carried.left_out[-_RECENT:]):
        carried.left_out.append(known | {"changes": []})


def _chain(foreign: Foreign, chain: ForeignChain, carried: Carried) -> list[tuple[Flat, list[str]]]:
    """Write the chain's rules; each flat rule with the ids that it became."""
    done = []
    for flat in flatten(foreign, chain).flats:
        parts, reason = _parts(flat) if not flat.reasons else ([], "; ".join(flat.reasons))
        if reason:
            _leave_out(carried, flat.rule.line, flat.rule.text, reason)
        ids = [_write(flat, part, carried) for part in parts]
        if ids and flat.action == "reject" and not _REJECTS:
            told = "denied without an answer"
            carried.degraded.append(
                {"line": flat.rule.line, "text": flat.rule.text, "reason": told}
            )
        done.append((flat, ids))
    return done


def _write(flat: Flat, part: dict[str, Any], carried: Carried) -> str:
    action = {"accept": "log" if flat.rule.logs else "allow", "drop": "deny"}.get(flat.action)
    name = carried.name(f"{flat.chain}-{flat.rule.line}")
    rule = {
        "id": name,
        "priority": (len(carried.rules) + 1) * _STEP,
        "action": action or ("reject" if _REJECTS else "deny"),
        **part,
    }
    carried.rules.append(rule)
    if flat.rule.comment:
        carried.comments[name] = flat.rule.comment
    return name


def _parts(flat: Flat) -> tuple[list[dict[str, Any]], str]:
    """The fields of each rule of ours that it takes, or why it cannot be had."""
    wants = flat.wants
    protocols = _numbers(wants.protocol, 256)
    if unknown := [number for number in protocols or () if number not in _PROTOCOLS]:
        return [], f"protocol {unknown[0]} has no counterpart"
    if unsaid := [name for name, value in wants.exact if value is None]:
        return [], f"two conditions on {unsaid[0]}"
    types = _numbers(wants.icmp_type, 256)
    if types is not None and not _ICMP_TYPES:
        return [], "ICMP types have no counterpart"
    sides: dict[str, list[Any]] = {
        "protocol": [_PROTOCOLS[number] for number in protocols or ()] or [None],
        "src_port": _spans(wants.src_port, 0xFFFF),
        "dst_port": _spans(wants.dst_port, 0xFFFF),
        "vlan_id": _numbers(wants.vlan_id, 4096) or [None],
        "icmp_type": types or [None],
        "scope": [wants.interface],
    }
    addresses = list(_pairs(wants))
    count = len(addresses)
    for values in sides.values():
        count *= len(values)
    if count > _MOST_PARTS:
        return [], f"would take {count} rules; {_MOST_PARTS} is the most for one"
    made = [
        dict(zip(("src_ip", "dst_ip", *sides), (*pair, *values), strict=True))
        for pair in addresses
        for values in itertools.product(*sides.values())
    ]
    exact = dict(wants.exact)
    return [
        {key: value for key, value in each.items() if value is not None} | exact for each in made
    ], ""


def _numbers(ranges: tuple[Range, ...] | None, most: int) -> list[int] | None:
    if ranges is None:
        return None
    return [n for low, high in ranges for n in range(low, min(high, low + most) + 1)]


def _spans(ranges: tuple[Range, ...] | None, most: int) -> list[Any]:
    """Ports as we write them; all of them still means that there must be ports."""
    if ranges is None:
        return [None]
    return [low if low == high else f"{low}-{min(high, most)}" for low, high in ranges]


def _pairs(wants: Wants) -> Iterator[tuple[str | None, str | None]]:
    """Pairs of source and destination; a rule for one family only says so by its addresses."""
    for family in sorted(wants.families):
        if wants.src is None and wants.dst is None and len(wants.families) == 2:
            yield None, None
            return
        sources, targets = _of_family(wants.src, family), _of_family(wants.dst, family)
        if sources == [None] and targets == [None]:
            sources = [_EVERYTHING[family]]
        yield from itertools.product(sources, targets)


def _of_family(networks: tuple[Network, ...] | None, family: int) -> list[str | None]:
    if networks is None:
        return [None]
    return [str(each) for each in networks if each.version == family]


def _policy_rules(chain: ForeignChain, carried: Carried) -> None:
    """A policy for one family only, where the others' is to accept."""
    for family in sorted(chain.families):
        name = carried.name(f"{chain.name}-policy-ipv{family}")
        priority = (len(carried.rules) + 1) * _STEP
        carried.rules.append(
            {"id": name, "priority": priority, "action": "deny", "src_ip": _EVERYTHING[family]}
        )


def _tell_changes(order: Sequence[tuple[Flat, list[str]]], carried: Carried) -> None:
    """Which rules behind a left-out one now also judge the packets that it would have taken."""
    rows = {(row["line"], row["text"]): row for row in carried.left_out}
    for at, (flat, ids) in enumerate(order):
        row = rows.get((flat.rule.line, flat.rule.text))
        if ids or row is None or _goes_on(flat):
            continue
        for later, names in order[at + 1 :]:
            if len(row["changes"]) >= _ENOUGH:
                break
            if names and later.action != flat.action and flat.wants.both(later.wants):
                row["changes"] += [name for name in names if name not in row["changes"]]
        policy = "drop" if carried.default_policy == "drop" else "accept"
        if flat.action != policy and "default-policy" not in row["changes"]:
            row["changes"].append("default-policy")


def _goes_on(flat: Flat) -> bool:
    """Does the left-out rule decide nothing by itself? Of a return, what is behind it is told."""
    return flat.rule.verdict == "return" or not (flat.action or flat.rule.missing)


def _notes(used: Sequence[ForeignChain], hook: str, carried: Carried) -> None:
    if not used:
        carried.notes.append(f"There is no base chain at hook {hook}: nothing was imported.")
        return
    carried.notes.append("These rules judge every packet that comes in, those for other hosts too.")
    if any("state" in rule for rule in carried.rules):
        carried.notes.append(
            "Some ask for the state of connections: switch connection tracking on."
        )
    if carried.default_policy == "drop":
        carried.notes.append(
            "Under the default policy drop, answers to connections that this host opens pass "
            "while connections are tracked; without that, they need rules of their own. ARP and "
            "neighbour discovery pass."
        )
