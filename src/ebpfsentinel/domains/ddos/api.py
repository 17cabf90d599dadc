"""The domain's own routes: attacks, who is behind them, who is blocked, what is normal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import get
from litestar.params import Parameter

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.ddos.engine import DdosEngine
    from ebpfsentinel.model.access import Running

_Limit = Annotated[int, Parameter(ge=1, le=100, description="At most so many, the last first.")]


def routes(engine: DdosEngine, _running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine."""
    return [*_attacks(engine), *_sources(engine)]


def _attacks(engine: DdosEngine) -> list[HTTPRouteHandler]:
    @get(
        "attacks",
        summary="Attacks that go on: status, rates, and who sends and gets most",
        operation_id="ddos_attacks",
        sync_to_thread=False,
    )
    def attacks() -> list[dict[str, Any]]:
        return engine.attacks()

    @get(
        "attacks/history",
        summary="Attacks that are over, the last first",
        operation_id="ddos_history",
        sync_to_thread=False,
    )
    def history(limit: _Limit = 50) -> list[dict[str, Any]]:
        return list(reversed(engine.past.attacks))[:limit]

    return [attacks, history]


def _sources(engine: DdosEngine) -> list[HTTPRouteHandler]:
    @get(
        "sources",
        summary="Who sends most in the attacks that go on, by attack type",
        operation_id="ddos_sources",
        sync_to_thread=False,
    )
    def sources() -> dict[str, list[dict[str, Any]]]:
        return engine.parties()

    @get(
        "blocked",
        summary="Sources and prefixes that are blocked, until when, and what it kept out",
        operation_id="ddos_blocked",
        sync_to_thread=False,
    )
    def blocked() -> list[dict[str, Any]]:
        return engine.blocked()

    @get(
        "baseline",
        summary="Packet rates that are normal here, and the thresholds that follow",
        operation_id="ddos_baseline",
        sync_to_thread=False,
    )
    def baseline() -> dict[str, Any]:
        return engine.baseline()

    return [sources, blocked, baseline]
