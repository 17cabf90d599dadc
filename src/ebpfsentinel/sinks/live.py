"""Alerts as they happen, to any number of listeners, none of which can hold up the others.

A listener that is too far behind misses alerts. It is told how many, at the place in its stream
where they would have stood.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ebpfsentinel.model.missed import Missed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebpfsentinel.model.alert import Alert

    Takes = Callable[[Alert], bool]

_QUEUE = 1000
"""How far a listener may lag behind, beyond what was replayed to it."""


class Listener:
    """One subscription: an async iterator that ends when the feed closes."""

    def __init__(self, feed: LiveFeed, replay: Sequence[Alert], takes: Takes | None) -> None:
        self._feed, self._takes = feed, takes
        self._queue: deque[Alert | Missed] = deque(a for a in replay if not takes or takes(a))
        self._most = len(self._queue) + _QUEUE
        self._gap, self._closed = 0, False
        self._woken = asyncio.Event()
        self.missed = 0

    def put(self, alert: Alert) -> None:
        """Hand over an alert, where it is asked for; a listener too far behind misses it."""
        if self._takes is not None and not self._takes(alert):
            return
        if len(self._queue) >= self._most:
            self._gap += 1
            self.missed += 1
            self._feed.missed += 1
            return
        if self._gap:
            self._queue.append(self._take_gap())
        self._queue.append(alert)
        self._woken.set()

    def close(self) -> None:
        """No more alerts will come; those that wait are still told."""
        self._closed = True
        self._woken.set()

    def _take_gap(self) -> Missed:
        gap, self._gap = Missed(self._gap), 0
        return gap

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Alert | Missed:
        while not self._queue:
            if self._gap:
                return self._take_gap()
            if self._closed:
                raise StopAsyncIteration
            self._woken.clear()
            await self._woken.wait()
        return self._queue.popleft()

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

    def subscribe(self, last_event_id: str | None = None, takes: Takes | None = None) -> Listener:
        """Alerts from now on; those after ``last_event_id``, where that is known, first.

        ``takes`` says which of them: those it does not take are not missed either.
        """
        replay = self._after(last_event_id) if last_event_id else ()
        listener = Listener(self, replay, takes)
        if self._closed:
            listener.close()
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
            listener.close()
        self._listeners.clear()
