"""The limiter's own routes: who is over the limits, and how full the table of buckets is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

from litestar import get
from litestar.params import Parameter

from ebpfsentinel.domains.ratelimit.occupancy import occupancy

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.ratelimit.engine import RateLimitEngine
    from ebpfsentinel.model.access import Running


def routes(engine: RateLimitEngine, running: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine and its agent."""

    @get(
        "top",
        summary="The sources that were most over their limits, of those reported last",
        operation_id="ratelimit_top",
        sync_to_thread=False,
    )
    def top(
        most: Annotated[int, Parameter(ge=1, le=1000, description="How many.")] = 20,
    ) -> list[dict[str, Any]]:
        return engine.offenders.top(most)

    @get(
        "buckets",
        summary="How full the table of buckets is: in use, idle, free; and by limit",
        operation_id="ratelimit_buckets",
        sync_to_thread=True,
    )
    def buckets() -> dict[str, Any]:
        _, table = running.kernel.read("rl_table")
        return occupancy(table, engine.names(), time.clock_gettime_ns(time.CLOCK_MONOTONIC))

    return [top, buckets]
