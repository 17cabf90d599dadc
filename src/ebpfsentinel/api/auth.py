"""Who am I, API keys, and the certificates in use."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from ebpfsentinel.api.actor import CALLER, actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.errors import ErrorBody, Refusal, bad_body
from ebpfsentinel.auth.keys import prefix
from ebpfsentinel.config import convert
from ebpfsentinel.config.read import read
from ebpfsentinel.model.keys import KeyRecord, NewKey
from ebpfsentinel.model.refusal import DuplicateItem, UnknownItem
from ebpfsentinel.model.settings import SettingsError

_FAULT = {
    400: ResponseSpec(ErrorBody, description="Refused; the message names place and remedy"),
    404: ResponseSpec(ErrorBody, description="No such key"),
    409: ResponseSpec(ErrorBody, description="The name is taken"),
}
Grace = Annotated[
    int | None,
    QueryParameter(ge=0, le=604800, description="The old key stays good for so many seconds"),
]


class Me(msgspec.Struct):
    """The caller."""

    name: str
    role: str
    how: str
    namespaces: list[str]


class ShownKey(msgspec.Struct, kw_only=True):
    """A key as it is listed; times are wall nanoseconds. One of the configuration has no ``id``."""

    id: str
    name: str
    role: str
    namespaces: list[str]
    prefix: str
    source: str
    made_ns: int | None = None
    expires_ns: int | None = None
    last_used_ns: int | None = None


class ShownKeys(msgspec.Struct):
    """All keys."""

    keys: list[ShownKey]


class MadeKey(ShownKey, kw_only=True):
    """A new key: this is the only time that ``key`` is shown."""

    key: str


def _fields(record: KeyRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role.value,
        "namespaces": list(record.namespaces),
        "prefix": prefix(record.id),
        "source": "made",
        "made_ns": record.made_ns,
        "expires_ns": record.expires_ns,
        "last_used_ns": record.last_used_ns,
    }


def _static(agent: Agent) -> list[ShownKey]:
    found = (key.identity for key in agent.gatekeeper.static_keys.all)
    return [
        ShownKey(
            id="",
            name=each.name,
            role=each.role.value,
            namespaces=sorted(each.namespaces),
            prefix="",
            source="configuration",
        )
        for each in found
    ]


def auth_routes(agent: Agent) -> Sequence[Any]:
    """The caller, keys, certificates."""

    @get("/api/v1/auth/me", tags=["auth"], summary="Who am I, and what may I do")
    async def me() -> Me:
        found = CALLER.get()
        return Me(found.name, found.role.value, found.how, sorted(found.namespaces))

    @get("/api/v1/tls/status", tags=["auth"], summary="Certificate, versions and key exchange")
    async def tls() -> dict[str, Any]:
        return agent.tls.status()

    return [me, tls, *_key_routes(agent)]


def _key_routes(agent: Agent) -> Sequence[Any]:
    @get("/api/v1/auth/keys", tags=["auth"], summary="API keys, without the keys")
    async def keys() -> ShownKeys:
        made = [ShownKey(**_fields(record)) for record in agent.gatekeeper.keys.all()]
        return ShownKeys([*_static(agent), *made])

    @post(
        "/api/v1/auth/keys",
        tags=["auth"],
        summary="Make an API key; it is shown this once",
        before_request=_check,
        responses={status: _FAULT[status] for status in (400, 409)},
    )
    async def create(data: JSONBody[NewKey]) -> MadeKey:
        try:
            record, key = agent.create_key(data, actor())
        except DuplicateItem:
            taken = f"{data.name!r} has a key already. Rotate or revoke it, or choose another name."
            raise Refusal(409, "DUPLICATE_KEY", taken, "key.name", "/name") from None
        except SettingsError as error:
            raise bad_body(error, "key") from None
        return MadeKey(**_fields(record), key=key)

    return [keys, create, *_change_routes(agent)]


def _change_routes(agent: Agent) -> Sequence[Any]:
    @post(
        "/api/v1/auth/keys/{key_id:str}/rotate",
        status_code=200,
        tags=["auth"],
        summary="Put another key in its place; it is shown this once",
        responses={404: _FAULT[404]},
    )
    async def rotate(key_id: FromPath[str], grace_seconds: Grace = None) -> MadeKey:
        try:
            record, key = agent.rotate_key(key_id, grace_seconds or 0, actor())
        except UnknownItem:
            raise _unknown(key_id) from None
        return MadeKey(**_fields(record), key=key)

    @delete(
        "/api/v1/auth/keys/{key_id:str}",
        tags=["auth"],
        summary="Revoke a key: it is good no more",
        responses={404: _FAULT[404]},
    )
    async def revoke(key_id: FromPath[str]) -> None:
        try:
            agent.revoke_key(key_id, actor())
        except UnknownItem:
            raise _unknown(key_id) from None

    return [rotate, revoke]


def _unknown(key_id: str) -> Refusal:
    told = f"No key that was made here has the id {key_id[:100]!r}. Those of the configuration "
    return Refusal(404, "KEY_NOT_FOUND", told + "change there.")


async def _check(request: Request[Any, Any, Any]) -> None:
    """Judge the body as a configuration is judged."""
    try:
        convert(read(await request.body(), "body", "json"), NewKey, "key")
    except SettingsError as error:
        raise bad_body(error, "key") from None
