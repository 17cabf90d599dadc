"""Who calls: what the doors of the agent agree on."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Role(enum.StrEnum):
    """What somebody may do, least first; each may all that those before it may."""

    VIEWER = "viewer"
    ANALYST = "analyst"
    OPERATOR = "operator"
    ADMIN = "admin"

    def allows(self, least: Role) -> bool:
        """Is it ``least``, or more?"""
        order = list(Role)
        return order.index(self) >= order.index(least)


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller; ``name`` stands in the audit trail.

    ``how`` is ``key``, ``jwt``, ``oidc``, ``certificate``, or ``none`` where nobody is asked.
    ``namespaces`` bounds an operator's writes. ``until_ns`` is when what was shown expires, wall
    time; None: it does not.
    """

    name: str
    role: Role
    how: str = "none"
    namespaces: frozenset[str] = frozenset()
    until_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request shows of who makes it.

    ``headers`` have lower-case names, of gRPC they are the metadata. ``certificate`` is the peer's,
    verified, as :meth:`ssl.SSLSocket.getpeercert` gives it.
    """

    headers: Mapping[str, str]
    address: str
    certificate: Mapping[str, object] | None = None


class Unauthenticated(Exception):  # noqa: N818 (it names what the caller is)
    """The caller has not shown who they are; the text says what to do.

    ``retry_after_s`` is not 0 where there were too many attempts.
    """

    def __init__(self, problem: str, retry_after_s: float = 0) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class Authenticator(Protocol):
    """Tells who a caller is."""

    async def identify(self, caller: Caller) -> Identity:
        """The identity of the caller.

        Raises:
            Unauthenticated: it has not been shown.
        """

    def is_good(self, identity: Identity) -> bool:
        """May whoever came in as this stay? For streams, which outlive what was shown."""

    def spend(self, identity: Identity, address: str, *, write: bool) -> float:
        """Count a call; 0: it may be made, else the seconds to wait."""
