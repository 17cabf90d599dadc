"""Where alerts go, and which of them nobody wants to hear of: destinations and exceptions."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from ebpfsentinel.alerts import AlertException, Scope
from ebpfsentinel.api.actor import actor
from ebpfsentinel.api.agent import Agent
from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.trail import note
from ebpfsentinel.exemptions import UnknownAlert
from ebpfsentinel.model.settings import SettingsError, parse_duration
from ebpfsentinel.sinks import DestinationView

_SHOWN = 256


class Destinations(msgspec.Struct):
    """All of them, in the order of the routes; ``no_route`` alerts went to none."""

    destinations: list[DestinationView]
    dropped: dict[str, int]


class Tried(msgspec.Struct):
    """How a test went; ``error`` is empty when the alert arrived."""

    destination: str
    delivered: bool
    error: str


class WantedException(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An exception to make from an alert."""

    alert_id: Annotated[str, Meta(min_length=1, max_length=1024, description="Of a stored alert.")]
    scope: Annotated[
        list[Scope],
        Meta(min_length=1, max_length=8, description="What has to be the same, beside the rule."),
    ] = msgspec.field(default_factory=lambda: [Scope.RULE])
    expires: Annotated[
        int | str | None,
        Meta(description="After seconds, or a number with s, m, h, d or w; null: never."),
    ] = "7d"
    reason: Annotated[str, Meta(max_length=512, description="Why, for those who come after.")] = ""


class ExceptionList(msgspec.Struct):
    """All exceptions in force, the oldest first."""

    exceptions: list[AlertException]


def destination_routes(agent: Agent) -> Sequence[Any]:
    """Destinations, their test, and exceptions."""

    @get("/api/v1/alerts/destinations", tags=["alerts"], summary="Where alerts go, and how far")
    async def destinations() -> Destinations:
        return Destinations(agent.router.views(), dict(agent.router.dropped))

    @post(
        "/api/v1/alerts/destinations/{name:str}/test",
        status_code=200,
        tags=["alerts"],
        summary="Send one alert to a destination, at once",
    )
    async def test(name: FromPath[str]) -> Tried:
        error = await agent.router.test(name)
        if error is None:
            told = f"There is no destination {name[:_SHOWN]!r}."
            raise Refusal(404, "DESTINATION_NOT_FOUND", told)
        return Tried(name, not error, error)

    return [destinations, test, *_exceptions(agent)]


def _exceptions(agent: Agent) -> Sequence[Any]:
    @get(
        "/api/v1/alerts/exceptions", tags=["alerts"], summary="Alerts that nobody wants to hear of"
    )
    async def listed() -> ExceptionList:
        return ExceptionList(agent.exemptions.found.all())

    @post(
        "/api/v1/alerts/exceptions",
        status_code=201,
        tags=["alerts"],
        summary="Make an exception from an alert",
    )
    async def make(data: JSONBody[WantedException]) -> AlertException:
        try:
            seconds = 0 if data.expires is None else parse_duration("expires", data.expires)
            made = agent.exemptions.make(data.alert_id, data.scope, seconds, data.reason, actor())
        except UnknownAlert:
            told = f"There is no alert {data.alert_id[:_SHOWN]!r}."
            raise Refusal(404, "ALERT_NOT_FOUND", told) from None
        except SettingsError as error:
            raise Refusal(400, "VALIDATION_ERROR", str(error)) from None
        _audit(agent, "exception_added", made)
        return made

    @delete(
        "/api/v1/alerts/exceptions/{key:str}",
        status_code=200,
        tags=["alerts"],
        summary="End an exception",
    )
    async def end(key: FromPath[str]) -> AlertException:
        gone = agent.exemptions.remove(key)
        if gone is None:
            told = f"There is no exception {key[:_SHOWN]!r}."
            raise Refusal(404, "EXCEPTION_NOT_FOUND", told)
        _audit(agent, "exception_removed", gone)
        return gone

    return [listed, make, end]


def _audit(agent: Agent, action: str, about: AlertException) -> None:
    scopes = ", ".join(f"{scope} {value}" for scope, value in about.wanted.items())
    note(
        agent,
        "alerts",
        action,
        actor=actor(),
        rule_id=about.id,
        before=about if action == "exception_removed" else None,
        after=about if action == "exception_added" else None,
        detail=f"{about.component} {about.rule_id}; {scopes or 'every alert of it'}"[:512],
    )
