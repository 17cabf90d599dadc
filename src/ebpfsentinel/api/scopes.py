"""Where a caller may write: items in its namespaces, and what is of the whole host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.api.actor import CALLER
from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.auth.namespaces import is_bound, is_scoped, may_write, namespace_of

if TYPE_CHECKING:
    from ebpfsentinel.model.domain import Collection
    from ebpfsentinel.model.identity import Identity

CODE = "NAMESPACE_FORBIDDEN"


def check_namespace(collection: Collection, item: Any) -> None:
    """Refuse a write to an item that is not in the caller's namespaces; None: there is no item.

    Raises:
        Refusal: 403, with what would be needed.
    """
    identity = CALLER.get()
    namespace = namespace_of(item)
    if may_write(identity, collection.item, namespace):
        return
    if item is None and is_bound(identity) and is_scoped(collection.item):
        return  # it is told that there is none
    where = f"in namespace {namespace[:100]!r}" if namespace else "of the whole host"
    raise Refusal(403, CODE, f"This {collection.singular} is {where}. {needed(identity)}")


def needed(identity: Identity) -> str:
    """What the caller may do, and who may do this."""
    own = ", ".join(sorted(identity.namespaces)) or "none"
    return (
        f"{identity.name} writes in namespaces: {own} (scope: {{namespace: NAME}}). For more it "
        "needs the role admin, or the namespace or '*' among its namespaces."
    )
