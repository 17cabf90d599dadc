r"""Many tests of many strings.

The problem: 200 rules ask some 300 questions of a batch whose columns hold up to 8,192 distinct
strings each. One Python call per question and string costs 45 ns even for ``in``, and 2,700 ns for
an RE2 search. Chosen: per column, one dictionary answers every question of equality, and one
Hyperscan database every ``contains``, ``startsWith``, ``endsWith`` and most ``matches``: 0.7 us a
string for all of them together, whatever their number.

CEL's ``matches`` is RE2, and Hyperscan's dialect differs from it at the edges (``\s``, ``$`` before
a final newline, ``.`` in UTF-8, case folding beyond ASCII). So Hyperscan judges only where the two
agree: expressions of the plain subset below, on printable ASCII. RE2 itself, linear in the text and
held to 8 MiB, judges the rest. Rejected: Hyperscan as a prefilter of everything (what it denies
would have to be proved), RE2's sets (the Python binding does not tell "no match" from "out of
memory").
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any

import hyperscan
import numpy as np
import re2

from ebpfsentinel.rules.form import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.rules.form import Text

MAX_REGEX = 1024
"""Characters of a regular expression."""

_MAX_HYPERSCAN_LITERAL = 1024
_MAX_HYPERSCAN_REGEX = 256
_PLAIN_ATOM = r"\\[dDwWsSb.^$*+?()\[\]{}|/\\-]|[A-Za-z0-9 _/.,:;@%&=<>~'\"!#|()*+?^$-]"
_PLAIN_CLASS = r"\[\^?(?:\\[dws.\]\\/-]|[A-Za-z0-9 _/.,:;@%&=<>~'\"!#-])+\]"
_PLAIN = re.compile(
    rf"(?:\(\?i\))?(?:(?!\(\?){_PLAIN_ATOM}|\(\?:|{_PLAIN_CLASS}|\{{\d\d?(?:,\d\d?)?\}})*"
)
_ORDERS: dict[Look, Callable[[str, str], bool]] = {
    Look.LT: operator.lt,
    Look.LE: operator.le,
    Look.GT: operator.gt,
    Look.GE: operator.ge,
    Look.CONTAINS: operator.contains,
    Look.PREFIX: str.startswith,
    Look.SUFFIX: str.endswith,
}


def compile_regex(source: str) -> Any:
    """Compile an RE2 expression.

    Raises:
        ValueError: it is too long or not valid; the text says why.
    """
    if len(source) > MAX_REGEX:
        raise ValueError(f"the regular expression is longer than {MAX_REGEX} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(source, options)
    except re2.error as error:
        reason = error.args[0] if error.args else error
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"the regular expression is not valid: {text}") from None


def _escaped(literal: str) -> bytes:
    return b"".join(
        bytes([byte]) if chr(byte).isalnum() and byte < 128 else b"\\x%02x" % byte
        for byte in literal.encode()
    )


class Panel:
    """All tests of one source of strings, compiled.

    Raises:
        ValueError: a regular expression is too long or not valid.
    """

    def __init__(self, tests: Sequence[Text]) -> None:
        self._count = len(tests)
        self._equal: dict[str, list[int]] = {}
        self._alone: list[tuple[int, Callable[[str], bool]]] = []
        self._regexes: list[tuple[int, Any]] = []
        patterns: list[tuple[int, bytes]] = []
        for row, test in enumerate(tests):
            self._add(row, test, patterns)
        self._database = _database(patterns) if patterns else None

    def _add(self, row: int, test: Text, patterns: list[tuple[int, bytes]]) -> None:
        if test.look is Look.IS:
            for literal in test.literals:
                self._equal.setdefault(literal, []).append(row)
            return
        literal = test.literals[0]
        if test.look is Look.MATCHES:
            self._add_regex(row, literal, patterns)
        elif pattern := _literal_pattern(test.look, literal):
            patterns.append((row, pattern))
        else:
            order = _ORDERS[test.look]
            self._alone.append((row, lambda value: order(value, literal)))

    def _add_regex(self, row: int, source: str, patterns: list[tuple[int, bytes]]) -> None:
        compiled = compile_regex(source)
        plain = len(source) <= _MAX_HYPERSCAN_REGEX and _PLAIN.fullmatch(source)
        if plain and _hyperscan_takes(source.encode()):
            patterns.append((row, source.encode()))
            self._regexes.append((row, compiled))
        else:
            self._alone.append((row, lambda value: compiled.search(value) is not None))

    def judge(self, values: Sequence[str]) -> NDArray[np.bool_]:
        """Which tests hold for which strings: bool, ``(tests, values)``."""
        found = np.zeros((self._count, len(values)), np.bool_)
        if self._equal:
            for at, value in enumerate(values):
                if (rows := self._equal.get(value)) is not None:
                    found[rows, at] = True
        if self._database is not None:
            self._scan(self._database.scan, values, found)
        for row, holds in self._alone:
            found[row] = np.fromiter(map(holds, map(clean, values)), np.bool_, len(values))
        return found

    def _scan(self, scan: Any, values: Sequence[str], found: NDArray[np.bool_]) -> None:
        hits: list[int] = []
        ends = np.empty(len(values), np.intp)

        def hit(row: int, _start: int, _end: int, _flags: int, _context: object) -> None:
            hits.append(row)

        for at, value in enumerate(values):
            scan(value.encode("utf-8", "replace"), hit)
            ends[at] = len(hits)
        found[hits, np.repeat(np.arange(len(values)), np.diff(ends, prepend=0))] = True
        if self._regexes:
            self._correct(values, found)

    def _correct(self, values: Sequence[str], found: NDArray[np.bool_]) -> None:
        """Let RE2 judge the strings on which Hyperscan's dialect may differ."""
        for at, value in enumerate(values):
            if not (value.isascii() and value.isprintable()):
                text = clean(value)
                for row, regex in self._regexes:
                    found[row, at] = regex.search(text) is not None


def clean(value: str) -> str:
    """``value`` with ``?`` for what UTF-8 cannot say."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _literal_pattern(look: Look, literal: str) -> bytes:
    """The Hyperscan expression of a literal test, or nothing."""
    if look not in {Look.CONTAINS, Look.PREFIX, Look.SUFFIX} or not literal:
        return b""
    if len(literal) > _MAX_HYPERSCAN_LITERAL:
        return b""
    start = b"^" if look is Look.PREFIX else b""
    return start + _escaped(literal) + (b"\\z" if look is Look.SUFFIX else b"")


def _database(patterns: Sequence[tuple[int, bytes]]) -> Any:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern for _, pattern in patterns],
        ids=[row for row, _ in patterns],
        flags=hyperscan.HS_FLAG_SINGLEMATCH,
    )
    return database


def _hyperscan_takes(pattern: bytes) -> bool:
    try:
        _database([(0, pattern)])
    except hyperscan.error:
        return False
    return True
