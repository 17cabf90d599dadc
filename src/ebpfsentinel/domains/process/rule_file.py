"""Rule files: the JSON of the SentinelEdge specification, read with positions.

``{"rules": [{"name": ..., "condition": ..., "risk_score": ..., "action": ...}]}``. Every error
names the rule, the line and column in the file, and what to write instead.

A JSON parser that keeps positions is not in the standard library; its decoder does however parse
one value from a given offset and says where it ended, which is enough to find every key and value
of an object that is known to be well formed.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from ebpfsentinel.model.alert import Severity  # noqa: TC001 (msgspec reads it)
from ebpfsentinel.model.settings import SettingsError, Spelling

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANK = re.compile(r"[ \t\r\n]*")
_ESCAPED = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u.{4}|\\.|[^\\]"
)
_DECODER = json.JSONDecoder()


class RuleAction(Spelling):
    """What a match leads to: ``log`` and ``alert`` tell, ``kill`` also ends the process."""

    ALERT = "alert"
    LOG = "log"
    KILL = "kill"


class ProcessRule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule; the first four fields are those of the specification."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]{1,256}$",
            description="Unique name; the rule_id of its alerts. Letters, digits, '-' and '_'.",
        ),
    ]
    condition: Annotated[
        str, Meta(min_length=1, max_length=4096, description="CEL over the fields of an event.")
    ]
    risk_score: Annotated[float, Meta(ge=0, le=1, description="0 (harmless) to 1 (certain harm).")]
    action: Annotated[RuleAction, Meta(description="alert, log or kill.")]
    label: Annotated[str, Meta(description="Title of the finding. Default: from the name.")] = ""
    description: Annotated[str, Meta(description="What it finds and why that matters.")] = ""
    recommendation: Annotated[str, Meta(description="What the operator should do.")] = ""
    confidence: Annotated[float, Meta(ge=0, le=1, description="How sure a match is.")] = 0.8
    severity: Annotated[Severity | None, Meta(description="Default: from the risk score.")] = None
    technique: Annotated[
        Annotated[str, Meta(pattern=r"^T\d{4}(\.\d{3})?$")] | None,
        Meta(description="MITRE ATT&CK technique, as T1059.004."),
    ] = None
    enabled: Annotated[bool, Meta(description="Off: kept, but never matches.")] = True


def _skip(text: str, at: int) -> int:
    """The offset of the next character that is not blank."""
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _members(text: str, at: int) -> Iterator[tuple[str, int, int]]:
    """Key, offset of the key and offset of the value, of the well-formed object at ``at``."""
    at = _skip(text, at + 1)
    while text[at] == '"':
        key, end = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, end) + 1)
        yield key, at, value
        at = _skip(text, _DECODER.raw_decode(text, value)[1])
        at = _skip(text, at + 1) if text[at] == "," else at


def _elements(text: str, at: int) -> Iterator[int]:
    """Offsets of the elements of the well-formed array at ``at``."""
    at = _skip(text, at + 1)
    while text[at] != "]":
        yield at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])
        at = _skip(text, at + 1) if text[at] == "," else at


def position(text: str, at: int) -> tuple[int, int]:
    """Line and column, both from 1, of an offset."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _inside(text: str, at: int, line: int, column: int) -> int:
    """The offset in the file of a line and column inside the JSON string at ``at``.

    A rule's condition is one JSON string, in which a line break and other characters are escapes of
    two to twelve characters.
    """
    decoded: str = _DECODER.raw_decode(text, at)[0]
    lines = decoded.split("\n")
    wanted = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    at += 1
    for _ in range(min(wanted, len(decoded))):
        found = _ESCAPED.match(text, at)
        at = found.end() if found else at + 1
    return at


