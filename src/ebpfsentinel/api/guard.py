"""What stands before every request: who may ask, from where, and what goes with each answer.

The API listens on loopback without authentication, so the browser of a local user is the way in for
any web page. Three checks close it. A ``Host`` that is not ours is a name that was rebound to
127.0.0.1. An ``Origin`` that is not local is another site's page, which could otherwise send
plain-form POSTs and open WebSockets. CORS answers are given to local origins only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.api.errors import ErrorBody, ErrorDetail
from ebpfsentinel.config import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    App = Callable[..., Awaitable[None]]

LOCAL_ORIGIN = r"https?://(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?"
_ORIGIN = re.compile(LOCAL_ORIGIN)
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(:\d*)?")
_LOCAL_HOST = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]")
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}


class Guard:
    """Calls ``app`` for requests that pass; adds the security headers to every answer."""

    def __init__(self, app: App, bind_address: str) -> None:
        self._app = app
        self._check_host = is_loopback(bind_address)

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one ASGI connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif problem := self._problem(scope):
            await _refuse(scope, receive, send, problem)
        else:
            await self._app(scope, receive, _adding(send))

    def _problem(self, scope: Mapping[str, Any]) -> str:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if self._check_host and host and not _is_local(host):
            return f"Host {host[:100]!r} is not ours. Call localhost or 127.0.0.1."
        writes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        origin = headers.get(b"origin")
        if writes and origin is not None and not self._trusted(origin, host):
            return f"Origin {origin[:100]!r} may not do this. Use a page served from localhost."
        return ""

    @staticmethod
    def _trusted(origin: str, host: str) -> bool:
        own = origin.lower() in (f"http://{host}", f"https://{host}")
        return own or bool(_ORIGIN.fullmatch(origin))


def _is_local(host: str) -> bool:
    split = _HOST.fullmatch(host)
    return bool(split and _LOCAL_HOST.fullmatch(split[1]))


def _adding(send: Any) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = [(name.lower(), value) for name, value in message.get("headers", [])]
            names = {name for name, _ in present}
            added = [pair for pair in HEADERS.items() if pair[0] not in names]
            message = {**message, "headers": present + added}
        await send(message)

    return sending


async def _refuse(scope: Mapping[str, Any], receive: Any, send: Any, problem: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": problem})
        return
    body = msgspec.json.encode(ErrorBody(ErrorDetail("PERMISSION_DENIED", problem)))
    await answer(_adding(send), 403, body, b"application/json")


async def answer(send: Any, status: int, body: bytes, media_type: bytes) -> None:
    """Send a whole HTTP answer."""
    headers = [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
