"""The translator's own routes: the live translations."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from litestar import get
from litestar.params import Parameter

from ebpfsentinel.domains.nat.views import translations

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.nat.engine import NatEngine
    from ebpfsentinel.model.access import Running


def routes(engine: NatEngine, running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine and its agent."""

    @get(
        "translations",
        summary="The live translations, and how full their table is",
        operation_id="nat_translations",
        sync_to_thread=True,
    )
    def listed(
        most: Annotated[int, Parameter(ge=1, le=10000, description="How many.")] = 100,
    ) -> dict[str, Any]:
        _, table = running.kernel.read("nat_table")
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return translations(table, engine.name, now_ns, most)

    return [listed]
