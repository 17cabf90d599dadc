"""DNS messages (RFC 1035, RFC 3596) as hostile bytes: bounded, and never a guess.

No library: those there are raise on a message that is cut off, where we want what came before it,
and cost a hundred microseconds an answer.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

A, CNAME, AAAA = 1, 5, 28
_IN = 1
_ADDRESS_BYTES = {A: 4, AAAA: 16}
_HEAD = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_POINTER, _KIND = 0xC0, 0xC0
_NAME, _LABEL, _HOPS, _ANSWERS = 253, 63, 10, 64
_FAILED = 0x000F
_LONGEST_TTL = 0x7FFFFFFF
"""RFC 2181, section 8: what is more counts as 0."""


class Malformed(ValueError):  # noqa: N818 (it says what the message is)
    """The bytes are no DNS message."""


class Answer(NamedTuple):
    """An address that the answer gives; ``ttl_s`` is the shortest on the way to it."""

    address: str
    ttl_s: int


class Message(NamedTuple):
    """An answer: the name that was asked for, and its addresses. ``whole``: all of it was there."""

    name: str
    answers: tuple[Answer, ...]
    whole: bool = True


def read_name(message: bytes, at: int) -> tuple[str, int]:
    """The name at an offset, lower case, without the last dot; and where what follows it begins.

    Bytes that are no letter, digit, hyphen or underscore are written in decimals behind a backslash
    (RFC 4343).

    Raises:
        Malformed: it is longer than names are, points in circles, or is cut off.
    """
    labels: list[str] = []
    behind, length = 0, 0
    for _ in range(_HOPS + _NAME // 2 + 2):
        if at >= len(message):
            raise Malformed("a name is cut off")
        size = message[at]
        if size & _KIND == _POINTER:
            if at + 1 >= len(message):
                raise Malformed("a name is cut off")
            target = (size & ~_POINTER) << 8 | message[at + 1]
            behind = behind or at + 2
            if target >= at:
                raise Malformed("a name points ahead")
            at = target
            continue
        if size > _LABEL:
            raise Malformed("a label is too long")
        if not size:
            return ".".join(labels), behind or at + 1
        label = message[at + 1 : at + 1 + size]
        length += size + 1
        if len(label) < size or length > _NAME + 1:
            raise Malformed("a name is cut off or too long")
        labels.append("".join(map(_letter, label.lower())))
        at += 1 + size
    raise Malformed("a name has too many parts")


def _letter(byte: int) -> str:
    letter = chr(byte)
    return letter if letter.isascii() and (letter.isalnum() or letter in "-_") else f"\\{byte:03d}"


def read(message: bytes) -> Message:
    """An answer to one question; what is behind a fault in it is left out.

    Raises:
        Malformed: it is no answer, or what was asked for cannot be read.
    """
    if len(message) < _HEAD.size:
        raise Malformed("the header is cut off")
    _, flags, questions, count, _, _ = _HEAD.unpack_from(message)
    if questions != 1 or not flags & 0x8000:
        raise Malformed("it is no answer to one question")
    name, at = read_name(message, _HEAD.size)
    if flags & _FAILED:
        return Message(name, ())
    found, whole = _answers(message, at + 4, min(count, _ANSWERS), name)
    return Message(name, found, whole and count <= _ANSWERS)


def _answers(message: bytes, at: int, count: int, name: str) -> tuple[tuple[Answer, ...], bool]:
    """Addresses of the name, by way of its aliases (which come in order, RFC 1034 4.3.2)."""
    found: list[Answer] = []
    known, least = {name}, _LONGEST_TTL
    try:
        for _ in range(count):
            owner, at = read_name(message, at)
            if at + _RECORD.size > len(message):
                return tuple(found), False
            kind, cls, ttl_s, size = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            value = message[at : at + size]
            if len(value) < size:
                return tuple(found), False
            if cls == _IN and owner in known:
                least = min(least, ttl_s if ttl_s <= _LONGEST_TTL else 0)
                if kind == CNAME:
                    known.add(read_name(message, at)[0])
                elif _ADDRESS_BYTES.get(kind) == size:
                    found.append(Answer(str(ipaddress.ip_address(value)), least))
            at += size
    except Malformed:
        return tuple(found), False
    return tuple(found), True
