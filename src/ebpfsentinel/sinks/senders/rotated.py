"""A file of alerts, one a line: ``alerts.json``; older ones ``alerts.json.1.gz``, ``.2.gz``..."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfsentinel.model.destinations import File
from ebpfsentinel.sinks.formats import write
from ebpfsentinel.sinks.spool import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.model.destinations import Format
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin


def make(route: Route, _alerting: Alerting, origin: Origin) -> Rotated:
    """The sender of a route."""
    return Rotated(route.file or File(path=""), route.written, origin)


class Rotated:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, settings: File, form: Format, origin: Origin) -> None:
        self._settings, self._format, self._origin = settings, form, origin
        self._path = Path(settings.path)
        self.place = f"file:{settings.path}"

    async def send(self, batch: Sequence[Item]) -> None:
        """Append the batch, in a thread; rotate before where it would grow too large."""
        lines = [write(item, self._format, self._origin) + b"\n" for item in batch]
        await asyncio.to_thread(self._append, lines)

    def _append(self, lines: list[bytes]) -> None:
        """Whole lines or none; the file is opened anew each time, so others may rotate it too."""
        data = b"".join(lines)
        if self._size() and self._size() + len(data) > self._settings.max_bytes:
            self._rotate()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._path, flags, 0o600)
        try:
            write_whole(file, data, os.fstat(file).st_size)
            os.fsync(file)
        finally:
            os.close(file)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def _rotate(self) -> None:
        """Each older file one number up, the oldest gone; what was the file becomes number 1."""
        for number in range(self._settings.keep, 0, -1):
            for suffix in ("", ".gz"):
                old = self._numbered(number, suffix)
                if number == self._settings.keep:
                    old.unlink(missing_ok=True)
                elif old.exists():
                    old.rename(self._numbered(number + 1, suffix))
        first = self._numbered(1, "")
        self._path.rename(first)
        if self._settings.compress:
            self._compress(first)

    def _compress(self, path: Path) -> None:
        packed, part = self._numbered(1, ".gz"), self._numbered(1, ".part")
        with path.open("rb") as plain, part.open("wb") as file, gzip.open(file, "wb") as target:
            part.chmod(0o600)
            shutil.copyfileobj(plain, target)
        part.rename(packed)
        path.unlink()

    def _numbered(self, number: int, suffix: str) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}{suffix}")

    async def aclose(self) -> None:
        """Nothing is held open."""
