"""Where an item belongs, and who may write there.

An item belongs to a namespace when it says so: by a field ``namespace``, or by a field ``scope``
that is ``{namespace: NAME}``. Every other item holds on the whole host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.identity import Role

if TYPE_CHECKING:
    from ebpfsentinel.model.identity import Identity

EVERYWHERE = "*"
_TEXT = "namespace:"


def is_scoped(kind: type[Any]) -> bool:
    """Can items of this type belong to a namespace?"""
    return bool({"namespace", "scope"} & set(getattr(kind, "__struct_fields__", ())))


def namespace_of(item: Any) -> str | None:
    """The namespace that an item, or the view of one, belongs to; None: the whole host."""
    if own := getattr(item, "namespace", None):
        return str(own)
    scope = getattr(item, "scope", None)
    if isinstance(scope, str):
        return scope.removeprefix(_TEXT) if scope.startswith(_TEXT) else None
    found = scope.get("namespace") if isinstance(scope, dict) else getattr(scope, "namespace", None)
    return str(found) if found else None


def is_bound(identity: Identity) -> bool:
    """Does it write in its namespaces only, and never for the whole host?"""
    bound = identity.role is not Role.ADMIN and bool(identity.namespaces)
    return bound and EVERYWHERE not in identity.namespaces


def may_write(identity: Identity, kind: type[Any], namespace: str | None) -> bool:
    """May it write an item of this type that belongs there?

    Admins may, and those whose namespaces hold ``*``. Others need the item's namespace; what is of
    the whole host they may write only where items have no scope, and when they are bound to none.
    """
    if identity.role is Role.ADMIN or EVERYWHERE in identity.namespaces:
        return True
    if namespace is not None:
        return namespace in identity.namespaces
    return not identity.namespaces and not is_scoped(kind)
