"""The published forms of the settings: JSON Schema, and an annotated example that loads."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as mi

from ebpfsentinel.config.load import settings_type
from ebpfsentinel.config.shape import bare, fields_of, notes, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.model.domain import Domain

_WIDTH = 96
_HEAD = """\
# Every setting of eBPFsentinel with its default. Only agent.interfaces is required.
# Each key can also be set as EBPFSENTINEL_<SECTION>__<KEY>; a flag beats the environment, which
# beats this file.
"""


def schema(domains: Sequence[Domain]) -> dict[str, Any]:
    """JSON Schema (2020-12) of a configuration file."""
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "eBPFsentinel configuration",
    }
    return about | msgspec.json.schema(settings_type(tuple(domains)))


def example(domains: Sequence[Domain]) -> str:
    """An annotated YAML configuration of all defaults; optional keys stand as comments."""
    kind = shape_of(settings_type(tuple(domains)))
    return _HEAD + "\n" + "\n".join(_block(kind, 0)) + "\n"


def _block(kind: mi.Type, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, field in fields_of(kind).items():
        about = notes(field.type)
        if about.get("x-reserved"):
            continue
        if depth == 0:
            yield ""
        yield from _comment(_about(field.type), indent)
        yield from _entry(key, field, indent, depth)


def _entry(key: str, field: mi.Field, indent: str, depth: int) -> Iterator[str]:
    if fields_of(field.type) and not _optional(field.type):
        yield f"{indent}{key}:"
        yield from _block(field.type, depth + 1)
        return
    default = _default(field)
    if default is None and fields_of(field.type) and "examples" not in notes(field.type):
        yield f"{indent}# {key}:"
        yield from _keys(field.type, indent, "")
        return
    if default is None:
        yield f"{indent}# {key}: {_inline(_sample(field.type))}"
        return
    yield f"{indent}{key}: {_inline(default)}"
    plain = bare(field.type)
    if isinstance(plain, mi.ListType) and fields_of(plain.item_type):
        yield f"{indent}# An item, all keys:"
        yield from _keys(plain.item_type, indent, "- ")


def _keys(kind: mi.Type, indent: str, mark: str) -> Iterator[str]:
    """The keys of a block that is not there, as comments; the first has the mark."""
    further = " " * len(mark)
    for key, field in fields_of(kind).items():
        default = _default(field)
        shown = _sample(field.type) if default is None else default
        need = "required. " if field.required else ""
        yield from _comment(need + _about(field.type), f"{indent}#     ")
        yield f"{indent}#   {mark}{key}: {_inline(shown)}"
        mark = further


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(text, _WIDTH - len(indent)):
        yield f"{indent}# {line}"


def _about(kind: mi.Type) -> str:
    plain = bare(kind)
    text = str(notes(kind).get("description", "")).strip()
    if isinstance(plain, mi.EnumType):
        return f"{text} One of: {', '.join(str(member.value) for member in plain.cls)}."
    if isinstance(plain, mi.IntType | mi.FloatType) and plain.le is not None:
        return f"{text} {plain.ge if plain.ge is not None else plain.gt}..{plain.le}."
    return text


def _optional(kind: mi.Type) -> bool:
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    return isinstance(kind, mi.UnionType) and any(isinstance(t, mi.NoneType) for t in kind.types)


def _default(field: mi.Field) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    examples = notes(field.type).get("examples")
    return examples[0] if examples else _sample(field.type)


def _sample(kind: mi.Type) -> Any:
    examples = notes(kind).get("examples")
    if examples:
        return examples[0]
    plain = bare(kind)
    if isinstance(plain, mi.EnumType):
        return next(iter(plain.cls)).value
    if isinstance(plain, mi.UnionType):
        return _sample(plain.types[0])
    simple = {mi.IntType: 1, mi.FloatType: 1.0, mi.BoolType: True, mi.StrType: "text"}
    return simple.get(type(plain), [] if isinstance(plain, mi.ListType) else {})


def _inline(found: Any) -> str:
    if isinstance(found, str) and found.replace("_", "").replace("-", "").isalpha():
        return found if found not in ("true", "false", "null") else f'"{found}"'
    return json.dumps(found, ensure_ascii=False)
