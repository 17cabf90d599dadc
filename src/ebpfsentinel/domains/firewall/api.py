"""The firewall's own routes: what is in force as a whole, and why packets fare as they do."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import Parameter

from ebpfsentinel.domains.firewall.asking import parse
from ebpfsentinel.domains.firewall.explaining import asked_of, explain
from ebpfsentinel.domains.firewall.rulesets import InForce, in_force
from ebpfsentinel.domains.firewall.shadowing import shadows_of
from ebpfsentinel.domains.firewall.usage import unused

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.firewall.engine import FirewallEngine
    from ebpfsentinel.model.access import Running

_ALERT_ID = re.compile(r"\d{10,}-\S+-\d+")
_UNSAID = (
    "Of TCP flags, ICMP type and DSCP an alert says nothing: a SYN or an echo request is taken."
)
_Packet = Annotated[
    str,
    Parameter(
        min_length=1,
        max_length=400,
        description="A packet in one line: tcp 10.0.0.1:4242 -> 10.0.0.2:22 syn vlan 7 on eth0.",
    ),
]
_Asked = Annotated[
    str,
    Parameter(min_length=1, max_length=400, description="A packet in one line, or an alert's id."),
]


def routes(engine: FirewallEngine, running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine and its agent."""
    return [
        _ruleset(engine, running),
        _would(engine, running),
        _why(engine, running),
        *_idle(engine, running),
    ]


def _idle(engine: FirewallEngine, running: Running) -> list[HTTPRouteHandler]:
    @get(
        "shadowed",
        summary="Rules that can never match, and the earlier ones that take what they would",
        operation_id="firewall_shadowed",
        sync_to_thread=True,
    )
    def shadowed() -> dict[str, Any]:
        return shadows_of(*engine.in_force())

    @get(
        "unused",
        summary="Rules that were not hit for some days",
        operation_id="firewall_unused",
        sync_to_thread=False,
    )
    def not_used(
        days: Annotated[float, Parameter(ge=0, le=36500, description="Not hit for so long.")] = 30,
    ) -> dict[str, Any]:
        running.refresh()
        return unused(engine.items("rules"), engine.usage, days, time.time_ns())

    @get(
        "samples",
        summary="Headers of the last sampled packets, to try rules on",
        operation_id="firewall_samples",
        sync_to_thread=False,
    )
    def samples() -> dict[str, Any]:
        every = engine.in_force()[0].sample_every
        return engine.samples.body(every, running.kernel.interface_slots())

    return [shadowed, not_used, samples]


def _ruleset(engine: FirewallEngine, running: Running) -> HTTPRouteHandler:
    @get(
        "ruleset",
        summary="Settings, runtime rules and interfaces: all that a trial needs",
        operation_id="firewall_ruleset",
        sync_to_thread=False,
    )
    def ruleset() -> InForce:
        kernel = running.kernel
        return in_force(engine, list(kernel.interface_slots()), kernel.protected())

    return ruleset


def _would(engine: FirewallEngine, running: Running) -> HTTPRouteHandler:
    @get(
        "would",
        summary="What would become of a packet, by the loaded programs; it leaves no trace",
        operation_id="firewall_would",
        sync_to_thread=False,
    )
    def would(packet: _Packet) -> dict[str, Any]:
        running.refresh()
        return explain(parse(packet), engine, running.kernel, time.time_ns())

    return would


def _why(engine: FirewallEngine, running: Running) -> HTTPRouteHandler:
    @get(
        "why",
        summary="Which rule decides on a packet or an alert's packet, and what would follow",
        operation_id="firewall_why",
        sync_to_thread=False,
    )
    def why(asked: _Asked) -> dict[str, Any]:
        running.refresh()
        if not _ALERT_ID.fullmatch(asked):
            return explain(parse(asked), engine, running.kernel, time.time_ns())
        alert = running.alert(asked)
        if alert is None:
            raise NotFoundException(f"there is no alert {asked!r}, or none any more")
        then: dict[str, Any] = {"id": alert.id, "rule_id": alert.rule_id, "action": alert.action}
        then |= {"timestamp_ns": alert.timestamp_ns, "count": alert.count}
        body = explain(asked_of(alert), engine, running.kernel, time.time_ns())
        return {"alert": then} | body | {"note": f"{body['note']} {_UNSAID}"}

    return why
