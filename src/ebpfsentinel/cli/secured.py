"""How the command line reaches an agent that speaks TLS, and shows who it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Protocol

import click


class Means(Protocol):
    """What was said of the connection."""

    token: str
    token_file: Path | None
    tls: bool
    ca: Path | None
    cert: Path | None
    tls_key: Path | None


def is_secured(means: Means) -> bool:
    """Was TLS asked for, or something that makes sense with it alone?"""
    return bool(means.tls or means.ca or means.cert or means.tls_key)


def context(means: Means) -> ssl.SSLContext:
    """What the agent's certificate is judged by, and our own.

    Raises:
        UsageError: a file cannot be used.
    """
    made = ssl.create_default_context(cafile=_there("--ca", means.ca))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if means.tls_key and not means.cert:
        raise click.UsageError("--key: is of a client certificate. Name that with --cert.")
    if means.cert:
        certificate, key = _there("--cert", means.cert), _there("--key", means.tls_key)
        try:
            made.load_cert_chain(certificate or "", key)
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None) or error.strerror
            problem = f"--cert: certificate and key cannot be used ({reason})."
            raise click.UsageError(problem) from None
    return made


def _there(option: str, path: Path | None) -> str | None:
    if path is not None and not path.is_file():
        raise click.UsageError(f"{option}: {path} is no file.")
    return str(path) if path else None


def token(means: Means) -> str:
    """The key or token to show; empty: none.

    Raises:
        UsageError: its file cannot be read, or it is none.
    """
    found = means.token
    if not found and means.token_file is not None:
        try:
            found = Path(means.token_file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"--token-file: {error}.") from None
    if not (found.isascii() and found.isprintable()):
        raise click.UsageError("--token: a token is printable ASCII; this one is not.")
    return found


def untrusted(error: Exception) -> str:
    """Why a connection failed for its certificates; empty: it did not."""
    told = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in told:
        reason = told.rpartition("failed: ")[2].partition(" (_ssl")[0]
        return (
            f"its certificate is not believed ({reason}). Name the authority with --ca, and the "
            "agent by a name that is on its certificate with --host."
        )
    if "WRONG_VERSION_NUMBER" in told or "RECORD_LAYER_FAILURE" in told:
        return "it does not speak TLS. Leave out --tls, --ca, --cert and --key."
    if "CERTIFICATE_REQUIRED" in told:
        return "it asks for a client certificate. Give one with --cert and --key."
    return ""
