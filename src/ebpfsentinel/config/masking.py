"""Secrets: shown as ``***``, and not to stand in a file that everybody may read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as mi

from ebpfsentinel.config.shape import bare, hides, inner, join, notes, reaches, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_USERINFO_BYTES = re.compile(rb"://[^/\s]*@")
MASK = "***"


def masked(settings: msgspec.Struct) -> dict[str, Any]:
    """The settings as plain values, secrets as ``***``; absent reserved sections are left out."""
    kind = shape_of(type(settings))
    tree = msgspec.to_builtins(settings)
    shown = {
        str(key): found
        for key, found, found_kind in inner(tree, kind)
        if found is not None or not notes(found_kind).get("x-reserved")
    }
    plain: dict[str, Any] = _mask(shown, kind)
    return plain


def secrets(tree: Any, kind: mi.Type, place: str = "") -> Iterator[str]:
    """Places of all secrets that are set in ``tree``."""
    for key, found, found_kind in inner(tree, kind):
        if hides(key, found_kind):
            if found not in (None, "", {}, []):
                yield join(place, key)
        elif isinstance(found, str):
            if "@" in found and _USERINFO.search(found):
                yield join(place, key)
        elif isinstance(found, dict | list) and _may_hold_secrets(found, found_kind):
            yield from secrets(found, found_kind, join(place, key))


def _may_hold_secrets(tree: Any, kind: mi.Type) -> bool:
    """Thousands of rules in which nothing is secret need not be walked through one by one."""
    return reaches(kind, _may_hide) or bool(_USERINFO_BYTES.search(msgspec.json.encode(tree)))


def _may_hide(kind: mi.Type) -> bool:
    about = notes(kind)
    secret = about.get("x-secret") or about.get("x-mask")
    return bool(secret) or isinstance(bare(kind), mi.AnyType)


def _mask(tree: Any, kind: mi.Type) -> Any:
    if isinstance(tree, str):
        return _USERINFO.sub(MASK, tree)
    if not isinstance(tree, dict | list) or not _may_hold_secrets(tree, kind):
        return tree
    pairs = [(key, _masked_value(key, found, at)) for key, found, at in inner(tree, kind)]
    return dict(pairs) if isinstance(tree, dict) else [found for _, found in pairs]


def _masked_value(key: str | int, found: Any, kind: mi.Type) -> Any:
    secret = hides(key, kind) or notes(kind).get("x-mask")
    if secret or (key == "key_path" and isinstance(bare(kind), mi.AnyType)):
        return _stars(found)
    return _mask(found, kind)


def _stars(found: Any) -> Any:
    if isinstance(found, dict):
        return dict.fromkeys(found, MASK)
    return MASK if found else found
