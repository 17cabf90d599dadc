"""What stands before every request: who may ask, from where, how often, and what goes with answers.

Who calls is the :class:`~ebpfsentinel.auth.Gatekeeper`'s to say, what they may do the table of
:mod:`ebpfsentinel.auth.permissions`. Both are asked before any route is.

On loopback the API may listen without authentication, so the browser of a local user is the way in
for any web page. Three checks close it. A ``Host`` that is not ours is a name that was rebound to
127.0.0.1. An ``Origin`` that is not local is another site's page, which could otherwise send
plain-form POSTs and open WebSockets. CORS answers are given to local origins only.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.api.actor import CALLER
from ebpfsentinel.api.errors import ErrorBody, ErrorDetail
from ebpfsentinel.api.scopes import CODE, needed
from ebpfsentinel.api.streams import Stay
from ebpfsentinel.api.trail import Trail
from ebpfsentinel.auth.namespaces import is_bound
from ebpfsentinel.auth.permissions import READ, parts_of, permission
from ebpfsentinel.config import is_loopback
from ebpfsentinel.model.identity import Caller, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from ebpfsentinel.api.agent import Agent
    from ebpfsentinel.model.identity import Identity

    App = Callable[..., Awaitable[None]]

LOCAL_ORIGIN = r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
_ORIGIN = re.compile(LOCAL_ORIGIN)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(:\d*)?")
_LOCAL_HOST = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")
_METRICS = ("metrics",)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}
STRICT = (b"strict-transport-security", b"max-age=63072000")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="ebpfsentinel"')


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer instead of the route's."""

    status: int
    code: str
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Guard:
    """Calls ``app`` for requests that pass; adds the security headers to every answer.

    The identity of the caller is in ``scope["state"]["identity"]``.
    """

    def __init__(self, app: App, agent: Agent) -> None:
        self._app, self._agent, self._trail = app, agent, Trail(agent)
        self._check_host = is_loopback(agent.settings.agent.bind_address)
        self._lists = {
            (card.name, collection.name)
            for card in agent.domains.values()
            for collection in card.collections
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = self._trail.watching(_adding(send, scope), scope)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        found = self._stranger(scope, headers) or await self._judge(scope, headers)
        if isinstance(found, Refused):
            self._keep(scope, found)
            await _refuse(scope, receive, send, found, headers)
            return
        token = CALLER.set(found)
        try:
            if _method(scope) in READ:
                kind, gate = str(scope["type"]), self._agent.gatekeeper
                await Stay(gate, found, kind, (receive, send)).serve(self._app, scope)
            else:
                await self._app(scope, receive, send)
        finally:
            CALLER.reset(token)

    def _keep(self, scope: Mapping[str, Any], found: Refused) -> None:
        if found.status in (401, 429):
            address = scope["client"][0] if scope.get("client") else ""
            identity = scope.get("state", {}).get("identity")
            name = identity.name if identity else ""
            self._trail.stopped(address, name, found.status, found.message)

    def _stranger(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Refused | None:
        """Is it a page of another site that calls through somebody's browser?"""
        host, origin, problem = headers.get("host", "").lower(), headers.get("origin"), ""
        if self._check_host and host and not self._is_ours(host):
            problem = f"Host {host[:100]!r} is not ours. Call localhost or 127.0.0.1."
        elif not _reads(scope) and origin is not None and not _trusted(origin, host):
            problem = f"Origin {origin[:100]!r} may not do this. Use a page served from localhost."
        return Refused(403, "PERMISSION_DENIED", problem) if problem else None

    def _is_ours(self, host: str) -> bool:
        split = _HOST.fullmatch(host)
        if split is None:
            return False
        return bool(_LOCAL_HOST.fullmatch(split[1])) or split[1] in self._agent.tls.names

    async def _judge(
        self, scope: MutableMapping[str, Any], headers: Mapping[str, str]
    ) -> Refused | Identity:
        """Who it is, if they may do this, and now."""
        gate, method, parts = self._agent.gatekeeper, _method(scope), parts_of(scope["path"])
        row, state = permission(method, scope["path"]), scope.setdefault("state", {})
        if row.least is None or (parts == _METRICS and gate.metrics_open):
            return CALLER.get()
        address = scope["client"][0] if scope.get("client") else ""
        try:
            found = await gate.identify(Caller(headers, address, state.get("certificate")))
        except Unauthenticated as error:
            return _unauthenticated(error)
        state["identity"] = found
        if not found.role.allows(row.least):
            return _insufficient(found, f"{method} {scope['path'][:200]}", row.least)
        if row.host and is_bound(found) and not self._is_list(parts):
            return Refused(403, CODE, f"This changes the whole host. {needed(found)}")
        write = method not in READ
        if wait_s := gate.spend(found, address, write=write):
            kind = "changes" if write else "requests"
            return _too_many(f"Too many {kind} by {found.name}", wait_s)
        return found

    def _is_list(self, parts: tuple[str, ...]) -> bool:
        """Does the route judge for itself, by the namespace of the item?"""
        return parts[:2] == ("api", "v1") and (
            parts[2:4] in self._lists or parts[2:3] == ("changes",)
        )


def _unauthenticated(error: Unauthenticated) -> Refused:
    if error.retry_after_s:
        return _too_many(str(error), error.retry_after_s)
    return Refused(401, "AUTHENTICATION_REQUIRED", str(error), (_CHALLENGE,))


def _insufficient(identity: Identity, what: str, least: str) -> Refused:
    told = f"{what} needs the role {least} or more; {identity.name} has {identity.role.value}."
    return Refused(403, "INSUFFICIENT_ROLE", told)


def _too_many(told: str, wait_s: float) -> Refused:
    seconds = max(1, math.ceil(wait_s))
    message = told if told.endswith(".") else f"{told}: try again in {seconds} s."
    return Refused(429, "TOO_MANY_REQUESTS", message, ((b"retry-after", str(seconds).encode()),))


def _method(scope: Mapping[str, Any]) -> str:
    return "WEBSOCKET" if scope["type"] == "websocket" else str(scope["method"])


def _reads(scope: Mapping[str, Any]) -> bool:
    """Does it change nothing? For pages of other sites, a WebSocket is no mere read."""
    return scope["type"] == "http" and scope["method"] in (*READ, "OPTIONS")


def _trusted(origin: str, host: str) -> bool:
    own = origin.lower() in (f"http://{host}", f"https://{host}")
    return own or bool(_ORIGIN.fullmatch(origin))


def _adding(send: Any, scope: Mapping[str, Any]) -> Any:
    wanted = dict(HEADERS)
    if scope.get("scheme") in ("https", "wss"):
        wanted |= (STRICT,)

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            present = [(name.lower(), value) for name, value in message.get("headers", [])]
            names = {name for name, _ in present}
            added = [pair for pair in wanted.items() if pair[0] not in names]
            message = {**message, "headers": present + added}
        await send(message)

    return sending


async def _refuse(
    scope: Mapping[str, Any],
    receive: Any,
    send: Any,
    refused: Refused,
    headers: Mapping[str, str],
) -> None:
    body = msgspec.json.encode(ErrorBody(ErrorDetail(refused.code, refused.message)))
    extra = list(refused.headers)
    if _ORIGIN.fullmatch(origin := headers.get("origin", "")):
        extra += [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")]
    kind = "http"
    if scope["type"] == "websocket":
        await receive()
        kind = "websocket.http"
    await answer(send, refused.status, body, b"application/json", extra, kind)


async def answer(  # noqa: PLR0913, PLR0917 -- the parts of an answer
    send: Any,
    status: int,
    body: bytes,
    media_type: bytes,
    extra: list[tuple[bytes, bytes]] | None = None,
    kind: str = "http",
) -> None:
    """Send a whole HTTP answer; ``kind`` ``websocket.http``: instead of a WebSocket."""
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    headers += extra or []
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": body})
