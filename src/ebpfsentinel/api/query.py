"""What lists are narrowed by: query parameters, refused where they are not known or not sound."""

import datetime as dt
from collections.abc import Iterable
from typing import Annotated

from litestar.params import QueryParameter

from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.config import nearest
from ebpfsentinel.model.alert import Severity

MOST = 1000
_INT64 = 2**63 - 1
_ALIASES = {"info": "low", "warning": "medium", "crit": "critical"}

Limit = Annotated[int, QueryParameter(ge=0, le=_INT64, description=f"Page size, at most {MOST}")]
Offset = Annotated[int, QueryParameter(ge=0, le=_INT64, description="Skip that many")]
Flag = Annotated[bool | None, QueryParameter()]
Word = Annotated[str | None, QueryParameter(max_length=256)]
From = Annotated[
    str | None,
    QueryParameter(
        name="from", max_length=64, description="Wall nanoseconds or RFC 3339, included"
    ),
]
To = Annotated[
    str | None,
    QueryParameter(name="to", max_length=64, description="Wall nanoseconds or RFC 3339, included"),
]


def known_only(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse a parameter that would silently do nothing."""
    names = frozenset(known)
    for name in given:
        if name not in names:
            problem = f"{name[:100]}: unknown query parameter. {nearest(name[:100], names)}"
            raise Refusal(400, "VALIDATION_ERROR", problem, name[:100])


def severity(text: str | None) -> Severity | None:
    """``low``... ``critical`` or an alias, any case; None stays None."""
    if text is None:
        return None
    word = text.lower()
    try:
        return Severity(_ALIASES.get(word, word))
    except ValueError:
        choices = ", ".join(Severity)
        problem = f"{text[:100]!r} is not a severity. Write one of: {choices}."
        raise Refusal(400, "INVALID_SEVERITY", problem) from None


def instant(name: str, text: str | None) -> int | None:
    """Nanoseconds since the epoch, from digits or an RFC 3339 time; None stays None."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and int(text) <= _INT64:
        return int(text)
    try:
        when = dt.datetime.fromisoformat(text)
        seconds = int(when.replace(tzinfo=when.tzinfo or dt.UTC).timestamp())
        return max(-_INT64, min(_INT64, seconds * 10**9))
    except (ValueError, OverflowError, OSError):
        remedy = "Write nanoseconds since 1970, or a time such as 2026-01-31T12:00:00Z."
        problem = f"{name}: {text!r} is not a time. {remedy}"
        raise Refusal(400, "VALIDATION_ERROR", problem, name) from None
