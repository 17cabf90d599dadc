"""REST views of the process tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from litestar import get
from litestar.exceptions import NotFoundException
from litestar.params import Parameter

from ebpfsentinel.domains.process.views import entry, flat, nested

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from ebpfsentinel.domains.process.engine import ProcessEngine
    from ebpfsentinel.model.access import Running

_MAX = 65_536


def routes(engine: ProcessEngine, _: Running) -> list[HTTPRouteHandler]:
    """The handlers, over one engine."""

    @get(
        "/api/v1/process/tree",
        tags=["process"],
        summary="The live process tree",
        operation_id="process_tree",
        sync_to_thread=False,
    )
    def tree(
        view: Annotated[
            str,
            Parameter(pattern="^(nested|flat)$", description="nested: children within parents."),
        ] = "nested",
        limit: Annotated[int, Parameter(ge=1, le=_MAX, description="Processes at most.")] = 1000,
        pid: Annotated[int | None, Parameter(ge=0, description="Only it and below.")] = None,
    ) -> dict[str, Any]:
        if view == "flat" and pid is None:
            shown = flat(engine.tree, limit)
        else:
            shown = nested(engine.tree, pid, limit)
        if view == "flat" and pid is not None:
            shown = _flattened(shown)
        return {"total": engine.tree.live, "processes": shown}

    @get(
        "/api/v1/process/{pid:int}",
        tags=["process"],
        summary="One process, live or lately exited",
        operation_id="process_show",
        sync_to_thread=False,
    )
    def show(
        pid: Annotated[int, Parameter(ge=0, description="Process id.")],
    ) -> dict[str, Any]:
        node = engine.tree.at_pid(pid)
        if node is None:
            raise NotFoundException(f"no process has the pid {pid}, nor had one lately")
        return entry(node)

    return [tree, show]


def _flattened(processes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nested processes as a flat list, parents first."""
    queue = list(processes)
    for process in queue:
        queue.extend(process.pop("children"))
    return queue
