"""The firewall's own routes: what is in force as a whole, and why packets fare as they do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from litestar import get

from ebpfsentinel.domains.firewall.rulesets import InForce, in_force

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.firewall.engine import FirewallEngine
    from ebpfsentinel.model.access import Running


def routes(engine: FirewallEngine, running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine and its agent."""

    @get(
        "ruleset",
        summary="Settings, runtime rules and interfaces: all that a trial needs",
        operation_id="firewall_ruleset",
        sync_to_thread=False,
    )
    def ruleset() -> InForce:
        return in_force(engine, list(running.kernel.interface_slots()))

    return [ruleset]
