"""The routes that every domain card gives: its status, its collections, and its own extras."""

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from litestar import Request, Response, Router, delete, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody

from ebpfsentinel.api.actor import CALLER, actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.changes import Confirm, waiting_answer
from ebpfsentinel.api.errors import ErrorBody, Refusal, bad_body
from ebpfsentinel.api.scopes import check_namespace
from ebpfsentinel.api.trail import note
from ebpfsentinel.config import convert
from ebpfsentinel.config.read import read
from ebpfsentinel.model.alert import Alert
from ebpfsentinel.model.domain import Collection, Domain
from ebpfsentinel.model.identity import Role
from ebpfsentinel.model.kernel import Kernel
from ebpfsentinel.model.refusal import DuplicateItem, SystemItem, UnknownItem
from ebpfsentinel.model.settings import SettingsError

_FAULT = {
    400: ResponseSpec(ErrorBody, description="Refused; the message names place and remedy"),
    404: ResponseSpec(ErrorBody, description="No such item"),
    409: ResponseSpec(ErrorBody, description="The key is taken"),
}


def card_routes(agent: Agent, card: Domain) -> list[Any]:
    """All handlers of one card."""
    prefix = f"/api/v1/{card.name}"
    found: list[Any] = [_status(agent, card, prefix)]
    for collection in card.collections:
        where = f"{prefix}/{collection.name}"
        found += [
            _list(agent, card, collection, where),
            _add(agent, card, collection, where),
            _remove(agent, card, collection, where),
        ]
    if card.routes:
        found += _extras(agent, card, prefix)
    return found


class CardAgent:
    """The agent as the routes of one card see it: :class:`ebpfsentinel.model.access.Running`."""

    def __init__(self, agent: Agent, name: str) -> None:
        self._agent, self._name = agent, name

    @property
    def kernel(self) -> Kernel:
        """The door to privilege."""
        return self._agent.kernel

    def refresh(self) -> None:
        """Poll the card's maps."""
        self._agent.refresh(self._name)

    def alert(self, alert_id: str) -> Alert | None:
        """A stored alert."""
        return self._agent.store.alerts.get(alert_id)

    def audit(self, action: str, detail: str) -> None:
        """Write down what was done, as all writes are."""
        note(self._agent, self._name, action, actor=actor(), detail=detail)

    def process(self, pid: int, start_ns: int) -> Mapping[str, Any]:
        """All that is known of a process."""
        return self._agent.process(pid, start_ns)


def _extras(agent: Agent, card: Domain, prefix: str) -> list[Any]:
    """What ``card.routes`` names makes handlers; relative paths go below the card."""
    module, _, name = card.routes.partition(":")
    make = getattr(importlib.import_module(module), name)
    made: Sequence[Any] = make(agent.engines[card.name], CardAgent(agent, card.name))
    whole = [handler for handler in made if all(path.startswith("/api/") for path in handler.paths)]
    below = [handler for handler in made if handler not in whole]
    return [*whole, Router(path=prefix, route_handlers=below, tags=[card.name])] if below else whole


def _status(agent: Agent, card: Domain, prefix: str) -> Any:
    async def status() -> dict[str, Any]:
        agent.refresh(card.name)
        return agent.engines[card.name].status()

    return get(f"{prefix}/status", tags=[card.name], summary=card.summary, name=f"{prefix}/status")(
        status
    )


def _list(agent: Agent, card: Domain, collection: Collection, where: str) -> Any:
    async def items() -> Any:
        agent.refresh(card.name)
        return list(agent.engines[card.name].items(collection.name))

    items.__annotations__ = {"return": list[collection.item]}  # type: ignore[name-defined]
    about = f"All {collection.name} in force, with their counters"
    return get(
        where, tags=[card.name], summary=about, operation_id=f"{card.name}_{collection.name}_list"
    )(items)


def _add(agent: Agent, card: Domain, collection: Collection, where: str) -> Any:
    async def add(data: Any, confirm: Any = None) -> Any:
        key = str(getattr(data, collection.key))
        check_namespace(collection, data)
        try:
            change = await agent.add(card.name, collection.name, data, actor(), confirm or 0)
        except DuplicateItem:
            code = f"DUPLICATE_{_word(collection)}"
            taken = f"There is a {collection.singular} {key!r} already."
            message = f"{taken} Delete it, or choose another {collection.key}."
            raise Refusal(409, code, message, collection.key, f"/{collection.key}") from None
        except SettingsError as error:
            listed = re.match(rf"{card.name}\.{collection.name}\[\d+\]", error.place)
            roots = [listed[0]] if listed else []
            raise bad_body(error, *roots, collection.singular) from None
        return waiting_answer(data, change, 201)

    body: Any = JSONBody[collection.item]  # type: ignore[misc, name-defined]
    add.__annotations__ = {
        "data": body,
        "confirm": Confirm,
        "return": Response[collection.item],  # type: ignore[name-defined]
    }
    return post(
        where,
        tags=[card.name],
        summary=f"Add a {collection.singular}; it outlives a restart",
        operation_id=f"{card.name}_{collection.name}_add",
        before_request=_checking(collection),
        responses={status: _FAULT[status] for status in (400, 409)},
    )(add)


def _remove(agent: Agent, card: Domain, collection: Collection, where: str) -> Any:
    async def remove(key: FromPath[str], confirm: Confirm = None) -> Response[None]:
        singular = collection.singular
        check_namespace(collection, _item(agent, card, collection, key))
        try:
            change = await agent.remove(card.name, collection.name, key, actor(), confirm or 0)
        except UnknownItem:
            raise Refusal(
                404, f"{_word(collection)}_NOT_FOUND", f"There is no {singular} {key!r}."
            ) from None
        except SystemItem as error:
            reason = str(error) or "It is not one that was added here; change the configuration."
            raise Refusal(403, "PERMISSION_DENIED", f"{singular} {key!r} stays. {reason}") from None
        return waiting_answer(None, change, 204)

    return delete(
        f"{where}/{{key:str}}",
        tags=[card.name],
        summary=f"Remove a {collection.singular} that was added here",
        operation_id=f"{card.name}_{collection.name}_remove",
        responses={404: _FAULT[404]},
    )(remove)


def _item(agent: Agent, card: Domain, collection: Collection, key: str) -> Any:
    """The item of this key; None: there is none. Looked for only where it matters."""
    identity = CALLER.get()
    if identity.role is Role.ADMIN:
        return None
    items = agent.engines[card.name].items(collection.name)
    return next((item for item in items if str(getattr(item, collection.key)) == key), None)


def _word(collection: Collection) -> str:
    return collection.singular.upper().replace("-", "_").replace(" ", "_")


def _checking(collection: Collection) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """Judge the body as a configuration is judged, before Litestar's terser decoder sees it."""

    async def check(request: Request[Any, Any, Any]) -> None:
        body = await request.body()
        try:
            tree = read(body, "body", "json")
            convert(tree, collection.item, collection.singular)
        except SettingsError as error:
            raise bad_body(error, collection.singular) from None

    return check
