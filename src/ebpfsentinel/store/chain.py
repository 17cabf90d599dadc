"""The hash chain of the audit trail: what it is made of, and whether it is whole.

Every entry is kept as the bytes of its JSON with a hash:

    hash = SHA-256(hash of the entry before, 32 bytes ‖ seq, 8 bytes big-endian ‖ JSON)

so that a changed, removed, inserted or moved entry breaks the chain from there on. Entries that are
too old go from the front only; the *anchor* is the seq and the hash of the last that went, and the
chain begins there. The *head* is the last entry.

What it cannot do: whoever may write the file may make a whole chain anew, and root may. So note the
head elsewhere (``audit verify`` prints it, the log has it): no new chain leads to it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Row = tuple[int, bytes, bytes]

NOTHING = bytes(32)
"""The hash before the first entry."""


class Link(msgspec.Struct, frozen=True):
    """An entry's place in the chain; ``hash`` is hexadecimal."""

    seq: int
    hash: str


class Broken(msgspec.Struct, frozen=True):
    """The first entry that does not fit, and why."""

    seq: int
    problem: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: ``entries`` fit, from behind ``anchor`` to ``head``."""

    intact: bool
    entries: int
    anchor: Link
    head: Link
    broken: Broken | None = None


def link(before: bytes, seq: int, body: bytes) -> bytes:
    """The hash of an entry."""
    return hashlib.sha256(before + seq.to_bytes(8, "big") + body).digest()


class Walk:
    """Follows a chain, page by page, from its anchor."""

    def __init__(self, seq: int, anchor: bytes) -> None:
        self.anchor = Link(seq, anchor.hex())
        self.seq, self.hash = seq, anchor
        self.entries = 0
        self.broken: Broken | None = None

    def take(self, rows: Iterable[Row]) -> bool:
        """The next entries: seq, body and hash; False at the first that does not fit."""
        for seq, body, found in rows:
            if link(self.hash, seq, body) != found:
                problem = (
                    f"entry {seq} does not follow from entry {self.seq}: it was changed, or what "
                    "stood between them was removed"
                )
                self.broken = Broken(seq, problem)
                return False
            self.seq, self.hash, self.entries = seq, found, self.entries + 1
        return True

    def end(self, seq: int, head: bytes) -> Verification:
        """What was found, where the chain should lead to this head."""
        if self.broken is None and (seq, head) != (self.seq, self.hash):
            problem = f"the trail ended with entry {seq}, and ends with entry {self.seq} now"
            self.broken = Broken(self.seq + 1, problem)
        return Verification(
            intact=self.broken is None,
            entries=self.entries,
            anchor=self.anchor,
            head=Link(self.seq, self.hash.hex()),
            broken=self.broken,
        )


def line(seq: int, body: bytes, found: bytes) -> bytes:
    """An entry as a line of an export: its place, its hash, and its JSON, letter by letter."""
    row = {"seq": seq, "hash": found.hex(), "entry": body.decode()}
    return msgspec.json.encode(row) + b"\n"


def first_line(seq: int, anchor: bytes) -> bytes:
    """What an export begins with."""
    return msgspec.json.encode({"anchor": {"seq": seq, "hash": anchor.hex()}}) + b"\n"


def verify_export(lines: Iterable[str]) -> Verification:
    """Whether an export is whole; its last entry is taken for the head.

    Raises:
        ValueError: it is no export.
    """
    rows = iter(lines)
    try:
        anchor = json.loads(next(rows))["anchor"]
        walk = Walk(int(anchor["seq"]), bytes.fromhex(anchor["hash"]))
        walk.take(_rows(rows))
    except (StopIteration, KeyError, TypeError, ValueError) as error:
        raise ValueError("this is no export of an audit trail") from error
    return walk.end(walk.seq, walk.hash)


def _rows(lines: Iterator[str]) -> Iterator[Row]:
    for text in lines:
        row: dict[str, Any] = json.loads(text)
        yield int(row["seq"]), row["entry"].encode(), bytes.fromhex(row["hash"])
