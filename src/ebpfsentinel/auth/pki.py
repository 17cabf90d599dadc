"""Certificates for a start: an authority of one's own, a server's, and a client's.

For those who have no authority yet. Keys are P-256; the authority may sign nothing but servers and
clients below it, and its key is not needed by the agent: keep it elsewhere.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CA_DAYS, LEAF_DAYS = 3650, 397
_BACKDATED = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, PKCS #8."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def authority(name: str, now: dt.datetime) -> Pair:
    """A certification authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _begun(name, name, key, now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def server(name: str, names: Iterable[str], by: Pair, now: dt.datetime) -> Pair:
    """A server's certificate for host names and addresses."""
    alternative = x509.SubjectAlternativeName([_general(each) for each in names])
    return _leaf(name, ExtendedKeyUsageOID.SERVER_AUTH, by, now, alternative)


def client(name: str, by: Pair, now: dt.datetime) -> Pair:
    """A client's certificate; its common name says who it is."""
    return _leaf(name, ExtendedKeyUsageOID.CLIENT_AUTH, by, now, None)


def _leaf(
    name: str,
    use: x509.ObjectIdentifier,
    by: Pair,
    now: dt.datetime,
    alternative: x509.SubjectAlternativeName | None,
) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = by.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    builder = _begun(name, str(issuer), key, now, LEAF_DAYS)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(sign_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key()), critical=False
    )
    if alternative is not None:
        builder = builder.add_extension(alternative, critical=False)
    return Pair(builder.sign(by.key, hashes.SHA256()), key)


def _begun(
    name: str, issuer: str, key: ec.EllipticCurvePrivateKey, now: dt.datetime, days: int
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def write(folder: Path, name: str, pair: Pair) -> list[Path]:
    """Write ``name.pem`` and ``name.key``, the key for its owner alone.

    Raises:
        FileExistsError: one is there already; nothing is overwritten.
    """
    return [
        _write(folder / f"{name}.pem", pair.certificate_pem(), 0o644),
        _write(folder / f"{name}.key", pair.key_pem(), 0o600),
    ]


def _write(path: Path, data: bytes, mode: int) -> Path:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    return path
