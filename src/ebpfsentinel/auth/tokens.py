"""JSON web tokens (RFC 7519), of a key we were given or of an OpenID provider."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ebpfsentinel.auth.key_sets import FetchedKeys, FixedKeys
from ebpfsentinel.auth.signatures import (
    SigningKey,
    claims_of,
    from_jwks,
    from_pem,
    header_of,
    usable,
)
from ebpfsentinel.model.identity import Identity, Role
from ebpfsentinel.model.security import Algorithm, Jwt, Oidc
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.model.security import Claims

_NAME = 128
_MOST_BYTES = 16 << 10
_MOST_S = 1e11


class RefusedToken(Exception):  # noqa: N818 (it says what was done)
    """A token is not good. ``guessed``: it was not even signed by whom it says."""

    def __init__(self, problem: str, *, guessed: bool) -> None:
        super().__init__(problem)
        self.guessed = guessed


class KeySource(Protocol):
    """Gives the keys that may have signed a token."""

    async def find(self, algorithm: str, kid: str) -> list[SigningKey]:
        """Those that a token's header may mean."""


class Tokens:
    """Judges tokens by ``settings``, with the keys of ``source``."""

    def __init__(self, settings: Jwt | Oidc, source: KeySource) -> None:
        self._settings = settings
        self.source = source
        self._how = "oidc" if isinstance(settings, Oidc) else "jwt"

    async def identify(self, token: str) -> Identity:
        """Whose token it is.

        Raises:
            RefusedToken: nobody's.
        """
        header = header_of(token) if len(token) <= _MOST_BYTES else None
        if header is None:
            raise RefusedToken("This is no JSON web token.", guessed=True)
        algorithm, kid = header["alg"], header.get("kid", "")
        if algorithm not in self._algorithms():
            known = ", ".join(self._algorithms())
            raise RefusedToken(
                f"The token's algorithm is not taken here, only {known}.", guessed=True
            )
        keys = await self.source.find(algorithm, kid if isinstance(kid, str) else "")
        if not keys:
            raise RefusedToken("No key is known that signed this token.", guessed=False)
        claims = claims_of(token, keys)
        if claims is None:
            raise RefusedToken("The token's signature is not good.", guessed=True)
        self._check(claims)
        return self._identity(claims)

    def _algorithms(self) -> list[str]:
        if isinstance(self._settings, Jwt):
            return [self._settings.algorithm.value]
        return [each.value for each in Algorithm]

    def _check(self, claims: Mapping[str, Any]) -> None:
        """Time, issuer and audience.

        Raises:
            RefusedToken: one of them is not as it must be.
        """
        for problem in _problems(claims, self._settings, time.time()):
            raise RefusedToken(problem, guessed=False)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        wanted = self._settings
        name = _at(claims, wanted.name_claim) or claims.get("sub")
        if not isinstance(name, str) or not name.strip() or len(name) > _NAME:
            raise RefusedToken("The token names nobody: the claim sub is missing.", guessed=False)
        namespaces = _words(_at(claims, wanted.namespaces_claim))
        role = role_of(claims, wanted)
        until_ns = int((claims["exp"] + wanted.leeway_seconds) * 1e9)
        return Identity(name, role, self._how, frozenset(namespaces), until_ns)


def _problems(claims: Mapping[str, Any], wanted: Claims, now_s: float) -> Any:
    expires: Any = claims.get("exp")
    begins: Any = claims.get("nbf", 0)
    issued: Any = claims.get("iat", 0)
    leeway = wanted.leeway_seconds
    if not all(_is_time(each) for each in (expires, begins, issued)):
        yield "The token's times (exp, nbf, iat) are missing or no numbers."
        return
    if now_s >= expires + leeway:
        yield "The token has expired."
    if max(begins, issued) > now_s + leeway:
        yield "The token is not good yet."
    if wanted.issuer and claims.get("iss") != wanted.issuer:
        yield "The token is of another issuer."
    if wanted.audience and wanted.audience not in _words(claims.get("aud")):
        yield "The token is for another audience."


def _is_time(found: Any) -> bool:
    """Seconds since 1970 of this age; JSON, as Python reads it, has infinity and not-a-number."""
    return type(found) in (int, float) and 0 <= found < _MOST_S


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """What is at a path such as ``realm_access.roles``; a claim may have dots in its name."""
    if not path or path in claims:
        return claims.get(path)
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _words(found: Any) -> list[str]:
    if isinstance(found, str):
        return [found]
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def role_of(claims: Mapping[str, Any], wanted: Claims) -> Role:
    """The highest of the roles that are known; viewer where none is."""
    if wanted.roles_claim:
        named = _words(_at(claims, wanted.roles_claim))
    else:
        named = _words(claims.get("role")) or _words(claims.get("roles"))
    known = {role.value: role for role in Role} | wanted.role_map
    held = [known[word] for word in named if word in known]
    return max(held, key=list(Role).index, default=Role.VIEWER)


def read(place: str, path: str) -> bytes:
    """A file that a setting names.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        raise SettingsError(place, problem, "Name a file that the agent may read.") from None


def tokens_of(jwt: Jwt | None, oidc: Oidc | None) -> Tokens | None:
    """The judge that the settings ask for; None: tokens are not taken.

    Raises:
        SettingsError: a file of keys cannot be used.
    """
    if oidc is not None:
        return Tokens(oidc, FetchedKeys("auth.oidc", oidc, None, oidc.issuer))
    if jwt is None:
        return None
    if jwt.jwks_url:
        return Tokens(jwt, FetchedKeys("auth.jwt", jwt, jwt.algorithm))
    return Tokens(jwt, FixedKeys(_keys_of_files(jwt)))


def _keys_of_files(jwt: Jwt) -> list[SigningKey]:
    if jwt.public_key_path:
        place = "auth.jwt.public_key_path"
        return from_pem(place, read(place, jwt.public_key_path), jwt.algorithm)
    place = "auth.jwt.jwks_path"
    try:
        keys, left_out = from_jwks(read(place, jwt.jwks_path))
    except ValueError as error:
        raise SettingsError(place, str(error), "Give a JSON web key set (RFC 7517).") from None
    found = usable(keys, jwt.algorithm)
    if not found:
        told = f" ({'; '.join(left_out[:5])})" if left_out else ""
        problem = f"no key in it is one for {jwt.algorithm.value}{told}"
        raise SettingsError(place, problem, "Add one, or set auth.jwt.algorithm.")
    return found
