"""Splunk's HTTP event collector: a request of events, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.model.destinations import Format, Splunk
from ebpfsentinel.sinks.formats import write
from ebpfsentinel.sinks.posting import Post

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_PATH = "/services/collector/event"


def make(route: Route, _alerting: Alerting, origin: Origin) -> Collector:
    """The sender of a route."""
    return Collector(route, route.splunk or Splunk(url="", token=""), origin)


class Collector:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, settings: Splunk, origin: Origin) -> None:
        self._route, self._settings, self._origin = route, settings, origin
        url = settings.url.rstrip("/").removesuffix(_PATH)
        self._post = Post(url, route.ca_path)
        self.place = self._post.place
        self._headers = {"authorization": f"Splunk {settings.token}"}

    async def send(self, batch: Sequence[Item]) -> None:
        """One request."""
        body = b"\n".join(self._event(item) for item in batch)
        await self._post(body, "application/json", self._headers, _PATH)

    def _event(self, item: Item) -> bytes:
        body = write(item, self._route.written, self._origin)
        event = body.decode() if self._route.written is Format.CEF else msgspec.Raw(body)
        index = {"index": self._settings.index} if self._settings.index else {}
        alert = item.alert
        return msgspec.json.encode(
            {
                "time": f"{alert.timestamp_ns // 10**9}.{alert.timestamp_ns % 10**9 // 1000:06}",
                "host": self._origin.host,
                "source": "ebpfsentinel",
                "sourcetype": self._settings.sourcetype,
                **index,
                "event": event,
                "fields": {"sequence": item.sequence, "alert_id": alert.id},
            }
        )

    async def aclose(self) -> None:
        """Close the connection."""
        await self._post.aclose()
