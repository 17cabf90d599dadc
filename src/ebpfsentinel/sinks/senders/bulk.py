"""The bulk interface of Elasticsearch and OpenSearch.

An alert's id is its document's, and documents are only ever created: what is sent a second time
meets itself (409), which is as good as arrived. So at-least-once becomes exactly-once over there.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.model.destinations import Elasticsearch
from ebpfsentinel.sinks.formats import write
from ebpfsentinel.sinks.posting import Post
from ebpfsentinel.sinks.sender import Rejected, SendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_MOST_ID = 512
_THERE_ALREADY = 409
_CONTENT_REFUSED = (400, 413)


def make(route: Route, _alerting: Alerting, origin: Origin) -> Bulk:
    """The sender of a route."""
    return Bulk(route, route.elasticsearch or Elasticsearch(url=""), origin)


class Bulk:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, settings: Elasticsearch, origin: Origin) -> None:
        self._route, self._settings, self._origin = route, settings, origin
        self._post = Post(settings.url.rstrip("/"), route.ca_path)
        self.place = f"{self._post.place}/{settings.index}"
        self._headers = _credentials(settings)

    async def send(self, batch: Sequence[Item]) -> None:
        """One request; the answer says of each document what became of it."""
        lines = []
        for item in batch:
            about = {"_index": self._settings.index, "_id": _identity(item.alert.id)}
            lines += [msgspec.json.encode({"create": about}), self._document(item)]
        body = b"\n".join(lines) + b"\n"
        answer = await self._post(body, "application/x-ndjson", self._headers, "/_bulk")
        self._judge(answer, len(batch))

    def _document(self, item: Item) -> bytes:
        return write(item, self._route.written, self._origin)

    def _judge(self, content: bytes, count: int) -> None:
        try:
            found = msgspec.json.decode(content)
            items = [next(iter(each.values())) for each in found["items"]]
        except (ValueError, KeyError, AttributeError, StopIteration, TypeError):
            raise SendError(f"{self.place}: this is no answer to a bulk request") from None
        if len(items) != count:
            raise SendError(f"{self.place}: answered for {len(items)} of {count} documents")
        bad = {index: each for index, each in enumerate(items) if not _fine(each)}
        again = [each for each in bad.values() if each.get("status") not in _CONTENT_REFUSED]
        if again:
            raise SendError(f"{self.place}: {len(again)} documents failed, {_why(again[0])}")
        if bad:
            raise Rejected(f"{self.place}: {_why(next(iter(bad.values())))}", list(bad))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()


def _fine(item: dict[str, Any]) -> bool:
    status = int(item.get("status", 0))
    return 200 <= status < 300 or status == _THERE_ALREADY


def _why(item: dict[str, Any]) -> str:
    error = item.get("error")
    kind = error.get("type") if isinstance(error, dict) else error
    return f"{item.get('status')} {kind or 'no reason given'}"


def _identity(alert_id: str) -> str:
    """The id, or its hash where it is longer than the 512 bytes that an id may have."""
    plain = alert_id.encode()
    return alert_id if len(plain) <= _MOST_ID else hashlib.sha256(plain).hexdigest()


def _credentials(settings: Elasticsearch) -> dict[str, str]:
    if settings.api_key:
        return {"authorization": f"ApiKey {settings.api_key}"}
    if settings.username:
        pair = f"{settings.username}:{settings.password}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {}
