"""Bytes of a configuration file to plain values: YAML, TOML or JSON.

YAML is built here from libyaml's events, on a stack, and not with the library's own constructor:
that one recurses in C (a few kilobytes of ``[`` end the process), takes the last of two equal keys,
and reads YAML 1.1, where the country code ``NO`` is false and ``22:22`` is 1342. Here: the YAML 1.2
core schema, no duplicate keys, at most :data:`MAX_DEPTH` levels, and aliases that may not unfold
to more than :data:`MAX_VALUES` values.
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml

from ebpfsentinel.model.settings import SettingsError

MAX_BYTES = 10 << 20
MAX_DEPTH = 64
MAX_VALUES = 1_000_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_TAGS = {
    "tag:yaml.org,2002:" + name: kind
    for name, kind in (("str", str), ("map", dict), ("seq", list), ("int", int), ("bool", bool))
}


def read(data: bytes, place: str, kind: str = "yaml") -> dict[str, Any]:
    """The mapping a file holds; an empty file is an empty mapping.

    ``kind`` is ``yaml``, ``toml`` or ``json``; ``place`` (the file's name) starts every error.

    Raises:
        SettingsError: too large, not UTF-8, not well formed (with line and column), or no mapping.
    """
    if len(data) > MAX_BYTES:
        raise SettingsError(place, f"is larger than {MAX_BYTES >> 20} MiB", "Split the lists out.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(place, f"line {line}: not UTF-8", "Save it as UTF-8.") from None
    tree = {"toml": _toml, "json": _json}.get(kind, _yaml)(text, place)
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        remedy = "Write sections, such as agent: {interfaces: [eth0]}."
        raise SettingsError(place, f"holds a {type(tree).__name__}, not sections", remedy)
    _check_values(tree, place)
    return tree


def scalar(text: str) -> Any:
    """A plain YAML scalar of the core schema: null, boolean, number, else the text itself."""
    word = text if text in _WORDS else text.lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        if _INT.fullmatch(text):
            return int(text, 0)
        return float(text) if _FLOAT.fullmatch(text) else text
    except ValueError:  # more digits than Python converts
        return text


def value(text: str, place: str) -> Any:
    """One value as written in an environment variable or on a command line: YAML or JSON."""
    if text[:1] not in ("[", "{", '"', "'"):
        return scalar(text)
    tree = _yaml(text, place)
    _check_values(tree, place)
    return tree


def _check_values(tree: Any, place: str) -> None:
    """Refuse what no later station could write again: depth, lone surrogates, dates."""
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            break
    else:
        raise SettingsError(place, f"is nested more than {MAX_DEPTH} levels deep")
    try:
        msgspec.json.encode(tree)
    except UnicodeEncodeError:
        raise SettingsError(place, "holds half of a surrogate pair (\\ud800-\\udfff)") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise SettingsError(place, str(error)) from None


def _toml(text: str, place: str) -> Any:
    try:
        return tomllib.loads(text, parse_float=_finite)
    except RecursionError:
        raise SettingsError(place, "is nested too deep") from None
    except ValueError as error:  # TOMLDecodeError names line and column
        raise SettingsError(place, str(error)) from None


def _json(text: str, place: str) -> Any:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(found)
        if len(tree) < len(found):
            keys = [key for key, _ in found]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise SettingsError(place, f"key {twice!r} is written twice", "Remove one of the two.")
        return tree

    if not text.strip():
        return None
    try:
        return json.loads(
            text, object_pairs_hook=pairs, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError:
        raise SettingsError(place, "is nested too deep") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SettingsError(place, f"{where}: {error.msg}") from None
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(place, str(error)) from None


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # infinite, or not a number
        raise ValueError(f"{text} is not a finite number")
    return number


def _yaml(text: str, place: str) -> Any:
    try:
        return _Builder(place).build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise SettingsError(place, f"{_at(error.problem_mark)}{problem}") from None
    except yaml.YAMLError as error:
        raise SettingsError(place, " ".join(str(error).split())) from None


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


@dataclass(slots=True)
class _Open:
    """A collection that is being filled; ``size`` counts the values in it, aliases unfolded."""

    value: Any
    anchor: str | None
    key: Any = None
    has_key: bool = False
    size: int = 1
    own: set[str] = field(default_factory=set)


class _Builder:
    """Values from a stream of YAML events."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.root: Any = None
        self.documents = 0

    def build(self, events: Any) -> Any:
        for event in events:
            self.take(event)
        return self.root

    def fail(self, event: Any, problem: str, remedy: str = "") -> SettingsError:
        return SettingsError(self.place, f"{_at(event.start_mark)}{problem}", remedy)

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self.place_value(event, self.scalar(event), 1, event.anchor)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                done = self.stack.pop()
                self.place_value(event, done.value, done.size, done.anchor)
            case yaml.AliasEvent():
                if event.anchor not in self.anchors:
                    raise self.fail(event, f"nothing complete is anchored &{event.anchor}")
                self.place_value(event, *self.anchors[event.anchor], None)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise self.fail(event, "a second document starts here", "Keep one document.")

    def open(self, event: Any) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self.fail(event, f"nested more than {MAX_DEPTH} levels deep")
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!") and _TAGS.get(event.tag) is not (dict if mapping else list):
            raise self.fail(event, f"tag {event.tag!r} is not supported", "Write plain values.")
        self.stack.append(_Open({} if mapping else [], event.anchor))

    def scalar(self, event: Any) -> Any:
        text: str = event.value
        opened = self.stack[-1] if self.stack else None
        if opened and isinstance(opened.value, dict) and not opened.has_key:
            return text  # a key is its text, whatever it looks like
        if event.tag in (None, "!"):
            return scalar(text) if event.implicit[0] and event.tag is None else text
        if _TAGS.get(event.tag) is str:
            return text
        found = scalar(text)
        if _TAGS.get(event.tag) is not type(found):
            raise self.fail(event, f"tag {event.tag!r} does not fit", "Write plain values.")
        return found

    def place_value(self, event: Any, found: Any, size: int, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (found, size)
        if not self.stack:
            self.root = found
            return
        opened = self.stack[-1]
        opened.size += size
        if opened.size > MAX_VALUES:
            raise self.fail(event, f"more than {MAX_VALUES} values, aliases unfolded")
        if isinstance(opened.value, list):
            opened.value.append(found)
        elif opened.has_key:
            self.set(event, opened, found)
        else:
            self.key(event, opened, found)

    def key(self, event: Any, opened: _Open, found: Any) -> None:
        if not isinstance(found, str):
            raise self.fail(event, "a key must be a word", "Quote it.")
        if found in opened.own:
            problem = f"key {found!r} is written twice in one block"
            raise self.fail(event, problem, "Remove one of the two.")
        opened.own.add(found)
        opened.key, opened.has_key = found, True

    def set(self, event: Any, opened: _Open, found: Any) -> None:
        opened.has_key = False
        if opened.key != "<<":
            opened.value[opened.key] = found
            return
        blocks = found if isinstance(found, list) else [found]
        if not all(isinstance(block, dict) for block in blocks):
            raise self.fail(event, "'<<' merges blocks only", "Name an anchored block.")
        for block in blocks:
            for key, inherited in block.items():
                opened.value.setdefault(key, inherited)
