"""The verbs about certificates."""

from __future__ import annotations

import datetime as dt
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Failure, Session, path

if TYPE_CHECKING:
    from collections.abc import Sequence

_NAMES = ("localhost", "127.0.0.1", "::1")


@click.group("tls")
def tls() -> None:
    """Certificates."""


@tls.command("status")
@click.pass_obj
def status(session: Session) -> None:
    """The certificate in use, versions and key exchange."""
    session.show(session.get(path("tls", "status")), _text)


def _text(body: dict[str, Any]) -> str:
    shown = dict(body)
    if about := shown.get("certificate"):
        times = {"not_before": "not_before_ns", "not_after": "not_after_ns"}
        kept = {name: value for name, value in about.items() if name not in times.values()}
        shown["certificate"] = kept | {
            name: tables.date_of(about[field]) for name, field in times.items()
        }
        shown["loaded"] = tables.date_of(shown.pop("loaded_ns"))
    return tables.pairs(shown)


@tls.command("init")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", "names", multiple=True, help="A further name or address of this host.")
@click.option(
    "--client", "clients", multiple=True, default=("admin",), show_default=True,
    help="Make a certificate for this client.",
)  # fmt: skip
@click.pass_obj
def init(session: Session, folder: Path, names: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Make an authority, and certificates of this host and of clients, in DIR."""
    known = [*_NAMES, *_own_names(), *names]
    try:
        made = _write(folder, list(dict.fromkeys(known)), clients)
    except FileExistsError as error:
        raise Failure(f"{error.filename} is there already. Name another folder.") from None
    except (OSError, ValueError) as error:
        raise Failure(f"Cannot write certificates: {error}.") from None
    body = {"files": [str(file) for file in made], "names": known}
    session.show(body, lambda _: _how_to(folder, made, clients[0]))


def _own_names() -> list[str]:
    host = socket.gethostname()
    return [host] if host.isascii() and host not in _NAMES else []


def _write(folder: Path, names: Sequence[str], clients: Sequence[str]) -> list[Path]:
    from ebpfsentinel.auth import pki  # noqa: PLC0415 - cryptography

    for client in clients:
        if "/" in client or client in ("", ".", "..", "ca", "server"):
            raise ValueError(f"{client!r} cannot be a file's name here")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC)
    authority = pki.authority("eBPFsentinel CA", now)
    made = pki.write(folder, "ca", authority)
    made += pki.write(folder, "server", pki.server(names[-1], names, authority, now))
    for client in clients:
        made += pki.write(folder, client, pki.client(client, authority, now))
    return made


def _how_to(folder: Path, made: Sequence[Path], client: str) -> str:
    where = folder.resolve()
    return "\n".join(
        [
            *(f"  {file}" for file in made),
            "",
            "In the configuration:",
            "",
            "  tls:",
            "    enabled: true",
            f"    cert_path: {where}/server.pem",
            f"    key_path: {where}/server.key",
            f"    client_ca_path: {where}/ca.pem",
            "    client_auth: optional    # or required",
            "  auth:",
            "    enabled: true",
            "    certificates:",
            f"      - {{subject_cn: {client}, role: admin}}",
            "",
            "And then:",
            "",
            f"  ebpfsentinel-agent status --ca {where}/ca.pem \\",
            f"      --cert {where}/{client}.pem --key {where}/{client}.key",
            "",
            f"{where}/ca.key signs further certificates: keep it elsewhere.",
        ]
    )
