"""One envelope for every error: ``{"error": {"code": "UPPER_SNAKE", "message": "..."}}``.

What the caller did wrong is told in full; what we did wrong is logged in full and told in general.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Response
from litestar.exceptions import HTTPException

from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from litestar import Request

_log = logging.getLogger(__name__)

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


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong: a word for programs, a sentence for people."""

    code: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Refusal(HTTPException):
    """An answer with ``status``, a ``code`` of the contract and a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(detail=message, status_code=status)
        self.code = code


def envelope(status: int, code: str, message: str) -> Response[ErrorBody]:
    """The error response."""
    return Response(ErrorBody(ErrorDetail(code, message)), status_code=status)


def _http(request: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    if error.status_code >= 500 and not isinstance(error, Refusal):
        return _unexpected(request, error)
    status = 400 if error.status_code == 422 else error.status_code
    code = getattr(error, "code", None) or _CODES.get(status, "INVALID_REQUEST")
    told = _message(error)
    if told in (HTTPStatus.NOT_FOUND.phrase, HTTPStatus.METHOD_NOT_ALLOWED.phrase):
        told = f"{request.method} {request.url.path[:200]}: {told.lower()}. See /swagger-ui/."
    made = envelope(status, code, told)
    for name, value in (error.headers or {}).items():
        made.headers[name] = value
    return made


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
        KernelError: _kernel,
        StoreError: _store,
        Exception: _unexpected,
    }
