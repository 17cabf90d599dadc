"""Streams end when what opened them is good no more: a key that was revoked, a token that expired.

A request is judged once, before it is answered; an answer may last for days. So while a route waits
for its client to leave, we look now and then whether the client may stay, and say that it left.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ebpfsentinel.auth import Gatekeeper
    from ebpfsentinel.model.identity import Identity

LOOK_S = 2.0
_GOES = {"http": "http.disconnect", "websocket": "websocket.disconnect"}
GOOD_NO_MORE = "What you came in with is good no more."


class Stay:
    """The two ends of one connection of somebody who may stay while ``gate`` says so."""

    def __init__(
        self, gate: Gatekeeper, identity: Identity, kind: str, ends: tuple[Any, Any]
    ) -> None:
        self._gate, self._identity, self._kind = gate, identity, kind
        self._receive, self._send = ends
        self._open = self._over = False

    async def receive(self) -> Any:
        """What the client sends, or that it has to leave."""
        waiting = asyncio.ensure_future(self._receive())
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=LOOK_S)
                if done:
                    return waiting.result()
                if not self._gate.is_good(self._identity):
                    self._over = True
                    return {"type": _GOES[self._kind], "code": 1008, "reason": GOOD_NO_MORE}
        finally:
            waiting.cancel()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Hand on, and remember whether the answer is complete."""
        if message["type"] in ("http.response.start", "websocket.accept"):
            self._open = True
        elif message["type"] == "websocket.close" or not message.get("more_body", True):
            self._open = False
        await self._send(message)

    async def serve(self, app: Callable[..., Awaitable[None]], scope: Any) -> None:
        """Run ``app``, and finish what it left open because the client had to leave."""
        await app(scope, self.receive, self.send)
        if not (self._open and self._over):
            return
        last: dict[str, Any] = {"type": "websocket.close", "code": 1008, "reason": GOOD_NO_MORE}
        if self._kind == "http":
            last = {"type": "http.response.body", "body": b"", "more_body": False}
        with contextlib.suppress(RuntimeError):  # it has left by itself meanwhile
            await self._send(last)
