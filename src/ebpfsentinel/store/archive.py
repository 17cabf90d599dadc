"""A backup: one gzipped tar, readable with tar(1), that says itself what is in it.

Its first member is ``manifest.json``: format, versions, the head of the audit chain, and size and
SHA-256 of every other member. Members are plain files below ``state/`` and ``config/``. What is
read is believed in nothing: an archive comes from elsewhere and is unpacked by root. So tarfile
unpacks nothing here; a member is copied to a place that we made out, after it was seen that it is
a plain file, that the manifest names it, once, by a name that leads nowhere else, and while its
bytes are counted and hashed. :func:`check` does all that without a place to write to.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import sqlite3
import tarfile
import time
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import msgspec

from ebpfsentinel.store.chain import NOTHING, Link
from ebpfsentinel.store.database import MIGRATIONS
from ebpfsentinel.store.store import FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FORMAT = 1
MANIFEST = "manifest.json"
STATE, CONFIG = "state", "config"
OWN_FOLDER = "ebpfsentinel"
"""What a folder is called that holds nothing but our configuration."""
_MANIFEST_BYTES = 8 << 20
_CHUNK = 1 << 20
_NOT_STATE = ("lock", f"{FILE}-wal", f"{FILE}-shm", FILE)


class ArchiveError(Exception):
    """The archive cannot be made or must not be used; the text says why."""


class Kept(msgspec.Struct, frozen=True):
    """One file; ``sha256`` is hexadecimal."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself.

    ``schema`` is the database's; 0: there is none. ``config`` is the configuration's own file,
    below ``config/``; empty: there is none.
    """

    format: int
    agent: str
    made_ns: int
    host: str
    schema: int
    audit_head: Link
    config: str
    files: dict[str, Kept]


def write(target: Path, state_dir: Path, config: Mapping[str, Path], agent: str) -> Manifest:
    """Back up; an agent may run meanwhile.

    ``config`` are files by their names below ``config/``; the first is the configuration itself.

    Raises:
        ArchiveError: something cannot be read or written; there is no archive then.
    """
    fresh = target.with_name(f".{target.name}.part")
    stage = target.with_name(f".{target.name}.stage")
    try:
        stage.mkdir(mode=0o700)
        try:
            schema, head = _collect(stage, state_dir, config)
            found = _manifest(stage, agent, schema, head, next(iter(config), ""))
            _pack(fresh, stage, found)
            fresh.rename(target)
        finally:
            shutil.rmtree(stage)
            fresh.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise ArchiveError(f"nothing is backed up: {error}") from None
    return found


def _collect(stage: Path, state_dir: Path, config: Mapping[str, Path]) -> tuple[int, Link]:
    """Copy all there is to a place where nothing changes it: an agent may run."""
    schema, head = 0, Link(0, NOTHING.hex())
    (stage / STATE).mkdir()
    if (state_dir / FILE).exists():
        schema, head = _copy_database(state_dir / FILE, stage / STATE / FILE)
    for path in _others(state_dir):
        with contextlib.suppress(FileNotFoundError):  # a segment that has been sent meanwhile
            _copy(path, stage / STATE / path.relative_to(state_dir))
    for name, path in config.items():
        _copy(path, stage / CONFIG / name)
    return schema, head


def _copy_database(source: Path, target: Path) -> tuple[int, Link]:
    """A consistent copy (sqlite.org/backup.html): one file, the log beside it included."""
    copy, running = sqlite3.connect(target), sqlite3.connect(source)
    try:
        running.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        schema = int(copy.execute("PRAGMA user_version").fetchone()[0])
        with contextlib.suppress(sqlite3.OperationalError):  # older than the chain
            found = copy.execute("SELECT head_seq, head_hash FROM audit_chain").fetchone()
            if found:
                return schema, Link(found[0], found[1].hex())
    finally:
        running.close()
        copy.close()
    return schema, Link(0, NOTHING.hex())


def _others(state_dir: Path) -> Iterator[Path]:
    """Spools, and what else there is; what is acknowledged first, so that nothing is lost by it."""
    found = [path for path in state_dir.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in sorted(found, key=lambda path: (path.suffix != "", str(path))):
        if path.parent != state_dir or not path.name.startswith(_NOT_STATE):
            yield path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _manifest(stage: Path, agent: str, schema: int, head: Link, config: str) -> Manifest:
    names = sorted(str(path.relative_to(stage)) for path in stage.rglob("*") if path.is_file())
    files = {name: _kept(stage / name) for name in names}
    return Manifest(
        format=FORMAT,
        agent=agent,
        made_ns=time.time_ns(),
        host=socket.gethostname(),
        schema=schema,
        audit_head=head,
        config=config,
        files=files,
    )


def _kept(path: Path) -> Kept:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Kept(file.tell(), digest.hexdigest())


def _pack(target: Path, stage: Path, manifest: Manifest) -> None:
    body = msgspec.json.format(msgspec.json.encode(manifest)) + b"\n"
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as raw:  # noqa: PTH123 -- a descriptor
        with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, MANIFEST, io.BytesIO(body), len(body), manifest)
            for name, kept in manifest.files.items():
                with (stage / name).open("rb") as file:
                    _add(archive, name, file, kept.bytes, manifest)
        raw.flush()
        os.fsync(raw.fileno())


def _add(archive: tarfile.TarFile, name: str, file: IO[bytes], size: int, of: Manifest) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, of.made_ns // 10**9
    archive.addfile(member, file)


def check(source: Path) -> Manifest:
    """Read all of an archive; nothing is written.

    Raises:
        ArchiveError: it is not whole, is not what its manifest says, or is none at all.
    """
    return _read(source, None)


def unpack(source: Path, target: Path) -> Manifest:
    """Unpack below a new folder ``target``, checking as :func:`check` does.

    Raises:
        ArchiveError: as there; what is below ``target`` is then of no use.
    """
    target.mkdir(mode=0o700)
    return _read(source, target)


def _read(source: Path, target: Path | None) -> Manifest:
    try:
        with tarfile.open(source, mode="r|gz") as archive:
            members = iter(archive)
            manifest = _first(archive, next(members, None))
            waiting = dict(manifest.files)
            for member in members:
                _take(archive, member, waiting, target)
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise ArchiveError(f"{source} cannot be read: {error}") from None
    if waiting:
        raise ArchiveError(f"{next(iter(waiting))} is missing in it")
    return manifest


def _first(archive: tarfile.TarFile, member: tarfile.TarInfo | None) -> Manifest:
    if member is None or member.name != MANIFEST or not _is_plain(member):
        raise ArchiveError(f"it is no backup: its first member is not {MANIFEST}")
    if member.size > _MANIFEST_BYTES:
        raise ArchiveError(f"its {MANIFEST} is too large")
    reader = archive.extractfile(member)
    assert reader is not None  # noqa: S101 -- a plain file has one
    try:
        body = msgspec.json.decode(reader.read())
        _check_format(body)
        manifest = msgspec.convert(body, Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ArchiveError(f"its {MANIFEST} is not understood: {error}") from None
    if wrong := next((name for name in manifest.files if not _is_safe(name)), None):
        raise ArchiveError(f"the name {wrong!r} leads elsewhere")
    if manifest.schema > len(MIGRATIONS):
        raise ArchiveError(
            f"it is of version {manifest.agent}, whose database this version does not know: "
            "install that one, or a newer"
        )
    return manifest


def _check_format(body: object) -> None:
    found = body.get("format") if isinstance(body, dict) else None
    if found != FORMAT:
        raise ArchiveError(
            f"it has format {found!r}, this version knows {FORMAT}: install a newer version"
        )


def _take(
    archive: tarfile.TarFile, member: tarfile.TarInfo, waiting: dict[str, Kept], to: Path | None
) -> None:
    """One member: seen to be what the manifest says, and written where ``to`` is a folder."""
    if not _is_plain(member):
        raise ArchiveError(f"{member.name!r} is no plain file")
    kept = waiting.pop(member.name, None)
    if kept is None:
        raise ArchiveError(f"{member.name!r} is not in its manifest, or twice in it")
    reader = archive.extractfile(member)
    assert reader is not None  # noqa: S101 -- a plain file has one
    digest = hashlib.sha256()
    with _sink(to / member.name if to else None) as sink:
        while chunk := reader.read(_CHUNK):
            digest.update(chunk)
            sink.write(chunk)
    if (member.size, digest.hexdigest()) != (kept.bytes, kept.sha256):
        raise ArchiveError(f"{member.name} is not what was backed up: its checksum differs")


def _sink(path: Path | None) -> IO[bytes]:
    if path is None:
        return Path(os.devnull).open("wb")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return open(os.open(path, flags, 0o600), "wb")  # noqa: PTH123 -- a descriptor


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse()


def _is_safe(name: str) -> bool:
    """Does the name lead to a place below ``state/`` or ``config/``, and is it written so?"""
    path = PurePosixPath(name)
    return (
        str(path) == name
        and "\0" not in name
        and not path.is_absolute()
        and ".." not in path.parts
        and len(path.parts) > 1
        and path.parts[0] in (STATE, CONFIG)
    )
