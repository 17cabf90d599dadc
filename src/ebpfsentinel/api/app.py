"""The app: every route of every card behind one guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Litestar
from litestar.config.cors import CORSConfig

from ebpfsentinel.api.alerts import alert_routes
from ebpfsentinel.api.auth import auth_routes
from ebpfsentinel.api.cards import card_routes
from ebpfsentinel.api.changes import change_routes
from ebpfsentinel.api.destinations import destination_routes
from ebpfsentinel.api.docs import docs_routes, openapi, tell_errors
from ebpfsentinel.api.doctor import doctor_route
from ebpfsentinel.api.errors import handlers
from ebpfsentinel.api.guard import LOCAL_ORIGIN, Guard, answer
from ebpfsentinel.api.health import health_routes
from ebpfsentinel.api.metrics import Exposition
from ebpfsentinel.api.operations import operation_routes

if TYPE_CHECKING:
    from ebpfsentinel.api.agent import Agent

BODY_BYTES = 64 << 10


class Api(Litestar):
    """A Litestar app that stands behind a :class:`~ebpfsentinel.api.guard.Guard`."""

    def __init__(self, agent: Agent, **settings: Any) -> None:
        super().__init__(**settings)
        self._guard = Guard(super().__call__, agent)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        await self._guard(scope, receive, send)


def create_app(agent: Agent) -> Litestar:
    """The whole API of ``agent``, generic over its domain cards."""
    settings = agent.settings.agent
    docs = settings.swagger_ui
    cards = [route for card in agent.domains.values() for route in card_routes(agent, card)]
    made = Api(
        agent,
        route_handlers=[
            *health_routes(agent),
            doctor_route(agent),
            *alert_routes(agent),
            *destination_routes(agent),
            *operation_routes(agent),
            *change_routes(agent),
            *auth_routes(agent),
            *cards,
            *(docs_routes() if docs else ()),
        ],
        openapi_config=openapi(agent.version, asks=agent.gatekeeper.enabled) if docs else None,
        exception_handlers=handlers(),
        cors_config=CORSConfig(allow_origins=[], allow_origin_regex=LOCAL_ORIGIN),
        request_max_body_size=BODY_BYTES,
        logging_config=None,
    )
    if docs:
        tell_errors(made.openapi_schema)
    return made


def create_metrics_app(agent: Agent) -> Guard:
    """``/metrics`` and nothing else, for the second listener."""
    exposition = Exposition(agent)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        if scope["path"].rstrip("/") != "/metrics" or scope["method"] not in ("GET", "HEAD"):
            text = b'{"error":{"code":"NOT_FOUND","message":"Only GET /metrics is here."}}'
            await answer(send, 404, text, b"application/json")
            return
        body, media_type = exposition.render(headers.get(b"accept", b"").decode("latin-1"))
        await answer(send, 200, body, media_type.encode())

    return Guard(app, agent)
