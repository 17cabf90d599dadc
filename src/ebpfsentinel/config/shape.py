"""The shape of settings: walking a value beside its type, and errors in a user's words.

msgspec checks types, limits and keys, and stops at the first fault with a JSON path and a Python
type. Here that becomes the key's place, what was found, and what to write instead; where there is a
fault, unknown keys are looked for first, so that a typo is named with its nearest neighbour.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import msgspec.inspect as mi

from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")
_AT = re.compile(r"(.*?)(?: - at `(?:key in )?\$\.?(.*)`)?", re.DOTALL)
_SHOWN = 60
_KINDS = {
    mi.BoolType: "true or false",
    mi.StrType: "text",
    mi.FloatType: "a number",
    mi.IntType: "a whole number",
    mi.ListType: "a list",
    mi.DictType: "a block of keys",
    mi.NoneType: "null",
}


def nearest(word: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'?`` for the closest of ``known``, else the list of them, else nothing."""
    names = sorted(known)
    if close := difflib.get_close_matches(word.lower(), names, 1, 0.6):
        return f"Did you mean {close[0]!r}?"
    return (
        f"Known here: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}." if names else ""
    )


ANYTHING = mi.AnyType()


_shapes: dict[Any, mi.Type] = {}


def shape_of(target: Any) -> mi.Type:
    """The type as msgspec describes it; the same object each time, see :class:`_Facts`."""
    if target not in _shapes:
        _shapes[target] = mi.type_info(target)
    return _shapes[target]


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is asked of a type at each of thousands of values, worked out once.

    Kept by identity, since types of msgspec have no hash; ``kind`` keeps the identity taken.
    """

    kind: mi.Type
    bare: mi.Type
    fields: dict[str, mi.Field]
    notes: dict[str, Any]


_facts: dict[int, _Facts] = {}


def _of(kind: mi.Type) -> _Facts:
    known = _facts.get(id(kind))
    if known is None:
        plain = _bare(kind)
        fields = (
            {f.encode_name: f for f in plain.fields} if isinstance(plain, mi.StructType) else {}
        )
        about = (kind.extra_json_schema or {}) if isinstance(kind, mi.Metadata) else {}
        known = _facts[id(kind)] = _Facts(kind, plain, fields, about)
    return known


def _bare(kind: mi.Type) -> mi.Type:
    while isinstance(kind, mi.Metadata):
        kind = kind.type
    if isinstance(kind, mi.UnionType):
        rest = [member for member in kind.types if not isinstance(member, mi.NoneType)]
        return _bare(rest[0]) if len(rest) == 1 else kind
    return kind


def bare(kind: mi.Type) -> mi.Type:
    """The type without annotations, and without ``None`` where that leaves one type."""
    return _of(kind).bare


def notes(kind: mi.Type) -> dict[str, Any]:
    """What the schema says of a type: ``description``, ``x-secret``, ``x-reserved``..."""
    return _of(kind).notes


def fields_of(kind: mi.Type) -> dict[str, mi.Field]:
    """Key to field of a struct type; empty for any other type."""
    return _of(kind).fields


_reached: dict[tuple[int, Callable[[mi.Type], bool]], bool] = {}


def reaches(kind: mi.Type, asks: Callable[[mi.Type], bool]) -> bool:
    """Is the answer yes for the type, or for any type inside it? Each is asked once."""
    key = id(_of(kind).kind), asks
    if key not in _reached:
        _reached[key] = False  # a type that contains itself
        _reached[key] = asks(kind) or any(reaches(each, asks) for each in _inside(bare(kind)))
    return _reached[key]


def _inside(plain: mi.Type) -> Iterable[mi.Type]:
    match plain:
        case mi.StructType():
            return [each.type for each in plain.fields]
        case mi.ListType():
            return [plain.item_type]
        case mi.DictType():
            return [plain.value_type]
        case mi.UnionType():
            return plain.types
        case _:
            return []


def join(place: str, key: str | int) -> str:
    """``a`` and ``b`` to ``a.b``; ``a`` and 3 to ``a[3]``."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    return f"{place}.{key}" if place else key


def inner(tree: Any, kind: mi.Type) -> Iterator[tuple[str | int, Any, mi.Type]]:
    """Key or index, value and type of all that is directly inside ``tree``.

    A key that the type does not have comes with the type ``Any``.
    """
    plain = bare(kind)
    if isinstance(tree, dict):
        fields = fields_of(kind)
        other = plain.value_type if isinstance(plain, mi.DictType) else ANYTHING
        for key, found in tree.items():
            yield key, found, fields[key].type if key in fields else other
    elif isinstance(tree, list):
        items = plain.item_type if isinstance(plain, mi.ListType) else ANYTHING
        for index, found in enumerate(tree):
            yield index, found, items


def refuse_unknown(tree: Any, kind: mi.Type, place: str = "") -> None:
    """Raise :class:`SettingsError` for the first key that the type does not have."""
    if isinstance(tree, dict) and (fields := fields_of(kind)):
        for key in tree:
            if key not in fields:
                raise SettingsError(join(place, key), "unknown key", nearest(key, fields))
    for key, found, found_kind in inner(tree, kind):
        if isinstance(found, dict | list):
            refuse_unknown(found, found_kind, join(place, key))


