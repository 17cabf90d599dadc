"""Where the keys of tokens come from: a file, or an address that is asked now and then.

What was fetched is good for its time to live, and longer while nothing else can be had: a provider
that is down for an hour must not shut out those who hold good tokens. A token that names a key we
do not know makes us ask, but not oftener than the cooldown, whatever the tokens say.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.auth.signatures import SigningKey, fitting, from_jwks, usable
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.security import Algorithm, Claims

_log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
_MOST_BYTES = 1 << 20
_TIMEOUT_S = 5.0


class KeySourceError(Exception):
    """No keys can be had; the text says why."""


class FixedKeys:
    """Keys of a file."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._keys = keys

    async def find(self, algorithm: str, kid: str) -> list[SigningKey]:
        """Those that a token's header may mean."""
        return fitting(self._keys, algorithm, kid)


class FetchedKeys:
    """Keys that are published at ``jwks_url``, or where the discovery document of ``issuer`` says.

    ``algorithm`` None: any that we know. ``place`` is that of the settings.

    Raises:
        SettingsError: the file of authorities cannot be used.
    """

    def __init__(
        self, place: str, settings: Claims, algorithm: Algorithm | None, issuer: str = ""
    ) -> None:
        self._settings, self._algorithm, self._issuer = settings, algorithm, issuer
        self._tls = _trusting(place, settings.ca_path)
        self._keys: list[SigningKey] = []
        self._fetched_s: float | None = None
        self._tried_s: float | None = None
        self._lock = asyncio.Lock()
        self.fetches = {"success": 0, "failure": 0}

    async def find(self, algorithm: str, kid: str) -> list[SigningKey]:
        """Those that a token's header may mean.

        Raises:
            KeySourceError: none were ever had.
        """
        if self._is_stale():
            await self._refresh()
        found = fitting(self._keys, algorithm, kid)
        asks = self._settings.jwks_refresh_on_unknown_kid
        if not found and asks and self._may_ask():
            await self._refresh()
            found = fitting(self._keys, algorithm, kid)
        return found

    def _is_stale(self) -> bool:
        ttl = self._settings.jwks_cache_ttl_seconds
        known = self._fetched_s is not None and time.monotonic() - self._fetched_s < ttl
        return not known and self._may_ask()

    def _may_ask(self) -> bool:
        rest = self._settings.jwks_cooldown_seconds
        return self._tried_s is None or time.monotonic() - self._tried_s >= rest

    async def _refresh(self) -> None:
        async with self._lock:
            if not self._may_ask():
                return  # somebody else has just asked
            self._tried_s = time.monotonic()
            try:
                keys, left_out = from_jwks(await self._fetch())
            except (KeySourceError, ValueError) as error:
                self.fetches["failure"] += 1
                _log.warning("keys of tokens cannot be fetched: %s", error)
                return
            self._keys = usable(keys, self._algorithm)
            self._fetched_s = time.monotonic()
            self.fetches["success"] += 1
            told = f", {len(left_out)} left out: {'; '.join(left_out[:5])}" if left_out else ""
            _log.info("%d keys of tokens fetched%s", len(self._keys), told)

    async def _fetch(self) -> bytes:
        """The key set.

        Raises:
            KeySourceError: it cannot be had.
        """
        import httpx  # noqa: PLC0415 - only where keys are fetched

        try:
            async with httpx.AsyncClient(
                timeout=_TIMEOUT_S, verify=self._tls, trust_env=False, follow_redirects=False
            ) as client:
                url = self._settings.jwks_url or await self._discover(client)
                return await _body(client, url)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise KeySourceError(f"{type(error).__name__} {error}".strip()) from None

    async def _discover(self, client: Any) -> str:
        """Where the provider's discovery document says that the keys are.

        Raises:
            KeySourceError: it says nothing, or speaks for another issuer.
        """
        url = self._issuer.rstrip("/") + DISCOVERY
        try:
            found = msgspec.json.decode(await _body(client, url))
            issuer, keys = found["issuer"], found["jwks_uri"]
        except (msgspec.DecodeError, TypeError, KeyError):
            raise KeySourceError(f"{url} is no discovery document") from None
        if issuer != self._issuer:
            raise KeySourceError(f"{url} speaks for another issuer, {str(issuer)[:200]!r}")
        if not str(keys).startswith(("https://", "http://")):
            raise KeySourceError(f"{url} names no address of keys")
        return str(keys)


def _trusting(place: str, ca_path: str) -> ssl.SSLContext:
    """A context that believes the authorities of a file, or the system's."""
    try:
        return ssl.create_default_context(cafile=ca_path or None)
    except (ssl.SSLError, OSError) as error:
        problem = f"{ca_path} cannot be used: {error.strerror or error}"
        raise SettingsError(f"{place}.ca_path", problem, "Name a file in PEM.") from None


async def _body(client: Any, url: str) -> bytes:
    """The body of an answer, at most :data:`_MOST_BYTES`.

    Raises:
        KeySourceError: there is none.
    """
    body = b""
    async with client.stream("GET", url) as answer:
        if answer.status_code != 200:
            raise KeySourceError(f"{url} answers {answer.status_code}")
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _MOST_BYTES:
                raise KeySourceError(f"{url} gives more than {_MOST_BYTES} bytes")
    return body
