"""What each role may do: the one table that the guard, the documentation and the tests go by.

Kinds of routes rather than routes: a domain that is added needs no line here. The first row that
fits counts, and the last refuses what nobody thought of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ebpfsentinel.model.identity import Role

READ = ("GET", "HEAD", "WEBSOCKET")
ANY = ("*",)
WORDS = {READ: "read", ANY: "any"}
_REST = "**"


@dataclass(frozen=True, slots=True)
class Permission:
    """Who may call the routes of a kind; ``least`` None: everybody, unasked.

    In ``path``, ``*`` is one part and ``**`` any number of them. ``host`` writes change the whole
    host: whoever is bound to namespaces may not.
    """

    methods: tuple[str, ...]
    path: str
    least: Role | None
    about: str
    host: bool = False

    def fits(self, method: str, parts: tuple[str, ...]) -> bool:
        """Is the request of this kind?"""
        if self.methods != ANY and method not in self.methods:
            return False
        pattern = parts_of(self.path)
        if pattern[-1:] == (_REST,):
            pattern, parts = pattern[:-1], parts[: len(pattern) - 1]
        return len(pattern) == len(parts) and all(
            wanted in ("*", part) for wanted, part in zip(pattern, parts, strict=True)
        )


TABLE = (
    Permission(READ, "/healthz", None, "alive"),
    Permission(READ, "/readyz", None, "ready"),
    Permission(READ, "/metrics", Role.VIEWER, "metrics; open: `auth.metrics_auth_required: false`"),
    Permission(READ, "/swagger-ui/**", None, "the API's page"),
    Permission(READ, "/api-docs/**", None, "the API's description"),
    Permission(("OPTIONS",), "/**", None, "what a browser asks before it calls"),
    Permission(READ, "/api/v1/auth/me", Role.VIEWER, "who am I"),
    Permission(ANY, "/api/v1/auth/**", Role.ADMIN, "API keys"),
    Permission(READ, "/api/v1/**", Role.VIEWER, "everything that there is to see"),
    Permission(ANY, "/api/v1/alerts/**", Role.ANALYST, "judge alerts: false alarms, exceptions"),
    Permission(("POST",), "/api/v1/changes/*/confirm", Role.OPERATOR, "confirm one's own change"),
    Permission(ANY, "/api/v1/config/**", Role.OPERATOR, "read the configuration again", host=True),
    Permission(
        ("POST", "PUT", "PATCH", "DELETE"),
        "/api/v1/**",
        Role.OPERATOR,
        "items of lists, within the caller's namespaces; what changes the whole host: "
        "not those who are bound to namespaces",
        host=True,
    ),
    Permission(ANY, "/**", Role.ADMIN, "anything else"),
)


@lru_cache(maxsize=1024)
def parts_of(path: str) -> tuple[str, ...]:
    """A path as its parts; empty ones, which routing does not see either, are left out."""
    return tuple(part for part in path.strip().split("/") if part)


@lru_cache(maxsize=1024)
def permission(method: str, path: str) -> Permission:
    """The row for a request; of a WebSocket, the method is ``WEBSOCKET``."""
    parts = parts_of(path)
    return next(row for row in TABLE if row.fits(method, parts))


def as_markdown() -> str:
    """The table for the documentation."""
    roles = list(Role)
    head = ["request", "kind", "nobody", *roles, "what"]
    lines = [head, ["---"] * len(head)]
    for row in TABLE:
        methods = WORDS.get(row.methods, ", ".join(row.methods))
        marks = ["yes" if row.least is None else ""]
        marks += ["yes" if row.least is None or role.allows(row.least) else "" for role in roles]
        lines.append([f"`{row.path}`", methods, *marks, row.about])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
