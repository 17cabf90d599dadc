"""``nft list ruleset`` as text to the objects that ``nft -j list ruleset`` prints (nft(8)).

Only what ``nft`` itself prints is read, so one spelling of everything is enough. A statement that
is not known here becomes ``{"unknown": text}``, which leaves its rule out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.imports.foreign import ImportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|#[^\n]*|\n|[{};,]|[^\s{};,"]+|"')
_HEADERS = {
    "ip",
    "ip6",
    "tcp",
    "udp",
    "th",
    "icmp",
    "icmpv6",
    "ether",
    "vlan",
    "sctp",
    "dccp",
    "udplite",
    "arp",
    "ah",
    "esp",
    "comp",
}
_BARE = {"iif", "iifname", "oif", "oifname", "mark", "iiftype", "oiftype", "skuid", "skgid"}
_VERDICTS = {"accept", "drop", "return", "continue"}
_ENDS = {*_VERDICTS, "jump", "goto", "reject", "comment"}
_OPERATORS = {"==", "!=", "<", ">", "<=", ">="}
_NUMBER = re.compile(r"\d+")
_RANGE = re.compile(r"([0-9a-f.:]+)-([0-9a-f.:]+)", re.IGNORECASE)
_PREFIX = re.compile(r"([0-9a-f.:]+)/(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and the line that it is on."""

    text: str
    line: int


def _words(text: str) -> list[Word]:
    found, line = [], 1
    for match in _WORD.finditer(text):
        word = match[0]
        if not word.startswith("#"):
            found.append(Word(word, line))
        line += word.count("\n")
    return found


class _Reader:
    """The words of a text, one after another."""

    def __init__(self, text: str) -> None:
        self._words, self._at = _words(text), 0

    def peek(self) -> str:
        """The next word; empty at the end."""
        return self._words[self._at].text if self._at < len(self._words) else ""

    def take(self, wanted: str = "") -> Word:
        """The next word, which must be ``wanted`` where that is said.

        Raises:
            ImportedError: it is another, or there is none.
        """
        if self._at >= len(self._words):
            line = self._words[-1].line if self._words else 1
            raise ImportedError(f"line {line}", "the text ends in the middle", "Give all of it.")
        word = self._words[self._at]
        self._at += 1
        if wanted and word.text != wanted:
            raise ImportedError(
                f"line {word.line}",
                f"{word.text[:40]!r} where {wanted!r} is wanted",
                "Give what 'nft list ruleset' prints.",
            )
        return word

    def skip(self) -> None:
        """Past empty lines and semicolons."""
        while self.peek() in ("\n", ";"):
            self._at += 1

    def statement(self) -> list[Word]:
        """The words up to the end of the line, sets that go over several lines included."""
        found, depth = [], 0
        while depth or self.peek() not in ("\n", ";", "}", ""):
            word = self.take()
            depth += {"{": 1, "}": -1}.get(word.text, 0)
            if word.text != "\n":
                found.append(word)
        return found


