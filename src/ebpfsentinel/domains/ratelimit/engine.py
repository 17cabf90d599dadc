"""The rate limiter's pure half: plans limits, keeps their counters, turns events into alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ratelimit.alerting import (
    MAX_ALERTS,
    eviction_alert,
    over_alert,
    rest_alert,
)
from ebpfsentinel.domains.ratelimit.checking import Checker
from ebpfsentinel.domains.ratelimit.events import RL_COOKIES, RL_TABLE_COUNT
from ebpfsentinel.domains.ratelimit.ledger import Offenders, Told
from ebpfsentinel.domains.ratelimit.settings import (
    MAX_RULES,
    LimitAction,
    RateLimitRuleView,
    RateLimitSettings,
)
from ebpfsentinel.domains.ratelimit.tables import NUMBERS, Compiler
from ebpfsentinel.model.action import MapDelete, Swap
from ebpfsentinel.model.domain import Metric, Outcome, Plan, Surroundings
from ebpfsentinel.model.packets import address
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.domains.ratelimit.checking import Limit
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Tools

_CALM_NS = 60_000_000_000
_SHOWN = ("src_ip", "dst_ip", "vlan_id", "interfaces", "expires_at", "enabled")
_IPV6 = 0x01


@dataclass(frozen=True, slots=True)
class Limits:
    """One generation.

    ``numbers`` are by what a limit's buckets depend on: a changed limit has another number, and
    with it fresh buckets and counters.
    ``names`` also keeps the ids of limits that are gone, for events still on their way.
    """

    settings: RateLimitSettings
    limits: tuple[Limit, ...]
    numbers: dict[str, int]
    names: dict[int, str]
    boot_offset_ns: int = 0
    last: int = 0

    def number(self, limit: Limit) -> int:
        """The number that programs know it by."""
        return self.numbers[limit.identity]


class RateLimitEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._now = Limits(RateLimitSettings(), (), {}, {})
        self._checker, self._compiler = Checker(Surroundings()), Compiler()
        self._secret = b""
        self.told = Told()
        self.offenders = Offenders()
        self._table = np.zeros(1, RL_TABLE_COUNT)
        self._table_known = False
        self._cookies = np.zeros(1, RL_COOKIES)
        self._crowded_ns = -_CALM_NS
        self._unlisted = 0

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Numbers and the secret of the last run, under which buckets that outlived it are kept."""
        numbers = {str(name): int(number) for name, number in memo.get("numbers", {}).items()}
        names = {number: name.split(" ", 1)[0] for name, number in numbers.items()}
        last = int(memo.get("last", 0))
        self._now = Limits(RateLimitSettings(), (), numbers, names, last=last)
        self._secret = bytes.fromhex(str(memo.get("secret", "")))
        self.told.adopt(numbers.values())

    def plan(
        self,
        settings: RateLimitSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Compile all limits into one generation.

        Raises:
            SettingsError: a limit cannot be taken, or there are too many.
        """
        limits = self._checker.check_all(settings, runtime.get("rules", ()), around)
        written = sum(limit.origin != "system" for limit in limits)
        if written > MAX_RULES:
            raise SettingsError(
                "ratelimit.rules", f"{written} limits; {MAX_RULES} is the most", "Join networks."
            )
        numbers, last = self._numbered(limits)
        names = self._now.names | {numbers[each.identity]: each.rule.id for each in limits}
        state = Limits(settings, tuple(limits), numbers, names, around.boot_offset_ns, last)
        secret = self._secret or around.secret
        by_id = {limit.rule.id: numbers[limit.identity] for limit in limits}
        made = self._compiler.compiled(limits, by_id, settings.mode, secret, around.boot_offset_ns)
        fresh = np.array(sorted(set(numbers.values()) - set(self._now.numbers.values())), np.uint32)
        actions = [MapDelete(each, fresh) for each in ("rl_own", "rl_count") if len(fresh)]
        memo = {"numbers": numbers, "last": last, "secret": secret.hex()}
        return Plan((state, secret), (*actions, Swap("rl_limits", 0, made)), memo)

    def _numbered(self, limits: Sequence[Limit]) -> tuple[dict[str, int], int]:
        """Limits keep their number; new ones get that which has not been used for longest."""
        known, last = self._now.numbers, self._now.last
        used = {known[each.identity] for each in limits if each.identity in known}
        numbers = {}
        for limit in limits:
            number = known.get(limit.identity, 0)
            while not number:
                last = last % (NUMBERS - 1) + 1
                number = 0 if last in used else last
            numbers[limit.identity] = number
        return numbers, last

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        state, secret = plan.state
        self.told.begin(set(state.numbers.values()) - set(self._now.numbers.values()))
        self._now, self._secret = state, secret

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Events to alerts, one for each bucket; counters are kept for views."""
        if source == "rl_count":
            self.told.take(rows, now_ns)
            return Outcome()
        if source == "rl_cookies":
            self._cookies = rows.copy()
            return Outcome()
        if source == "rl_table_count":
            return Outcome(list(self._crowded(rows, now_ns)))
        return Outcome(self._over(rows))

    def _over(self, rows: NDArray[Any]) -> list[Alert]:
        numbers = rows["packet"]["rule_id"].astype(np.int64) % NUMBERS
        counts = self.told.hear(numbers, rows["suppressed"].astype(np.int64)).tolist()
        self._unlisted += sum(counts[MAX_ALERTS:])
        alerts = []
        for row, number, count in zip(
            rows[:MAX_ALERTS], numbers.tolist(), counts[:MAX_ALERTS], strict=False
        ):
            alert = over_alert(row, self._now.boot_offset_ns, self._name(number), count)
            packet = row["packet"]
            source = address(packet["src_addr"], bool(int(packet["flags"]) & _IPV6))
            self.offenders.add(source, alert.rule_id, count, alert.timestamp_ns)
            alerts.append(alert)
        return alerts

    def _crowded(self, rows: NDArray[Any], now_ns: int) -> Iterator[Alert]:
        """An alert when evictions begin: there were none for a minute."""
        more = int(rows["evicted"][0]) - int(self._table["evicted"][0])
        known, self._table, self._table_known = self._table_known, rows.copy(), True
        if more <= 0 or not known:
            return
        calm = now_ns - self._crowded_ns >= _CALM_NS
        self._crowded_ns = now_ns
        if calm:
            yield eviction_alert(more, now_ns)

    def _name(self, number: int) -> str:
        return self._now.names.get(number, f"limit-{number}")

    def tick(self, now_ns: int) -> Outcome:
        """What no event told of limits that are quiet by now."""
        by_number = {self._now.number(limit): limit for limit in self._now.limits}
        would, alerts = self._now.settings.mode is Mode.ALERT, []
        for number, count in self.told.rests(now_ns):
            limit = by_number.get(number)
            if limit is None or limit.rule.action is not LimitAction.PASS:
                alerts.append(rest_alert(limit, self._name(number), count, now_ns, would))
        return Outcome(alerts)

    def items(self, collection: str) -> Sequence[RateLimitRuleView]:
        """The limits with their packets; the default last."""
        return [self._view(limit) for limit in self._now.limits]

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return any(limit.rule.id == key for limit in self._now.limits)

    def _view(self, limit: Limit) -> RateLimitRuleView:
        rule, number = limit.rule, self._now.number(limit)
        count = self.told.counts[number]
        low, high = limit.ports or (0, 0)
        port = f"{low}-{high}" if low != high else str(low)
        return RateLimitRuleView(
            id=rule.id,
            rate=rule.rate,
            burst=limit.burst,
            scope=rule.scope.value,
            algorithm=rule.algorithm.value,
            action=rule.action.value,
            dst_port=port if limit.ports else None,
            protocol=rule.protocol.value,
            **{name: getattr(rule, name) for name in _SHOWN},
            system=limit.origin == "system",
            origin=limit.origin,
            passed=int(count["passed"]),
            over=int(count["over"]),
            dropped=int(count["dropped"]),
            events=int(self.told.events[number]),
            suppressed=int(self.told.suppressed[number]),
        )

    def names(self) -> dict[int, str]:
        """The ids of limits by the numbers that programs know them by."""
        return dict(self._now.names)

    def status(self) -> dict[str, Any]:
        """Mode, size and what happened in the table of buckets."""
        settings, table = self._now.settings, self._table[0]
        return {
            "enabled": settings.enabled,
            "mode": settings.mode.value,
            "rule_count": len(self._now.limits),
            "default_rate": settings.default_rate,
            "default_burst": settings.default_burst,
            "default_algorithm": settings.default_algorithm.value,
            "buckets_claimed": int(table["claimed"]),
            "evictions": int(table["evicted"]),
            "not_charged": int(table["crowded"]),
            "syn_cookies": int(self._cookies["sent"][0]),
        }

    def metrics(self) -> Sequence[Metric]:
        """Packets by limit, events, and what happened in the table of buckets."""
        return list(self._samples())

    def _samples(self) -> Iterator[Metric]:
        text = "Packets by limit: passed, over it, and of those dropped"
        for number in np.flatnonzero(self.told.counts["passed"] + self.told.counts["over"]):
            name, row = self._name(int(number)), self.told.counts[number]
            for result in ("passed", "over", "dropped"):
                labels = {"rule_id": name, "result": result}
                yield Metric("ratelimit_packets", "counter", text, labels, float(row[result]))
        text = (
            "SYNs over a limit that answers them: sent a cookie, let up (room), or dropped (none)"
        )
        for result in self._cookies.dtype.names or ():
            labels, count = {"result": result}, float(self._cookies[result][0])
            yield Metric("ratelimit_syncookies", "counter", text, labels, count)
        for name, text, value in (
            ("ratelimit_evictions", "Buckets in use that gave way", self._table["evicted"][0]),
            ("ratelimit_buckets_claimed", "Buckets put in the table", self._table["claimed"][0]),
            ("ratelimit_not_charged", "Packets without a bucket", self._table["crowded"][0]),
            ("ratelimit_unlisted", "Packets beyond the alerts of a batch", self._unlisted),
        ):
            yield Metric(name, "counter", text, {}, float(value))