def convert(tree: Any, target: type[T], place: str = "", *, strict: bool = True) -> T:
    """``tree`` (plain values) as ``target``.

    Raises:
        SettingsError: with the place below ``place``, what was found, and what to write instead.
    """
    try:
        return msgspec.convert(tree, target, strict=strict)
    except msgspec.ValidationError as error:
        kind = shape_of(target)
        refuse_unknown(tree, kind, place)
        raise _explain(error, tree, kind, place) from None


def _explain(error: msgspec.ValidationError, tree: Any, kind: mi.Type, place: str) -> SettingsError:
    split = _AT.fullmatch(str(error))
    problem, path = (split[1], split[2] or "") if split else (str(error), "")
    where = ".".join(filter(None, (place, path))).replace(".[", "[") or "settings"
    cause = error.__cause__
    if isinstance(cause, SettingsError):
        deeper = cause.place if cause.place.startswith(where) else join(where, cause.place)
        return SettingsError(deeper, cause.problem, cause.remedy)
    if missing := re.fullmatch(r"Object missing required field `(.+)`", problem):
        return _missing(where if path or place else "", missing[1], _walk(tree, kind, path)[1])
    found, found_kind = _walk(tree, kind, path)
    if isinstance(found, Unseen) or cause is not None:
        return SettingsError(where, problem.replace("`", ""), _remedy(found_kind))
    return SettingsError(
        where, f"found {_show(found, found_kind, where)}", _remedy(found_kind, found)
    )


def _missing(where: str, name: str, kind: mi.Type) -> SettingsError:
    field = fields_of(kind).get(name)
    about = notes(field.type) if field else {}
    text = str(about.get("description", "")).partition(".")[0]
    example = about.get("examples", [None])[0]
    remedy = f"Write {name}: {msgspec.json.encode(example).decode()} or the like" if example else ""
    return SettingsError(join(where, name), "is required", remedy or text)


class Unseen:
    """No value could be found at a path."""


def _walk(tree: Any, kind: mi.Type, path: str) -> tuple[Any, mi.Type]:
    """The value and the type at a msgspec path; :class:`Unseen` where the path is not exact."""
    for index, key in _STEP.findall(path):
        step: str | int = int(index) if index.isdigit() else key
        inside = {at: (found, found_kind) for at, found, found_kind in inner(tree, kind)}
        if step not in inside:
            return Unseen(), ANYTHING
        tree, kind = inside[step]
    return tree, kind


def _show(found: Any, kind: mi.Type, where: str) -> str:
    name = {dict: "a block of keys", list: "a list", type(None): "nothing"}.get(type(found))
    if name and found != []:
        return name
    if hides(where.rpartition(".")[2], kind):
        return f"a {type(found).__name__} (a secret, not shown)"
    text = msgspec.json.encode(found).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _remedy(kind: mi.Type, found: Any = None) -> str:
    plain = bare(kind)
    if isinstance(plain, mi.EnumType):
        return _choices(plain, found)
    if isinstance(plain, mi.UnionType):
        return f"Write {' or '.join(_wanted(member) for member in plain.types)}."
    wanted = _wanted(plain)
    return f"Write {wanted}." if wanted else ""


def _choices(kind: mi.EnumType, found: Any) -> str:
    words = [str(member.value) for member in kind.cls]
    close = nearest(str(found), words) if isinstance(found, str) else ""
    hint = f"{close} " if close.startswith("Did") else ""
    return f"{hint}Write one of: {', '.join(words)}."


def _wanted(kind: mi.Type) -> str:
    kind = bare(kind)
    if isinstance(kind, mi.StructType):
        return f"a block of keys: {', '.join(list(fields_of(kind))[:8])}"
    name = _KINDS.get(type(kind), "")
    if isinstance(kind, mi.IntType | mi.FloatType):
        return name + _range(kind.ge, kind.le, kind.gt, kind.lt)
    if isinstance(kind, mi.StrType):
        pattern = f", matching {kind.pattern}" if kind.pattern else ""
        return name + _length(kind.min_length, kind.max_length, "characters") + pattern
    if isinstance(kind, mi.ListType):
        return name + _length(kind.min_length, kind.max_length, "items")
    return name


def _range(least: Any, most: Any, above: Any, below: Any) -> str:
    parts = ((" from", least), (" above", above), (" to", most), (" below", below))
    return "".join(f"{word} {limit}" for word, limit in parts if limit is not None)


def _length(least: int | None, most: int | None, of: str) -> str:
    if least and most:
        return f" of {least} to {most} {of}"
    if least:
        return f" of at least {least} {of.removesuffix('s') if least == 1 else of}"
    return f" of at most {most} {of}" if most else ""


SECRET_KEYS = frozenset(
    {
        "api_key_salt",
        "auth_header",
        "client_secret",
        "headers",
        "key",
        "licence_key",
        "license_key",
        "password",
        "secret",
        "token",
        "webhook_headers",
    }
)
"""Keys that hold secrets in sections whose shape is not declared here."""


def hides(key: str | int, kind: mi.Type) -> bool:
    """Is the value of ``key`` a secret? A declared type decides; else the key's name does."""
    about = notes(kind)
    if about.get("x-secret"):
        return True
    return isinstance(bare(kind), mi.AnyType) and key in SECRET_KEYS
