"""Backup and restore: consistent while somebody writes; whatever the archive, all or nothing."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from ebpfsentinel.store import ArchiveError, AuditEntry, Store, archive
from ebpfsentinel.store.holder import alone
from ebpfsentinel.store.restore import restore

AGENT = Path(sys.executable).parent / "ebpfsentinel-agent"
SEGMENT = b"records" * 100


def entry(number: int) -> AuditEntry:
    return AuditEntry(timestamp_ns=time.time_ns(), component="moat", action=f"a{number}")


@pytest.fixture
def state(tmp_path):
    """A state folder with a trail of twenty entries and a spool."""
    folder = tmp_path / "state"
    store = Store(folder)
    store.audit.append([entry(number) for number in range(20)])
    store.close()
    (folder / "spool/siem").mkdir(parents=True)
    (folder / "spool/siem/00001.segment").write_bytes(SEGMENT)
    return folder


@pytest.fixture
def config(tmp_path):
    """A configuration that names a file of its own folder, and one of another."""
    folder = tmp_path / "etc/ebpfsentinel"
    (folder / "tls").mkdir(parents=True)
    (folder / "tls/server.key").write_text("a key")
    path = folder / "config.yaml"
    path.write_text(f"agent: {{interfaces: [lo], state_dir: {tmp_path}/state}}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def made(tmp_path, state, config):
    """An archive of both."""
    files = {"config.yaml": config, "tls/server.key": config.parent / "tls/server.key"}
    archive.write(tmp_path / "a.backup", state, files, "1.2.3")
    return tmp_path / "a.backup"


def content(folder: Path) -> dict[str, str]:
    """What a folder holds, but for the log that SQLite keeps beside its file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm")) and path.name != "lock"
    }


def head(folder: Path) -> int:
    store = Store(folder)
    try:
        found = store.audit.verify()
        assert found.intact
        return found.head.seq
    finally:
        store.close()


def test_what_was_backed_up_comes_back(made, state, config, tmp_path):
    assert made.stat().st_mode & 0o777 == 0o600
    store = Store(state)
    store.audit.append([entry(99)] * 5)
    store.close()
    (state / "spool/siem/00002.segment").write_bytes(b"later")
    config.write_text("agent: {interfaces: [eth9]}\n")
    manifest, before = restore(made, state, config, force=True)
    assert (manifest.agent, manifest.audit_head.seq) == ("1.2.3", 20)
    assert head(state) == 21  # and the last entry tells of it
    assert head(before) == 25
    assert (state / "spool/siem/00001.segment").read_bytes() == SEGMENT
    assert not (state / "spool/siem/00002.segment").exists()
    assert "state_dir" in config.read_text()
    assert "eth9" in config.with_name("config.yaml.before").read_text()
    assert not list(tmp_path.glob(".*"))


def test_a_fresh_machine_gets_all_of_it(made, tmp_path):
    target = tmp_path / "new/ebpfsentinel/config.yaml"
    restore(made, tmp_path / "new/state", target, force=False)
    assert head(tmp_path / "new/state") == 21
    assert (target.parent / "tls/server.key").read_text() == "a key"


def test_what_is_restored_belongs_to_whom_the_folder_belongs_to(made, state, config):
    """Root restores; the agent is somebody else."""
    for path in [state, *state.rglob("*")]:
        os.chown(path, 64321, 64321)
    os.chown(config, 0, 64321)
    _, before = restore(made, state, config, force=True)
    for folder in (state, before):
        assert {path.stat().st_uid for path in [folder, *folder.rglob("*")]} == {64321}
    found = config.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 64321, 0o640)