def objects_of(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of the JSON, with the lines where they stand.

    Raises:
        ImportedError: it is not what nft prints.
    """
    reader = _Reader(text)
    reader.skip()
    while reader.peek():
        first = reader.take("table")
        family = reader.take().text
        name = reader.take().text
        yield first.line, {"table": {"family": family, "name": name}}
        reader.take("{")
        yield from _table(reader, {"family": family, "table": name})
        reader.skip()


def _table(reader: _Reader, where: dict[str, str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader.skip()
    while reader.peek() != "}":
        kind = reader.take()
        words = [kind] + ([reader.take()] if reader.peek() not in ("\n", ";", "{", "") else [])
        while reader.peek() not in ("{", "\n", ";", "}", ""):
            words.append(reader.take())
        if reader.peek() == "{":
            reader.take("{")
            yield from _body(reader, kind, words[1].text if len(words) > 1 else "", where)
        reader.skip()
    reader.take("}")


def _body(
    reader: _Reader, kind: Word, name: str, where: dict[str, str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    about: dict[str, Any] = {**where, "name": name}
    rules: list[tuple[int, dict[str, Any]]] = []
    reader.skip()
    while reader.peek() != "}":
        words = reader.statement()
        if not words:
            reader.take("}")  # a lone brace or the end: told as what it is
        if kind.text == "chain" and words[0].text == "type":
            about |= _base(words)
        elif kind.text == "chain" and words[0].text in ("policy", "comment"):
            about[words[0].text] = words[1].text if len(words) > 1 else ""
        elif kind.text == "chain":
            rules.append((words[0].line, {"rule": {**where, "chain": name, **_rule(words)}}))
        elif words[0].text == "elements":
            about["elem"] = _value(words[2:])[0].get("set", []) if len(words) > 2 else []
        else:
            about[words[0].text] = " ".join(word.text for word in words[1:])
        reader.skip()
    reader.take("}")
    yield kind.line, {kind.text: about}
    yield from rules


def _base(words: Sequence[Word]) -> dict[str, Any]:
    texts = [word.text for word in words]
    found = {"type": texts[1] if len(texts) > 1 else ""}
    if "hook" in texts[:-1]:
        found["hook"] = texts[texts.index("hook") + 1]
    return found


def _rule(words: Sequence[Word]) -> dict[str, Any]:
    """Statements one after another; what is not known is ``unknown`` up to the verdict."""
    texts = [word.text for word in words]
    found: dict[str, Any] = {"expr": [], "text": _text(texts)}
    at = 0
    while at < len(words):
        if texts[at] == "comment" and at + 1 < len(texts):
            found["comment"] = texts[at + 1].strip('"')
            at += 2
            continue
        try:
            statement, used = _statement(words[at:])
        except IndexError:
            statement, used = None, 0
        if statement is None:
            ends = (n for n, word in enumerate(texts[at:]) if n and word in _ENDS)
            used = next(ends, len(texts) - at)
            statement = {"unknown": _text(texts[at : at + used])}
        found["expr"].append(statement)
        at += used
    return found


def _text(words: Sequence[str]) -> str:
    return re.sub(r" ,", ",", " ".join(words))


def _statement(words: Sequence[Word]) -> tuple[dict[str, Any] | None, int]:
    """One statement and how many words it takes; None where it is not known."""
    first = words[0].text
    texts = [word.text for word in words]
    if first in _VERDICTS:
        return {first: None}, 1
    if first in ("jump", "goto"):
        return {first: {"target": texts[1]}}, 2
    if first == "counter":
        return {"counter": None}, 5 if texts[1:2] == ["packets"] else 1
    if first == "log":
        return {"log": None}, _log_words(texts)
    if first == "reject":
        return {"reject": None}, _reject_words(texts)
    return _match(words)


def _log_words(texts: Sequence[str]) -> int:
    at = 1
    while at < len(texts) and texts[at] in ("prefix", "level", "group", "flags", "snaplen"):
        at += 2
    return at


def _reject_words(texts: Sequence[str]) -> int:
    if texts[1:2] != ["with"]:
        return 1
    if texts[2] == "tcp":
        return 4
    return 5 if texts[3:4] == ["type"] else 4


def _match(words: Sequence[Word]) -> tuple[dict[str, Any] | None, int]:
    first = words[0].text
    left: dict[str, Any]
    if first in _HEADERS:
        left, at = {"payload": {"protocol": first, "field": words[1].text}}, 2
    elif first in ("meta", "ct"):
        left, at = {first: {"key": words[1].text}}, 2
    elif first in _BARE:
        left, at = {"meta": {"key": first}}, 1
    else:
        return None, 0
    operator = words[at].text
    if operator in (".", "|", "^", "<<", ">>"):
        return None, 0
    if operator == "vmap":
        data, used = _value(words[at + 1 :])
        return {"vmap": {"key": left, "data": data}}, at + 1 + used
    mask: list[Any] = []
    if operator == "&":
        mask, used = _mask(words[at + 1 :])
        at += 1 + used
    return _comparison(left, mask, words, at)


def _comparison(
    left: dict[str, Any], mask: list[Any], words: Sequence[Word], at: int
) -> tuple[dict[str, Any] | None, int]:
    """What stands behind the left side: an operator or none, a value, several, or ``/`` a mask."""
    operator = words[at].text if words[at].text in _OPERATORS else ""
    at += bool(operator)
    right, used = _value(words[at:])
    at += used
    several = [right]
    while at + 1 < len(words) and words[at].text == ",":  # bits of one value
        several.append(_single(words[at + 1].text))
        at += 2
    if at + 1 < len(words) and words[at].text == "/":
        mask, used = _mask(words[at + 1 :])
        at += 1 + used
    if at < len(words) and words[at].text in ("&", ".", "/"):
        return None, 0
    if mask:
        left = {"&": [left, mask]}
    elif not operator and len(several) > 1:
        operator = "in"
    elif not operator and left.get("payload", {}).get("field") == "flags":
        operator = "in"  # nft prints "any of these bits" without an operator
    values = several if len(several) > 1 else right
    return {"match": {"op": operator or "==", "left": left, "right": values}}, at


def _mask(words: Sequence[Word]) -> tuple[list[Any], int]:
    """``syn,ack``, ``(fin | syn)`` or a number, and how many words it takes."""
    at = 1
    if words[0].text.startswith("("):
        while not words[at - 1].text.endswith(")"):
            at += 1
    while at + 1 < len(words) and words[at].text == ",":
        at += 2
    found = [word.text.strip("()") for word in words[:at]]
    return [_single(each) for each in found if each not in ("", "|", ",")], at


def _value(words: Sequence[Word]) -> tuple[Any, int]:
    """A value, or a set of them, and how many words it takes."""
    if words[0].text != "{":
        return _single(words[0].text), 1
    found: list[Any] = []
    at = 1
    while words[at].text != "}":
        item, used = _item(words[at:])
        found.append(item)
        at += used
        at += words[at].text == ","
    return {"set": found}, at + 1


def _item(words: Sequence[Word]) -> tuple[Any, int]:
    """An element: ``value`` or ``value : verdict``; with more than that it is not understood."""
    end = next(at for at, word in enumerate(words) if word.text in (",", "}"))
    texts = [word.text for word in words[:end]]
    if len(texts) == 1:
        return _single(texts[0]), end
    if len(texts) in (3, 4) and texts[1] == ":":
        verdict = {texts[2]: {"target": texts[3]} if len(texts) == 4 else None}
        return [_single(texts[0]), verdict], end
    if len(texts) == 3 and texts[1] == "comment":
        return _single(texts[0]), end
    return {"unknown": " ".join(texts)}, end


def _single(text: str) -> Any:
    if _NUMBER.fullmatch(text):
        return int(text)
    if found := _PREFIX.fullmatch(text):
        return {"prefix": {"addr": found[1], "len": int(found[2])}}
    if (found := _RANGE.fullmatch(text)) and text.count(":") != 5:
        return {"range": [_single(found[1]), _single(found[2])]}
    return text.strip('"')
