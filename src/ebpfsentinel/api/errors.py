"""One envelope for every error: ``{"error": {"code": "UPPER_SNAKE", "message": "..."}}``.

Where one field is at fault, ``field`` names it; ``pointer`` is its place in the body (RFC 6901).

What the caller did wrong is told in full; what we did wrong is logged in full and told in general.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from ebpfsentinel.model.kernel import KernelError, NotLoaded
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litestar import Request

_log = logging.getLogger(__name__)

_STEP = re.compile(r"[^.\[\]]+")
_CODES = {
    400: "VALIDATION_ERROR",
    401: "AUTHENTICATION_REQUIRED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    429: "TOO_MANY_REQUESTS",
    503: "SERVICE_UNAVAILABLE",
}


class ErrorDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: a word for programs, a sentence for people, and where.

    ``field`` is a parameter or a place in the body as people write it, ``pointer`` the JSON pointer
    of the latter.
    """

    code: str
    message: str
    field: str | None = None
    pointer: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Refusal(HTTPException):
    """An answer with ``status``, a ``code`` of the contract and a message."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        field: str | None = None,
        pointer: str | None = None,
    ) -> None:
        super().__init__(detail=message, status_code=status)
        self.code, self.field, self.pointer = code, field, pointer


def bad_body(error: SettingsError, *roots: str) -> Refusal:
    """The refusal of a body; the place of the fault is told as below one of ``roots``."""
    root = next((each for each in roots if error.place.startswith(each)), error.place)
    steps = _STEP.findall(error.place[len(root) :])
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return Refusal(400, "VALIDATION_ERROR", str(error), error.place, pointer)


def envelope(
    status: int, code: str, message: str, field: str | None = None, pointer: str | None = None
) -> Response[ErrorBody]:
    """The error response."""
    return Response(ErrorBody(ErrorDetail(code, message, field, pointer)), status_code=status)


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    if error.status_code >= 500 and not isinstance(error, Refusal):
        return _unexpected(request, error)
    status = 400 if error.status_code == 422 else error.status_code
    code = getattr(error, "code", None) or _CODES.get(status, "INVALID_REQUEST")
    told = _message(error)
    if told in (HTTPStatus.NOT_FOUND.phrase, HTTPStatus.METHOD_NOT_ALLOWED.phrase):
        told = f"{request.method} {request.url.path[:200]}: {told.lower()}. See /swagger-ui/."
    field = getattr(error, "field", None) or _field(error)
    made = envelope(status, code, told, field, getattr(error, "pointer", None))
    for name, value in (error.headers or {}).items():
        made.headers[name] = value
    return made


def _field(error: HTTPException) -> str | None:
    """The first parameter that Litestar finds fault with."""
    faults = error.extra if isinstance(error.extra, list) else []
    found = next((fault.get("key") for fault in faults if isinstance(fault, dict)), None)
    return str(found) if found else None


def _message(error: HTTPException) -> str:
    faults = error.extra if isinstance(error.extra, list) else []
    told = [
        f"{fault.get('key', 'request')}: {fault.get('message', '')}"
        for fault in faults
        if isinstance(fault, dict)
    ]
    return "; ".join(told) or error.detail


def _settings(_: Request[Any, Any, Any], error: SettingsError) -> Response[ErrorBody]:
    return envelope(400, "VALIDATION_ERROR", str(error))


def _off(_: Request[Any, Any, Any], error: NotLoaded) -> Response[ErrorBody]:
    return envelope(404, "SERVICE_NOT_AVAILABLE", str(error))


def _kernel(_: Request[Any, Any, Any], error: KernelError) -> Response[ErrorBody]:
    _log.error("the kernel refused a request: %s", error)
    return envelope(400, "ENFORCEMENT_FAILED", str(error))


def _store(_: Request[Any, Any, Any], error: StoreError) -> Response[ErrorBody]:
    return envelope(503, "SERVICE_UNAVAILABLE", f"The store cannot answer: {error}")


def _unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return envelope(500, "INTERNAL_ERROR", "Something failed here; the agent's log says what.")


def handlers() -> Mapping[Any, Callable[..., Response[ErrorBody]]]:
    """Exception type to handler, for the whole app."""
    return {
        HTTPException: _http,
        SettingsError: _settings,
        NotLoaded: _off,
        KernelError: _kernel,
        StoreError: _store,
        Exception: _unexpected,
    }
