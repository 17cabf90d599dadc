"""Putting a backup in the place of what is there, whole or not at all.

Everything is unpacked, checked and brought up to date beside the state folder; then both folders
change places in one step (renameat2(2), ``RENAME_EXCHANGE``). Killed at any moment, this leaves the
old state or the new one. What was there before stays beside it, with the time in its name, until
somebody removes it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
import time
from typing import TYPE_CHECKING

from ebpfsentinel.store import archive
from ebpfsentinel.store.archive import CONFIG, OWN_FOLDER, STATE, ArchiveError
from ebpfsentinel.store.audit import AuditEntry
from ebpfsentinel.store.holder import alone
from ebpfsentinel.store.store import FILE, Store

if TYPE_CHECKING:
    from pathlib import Path

    from ebpfsentinel.store.archive import Manifest

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_LEAST_FREE = 16 << 20


def restore(source: Path, state_dir: Path, config: Path, *, force: bool) -> tuple[Manifest, Path]:
    """Put the archive in place; what was there before is where the path says.

    Raises:
        ArchiveError: it must not be used, or cannot be put there; nothing has changed.
    """
    manifest = archive.check(source)
    stage = state_dir.with_name(f".{state_dir.name}.restoring")
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_place(state_dir, manifest, force=force)
        with alone(state_dir):
            shutil.rmtree(stage, ignore_errors=True)  # of one that was killed
            try:
                archive.unpack(source, stage)
                _check_state(stage / STATE, source)
                _own(stage, state_dir)
                before = _exchange(stage / STATE, state_dir)
                _place_config(stage / CONFIG, config, manifest.config)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    except BlockingIOError:
        raise ArchiveError(f"an agent runs on {state_dir}: end it first") from None
    except OSError as error:
        raise ArchiveError(f"nothing is restored: {error}") from None
    return manifest, before


def _check_place(state_dir: Path, manifest: Manifest, *, force: bool) -> None:
    if (state_dir / FILE).exists() and not force:
        raise ArchiveError(f"{state_dir} has state already: --force puts it aside")
    if state_dir.is_mount():
        raise ArchiveError(f"{state_dir} is a mount point, which cannot be exchanged in one step")
    needed = sum(kept.bytes for kept in manifest.files.values()) + _LEAST_FREE
    if shutil.disk_usage(state_dir).free < needed:
        raise ArchiveError(f"{state_dir} has less than {needed} bytes free")


def _check_state(folder: Path, source: Path) -> None:
    """A sound database with an unbroken chain; it is told in there that it was restored."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if not (folder / FILE).exists():
        return
    try:
        with sqlite3.connect(folder / FILE) as database:
            sound = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
        database.close()
    except sqlite3.Error as error:
        sound = str(error)
    if sound != "ok":
        raise ArchiveError(f"its database is damaged: {sound}")
    store = Store(folder)
    try:
        found = store.audit.verify()
        if found.broken is not None:
            raise ArchiveError(f"its audit trail is broken: {found.broken.problem}")
        store.audit.append([_told(source)])
    finally:
        store.close()


def _told(source: Path) -> AuditEntry:
    detail = f"state and configuration from {source.name}"
    actor = f"uid {os.environ.get('SUDO_UID', os.getuid())}"
    return AuditEntry(
        timestamp_ns=time.time_ns(),
        component="store",
        action="restored",
        actor=actor,
        detail=detail,
    )


def _own(stage: Path, state_dir: Path) -> None:
    """New state belongs to whom the old belonged to."""
    owner = state_dir.stat()
    (stage / STATE).chmod(owner.st_mode & 0o777)
    for path in [stage / STATE, *(stage / STATE).rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    for path in stage.rglob("*"):
        _sync(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _exchange(fresh: Path, state_dir: Path) -> Path:
    """Both change places; the old one is then put beside the new."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = _AT_FDCWD, os.fsencode(fresh), _AT_FDCWD, os.fsencode(state_dir), _RENAME_EXCHANGE
    if libc.renameat2(*paths):
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            raise ArchiveError(f"the file system of {state_dir} cannot exchange folders")
        raise OSError(number, os.strerror(number), str(state_dir))
    before = state_dir.with_name(f"{state_dir.name}.before-{time.time_ns()}")
    fresh.rename(before)
    _sync(state_dir.parent)
    return before


def _place_config(folder: Path, config: Path, own: str) -> None:
    """Files of the configuration, each in one step; those in their way are kept beside them.

    Only a folder that is ours alone takes files beside the configuration itself: in /etc, an
    archive of somebody else could bring more than settings.
    """
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    for name in sorted(names):
        if str(name) == own:
            _place(folder / name, config)
        elif config.parent.name == OWN_FOLDER:
            _place(folder / name, config.parent / name)


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    owner = target.stat() if target.exists() else target.parent.stat()
    fresh = target.with_name(f".{target.name}.restoring")
    shutil.copyfile(source, fresh)
    fresh.chmod(0o640 if owner.st_gid else 0o600)
    os.chown(fresh, owner.st_uid, owner.st_gid)
    _sync(fresh)
    if target.exists():
        before = target.with_name(f"{target.name}.before")
        before.unlink(missing_ok=True)
        before.hardlink_to(target)
    fresh.rename(target)
