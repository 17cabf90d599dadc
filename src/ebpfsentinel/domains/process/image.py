"""What a process runs: the raw texts and numbers of one exec, decoded only when asked for.

Tens of thousands of execs a second pass through here and nearly none is ever looked at, so an image
keeps what the kernel sent (bytes) and is decoded when a rule matched it or a view shows it. Equal
texts are decoded once for all processes (:class:`Texts`).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ebpfsentinel.domains.process.container import container_id
from ebpfsentinel.domains.process.events import PROCESS_EXEC, ProcessFlag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

TEXTS = ("path", "cwd", "cgroup", "argv")
"""The fields of an exec record that are text of varying width."""

HEAD = np.dtype(
    [(name, PROCESS_EXEC[name]) for name in PROCESS_EXEC.names or () if name not in TEXTS]
)
"""The fields before the texts: the same in both exec records and in that of the iterator."""

NONE_ID = 0xFFFFFFFF
"""How the kernel writes that there is no such id."""

_DELETED = " (deleted)"
_CACHE_BYTES, _ENTRY_BYTES = 1 << 21, 400
"""Of the texts of one cache, and what an entry takes beside its own."""


class Image(NamedTuple):
    """One exec: ``head`` holds the bytes of :data:`HEAD`, the rest are texts without their padding.

    ``comm`` is the name at that time.
    """

    head: bytes
    comm: bytes
    path: bytes
    cwd: bytes
    cgroup: bytes
    argv: bytes

    def numbers(self) -> np.void:
        """The head as one structured scalar of dtype :data:`HEAD`."""
        row: np.void = np.frombuffer(self.head, HEAD)[0]
        return row


NO_IMAGE = Image(bytes(HEAD.itemsize), b"", b"", b"", b"", b"")
"""Of a process that nothing is known of."""


def images(rows: NDArray[Any]) -> list[Image]:
    """The image of every exec or iterator record, shape ``(n,)``."""
    heads = _heads(rows).tolist()
    names = rows.dtype.names or ()
    texts = [rows[name].tolist() if name in names else [b""] * len(rows) for name in TEXTS]
    return list(map(Image._make, zip(heads, rows["comm"].tolist(), *texts, strict=True)))


def _heads(rows: NDArray[Any]) -> NDArray[Any]:
    """The first bytes of every record as raw values, without a copy."""
    raw = np.dtype(
        {
            "names": ["head"],
            "formats": [f"V{HEAD.itemsize}"],
            "offsets": [0],
            "itemsize": rows.dtype.itemsize,
        }
    )
    return np.ascontiguousarray(rows).view(raw)["head"]


def heads(found: Iterable[Image]) -> NDArray[Any]:
    """The heads of many images as one array of dtype :data:`HEAD`."""
    return np.frombuffer(b"".join([image.head for image in found]), HEAD)


def text(raw: bytes) -> str:
    """Bytes of the kernel as text; what is not UTF-8 shows as an escape of a backslash and hex."""
    return raw.decode(errors="backslashreplace")


def arguments(raw: bytes) -> tuple[str, ...]:
    """The arguments of a raw argv; empty ones in the middle count."""
    return tuple(text(raw.removesuffix(b"\0")).split("\0")) if raw else ()


def joined(raw: bytes) -> str:
    """The arguments joined by blanks."""
    return text(raw.removesuffix(b"\0").replace(b"\0", b" "))


def base_name(path: str) -> str:
    """The last part of an executable's path, without the mark of a deleted one."""
    return path.removesuffix(_DELETED).rpartition("/")[2]


def name_of(image: Image) -> str:
    """The last part of the path, or of a process without an executable its comm."""
    return base_name(text(image.path)) or text(image.comm)


def script_of(image: Image) -> str:
    """The script that was executed, absolute; empty when the kernel was not given one.

    The kernel puts the interpreter and at most one argument of it before the script's path.
    """
    if not image.numbers()["flags"] & ProcessFlag.PROCESS_SCRIPT:
        return ""
    given = arguments(image.argv)[1:3]
    if not given:
        return ""
    helped = given[0].startswith("-") or base_name(text(image.path)) == "env"
    script = given[-1] if helped else given[0]
    return posixpath.normpath(posixpath.join(text(image.cwd) or "/", script))


class Texts:
    """A bounded cache of one way to decode: by bytes, since whoever executes chooses the texts."""

    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self._decode = decode
        self._cache: dict[bytes, Any] = {}
        self._bytes = 0

    def __call__(self, raw: bytes) -> Any:
        """The decoded value of ``raw``."""
        value = self._cache.get(raw)
        if value is None:
            self._bytes += len(raw) + _ENTRY_BYTES
            if self._bytes > _CACHE_BYTES:
                self._cache.clear()
                self._bytes = len(raw) + _ENTRY_BYTES
            value = self._cache[raw] = self._decode(raw)
        return value


def container_of(cgroup: bytes) -> str:
    """The container id of a raw cgroup path."""
    return container_id(text(cgroup))


def signed(number: int) -> int:
    """An id as users know it: -1 for none."""
    return -1 if number == NONE_ID else number
