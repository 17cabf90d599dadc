"""The pure half of DNS: answers to the names of addresses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.dns.events import DNS_COUNT, DnsAnswers
from ebpfsentinel.domains.dns.message import Malformed, Message, read
from ebpfsentinel.domains.dns.settings import DnsSettings
from ebpfsentinel.model.domain import Metric, Outcome, Plan, SeenName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.domain import Surroundings, Tools

COUNTERS: tuple[str, ...] = DNS_COUNT.names or ()


READ_AS = ("whole", "cut_off", "malformed")


class DnsEngine:
    """See :class:`~ebpfsentinel.model.domain.Engine`."""

    def __init__(self, tools: Tools) -> None:
        self._settings = DnsSettings()
        self._counts = np.zeros(1, DNS_COUNT)
        self._read: Counter[str] = Counter()
        self._names = 0

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Names hold for minutes: nothing is kept."""

    def plan(
        self,
        settings: DnsSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """There is nothing to put into the kernel."""
        return Plan(settings)

    def commit(self, plan: Plan) -> None:
        """From now on ``plan`` is in force."""
        self._settings = plan.state

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Counters are kept; answers become names."""
        if source == "dns_count":
            self._counts = rows.copy()
            return Outcome()
        names = [each for message in self._messages(rows) for each in self._named(message)]
        self._names += len(names)
        return Outcome(names=names)

    def _messages(self, rows: NDArray[Any]) -> Iterator[Message]:
        answers = DnsAnswers(rows)
        for message, size in zip(answers.message, answers.captured.tolist(), strict=True):
            try:
                found = read(message[:size].tobytes())
            except Malformed:
                self._read["malformed"] += 1
            else:
                self._read["whole" if found.whole else "cut_off"] += 1
                yield found

    def _named(self, message: Message) -> Iterator[SeenName]:
        least = self._settings.cache.min_ttl_secs
        for address, ttl_s in message.answers:
            yield SeenName(address, message.name, max(ttl_s, least))

    def tick(self, now_ns: int) -> Outcome:
        """Time changes nothing here."""
        return Outcome()

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """There are no collections."""
        return ()

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return False

    def status(self) -> dict[str, Any]:
        """What was seen, and what could be made of it."""
        seen = {name: int(self._counts[name][0]) for name in COUNTERS}
        read_as = {name: self._read[name] for name in READ_AS}
        return {"enabled": self._settings.enabled, **seen, **read_as, "names": self._names}

    def metrics(self) -> Sequence[Metric]:
        """Messages by what became of them."""
        text = "DNS messages: asked, answered, not asked for, longer than is read; failures"
        seen = [
            Metric("dns_messages", "counter", text, {"event": name}, float(self._counts[name][0]))
            for name in COUNTERS
        ]
        text = "DNS answers that were read, by what could be made of them"
        return seen + [
            Metric("dns_answers", "counter", text, {"result": name}, float(self._read[name]))
            for name in READ_AS
        ]
