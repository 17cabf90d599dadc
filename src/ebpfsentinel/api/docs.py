"""The API's own description: OpenAPI 3.1, and a page that shows it without any network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litestar import Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Schema,
    SecurityScheme,
)
from litestar.params import FromPath

from ebpfsentinel.api.errors import Refusal

_STATIC = Path(__file__).with_name("static")
_TYPES = {
    "page.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'"
)


def openapi(version: str, *, asks: bool) -> OpenAPIConfig:
    """The description at ``/api-docs/openapi.json``; ``asks``: callers must say who they are."""
    return OpenAPIConfig(
        title="eBPFsentinel",
        version=version,
        description="One Linux security agent: network and host, enforced in the kernel.",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                "bearer": SecurityScheme(
                    type="http", scheme="bearer", description="A JSON web token, or an API key"
                ),
            }
        ),
        security=[{"key": []}, {"bearer": []}] if asks else [],
        path="/api-docs",
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
    )


def tell_errors(found: OpenAPI) -> None:
    """Say of every operation what its errors look like: Litestar would describe its own."""
    error = Schema(
        type=OpenAPIType.OBJECT,
        required=["error"],
        properties={
            "error": Schema(
                type=OpenAPIType.OBJECT,
                required=["code", "message"],
                properties={name: _text(about) for name, about in _ERROR.items()},
            )
        },
    )
    content = {"application/json": OpenAPIMediaType(schema=error)}
    told = OpenAPIResponse(description="Refused or failed", content=content)
    for item in (found.paths or {}).values():
        for method in ("get", "post", "put", "patch", "delete"):
            operation = getattr(item, method)
            if operation is not None:
                kept = (operation.responses or {}).items()
                good = {status: answer for status, answer in kept if not status.startswith("4")}
                operation.responses = good | {"default": told}


def _text(about: str) -> Schema:
    return Schema(type=OpenAPIType.STRING, description=about)


_ERROR = {
    "code": "A word for programs, such as VALIDATION_ERROR",
    "message": "A sentence for people: what is wrong, where, and what to do",
    "field": "The parameter or field at fault, as people write it",
    "pointer": "Its place in the body, a JSON pointer (RFC 6901)",
}


def docs_routes() -> Sequence[Any]:
    """The page at ``/swagger-ui/`` and its files."""

    @get("/swagger-ui", include_in_schema=False)
    async def page() -> Response[bytes]:
        return _file("page.html")

    @get("/swagger-ui/{name:str}", include_in_schema=False, sync_to_thread=False)
    def part(name: FromPath[str]) -> Response[bytes]:
        return _file(name)

    return [page, part]


def _file(name: str) -> Response[bytes]:
    if name not in _TYPES:
        raise Refusal(404, "NOT_FOUND", "There is no such page. The docs are at /swagger-ui/.")
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return Response((_STATIC / name).read_bytes(), media_type=_TYPES[name], headers=headers)
