"""Keys that tokens are signed with, and the judgement of a signature.

Three algorithms are known here and no others: what a token's header says only chooses among them,
and each takes its own type of key. So neither ``none`` nor a public key that is used as an HMAC
secret can be an issue.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ebpfsentinel.model.security import Algorithm
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RSA_BITS = 2048
_TYPES: dict[str, tuple[type[RSAKey | ECKey | OKPKey], str, Algorithm]] = {
    "RSA": (RSAKey, "", Algorithm.RS256),
    "EC": (ECKey, "P-256", Algorithm.ES256),
    "OKP": (OKPKey, "Ed25519", Algorithm.EDDSA),
}
_HEADER_BYTES = 2048


class _Three(JWSRegistry):
    """The algorithms that we take. EdDSA is named as tokens still name it (RFC 8037)."""

    def __init__(self) -> None:
        super().__init__(strict_check_header=False)
        known = JWSRegistry.algorithms
        self.algorithms = {name.value: known[name.value] for name in Algorithm}

    def get_alg(self, name: str) -> Any:
        """One of the three; without the library's warning of an older name."""
        if name in self.algorithms:
            return self.algorithms[name]
        return super().get_alg(name)


_REGISTRY = _Three()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, the one algorithm that it is for, and its name, if it has one."""

    algorithm: Algorithm
    key: RSAKey | ECKey | OKPKey
    kid: str = ""


class UnsoundKeyError(ValueError):
    """A key is none that we take; the text says why."""


def header_of(token: str) -> dict[str, Any] | None:
    """The header of a JSON web token; None: it is no such thing."""
    first, _, rest = token.partition(".")
    if rest.count(".") != 1 or len(first) > _HEADER_BYTES:
        return None
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("alg"), str) else None


def claims_of(token: str, keys: Iterable[SigningKey]) -> dict[str, Any] | None:
    """The claims, where one of the keys signed them; None: none did."""
    for key in keys:
        try:
            return jwt.decode(token, key.key, registry=_REGISTRY).claims
        except (JoseError, ValueError):
            continue
    return None


def fitting(keys: Iterable[SigningKey], algorithm: str, kid: str) -> list[SigningKey]:
    """The keys that a header may mean: of this name, or without one."""
    found = [key for key in keys if key.algorithm.value == algorithm]
    return [key for key in found if not kid or not key.kid or key.kid == kid]


def from_pem(place: str, data: bytes, algorithm: Algorithm) -> list[SigningKey]:
    """The public key of a PEM file.

    Raises:
        SettingsError: it is none for this algorithm.
    """
    kind, _, _ = next(found for found in _TYPES.values() if found[2] is algorithm)
    try:
        key = _key(kind, data)
    except UnsoundKeyError as error:
        raise SettingsError(place, str(error), "Use a stronger key.") from None
    except (JoseError, ValueError, TypeError):
        problem = f"the file holds no public key for {algorithm.value}"
        remedy = "Give the PEM that begins with BEGIN PUBLIC KEY, of an RSA key for RS256, "
        remedy += "P-256 for ES256, Ed25519 for EdDSA."
        raise SettingsError(place, problem, remedy) from None
    return [SigningKey(algorithm, key)]


def from_jwks(data: bytes) -> tuple[list[SigningKey], list[str]]:
    """The keys of a key set (RFC 7517) that we can use, and why others were left out.

    Raises:
        ValueError: it is no key set.
    """
    try:
        found = msgspec.json.decode(data)
        listed = found["keys"]
    except (msgspec.DecodeError, TypeError, KeyError):
        raise ValueError("it is no key set: {'keys': [...]} is missing") from None
    if not isinstance(listed, list):
        raise ValueError("it is no key set: keys is no list")  # noqa: TRY004 - bad data
    keys, left_out = [], []
    for one in listed:
        try:
            keys.append(_imported(one))
        except (UnsoundKeyError, JoseError, ValueError, TypeError) as error:
            left_out.append(str(error) or type(error).__name__)
    return keys, left_out


def _imported(one: Any) -> SigningKey:
    if not isinstance(one, dict) or one.get("kty") not in _TYPES:
        raise UnsoundKeyError("a key of another type")
    if one.get("use", "sig") != "sig":
        raise UnsoundKeyError("a key that is not for signatures")
    kind, curve, algorithm = _TYPES[one["kty"]]
    if one.get("alg", algorithm.value) != algorithm.value or one.get("crv", "") != curve:
        raise UnsoundKeyError("a key for another algorithm")
    public = {name: one[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in one}
    key = _key(kind, public)
    return SigningKey(algorithm, key, str(one.get("kid", "")))


def _key(kind: type[Any], data: Any) -> Any:
    """A public key; of weak ones the library would only warn.

    Raises:
        UnsoundKeyError: it is too weak.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)
        key = kind.import_key(data)
    if isinstance(key, RSAKey):
        bits = key.public_key.key_size
        if bits < RSA_BITS:
            raise UnsoundKeyError(f"an RSA key of {bits} bits; at least {RSA_BITS} are needed")
    elif key.curve_name not in ("P-256", "Ed25519"):
        raise UnsoundKeyError(f"a key on {key.curve_name}")
    return key


def usable(keys: Sequence[SigningKey], algorithm: Algorithm | None) -> list[SigningKey]:
    """Those of one algorithm; None: all."""
    return [key for key in keys if algorithm is None or key.algorithm is algorithm]
