"""Spellings, limits and errors of what users may set.

Every settings struct derives from :class:`Section`: unknown keys are errors, every field is
documented through ``Annotated[type, msgspec.Meta(description=..., ge=..., le=...)]``, which is
where the JSON Schema, the annotated example, the docs and the ``EBPFSENTINEL_...`` variables come
from.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import enum
import ipaddress
import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class SettingsError(ValueError):
    """Something a user wrote cannot be taken.

    ``place`` is the path of the key (``firewall.rules[3].src_ip``), ``remedy`` says what to write
    instead. ``str()`` gives all three in one line.
    """

    def __init__(self, place: str, problem: str, remedy: str = "") -> None:
        self.place, self.problem, self.remedy = place, problem, remedy
        super().__init__(f"{place}: {problem}" + (f". {remedy}" if remedy else ""))


class Section(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A block of settings; unknown keys are errors."""


class Spelling(enum.StrEnum):
    """A word with accepted aliases, compared without case.

    Subclasses list aliases by overriding :meth:`aliases`; ``Word("PASS")`` finds the member, or
    raises ``ValueError``.
    """

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """Alias to value."""
        return {}

    @classmethod
    def _missing_(cls, value: object) -> Spelling | None:
        word = str(value).lower()
        word = cls.aliases().get(word, word)
        return next((member for member in cls if member.value == word), None)


class Mode(Spelling):
    """``alert``: compute verdicts and report them, drop nothing. ``block``: enforce."""

    ALERT = "alert"
    BLOCK = "block"

    @classmethod
    def aliases(cls) -> dict[str, str]:
        """``monitor`` and ``observe`` alert, ``enforce`` blocks."""
        return {"monitor": "alert", "observe": "alert", "enforce": "block"}


def nearest(word: str, known: Iterable[str], introduction: str) -> str:
    """The remedy for a word that is not known: the one most like it, or all there are."""
    words = list(known)
    near = difflib.get_close_matches(word, words, 1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"{introduction}: {', '.join(words) or 'none'}."


RULE_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")


def check_rule_id(place: str, rule_id: str) -> None:
    """Letters, digits, ``-`` and ``_``, 1 to 256 of them; else :class:`SettingsError`."""
    if not RULE_ID.fullmatch(rule_id):
        raise SettingsError(
            place, f"{rule_id!r} is not a rule id", "Use letters, digits, '-' and '_', 1 to 256."
        )


def parse_network(place: str, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A CIDR or a bare address (a host); host bits set are an error that names the network."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        remedy = "Write an address or a CIDR such as 10.0.0.0/8 or 2001:db8::/32."
        with contextlib.suppress(ValueError):
            remedy = f"Did you mean {ipaddress.ip_network(text, strict=False)}?"
        raise SettingsError(place, str(error), remedy) from None


_OCTETS = {str(number): number for number in range(256)}
_FREE_BITS = {str(length): (1 << 32 - length) - 1 for length in range(33)}


def parse_span(place: str, text: str) -> tuple[int, tuple[int, int]]:
    """As :func:`parse_network`: the version, and the first and last address as integers.

    What IPv4 looks like is read here, ten times as fast; all else, and every fault, by ipaddress.
    """
    address, slash, length = text.partition("/")
    try:
        first, second, third, last = address.split(".")
        low = _OCTETS[first] << 24 | _OCTETS[second] << 16 | _OCTETS[third] << 8 | _OCTETS[last]
        free = _FREE_BITS[length] if slash else 0
    except (ValueError, KeyError):
        low = free = 1
    if not low & free:
        return 4, (low, low | free)
    network = parse_network(place, text)
    return network.version, (int(network.network_address), int(network.broadcast_address))


def parse_ports(place: str, value: int | str | dict[str, int]) -> tuple[int, int]:
    """``80``, ``"80"``, ``"80-443"`` or ``{start: 80, end: 443}`` to an inclusive range."""
    remedy = "Write a port 0-65535, a range such as '80-443', or {start: 80, end: 443}."
    try:
        if isinstance(value, dict):
            low, high = int(value["start"]), int(value["end"])
        else:
            first, _, last = str(value).partition("-")
            low, high = int(first), int(last or first)
    except (ValueError, KeyError):
        raise SettingsError(place, f"{value!r} is not a port or port range", remedy) from None
    if not 0 <= low <= high <= 0xFFFF:
        raise SettingsError(place, f"{value!r} is not a range within 0-65535", remedy)
    return low, high


_DURATION = re.compile(r"(\d{1,9})\s*([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_duration(place: str, value: int | str) -> int:
    """``90``, ``"90s"``, ``"10m"``, ``"2h"``, ``"7d"`` or ``"1w"`` to seconds, at least one."""
    found = _DURATION.fullmatch(str(value).strip().lower())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not seconds:
        raise SettingsError(
            place,
            f"{value!r} is not a duration",
            "Write seconds, or a number with s, m, h, d or w.",
        )
    return seconds


def parse_moment(place: str, text: str) -> int:
    """An RFC 3339 time with its offset to wall time, nanoseconds since the Unix epoch."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise SettingsError(
            place, f"{text!r} is not a time", "Write one such as 2030-01-31T12:00:00Z."
        )
    return round(found.timestamp()) * 1_000_000_000


def moment_text(wall_ns: int) -> str:
    """Wall time as RFC 3339, in UTC, to the second."""
    found = dt.datetime.fromtimestamp(wall_ns // 1_000_000_000, dt.UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%SZ")
