"""Roles by client certificate, which TLS has verified before anyone here sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfsentinel.model.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ebpfsentinel.model.security import CertificateRole

HOW = "certificate"


def common_name(certificate: Mapping[str, Any]) -> str:
    """The subject's; of several the last. As :meth:`ssl.SSLSocket.getpeercert` has it."""
    names = [
        value
        for pairs in certificate.get("subject", ())
        for field, value in pairs
        if field == "commonName"
    ]
    return str(names[-1]) if names else ""


def alternative_names(certificate: Mapping[str, Any]) -> list[str]:
    """DNS names, addresses, e-mail addresses, URIs."""
    return [str(value) for _, value in certificate.get("subjectAltName", ())]


def identity_of(
    certificate: Mapping[str, Any] | None, roles: Iterable[CertificateRole]
) -> Identity | None:
    """What its holder may do, by the first entry that matches; None: nothing."""
    if not certificate:
        return None
    subject, others = common_name(certificate), alternative_names(certificate)
    for role in roles:
        by_subject = not role.subject_cn or role.subject_cn == subject
        by_other = not role.san or role.san in others
        if by_subject and by_other and (role.subject_cn or role.san):
            return given_by(role)
    return None


def given_by(role: CertificateRole) -> Identity:
    """The identity that an entry gives."""
    name = role.name or role.subject_cn or role.san
    return Identity(name, role.role, HOW, frozenset(role.namespaces))
