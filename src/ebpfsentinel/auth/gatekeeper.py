"""Who calls, and how often: the agent's one :class:`~ebpfsentinel.model.identity.Authenticator`.

REST, WebSocket, metrics and gRPC all ask here. Settings are worked out before they are adopted, so
that a reload which cannot be had changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.auth.attempts import Attempts
from ebpfsentinel.auth.certificates import HOW as BY_CERTIFICATE
from ebpfsentinel.auth.certificates import given_by, identity_of
from ebpfsentinel.auth.keys import HOW, MadeKeys, StaticKeys
from ebpfsentinel.auth.limits import Limits
from ebpfsentinel.model.domain import Metric
from ebpfsentinel.model.identity import Identity, Role, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebpfsentinel.auth.tokens import Tokens
    from ebpfsentinel.model.identity import Caller
    from ebpfsentinel.model.keys import KeyRoom
    from ebpfsentinel.model.security import ApiRateLimit, Auth

_log = logging.getLogger(__name__)

NOBODY_ASKED = Identity("api", Role.ADMIN, "none")
_SHOW = (
    "Show who you are: an API key as 'X-API-Key: KEY' or 'Authorization: Bearer KEY', "
    "a token as 'Authorization: Bearer TOKEN'"
)
_WRONG_KEY = "This API key is not good: it is unknown, revoked, or has expired."


@dataclass(frozen=True, slots=True)
class Prepared:
    """Settings that can be adopted, with what was read for them."""

    auth: Auth
    limits: ApiRateLimit
    static: StaticKeys
    tokens: Tokens | None


class Gatekeeper:
    """See :class:`ebpfsentinel.model.identity.Authenticator`; nobody gets in before :meth:`adopt`.

    ``room`` keeps keys that are made while the agent runs.
    """

    def __init__(self, room: KeyRoom) -> None:
        self.keys = MadeKeys(room)
        self._in_force: Prepared | None = None
        self._attempts = Attempts()
        self._limits = Limits()
        self._counts: Counter[tuple[str, str]] = Counter()

    @staticmethod
    def prepare(auth: Auth, limits: ApiRateLimit) -> Prepared:
        """Read what the settings name.

        Raises:
            SettingsError: it cannot be used.
        """
        tokens = None
        if auth.enabled and (auth.jwt or auth.oidc):
            from ebpfsentinel.auth.tokens import tokens_of  # noqa: PLC0415 - 8 MB where none are

            tokens = tokens_of(auth.jwt, auth.oidc)
        return Prepared(auth, limits, StaticKeys(auth.api_keys, auth.api_key_salt), tokens)

    def adopt(self, prepared: Prepared) -> None:
        """From now on these settings are in force; keys that were fetched stay known."""
        before = self._in_force
        same = before and (before.auth.jwt, before.auth.oidc) == (
            prepared.auth.jwt,
            prepared.auth.oidc,
        )
        if before and same and _is_fetched(before.tokens) and _is_fetched(prepared.tokens):
            prepared = Prepared(prepared.auth, prepared.limits, prepared.static, before.tokens)
        self._in_force = prepared

    @property
    def enabled(self) -> bool:
        """Is anybody asked who they are?"""
        return self._in_force is None or self._in_force.auth.enabled

    @property
    def static_keys(self) -> StaticKeys:
        """Those of the configuration."""
        return self._in_force.static if self._in_force else StaticKeys((), None)

    @property
    def metrics_open(self) -> bool:
        """May everybody read metrics?"""
        return self._in_force is not None and not self._in_force.auth.metrics_auth_required

    async def identify(self, caller: Caller) -> Identity:
        """The identity of the caller.

        Raises:
            Unauthenticated: it has not been shown.
        """
        if self._in_force is None:
            raise Unauthenticated("The agent is still starting: try again in a moment.", 1)
        if not self._in_force.auth.enabled:
            return NOBODY_ASKED
        shown = _shown(caller.headers)
        if shown is None:
            return self._by_certificate(caller)
        again = self._attempts.is_known(caller.address, shown)
        wait_s = self._attempts.wait_s(caller.address, time.monotonic())
        if wait_s and not again:
            self._counts["credential", "slowed"] += 1
            problem = f"Too many wrong keys from here: try again in {wait_s:.0f} s."
            raise Unauthenticated(problem, wait_s)
        found = await self._by_credential(shown, caller.address)
        self._attempts.succeeded(caller.address)
        self._counts[found.how, "accepted"] += 1
        return found

    def is_good(self, identity: Identity) -> bool:
        """May whoever came in as this stay? For streams, which outlive what was shown."""
        if identity.until_ns is not None and time.time_ns() >= identity.until_ns:
            return False
        if self._in_force is None or identity.how == "none":
            return not self.enabled
        if identity.how == HOW:
            static = any(key.identity == identity for key in self._in_force.static.all)
            return static or self.keys.vouches_for(identity)
        entries = self._in_force.auth.certificates
        return identity.how != BY_CERTIFICATE or identity in map(given_by, entries)

    def _by_certificate(self, caller: Caller) -> Identity:
        assert self._in_force is not None  # noqa: S101 - checked by the caller
        found = identity_of(caller.certificate, self._in_force.auth.certificates)
        if found is None:
            self._counts["none", "refused"] += 1
            also = "; your client certificate has no role here" if caller.certificate else ""
            raise Unauthenticated(f"{_SHOW}{also}.")
        self._counts[found.how, "accepted"] += 1
        return found

    async def _by_credential(self, shown: str, address: str) -> Identity:
        assert self._in_force is not None  # noqa: S101 - checked by the caller
        if found := self._in_force.static.find(shown) or self.keys.find(shown, time.time_ns()):
            return found
        tokens = self._in_force.tokens
        problem, guessed = _WRONG_KEY, True
        if tokens is not None and shown.count(".") == 2:
            from ebpfsentinel.auth.tokens import RefusedToken  # noqa: PLC0415 - as above

            try:
                return await tokens.identify(shown)
            except RefusedToken as error:
                problem, guessed = str(error), error.guessed
        if guessed:
            self._count_guess(address, shown)
        self._counts["credential", "refused"] += 1
        raise Unauthenticated(problem)

    def _count_guess(self, address: str, shown: str) -> None:
        waited_s = self._attempts.wait_s(address, time.monotonic())
        self._attempts.failed(address, shown, time.monotonic())
        wait_s = self._attempts.wait_s(address, time.monotonic())
        if wait_s and not waited_s:
            _log.warning("wrong keys from %s: it waits %.0f s before the next", address, wait_s)

    def spend(self, identity: Identity, address: str, *, write: bool) -> float:
        """Count a call; 0: it may be made, else the seconds to wait."""
        if self._in_force is None:
            return 0.0
        limits = self._in_force.limits
        if limits.exempt_loopback and _is_loopback(address):
            return 0.0
        who = address if identity.how == "none" else f"{identity.how}:{identity.name}"
        return self._limits.spend(who, limits, time.monotonic(), write=write)

    def metrics(self) -> Iterator[Metric]:
        """How callers were judged."""
        for (how, result), count in self._counts.items():
            labels = {"how": how, "result": result}
            yield Metric("auth_attempts", "counter", "Callers, by how judged", labels, count)
        for kind, count in self._limits.refused.items():
            text = "Calls refused because there were too many"
            yield Metric("api_rate_limited", "counter", text, {"kind": kind}, count)


def token_files(auth: Auth) -> Iterator[str]:
    """The files of keys that the settings name."""
    for claims in (auth.jwt, auth.oidc):
        if auth.enabled and claims is not None:
            names = ("public_key_path", "jwks_path", "ca_path")
            yield from filter(None, (getattr(claims, name, "") for name in names))


def _is_fetched(tokens: Tokens | None) -> bool:
    return tokens is not None and hasattr(tokens.source, "fetches")


def _shown(headers: Mapping[str, str]) -> str | None:
    """The credential of a request; None: there is none."""
    if key := headers.get("x-api-key", "").strip():
        return key
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip()
    return None


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith(("127.", "::ffff:127."))
