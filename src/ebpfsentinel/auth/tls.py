"""TLS of the listeners: one set of files, contexts that outlive their certificates.

A listener is handed an :class:`ssl.SSLContext` once, but certificates come and go. So the context
that listeners hold is a shell: when a client says hello, the connection is moved to the inner
context of that moment, which is replaced whole when files change. Connections that are open go on
with what they began with. A live context could be given another certificate, too, but not fewer
authorities to believe, and a pair that does not fit would leave it broken.

Sessions are not resumed: a client whose certificate is believed no more has to show one again.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.security import ClientAuth, PqMode, Tls
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HTTP: tuple[str, ...] = ("http/1.1",)
GRPC: tuple[str, ...] = ("h2",)
PQ_GROUP = "X25519MLKEM768"
_PQ_OPENSSL = (3, 5)
_MODES = {
    ClientAuth.NONE: ssl.CERT_NONE,
    ClientAuth.OPTIONAL: ssl.CERT_OPTIONAL,
    ClientAuth.REQUIRED: ssl.CERT_REQUIRED,
}
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """Files that were read and fit."""

    settings: Tls
    inner: Mapping[tuple[str, ...], ssl.SSLContext]
    certificate: Mapping[str, Any] = field(default_factory=dict)


class TlsFiles:
    """The contexts of the listeners, and the state of their files.

    ``trouble`` says why the newest files are not in use; empty while they are.
    """

    def __init__(self) -> None:
        self._in_force: Prepared | None = None
        self._shells: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._loaded_ns = 0
        self._seen: tuple[Any, ...] = ()
        self.trouble = ""

    def prepare(self, settings: Tls, place: str) -> Prepared:
        """Read and check the files that ``settings`` at ``place`` name.

        Raises:
            SettingsError: they cannot be used; what is in force stays.
        """
        if not settings.enabled:
            return Prepared(settings, {})
        self._seen = _marks(settings)
        try:
            return _prepared(settings, place)
        except SettingsError as error:
            self.trouble = str(error)
            raise

    def adopt(self, prepared: Prepared) -> None:
        """New connections are served with this from now on; on or off is for the next start."""
        if self._in_force is not None and bool(self._in_force.inner) != bool(prepared.inner):
            return
        self._in_force = prepared
        self._loaded_ns = time.time_ns()
        self.trouble = ""
        for shell in self._shells.values():
            _dress(shell, prepared.settings)

    @property
    def enabled(self) -> bool:
        """Is TLS in force?"""
        return self._in_force is not None and bool(self._in_force.inner)

    @property
    def context(self) -> ssl.SSLContext | None:
        """For REST, WebSocket and metrics; None: TLS is off."""
        return self._shell(HTTP)

    @property
    def grpc_context(self) -> ssl.SSLContext | None:
        """For gRPC, which speaks HTTP/2; None: TLS is off."""
        return self._shell(GRPC)

    def _shell(self, protocols: tuple[str, ...]) -> ssl.SSLContext | None:
        if not self.enabled or self._in_force is None:
            return None
        if protocols not in self._shells:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.sni_callback = lambda tls, _name, _shell: self._move(tls, protocols)
            _dress(made, self._in_force.settings)
            self._shells[protocols] = made
        return self._shells[protocols]

    def _move(self, tls: Any, protocols: tuple[str, ...]) -> int | None:
        """Give a connection that begins the certificates of now."""
        if self._in_force is None or protocols not in self._in_force.inner:
            return int(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR)
        tls.context = self._in_force.inner[protocols]
        return None

    def changed(self) -> bool:
        """Are the files others than when they were looked at last?"""
        found = self._in_force
        if found is None or not self.enabled:
            return False
        return _marks(found.settings) != self._seen

    def status(self) -> dict[str, Any]:
        """What is in effect, for people."""
        if self._in_force is None or not self.enabled:
            return {"enabled": False}
        settings = self._in_force.settings
        return {
            "enabled": True,
            "versions": ["TLSv1.2", "TLSv1.3"] if settings.allow_tls12 else ["TLSv1.3"],
            "openssl": ssl.OPENSSL_VERSION,
            "post_quantum": _pq_status(settings.pq_mode),
            "client_auth": settings.client_auth.value,
            "certificate": dict(self._in_force.certificate),
            "loaded_ns": self._loaded_ns,
            "trouble": self.trouble,
        }

    @property
    def names(self) -> frozenset[str]:
        """Those on the certificate in use; IPv6 addresses as a ``Host`` header has them."""
        found = self._in_force.certificate.get("names", ()) if self._in_force else ()
        return frozenset(f"[{name}]" if ":" in name else name.lower() for name in found)

    def expires_s(self) -> float | None:
        """When the certificate in use expires, seconds since the Unix epoch; None: TLS is off."""
        if self._in_force is None or not self.enabled:
            return None
        return float(self._in_force.certificate["not_after_ns"]) / 1e9


def files_of(settings: Tls) -> Iterator[str]:
    """The files that the settings name."""
    if settings.enabled:
        yield from filter(None, (settings.cert_path, settings.key_path, settings.client_ca_path))


def _prepared(settings: Tls, place: str) -> Prepared:
    chain = _read(f"{place}.cert_path", settings.cert_path)
    key = _read(f"{place}.key_path", settings.key_path, secret=True)
    trusted = b""
    if settings.client_auth is not ClientAuth.NONE:
        trusted = _read(f"{place}.client_ca_path", settings.client_ca_path)
    _check_pq(settings, place)
    inner = {
        protocols: _inner(settings, place, (chain, key, trusted), protocols)
        for protocols in (HTTP, GRPC)
    }
    return Prepared(settings, inner, _about(chain, place))


def _inner(
    settings: Tls, place: str, data: tuple[bytes, bytes, bytes], protocols: tuple[str, ...]
) -> ssl.SSLContext:
    """A context with certificate, key and authorities.

    Raises:
        SettingsError: they do not fit.
    """
    chain, key, trusted = data
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _dress(made, settings)
    made.set_alpn_protocols(list(protocols))
    try:
        with _file(chain) as chain_path, _file(key) as key_path:
            made.load_cert_chain(chain_path, key_path, password=_no_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        problem = f"certificate and key cannot be used: {_reason(error)}"
        remedy = f"Check that {place}.key_path is the key of the first certificate, unencrypted."
        raise SettingsError(f"{place}.cert_path", problem, remedy) from None
    if trusted:
        _trust(made, trusted, place)
    return made


def _trust(made: ssl.SSLContext, trusted: bytes, place: str) -> None:
    try:
        with _file(trusted) as path:
            made.load_verify_locations(path)
    except (ssl.SSLError, OSError) as error:
        problem = f"holds no usable certificate: {_reason(error)}"
        raise SettingsError(f"{place}.client_ca_path", problem, "Give PEM certificates.") from None


def _dress(context: ssl.SSLContext, settings: Tls) -> None:
    """What connections take from the context that their listener holds."""
    least = ssl.TLSVersion.TLSv1_2 if settings.allow_tls12 else ssl.TLSVersion.TLSv1_3
    context.minimum_version = least
    context.verify_mode = _MODES[settings.client_auth]
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    """Bytes as a path, in memory: OpenSSL reads a chain and a key from paths only."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    found = getattr(error, "reason", None) or str(error)
    return str(found or type(error).__name__).lower().replace("_", " ")


