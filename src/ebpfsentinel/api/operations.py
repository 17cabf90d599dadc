"""Audit, configuration, metrics: what operators run the agent by."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from ebpfsentinel.api.actor import actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.changes import Confirm, waiting_answer
from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.metrics import Exposition
from ebpfsentinel.api.query import MOST, From, Limit, Offset, To, Word, instant, known_only
from ebpfsentinel.config import masked
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.store import AuditEntry, AuditQuery, RuleChange, Verification

_FILTERS = ("component", "action", "rule_id", "from", "to", "limit", "offset")
_HISTORY_MOST = 500


class AuditPage(msgspec.Struct):
    """A page of entries, newest first; ``total`` is how many match the filters in all."""

    entries: list[AuditEntry]
    total: int
    limit: int
    offset: int


class History(msgspec.Struct):
    """Versions of one rule, newest first."""

    rule_id: str
    entries: list[RuleChange]


class Reloaded(msgspec.Struct):
    """What a reload did, whole and by section."""

    status: str
    message: str
    sections: dict[str, str]


def operation_routes(agent: Agent) -> Sequence[Any]:
    """Audit logs and history, configuration and its reload, metrics."""
    return [*_audit(agent), *_config(agent), _metrics(agent)]


def _audit(agent: Agent) -> Sequence[Any]:
    @get("/api/v1/audit/logs", tags=["audit"], summary="Who did what, newest first")
    async def logs(  # noqa: PLR0913, PLR0917 -- one argument a filter
        request: Request[Any, Any, Any],
        component: Word = None,
        action: Word = None,
        rule_id: Word = None,
        start: From = None,
        end: To = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> AuditPage:
        known_only(request.query_params, _FILTERS)
        wanted = AuditQuery(
            component=component,
            action=action,
            rule_id=rule_id,
            from_ns=instant("from", start),
            to_ns=instant("to", end),
            limit=min(limit, MOST),
            offset=offset,
        )
        found, total = agent.store.audit.query(wanted)
        return AuditPage(found, total, wanted.limit, offset)

    @get("/api/v1/audit/rules/{rule_id:str}/history", tags=["audit"], summary="A rule's versions")
    async def history(rule_id: FromPath[str], limit: Limit = 50) -> History:
        return History(rule_id, agent.store.audit.history(rule_id, min(limit, _HISTORY_MOST)))

    return [logs, history, *_chain(agent)]


def _chain(agent: Agent) -> Sequence[Any]:
    @get("/api/v1/audit/verify", tags=["audit"], summary="Is the trail whole? Walks all of it")
    async def verify() -> Verification:
        return await asyncio.to_thread(agent.store.audit.verify)

    @get(
        "/api/v1/audit/export",
        tags=["audit"],
        summary="The whole trail with its chain, oldest first, as JSON lines",
        media_type="application/x-ndjson",
    )
    async def export() -> Stream:
        return Stream(agent.store.audit.export(), media_type="application/x-ndjson")

    return [verify, export]


def _config(agent: Agent) -> Sequence[Any]:
    @get("/api/v1/config", tags=["config"], summary="The configuration in force, secrets masked")
    async def config() -> dict[str, Any]:
        return masked(agent.settings)

    @post("/api/v1/config/reload", status_code=200, tags=["config"], summary="Read it again")
    async def reload(confirm: Confirm = None) -> Response[Reloaded]:
        try:
            found, change = await agent.reload(actor(), confirm or 0)
            sections = dict(found)
        except SettingsError as error:
            raise Refusal(400, "INVALID_CONFIG", str(error)) from None
        changed = [name for name, result in sections.items() if result != "unchanged"]
        told = f"{', '.join(changed)} changed" if changed else "nothing changed"
        return waiting_answer(Reloaded("ok", told, sections), change, 200)

    return [config, reload]


def _metrics(agent: Agent) -> Any:
    exposition = Exposition(agent)

    @get("/metrics", tags=["health"], summary="Prometheus metrics", media_type="text/plain")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        text, media_type = exposition.render(request.headers.get("accept", ""))
        return Response(text, media_type=media_type)

    return metrics