def test_files_beside_the_configuration_only_come_to_a_folder_of_ours(made, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    restore(made, tmp_path / "new", tmp_path / "elsewhere/config.yaml", force=False)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["config.yaml"]


def test_a_backup_while_somebody_writes_is_whole(state, tmp_path):
    store, over = Store(state), threading.Event()

    def write() -> None:
        while not over.is_set():
            store.audit.append([entry(1)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [archive.write(tmp_path / f"{n}.backup", state, {}, "1") for n in range(5)]
    finally:
        over.set()
        writer.join()
        store.close()
    for number, manifest in enumerate(made):
        folder = tmp_path / f"restored-{number}"
        restore(tmp_path / f"{number}.backup", folder, tmp_path / "none.yaml", force=False)
        assert head(folder) == manifest.audit_head.seq + 1


def test_state_is_not_overwritten_unless_asked(made, state, config):
    before = content(state)
    with pytest.raises(ArchiveError, match="--force"):
        restore(made, state, config, force=False)
    assert content(state) == before


def test_a_folder_in_use_is_refused(made, state, config):
    script = (
        "import sys; from pathlib import Path; from ebpfsentinel.store.holder import Holder\n"
        "held = Holder(Path(sys.argv[1])); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, state],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as agent:  # fmt: skip
        assert agent.stdout.readline() == "held\n"
        with pytest.raises(ArchiveError, match="an agent runs"):
            restore(made, state, config, force=True)
        agent.communicate("end\n")
    with alone(state):
        pass


def rewritten(made: Path, change) -> Path:
    """The archive with its members changed: a list of (TarInfo, bytes)."""
    with tarfile.open(made, "r:gz") as old:
        members = [
            (member, old.extractfile(member).read() if member.isreg() else b"") for member in old
        ]
    change(members)
    with tarfile.open(made, "w:gz") as new:
        for member, data in members:
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return made


def manifest_with(**more):
    def change(members):
        first, data = members[0]
        members[0] = first, json.dumps(json.loads(data) | more).encode()

    return change


def renamed(name):
    """A member under another name, in the manifest too."""

    def change(members):
        first, data = members[0]
        body = json.loads(data)
        body["files"][name] = body["files"].pop("state/spool/siem/00001.segment")
        members[0] = first, json.dumps(body).encode()
        for member, _ in members:
            if member.name.endswith(".segment"):
                member.name = name

    return change


def of_type(kind, link=""):
    def change(members):
        at = next(n for n, (member, _) in enumerate(members) if member.name.endswith(".segment"))
        members[at][0].type, members[at][0].linkname = kind, link
        members[at] = members[at][0], b""

    return change


def other_bytes(members):
    at = next(n for n, (member, _) in enumerate(members) if member.name.endswith(".db"))
    data = bytearray(members[at][1])
    data[-1] ^= 1
    members[at] = members[at][0], bytes(data)


def broken_chain(members):
    """Somebody changed an entry, and made the sums anew."""
    at = next(n for n, (member, _) in enumerate(members) if member.name.endswith(".db"))
    data = members[at][1].replace(b'"action":"a7"', b'"action":"b7"')
    assert data != members[at][1]
    members[at] = members[at][0], data
    first, body = members[0]
    told = json.loads(body)
    told["files"]["state/ebpfsentinel.db"]["sha256"] = hashlib.sha256(data).hexdigest()
    members[0] = first, json.dumps(told).encode()


HOSTILE = {
    "newer format": (manifest_with(format=2), "format 2"),
    "newer database": (manifest_with(schema=999), "does not know"),
    "up and away": (renamed("state/../../gone"), "leads elsewhere"),
    "absolute": (renamed("/tmp/gone"), "leads elsewhere"),
    "beside": (renamed("other/gone"), "leads elsewhere"),
    "dotted": (renamed("state/./gone"), "leads elsewhere"),
    "a symbolic link": (of_type(tarfile.SYMTYPE, "/etc"), "no plain file"),
    "a hard link": (of_type(tarfile.LNKTYPE, "/etc/passwd"), "no plain file"),
    "a device": (of_type(tarfile.CHRTYPE), "no plain file"),
    "a folder": (of_type(tarfile.DIRTYPE), "no plain file"),
    "other bytes": (other_bytes, "checksum differs"),
    "a changed trail": (broken_chain, "audit trail is broken"),
    "one missing": (lambda members: members.pop(), "is missing"),
    "one more": (lambda members: members.append(members[-1]), "or twice"),
    "no manifest": (lambda members: members.pop(0), "no backup"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_changes_nothing(name, made, state, config, tmp_path):
    change, told = HOSTILE[name]
    rewritten(made, change)
    before = content(tmp_path)
    with pytest.raises(ArchiveError, match=told):
        restore(made, state, config, force=True)
    assert content(tmp_path) == before


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_torn_archive_changes_nothing(keep, made, state, config, tmp_path):
    whole = made.read_bytes()
    made.write_bytes(whole[: keep if isinstance(keep, int) else int(len(whole) * keep)])
    before = content(tmp_path)
    with pytest.raises(ArchiveError, match=r"cannot be read|no backup|is missing"):
        restore(made, state, config, force=True)
    assert content(tmp_path) == before


def test_killed_at_any_moment_it_leaves_the_old_state_or_the_new(made, state, config, tmp_path):
    """From before it has begun to when it is done; then another one goes through."""
    command = [AGENT, "-c", config, "restore", "--force", made]
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole_s = time.monotonic() - began
    found = set()
    for step in range(40):
        if step > 8 and len(found) == 2:
            break
        store = Store(state)
        store.audit.append([entry(99)] * 5)
        old = store.audit.head().seq
        store.close()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(whole_s * (0.3 + step / 10))
            running.send_signal(signal.SIGKILL)
        now = head(state)
        assert now in (old, 21)
        found.add(now == old)
        assert (state / "spool/siem/00001.segment").read_bytes() == SEGMENT
    assert found == {True, False}
    subprocess.run(command, check=True, capture_output=True)
    assert head(state) == 21
    assert not list(tmp_path.glob(".state*"))


def test_the_verbs_do_it_and_say_so(state, config, tmp_path):
    def run(*words, code=0):
        command = [AGENT, "-c", config, "-o", "json", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if not code else done.stderr

    config.write_text(config.read_text() + f"tls: {{cert_path: {config.parent}/tls/server.key}}\n")
    file = tmp_path / "b.backup"
    made = run("backup", file)
    assert made["audit_head"].startswith("20:")
    assert "is there already" in run("backup", file, code=1)
    with tarfile.open(file) as found:
        assert "config/tls/server.key" in found.getnames()
    assert run("restore", "--check", file)["files"] == made["files"]
    assert "--force" in run("restore", file, code=1)
    told = run("restore", "--force", file)
    assert told["state_dir"] == str(state)
    assert Path(told["before"]).is_dir()
    assert config.exists()