class RuleFile:
    """The rules of one file, and where each stands in it.

    Args:
        path: for the errors only.
        content: the bytes of the file, UTF-8.

    Raises:
        SettingsError: with path, rule, line, column and remedy.
    """

    def __init__(self, path: str, content: bytes) -> None:
        self.path = path
        self._text = self._decode(content)
        self._starts = self._find(self._parse())
        self.rules = [self._rule(at) for at in self._starts]
        self._distinct()

    def fail(self, at: int, problem: str, remedy: str, name: str = "") -> SettingsError:
        """An error at an offset of the file."""
        line, column = position(self._text, at)
        rule = f", rule {name!r}" if name else ""
        return SettingsError(
            "process.rules_file",
            f"{self.path}, line {line}, column {column}{rule}: {problem}",
            remedy,
        )

    def condition_error(self, index: int, line: int, column: int, problem: str) -> SettingsError:
        """An error inside the condition of rule ``index``, at a position within the condition."""
        members = {key: value for key, _, value in _members(self._text, self._starts[index])}
        at = _inside(self._text, members["condition"], line, column)
        remedy = "Correct the condition; the fields it may name are listed in the process docs."
        return self.fail(at, problem, remedy, self.rules[index].name)

    def _decode(self, content: bytes) -> str:
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise SettingsError(
                "process.rules_file",
                f"{self.path}: byte {error.start} is not UTF-8",
                "Save the file as UTF-8.",
            ) from None

    def _parse(self) -> Any:
        try:
            return json.loads(self._text, parse_constant=_refuse_constant)
        except json.JSONDecodeError as error:
            raise self.fail(
                error.pos, f"not JSON: {error.msg}", "Correct the file; JSON has no comments."
            ) from None
        except (RecursionError, ValueError) as error:
            raise self.fail(0, f"not usable JSON: {error}", "Correct the file.") from None

    def _find(self, document: Any) -> list[int]:
        """The offsets of the rules."""
        shape = (
            'Write {"rules": [{"name": ..., "condition": ..., "risk_score": ..., "action": ...}]}.'
        )
        start = _skip(self._text, 0)
        if not isinstance(document, dict):
            raise self.fail(start, "the file is not an object", shape)
        rules = [(at, value) for key, at, value in _members(self._text, start) if key == "rules"]
        strange = [(at, key) for key, at, _ in _members(self._text, start) if key != "rules"]
        if strange:
            raise self.fail(strange[0][0], f"unknown key {strange[0][1]!r}", shape)
        if len(rules) != 1 or not isinstance(document["rules"], list):
            raise self.fail(start, "there must be one key 'rules' with a list", shape)
        return list(_elements(self._text, rules[0][1]))

    def _rule(self, at: int) -> ProcessRule:
        raw = _DECODER.raw_decode(self._text, at)[0]
        name = str(raw.get("name", "")) if isinstance(raw, dict) else ""
        try:
            return msgspec.convert(raw, ProcessRule)
        except msgspec.ValidationError as error:
            problem, place = self._locate(str(error), at)
            raise self.fail(place, problem, _remedy(problem), name) from None

    def _locate(self, problem: str, at: int) -> tuple[str, int]:
        """The offset of the value that a validation error is about, else that of the rule."""
        quoted = re.search(r"unknown field `(.*)`$|at `\$\.(\w+)`$", problem)
        wanted = (quoted[1] or quoted[2]) if quoted else None
        problem = re.sub(r" - at `\$\.(\w+)`$", r" (\1)", problem)
        if wanted is None:
            return problem, at
        for key, key_at, value_at in _members(self._text, at):
            if key == wanted:
                return problem, key_at if "unknown" in problem else value_at
        return problem, at

    def _distinct(self) -> None:
        seen: set[str] = set()
        for rule, at in zip(self.rules, self._starts, strict=True):
            if rule.name in seen:
                raise self.fail(at, "the name is taken by an earlier rule", "Rename it.", rule.name)
            seen.add(rule.name)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a JSON number")


def _remedy(problem: str) -> str:
    """What to write instead, from what the validation said."""
    fields = ProcessRule.__struct_fields__
    unknown = re.search(r"unknown field `(.*)`$", problem)
    if unknown:
        near = difflib.get_close_matches(unknown[1], fields, 1)
        return f"Did you mean {near[0]!r}?" if near else f"A rule may have: {', '.join(fields)}."
    if "(action)" in problem:
        return "Write one of: alert, log, kill."
    if "missing required" in problem:
        return "A rule needs name, condition, risk_score and action."
    return "See the rule format in the process docs."
