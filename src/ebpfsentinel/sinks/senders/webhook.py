"""Webhooks: a POST of one alert, or of a JSON array of them where a batch is more than one.

With ``webhook_secret`` each request is signed: ``X-eBPFsentinel-Signature`` is ``sha256=`` and the
HMAC-SHA256, in hex, of the time in ``X-eBPFsentinel-Timestamp``, a dot, and the body. The receiver
works it out anew, and refuses old times. ``X-eBPFsentinel-Sequence`` has the number of the first
alert of the request: one that was seen already came twice, a gap is a loss.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING

from ebpfsentinel.model.destinations import CHAT, Format
from ebpfsentinel.sinks.formats import chat, write
from ebpfsentinel.sinks.posting import Post

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin


def make(route: Route, alerting: Alerting, origin: Origin) -> Webhook:
    """The sender of a route."""
    return Webhook(route, origin, allow_private=alerting.allow_private)


class Webhook:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, origin: Origin, *, allow_private: bool) -> None:
        self._route, self._origin = route, origin
        url = route.webhook_url or ""
        self._post = Post(url, route.ca_path, guarded=True, allow_private=allow_private)
        self.place = self._post.place
        self._agent = f"ebpfsentinel/{origin.version}"

    async def send(self, batch: Sequence[Item]) -> None:
        """One request."""
        body = self._body(batch)
        text = self._route.written is Format.CEF
        kind = "text/plain; charset=utf-8" if text else "application/json"
        await self._post(body, kind, self._headers(batch, body))

    def _body(self, batch: Sequence[Item]) -> bytes:
        form, origin = self._route.written, self._origin
        if form in CHAT:
            return chat.write(batch[0].alert, form, origin, self._route.routing_key)
        found = [write(item, form, origin) for item in batch]
        if form is Format.CEF:
            return b"\n".join(found)
        return found[0] if self._route.most == 1 else b"[" + b",".join(found) + b"]"

    def _headers(self, batch: Sequence[Item], body: bytes) -> dict[str, str]:
        headers = {
            **self._route.webhook_headers,
            "user-agent": self._agent,
            "x-ebpfsentinel-sequence": str(batch[0].sequence),
        }
        if self._route.webhook_secret:
            now = str(int(time.time()))
            signed = now.encode() + b"." + body
            found = hmac.new(self._route.webhook_secret.encode(), signed, hashlib.sha256)
            headers["x-ebpfsentinel-timestamp"] = now
            headers["x-ebpfsentinel-signature"] = f"sha256={found.hexdigest()}"
        return headers

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()