def _read(place: str, path: str, *, secret: bool = False) -> bytes:
    """A file.

    Raises:
        SettingsError: it cannot be read, or everybody can.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES)
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror}"
        remedy = "Run: ebpfsentinel-agent tls init DIR, or name files that the agent may read."
        raise SettingsError(place, problem, remedy) from None
    if secret and mode & stat.S_IROTH:
        problem = f"{path} is a private key and everybody may read it"
        raise SettingsError(place, problem, f"Run: chmod o-r {path}")
    return data


def _marks(settings: Tls) -> tuple[Any, ...]:
    found: list[Any] = []
    for path in files_of(settings):
        try:
            status = Path(path).stat()
            found.append((path, status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            found.append((path, 0, 0, 0))
    return tuple(found)


def _about(chain: bytes, place: str) -> dict[str, Any]:
    """The first certificate, for people."""
    from cryptography import x509  # noqa: PLC0415 - 6 MB where TLS is off

    try:
        found = x509.load_pem_x509_certificate(chain)
    except ValueError:
        problem = "the file holds no certificate"
        raise SettingsError(f"{place}.cert_path", problem, "Give it in PEM.") from None
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        shown = []
    return {
        "subject": found.subject.rfc4514_string(),
        "issuer": found.issuer.rfc4514_string(),
        "names": shown,
        "serial": f"{found.serial_number:x}",
        "not_before_ns": int(found.not_valid_before_utc.timestamp()) * 10**9,
        "not_after_ns": int(found.not_valid_after_utc.timestamp()) * 10**9,
    }


def can_pq() -> bool:
    """Does this OpenSSL agree on keys by X25519MLKEM768? From 3.5 on it prefers to."""
    return ssl.OPENSSL_VERSION_INFO[:2] >= _PQ_OPENSSL


def _check_pq(settings: Tls, place: str) -> None:
    """Refuse what cannot be insisted on.

    Raises:
        SettingsError: this OpenSSL, or this Python's interface to it, cannot.
    """
    asked = settings.pq_mode
    if asked is PqMode.REQUIRE or (asked is PqMode.DISABLE and can_pq()):
        problem = f"{asked.value} cannot be had: {_why_not(asked)}"
        raise SettingsError(f"{place}.pq_mode", problem, "Set it to prefer.")


def _why_not(asked: PqMode) -> str:
    if not can_pq():
        return f"{ssl.OPENSSL_VERSION} has no {PQ_GROUP}, which came with 3.5"
    return f"this Python offers {PQ_GROUP} to who wants it, but cannot {asked.value} it"


def _pq_status(asked: PqMode) -> dict[str, str]:
    if can_pq():
        return {"asked": asked.value, "in_effect": f"{PQ_GROUP} preferred", "reason": ""}
    reason = "" if asked is PqMode.DISABLE else _why_not(asked)
    return {"asked": asked.value, "in_effect": "none", "reason": reason}
