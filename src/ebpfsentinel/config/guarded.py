"""Who may call: what the sections ``auth``, ``tls`` and ``agent`` say of it must go together."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ebpfsentinel.model.security import ClientAuth, PqMode
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.config.sections import CoreSettings
    from ebpfsentinel.model.security import Auth, Jwt, Oidc, Tls

_KEY_LETTERS = 16


def is_loopback(address: str) -> bool:
    """``localhost``, 127.0.0.0/8 or ::1; a name is not looked up.

    Raises:
        SettingsError: neither ``localhost`` nor an address.
    """
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        remedy = "Write an address, such as 127.0.0.1 or ::1."
        problem = f"{address!r} is not an IP address"
        raise SettingsError("agent.bind_address", problem, remedy) from None


def check_access(settings: CoreSettings) -> list[str]:
    """What to warn of.

    Raises:
        SettingsError: sections contradict each other, or leave the agent open without saying so.
    """
    _check_tls(settings)
    _check_auth(settings.auth)
    if settings.auth.certificates and settings.effective_tls.client_auth is ClientAuth.NONE:
        problem = "clients are not asked for a certificate"
        raise SettingsError("auth.certificates", problem, "Set tls.client_auth: optional.")
    return [*_open_doors(settings), *_weak(settings.auth)]


def _open_doors(settings: CoreSettings) -> Iterator[str]:
    agent = settings.agent
    if is_loopback(agent.bind_address):
        return
    if not settings.auth.enabled:
        if not agent.allow_unauthenticated_api:
            raise SettingsError(
                "agent.bind_address",
                f"{agent.bind_address} is not loopback and nobody is asked who they are",
                "Bind 127.0.0.1, set auth.enabled: true, or say so in words: "
                "agent.allow_unauthenticated_api: true.",
            )
        yield (
            f"agent.bind_address is {agent.bind_address} and auth is off: "
            "whoever reaches it may change what is enforced"
        )
    if not settings.effective_tls.enabled:
        yield (
            f"agent.bind_address is {agent.bind_address} and TLS is off: "
            "keys and tokens can be read on the way; set tls.enabled: true"
        )


def _check_tls(settings: CoreSettings) -> None:
    if settings.tls.enabled and settings.agent.tls.enabled:
        raise SettingsError("agent.tls", "there is the section tls, too", "Keep one of both.")
    place = "tls" if settings.tls.enabled else "agent.tls"
    tls = settings.effective_tls
    if not tls.enabled:
        return
    for name in ("cert_path", "key_path"):
        if not getattr(tls, name):
            remedy = "Name the file; ebpfsentinel-agent tls init DIR makes some."
            raise SettingsError(f"{place}.{name}", "is needed for TLS", remedy)
    _check_clients(tls, place)


def _check_clients(tls: Tls, place: str) -> None:
    if tls.client_auth is not ClientAuth.NONE and not tls.client_ca_path:
        remedy = "Name the file with the authorities of client certificates."
        raise SettingsError(f"{place}.client_ca_path", "is needed by client_auth", remedy)
    if tls.pq_mode is PqMode.REQUIRE and tls.allow_tls12:
        problem = "TLS 1.2 has no post-quantum key exchange"
        raise SettingsError(f"{place}.pq_mode", problem, "Set allow_tls12: false.")


def _check_auth(auth: Auth) -> None:
    names: set[str] = set()
    keys: set[str] = set()
    for index, key in enumerate(auth.api_keys):
        place = f"auth.api_keys[{index}]"
        if key.name in names:
            problem = f"{key.name!r} has a key already"
            raise SettingsError(f"{place}.name", problem, "Give each its own name.")
        if key.key in keys:
            raise SettingsError(f"{place}.key", "another has it, too", "Give each its own key.")
        names.add(key.name)
        keys.add(key.key)
    for index, role in enumerate(auth.certificates):
        if not role.subject_cn and not role.san:
            place = f"auth.certificates[{index}]"
            raise SettingsError(place, "matches nothing", "Set subject_cn, san or both.")
    _check_tokens(auth.jwt, auth.oidc)


def _check_tokens(jwt: Jwt | None, oidc: Oidc | None) -> None:
    if jwt is not None and oidc is not None:
        raise SettingsError("auth.oidc", "there is auth.jwt, too", "Keep one of both.")
    if jwt is not None:
        sources = [
            name for name in ("public_key_path", "jwks_path", "jwks_url") if getattr(jwt, name)
        ]
        if len(sources) != 1:
            found = " and ".join(sources) or "no key"
            remedy = "Set one of public_key_path, jwks_path and jwks_url."
            raise SettingsError("auth.jwt", f"{found} is set", remedy)
    if oidc is not None:
        if not oidc.issuer.startswith(("https://", "http://")):
            remedy = "Write the provider's address as its tokens have it in iss."
            raise SettingsError("auth.oidc.issuer", "is required", remedy)
        if not oidc.audience:
            remedy = "Without it, tokens that were made for others would do."
            raise SettingsError("auth.oidc.audience", "is required", remedy)


def _weak(auth: Auth) -> Iterator[str]:
    if not auth.enabled:
        if auth.api_keys or auth.jwt or auth.oidc or auth.certificates:
            yield "auth.enabled is false: nobody is asked who they are, whatever else auth says"
        return
    for key in auth.api_keys:
        if len(key.key) < _KEY_LETTERS:
            yield f"the key of {key.name} in auth.api_keys has fewer than {_KEY_LETTERS} letters"
    if not (auth.api_keys or auth.jwt or auth.oidc or auth.certificates):
        yield "auth names nobody: only keys that `keys create` has made get in"
    for place, claims in (("auth.jwt", auth.jwt), ("auth.oidc", auth.oidc)):
        url = claims.jwks_url or getattr(claims, "issuer", "") if claims else ""
        if url.startswith("http://") and not _is_here(url):
            yield f"{place} fetches keys without TLS: who is in between can sign tokens"


def _is_here(url: str) -> bool:
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except SettingsError:
        return False
