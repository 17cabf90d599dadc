"""One destination: its own queue, its own tries, its own circuit breaker, its own task.

A destination that is slow, down or gone holds up nothing but its own queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

from ebpfsentinel.sinks.breaker import Breaker, Pace
from ebpfsentinel.sinks.sender import Rejected, SendError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebpfsentinel.sinks.backlog import Backlog, Item
    from ebpfsentinel.sinks.sender import Sender

logger = logging.getLogger(__name__)

_SHOWN = 300


class Destination:
    """Carries what is in ``backlog`` to ``sender``, at least once and in order.

    ``most`` is how many go in one batch. ``hide`` takes secrets out of a text.
    """

    def __init__(  # noqa: PLR0913 -- what it is made of
        self,
        name: str,
        backlog: Backlog,
        sender: Sender,
        *,
        most: int = 1,
        timeout_s: float = 10.0,
        pace: Pace | None = None,
        hide: Callable[[str], str] = str,
    ) -> None:
        self.name, self.backlog, self.sender = name, backlog, sender
        self._most, self._timeout_s, self._hide = most, timeout_s, hide
        self.breaker = Breaker(pace or Pace())
        self.exported = 0
        self.dropped: Counter[str] = Counter()
        self.last_error = ""
        self.last_success_ns = 0
        self.failing_since_s = 0.0
        self._singly = 0
        self._wake, self._moved = asyncio.Event(), asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def put(self, bodies: Sequence[bytes]) -> int:
        """Queue alerts (as JSON); how many fit, the first so many. Never waits."""
        taken = self.backlog.put(bodies)
        self._wake.set()
        return taken

    def start(self) -> None:
        """Begin to send; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"destination {self.name}")

    def cancel(self) -> None:
        """Send no more, from this moment on; :meth:`stop` waits until that is so."""
        if self._task is not None:
            self._task.cancel()

    async def stop(self) -> None:
        """Send no more; what waits stays in the backlog."""
        self.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        with contextlib.suppress(OSError, SendError):
            await self.sender.aclose()

    async def drain(self) -> None:
        """Returns once nothing waits, or the destination fails."""
        while self.backlog.depth and not self.breaker.failures and self._task:
            self._moved.clear()
            await self._moved.wait()

    async def test(self, item: Item) -> str:
        """One try at once, past the queue; what went wrong, empty when it arrived."""
        try:
            await self._send([item])
        except Exception as error:  # noqa: BLE001 -- told to who asked
            return self._text(error)
        return ""

    async def _run(self) -> None:
        """For ever; a fault of our own is said, and does not end it."""
        while True:
            try:
                await self._send_all()
            except Exception:
                logger.exception("destination %s stumbled", self.name)
                await asyncio.sleep(1)

    async def _send_all(self) -> None:
        while True:
            self._wake.clear()
            batch = self.backlog.next(1 if self._singly else self._most)
            if not batch:
                await self._wake.wait()
                continue
            self._singly = max(self._singly - 1, 0)
            await self._deliver(batch)
            self._moved.set()

    async def _deliver(self, batch: list[Item]) -> None:
        """Returns once the batch is done with: it has arrived, or never will."""
        while True:
            try:
                await self._send(batch)
            except Rejected as error:
                self._rejected(batch, error)
                return
            except Exception as error:  # noqa: BLE001 -- whatever a sender raises, we try again
                await asyncio.sleep(self._failed(error))
            else:
                self._arrived(batch, len(batch))
                return

    async def _send(self, batch: Sequence[Item]) -> None:
        async with self._one_at_a_time, asyncio.timeout(self._timeout_s):
            await self.sender.send(batch)

    def _arrived(self, batch: Sequence[Item], count: int) -> None:
        if self.breaker.failures:
            logger.info("destination %s works again", self.name)
        self.breaker.succeeded()
        self.failing_since_s = 0.0
        self.backlog.done(batch)
        self.exported += count
        self.last_success_ns = time.time_ns()

    def _rejected(self, batch: list[Item], error: Rejected) -> None:
        """Drop what will never be taken; where nobody said which that is, try one by one."""
        if error.items is None and len(batch) > 1:
            self._singly = len(batch)
            return
        refused = len(batch) if error.items is None else len(error.items)
        if not self.dropped["rejected"]:
            logger.error("destination %s rejects alerts: %s", self.name, self._text(error))
        self.dropped["rejected"] += refused
        self._arrived(batch, len(batch) - refused)
        self.last_error = self._text(error)

    def _failed(self, error: Exception) -> float:
        self.last_error = self._text(error)
        self._moved.set()
        now_s = time.monotonic()
        if not self.breaker.failures:
            self.failing_since_s = now_s
            logger.warning("destination %s fails, alerts wait: %s", self.name, self.last_error)
        return self.breaker.failed(now_s, random.uniform(0, 1))  # noqa: S311 -- not for secrets

    def _text(self, error: BaseException) -> str:
        """What went wrong, without secrets and control characters."""
        if isinstance(error, TimeoutError):
            return f"no answer within {self._timeout_s:g} s"
        ours = isinstance(error, SendError | Rejected | OSError) and str(error)
        text = self._hide(str(error) if ours else type(error).__name__)
        return "".join(each if each.isprintable() else "?" for each in text)[:_SHOWN]
