"""Is it alive, is it ready, who is it, what does it run."""

import socket
import time
from collections.abc import Sequence
from typing import Any

from litestar import Response, get

from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.modes import modes
from ebpfsentinel.model.health import Health


def ready_body(agent: Agent) -> tuple[int, dict[str, Any]]:
    """Status code and body of ``/readyz``: 200 only when all is attached, and seen to work."""
    body: dict[str, Any] = {
        "status": "ok" if agent.ready else "not_ready",
        "ebpf_loaded": agent.ready,
    }
    if not agent.ready:
        body["reason"] = agent.not_ready_reason
    if agent.store.trouble:
        body["store"] = agent.store.trouble
    if agent.blind:
        body |= {"status": "not_ready", "blind": agent.blind}
    return (200 if agent.ready and not agent.blind else 503), body


def health_routes(agent: Agent) -> Sequence[Any]:
    """``/healthz``, ``/readyz``, status, identity and health of the agent, its kernel half."""

    @get("/healthz", tags=["health"], summary="Is the agent alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @get("/readyz", tags=["health"], summary="Is everything attached (200) or not yet (503)")
    async def readyz() -> Response[dict[str, Any]]:
        status, body = ready_body(agent)
        return Response(body, status_code=status)

    @get("/api/v1/agent/status", tags=["agent"], summary="The agent and its domains")
    async def status() -> dict[str, Any]:
        return _status(agent)

    @get("/api/v1/agent/identity", tags=["agent"], summary="Which agent this is")
    async def identity() -> dict[str, Any]:
        return {
            "hostname": socket.gethostname(),
            "version": agent.version,
            "uptime_seconds": _uptime(agent),
            "operator_managed": False,
        }

    @get("/api/v1/ebpf/status", tags=["agent"], summary="Programs, interfaces, rings, failures")
    async def ebpf() -> dict[str, Any]:
        return _ebpf(agent)

    @get("/api/v1/agent/health", tags=["agent"], summary="What canaries prove, and what is wrong")
    async def health() -> Health:
        return agent.health()

    return [healthz, readyz, status, identity, ebpf, health]


def _uptime(agent: Agent) -> int:
    return max(0, time.time_ns() - agent.started_ns) // 10**9


def _word(agent: Agent) -> str:
    if not agent.ready:
        return "starting"
    return "blind" if agent.blind else "running"


def _status(agent: Agent) -> dict[str, Any]:
    domains = {name: engine.status() for name, engine in agent.engines.items()}
    body: dict[str, Any] = {
        "status": _word(agent),
        "version": agent.version,
        "uptime_seconds": _uptime(agent),
        "ebpf_loaded": agent.ready,
        "rule_count": sum(int(status.get("rule_count", 0)) for status in domains.values()),
        "warnings": [*agent.loaded.warnings, *agent.store.notes],
        "domains": domains,
        "missing": dict(agent.missing),
        "modes": modes(agent),
    }
    for name, status in domains.items():
        body[f"{name}_enabled"] = bool(status.get("enabled", True))
        if "mode" in status:
            body[f"{name}_mode"] = status["mode"]
    return body


def _ebpf(agent: Agent) -> dict[str, Any]:
    kernel = agent.kernel
    attachments = kernel.attachments()
    return {
        "programs": kernel.programs(),
        "interfaces": attachments,
        "attach_blocked": [found.interface for found in attachments if not found.how],
        "ledgers": kernel.ledgers(),
        "failures": kernel.failures(),
    }
