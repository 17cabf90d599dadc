"""Alerts as they happen, to any number of listeners, none of which can hold up the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebpfsentinel.model.alert import Alert

_QUEUE = 1000
"""How far a listener may lag behind, beyond what was replayed to it."""


class Listener:
    """One subscription: an async iterator that ends when the feed closes."""

    def __init__(self, feed: LiveFeed, replay: Sequence[Alert]) -> None:
        self._feed = feed
        self._queue: asyncio.Queue[Alert | None] = asyncio.Queue()
        for alert in replay:
            self._queue.put_nowait(alert)
        self._most = len(replay) + _QUEUE
        self.missed = 0

    def put(self, alert: Alert | None) -> None:
        """Hand over an alert, or None for the end; a listener too far behind misses it."""
        if alert is not None and self._queue.qsize() >= self._most:
            self.missed += 1
            self._feed.missed += 1
            return
        self._queue.put_nowait(alert)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Alert:
        alert = await self._queue.get()
        if alert is None:
            raise StopAsyncIteration
        return alert

    async def aclose(self) -> None:
        """Listen no more."""
        self._feed.leave(self)


class LiveFeed:
    """A sink that fans out.

    ``after`` gives, for whoever comes back, the alerts behind the one with an id (the store keeps
    them, so nothing is held in memory for it). ``missed`` counts alerts that slow listeners lost.
    """

    name = "live"

    def __init__(self, after: Callable[[str], Sequence[Alert]]) -> None:
        self._after = after
        self._listeners: set[Listener] = set()
        self._closed = False
        self.missed = 0

    async def deliver(self, alerts: Sequence[Alert]) -> None:
        """Hand the alerts to every listener."""
        for listener in self._listeners:
            for alert in alerts:
                listener.put(alert)

    def subscribe(self, last_event_id: str | None = None) -> Listener:
        """Alerts from now on; those after ``last_event_id``, where that is known, first."""
        listener = Listener(self, self._after(last_event_id) if last_event_id else ())
        if self._closed:
            listener.put(None)
        else:
            self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for listener in self._listeners:
            listener.put(None)
        self._listeners.clear()
