"""The translator's pure half: plans rules, keeps their counters, turns events into alerts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.nat.alerting import MAX_ALERTS, event_alert, full_alert, host_alert
from ebpfsentinel.domains.nat.checking import Checked, Checker
from ebpfsentinel.domains.nat.events import NAT_COUNT, NAT_RULE_COUNT
from ebpfsentinel.domains.nat.settings import NatSettings
from ebpfsentinel.domains.nat.tables import NUMBERS, Links, Since, compiled, head, judged_since
from ebpfsentinel.domains.nat.views import prefix_view, rule_view
from ebpfsentinel.model.action import Lend, MapDelete, MapWrite, Swap
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.domains.nat.checking import Prefix, Translation
    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Tools

_CALM_NS = 60_000_000_000
_SURVEY_NS = 60_000_000_000
_FULL = ("table_full", "contended")
DROPS = (
    *("port_alloc_fail", "table_full", "no_address", "fragment_unknown"),
    *("nptv6_untranslatable", "errors", "contended"),
)
"""The counters of ``struct nat_count`` that are of dropped packets."""


@dataclass(frozen=True, slots=True)
class Rules:
    """One generation.

    A rule keeps its number as long as it means the same; ``names`` also keeps the ids of rules that
    are gone, for translations that live on. ``masquerade`` counts how often ``links``, the
    addresses of the interfaces, have changed; ``since`` is of :func:`~.tables.judged_since`.
    """

    settings: NatSettings
    checked: Checked = field(default_factory=Checked)
    numbers: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    by_id: dict[str, int] = field(default_factory=dict)
    links: Links = field(default_factory=dict)
    masquerade: int = 0
    boot_offset_ns: int = 0
    host_rules: tuple[str, ...] = ()
    last: int = 0
    since: Since = field(default_factory=dict)


class NatEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, _tools: Tools) -> None:
        self._now = Rules(NatSettings())
        self._secret = b""
        self._count = np.zeros(1, NAT_COUNT)
        self._known = False
        self._of_rules = np.zeros(NUMBERS, NAT_RULE_COUNT)
        self._full_ns = -_CALM_NS
        self._told: tuple[str, ...] = ()
        self._unlisted = 0

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Numbers, and the secret under which translations that outlived the last run are kept."""
        numbers = {str(name): int(number) for name, number in memo.get("numbers", {}).items()}
        names = {number: name.split(" ", 1)[0] for name, number in numbers.items()}
        self._now = Rules(
            NatSettings(),
            numbers=numbers,
            names=names,
            links={str(k): tuple(v) for k, v in memo.get("links", {}).items()},
            masquerade=int(memo.get("masquerade", 0)),
            last=int(memo.get("last", 0)),
            since=memo.get("since", {}),
        )
        self._secret = bytes.fromhex(str(memo.get("secret", "")))

    def plan(
        self,
        settings: NatSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Compile all rules into one generation.

        Raises:
            SettingsError: a rule cannot be taken, or there are too many.
        """
        checked = Checker(around.interfaces).check_all(settings, runtime)
        state = self._following(settings, checked, around)
        secret = self._secret or around.secret
        made = compiled(
            checked,
            state.by_id,
            state.links,
            around.interfaces,
            alert=settings.mode is Mode.ALERT,
        )
        slots, now_ns = around.interfaces, around.now_ns - around.boot_offset_ns
        state = replace(state, since=judged_since(made, slots, self._now.since, now_ns))
        fresh = sorted(set(state.numbers.values()) - set(self._now.numbers.values()))
        of_all = head(secret, state.masquerade, state.since, slots, prefixes=bool(checked.prefixes))
        actions: tuple[Action, ...] = (
            *([MapDelete("nat_rule_count", np.array(fresh, np.uint32))] if fresh else []),
            Swap("nat_rules", 0, made),
            Lend("tr_tables", 0, "nat_table"),
            MapWrite("tr_head", np.zeros(1, np.uint32), of_all),
        )
        memo = {
            "numbers": state.numbers,
            "last": state.last,
            "links": {name: list(found) for name, found in state.links.items()},
            "masquerade": state.masquerade,
            "since": state.since,
            "secret": secret.hex(),
        }
        until_ns = around.now_ns + _SURVEY_NS if settings.enabled else None
        return Plan((state, secret), actions, memo, until_ns)

    def _following(self, settings: NatSettings, checked: Checked, around: Surroundings) -> Rules:
        """The generation after this one; rules that mean the same keep their number."""
        rules: list[Translation | Prefix] = [*checked.translations, *checked.prefixes]
        identities = {each.rule.id: _identity(each.rule) for each in rules}
        numbers, last = self._numbered(set(identities.values()))
        links = {name: tuple(around.own_addresses.get(name, ())) for name in around.interfaces}
        moved = links != self._now.links
        by_id = {rule_id: numbers[identity] for rule_id, identity in identities.items()}
        return Rules(
            settings,
            checked,
            numbers,
            self._now.names | {number: rule_id for rule_id, number in by_id.items()},
            by_id,
            links,
            (self._now.masquerade + moved) % 65536,
            around.boot_offset_ns,
            tuple(around.surveyed.get("rules", ())),
            last,
        )

    def _numbered(self, identities: set[str]) -> tuple[dict[str, int], int]:
        """What is new gets the number that has not been used for longest."""
        known, last, found = self._now.numbers, self._now.last, {}
        used = {known[each] for each in identities if each in known}
        for identity in sorted(identities):
            number = known.get(identity, 0)
            while not number:
                last = last % (NUMBERS - 1) + 1
                number = 0 if last in used else last
            found[identity] = number
        return found, last

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        state, secret = plan.state
        fresh = sorted(set(state.numbers.values()) - set(self._now.numbers.values()))
        self._of_rules[fresh] = np.zeros(1, NAT_RULE_COUNT)
        self._now, self._secret = state, secret

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Events to alerts; counters are kept for views."""
        if source == "nat_rule_count":
            self._of_rules = rows.copy()
            return Outcome()
        if source == "nat_count":
            return Outcome(list(self._counted(rows, now_ns)))
        self._unlisted += max(len(rows) - MAX_ALERTS, 0)
        offset_ns = self._now.boot_offset_ns
        return Outcome(
            [
                event_alert(row, offset_ns, self.name(int(row["packet"]["rule_id"])))
                for row in rows[:MAX_ALERTS]
            ]
        )

    def _counted(self, rows: NDArray[Any], now_ns: int) -> Iterator[Alert]:
        """An alert when the table begins to be full: it was not for a minute."""
        more = sum(int(rows[name][0]) - int(self._count[name][0]) for name in _FULL)
        known, self._count, self._known = self._known, rows.copy(), True
        if more <= 0 or not known:
            return
        calm = now_ns - self._full_ns >= _CALM_NS
        self._full_ns = now_ns
        if calm:
            yield full_alert(more, now_ns)

    def tick(self, now_ns: int) -> Outcome:
        """Tell of the host's own translation, when it is not what it was."""
        found = self._now.host_rules
        if found == self._told or not self._now.settings.enabled:
            return Outcome()
        self._told = found
        return Outcome([host_alert(found, now_ns)] if found else ())

    def name(self, number: int) -> str:
        """The id of the rule that programs know by this number."""
        return self._now.names.get(number, f"rule-{number}" if number else "")

    @property
    def boot_offset_ns(self) -> int:
        """Added to the boot clock it gives wall time."""
        return self._now.boot_offset_ns

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """The rules in force with their counters, in the order they are asked."""
        now = self._now
        if collection == "nptv6":
            return [
                prefix_view(each, self._of_rules[now.by_id[each.rule.id]])
                for each in now.checked.prefixes
            ]
        return [
            rule_view(each, self._of_rules[now.by_id[each.rule.id]])
            for each in now.checked.translations
        ]

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        checked = self._now.checked
        found = checked.prefixes if collection == "nptv6" else checked.translations
        return any(each.rule.id == key for each in found)

    def status(self) -> dict[str, Any]:
        """Mode, size, what happened, and what of the host's own translation overlaps."""
        now, count = self._now, self._count[0]
        return {
            "enabled": now.settings.enabled,
            "mode": now.settings.mode.value,
            "rule_count": len(now.checked.translations),
            "nptv6_count": len(now.checked.prefixes),
            "hairpin": now.settings.hairpin.enabled,
            **{name: int(count[name]) for name in count.dtype.names},
            "dropped": sum(int(count[name]) for name in DROPS),
            "host_nat": list(now.host_rules),
            "host_nat_advice": _advice(now.host_rules),
        }

    def metrics(self) -> Sequence[Metric]:
        """What was translated, what was dropped and why, and flows by rule."""
        return list(self._samples())

    def _samples(self) -> Iterator[Metric]:
        count = self._count[0]
        for name in count.dtype.names:
            text = f"Address translation: {name.replace('_', ' ')}"
            yield Metric(f"nat_{name}", "counter", text, {}, float(count[name]))
        for rule_id, number in self._now.by_id.items():
            row = self._of_rules[number]
            for result in ("translations", "failed", "would"):
                labels = {"rule_id": rule_id, "result": result}
                text = "Flows by rule: translated, without a free port, and would be translated"
                yield Metric("nat_rule_flows", "counter", text, labels, float(row[result]))
        for prefix in self._now.checked.prefixes:
            row = self._of_rules[self._now.by_id[prefix.rule.id]]
            yield Metric(
                "nat_prefix_packets",
                "counter",
                "Packets by NPTv6 rule",
                {"rule_id": prefix.rule.id},
                float(row["packets"]),
            )
        yield Metric(
            "nat_host_rules",
            "gauge",
            "NAT rules of the host itself",
            {},
            float(len(self._now.host_rules)),
        )
        yield Metric(
            "nat_unlisted",
            "counter",
            "Events beyond the alerts of a batch",
            {},
            float(self._unlisted),
        )


def _identity(rule: msgspec.Struct) -> str:
    fields = (getattr(rule, name) for name in rule.__struct_fields__ if name != "enabled")
    return " ".join(map(str, fields))


def _advice(found: Sequence[str]) -> str:
    if not found:
        return ""
    return (
        "The host translates addresses too: what comes in is translated here first, what leaves "
        "there first. Take the same flows out of one of them."
    )
