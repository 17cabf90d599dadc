"""Changes that wait to be confirmed: which, for how long, and the word that keeps them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from ebpfsentinel.api.actor import CALLER, actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.scopes import CODE, needed
from ebpfsentinel.auth.namespaces import is_bound
from ebpfsentinel.model.refusal import OldConnection, UnknownChange

if TYPE_CHECKING:
    from ebpfsentinel.unconfirmed import Change

CHANGE_HEADER = "x-change-id"
Confirm = Annotated[
    int | None,
    QueryParameter(
        ge=1, le=86400, description="Undo it after so many seconds, unless it is confirmed"
    ),
]


class WaitingChange(msgspec.Struct):
    """One change that waits; times are wall nanoseconds."""

    id: str
    actor: str
    summary: str
    made_ns: int
    seconds: int
    seconds_left: float


class WaitingChanges(msgspec.Struct):
    """All of them, oldest first."""

    changes: list[WaitingChange]


def waiting_answer(body: Any, change: "Change | None", status: int) -> Response[Any]:
    """An answer that names the change to confirm, where there is one."""
    headers = {CHANGE_HEADER: change.id} if change else {}
    return Response(body, status_code=status, headers=headers)


def _shown(change: "Change") -> WaitingChange:
    left = round(change.seconds_left(), 1)
    return WaitingChange(
        change.id, change.actor, change.summary, change.made_ns, change.seconds, left
    )


def _check_own(agent: Agent, change: str) -> None:
    """Those who are bound to namespaces confirm what they did themselves."""
    identity = CALLER.get()
    made = next((found for found in agent.waiting.all() if found.id == change), None)
    if made is not None and is_bound(identity) and made.actor != identity.name:
        told = f"{made.actor} made this change. {needed(identity)}"
        raise Refusal(403, CODE, told)


def change_routes(agent: Agent) -> Sequence[Any]:
    """List, and confirm."""

    @get("/api/v1/changes", tags=["changes"], summary="Changes that wait to be confirmed")
    async def changes() -> WaitingChanges:
        return WaitingChanges([_shown(change) for change in agent.waiting.all()])

    @post(
        "/api/v1/changes/{change:str}/confirm",
        status_code=200,
        tags=["changes"],
        summary="Keep a change; over a connection that was opened after it was made",
    )
    async def confirm(request: Request[Any, Any, Any], change: FromPath[str]) -> WaitingChange:
        connected_ns = request.scope.get("state", {}).get("connected_ns", 0)
        _check_own(agent, change)
        try:
            return _shown(await agent.confirm(change, actor(), connected_ns))
        except UnknownChange:
            told = f"No change {change[:100]!r} waits: it was confirmed or undone."
            raise Refusal(404, "CHANGE_NOT_FOUND", told) from None
        except OldConnection:
            told = (
                "This connection is older than the change, so it proves nothing. "
                "Open a new one, and confirm over that."
            )
            raise Refusal(409, "OLD_CONNECTION", told) from None

    return [changes, confirm]
