"""The audit trail as a chain: whatever is done to the file shows, and names the first entry."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ebpfsentinel.store import AuditEntry, AuditQuery, Store, verify_export
from ebpfsentinel.store.audit import DAY_NS
from ebpfsentinel.store.database import MIGRATIONS

NOW = 1_700_000_000 * 10**9


def entry(number: int, **more) -> AuditEntry:
    known = {"timestamp_ns": NOW + number, "component": "moat", "action": "rule_added"}
    return AuditEntry(**(known | {"rule_id": f"r{number}", "after": {"id": number}} | more))


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path, audit=1000, retention_days=7)
    yield made
    made.close()


@pytest.fixture
def filled(store):
    store.audit.append([entry(number) for number in range(1, 6)])
    for number in range(6, 11):
        store.audit.append([entry(number)])
    return store


@pytest.fixture
def file(tmp_path):
    """The same file, in other hands."""
    with sqlite3.connect(tmp_path / "ebpfsentinel.db", isolation_level=None) as connection:
        yield connection
    connection.close()


def test_a_trail_that_nobody_touched_is_intact(filled):
    found = filled.audit.verify()
    assert (found.intact, found.entries, found.anchor.seq, found.head.seq) == (True, 10, 0, 10)
    newest = filled.audit.query(AuditQuery(limit=1))[0][0]
    assert (newest.seq, newest.hash) == (found.head.seq, found.head.hash)
    assert newest.after == {"id": 10}


def test_an_empty_trail_is_intact(store):
    assert store.audit.verify().intact
    assert list(store.audit.export()) == [b'{"anchor":{"seq":0,"hash":"' + b"0" * 64 + b'"}}\n']


@pytest.mark.parametrize(
    ("done", "first"),
    [
        ("UPDATE audit SET body = replace(body, 'r4', 'r5') WHERE seq = 4", 4),
        ("DELETE FROM audit WHERE seq = 4", 5),
        ("DELETE FROM audit WHERE seq = 10", 10),
        ("DELETE FROM audit WHERE seq <= 3", 4),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET hash = zeroblob(32) WHERE seq = 7", 7),
        ("UPDATE audit SET component = 'other' WHERE seq = 6", 6),
        ("UPDATE audit SET seq = 11 WHERE seq = 2", 3),
        ("INSERT INTO audit SELECT 11, 1, '', '', '', body, hash FROM audit WHERE seq = 10", 11),
        ("UPDATE audit SET body = NULL, hash = 7 WHERE seq = 5", 5),
    ],
)
def test_whatever_is_changed_is_named(filled, file, done, first):
    file.execute(done)
    found = filled.audit.verify()
    assert not found.intact
    assert found.broken.seq == first
    assert str(first) in found.broken.problem
    assert len(filled.audit.query(AuditQuery())[0]) == filled.audit.query(AuditQuery())[1]


def test_what_lapses_goes_from_the_front_and_the_chain_stays_whole(store):
    for number in range(1, 31):
        store.audit.append([entry(number, timestamp_ns=NOW + number * DAY_NS)])
    store.sweep(NOW + 30 * DAY_NS)
    found = store.audit.verify()
    assert (found.intact, found.entries, found.anchor.seq, found.head.seq) == (True, 8, 22, 30)
    store.sweep(NOW + 100 * DAY_NS)
    found = store.audit.verify()
    assert (found.intact, found.entries, found.anchor.seq) == (True, 0, 30)
    store.audit.append([entry(31)])
    assert store.audit.verify().head.seq == 31


def test_a_clock_that_went_back_leaves_no_hole(store):
    for number, day in enumerate((10, 1, 11), start=1):
        store.audit.append([entry(number, timestamp_ns=NOW + day * DAY_NS)])
    store.sweep(NOW + 12 * DAY_NS)
    found = store.audit.verify()
    assert (found.intact, found.entries) == (True, 3)


def test_more_than_is_kept_goes_from_the_front(tmp_path):
    store = Store(tmp_path, audit=50)
    for begin in range(0, 200, 7):
        store.audit.append([entry(number) for number in range(begin, begin + 7)])
    found = store.audit.verify()
    store.close()
    assert (found.intact, found.entries, found.head.seq - found.anchor.seq) == (True, 50, 50)


def test_the_chain_goes_on_after_a_restart_and_while_entries_come_and_go(tmp_path):
    first = Store(tmp_path)
    first.audit.append([entry(1)])
    first.close()
    store = Store(tmp_path, audit=500)
    stop, found = threading.Event(), []

    def verify():
        while not stop.is_set():
            found.append(store.audit.verify())

    watching = threading.Thread(target=verify)
    watching.start()
    for number in range(2, 1500):
        store.audit.append([entry(number)])
    stop.set()
    watching.join()
    found.append(store.audit.verify())
    store.close()
    assert [each.broken for each in found if not each.intact] == []
    assert found[-1].head.seq == 1499


def test_entries_of_older_versions_are_linked_when_the_file_is_brought_up(tmp_path):
    path = tmp_path / "ebpfsentinel.db"
    older = sqlite3.connect(path)
    for script in MIGRATIONS[:4]:
        older.executescript(script)
    older.execute("PRAGMA user_version = 4")
    for seq in (7, 8, 9):
        body = json.dumps({"timestamp_ns": seq, "component": "moat", "action": "x", "rule_id": ""})
        older.execute(
            "INSERT INTO audit VALUES (?, ?, 'moat', 'x', '', ?)", (seq, seq, body.encode())
        )
    older.commit()
    older.close()
    store = Store(tmp_path)
    assert store.trouble == ""
    store.audit.append([entry(10)])
    found = store.audit.verify()
    store.close()
    assert (found.intact, found.entries, found.anchor.seq, found.head.seq) == (True, 4, 6, 10)


def test_an_export_is_verified_without_us(filled):
    """As docs/audit.md says: SHA-256 over the hash before, the number and the JSON."""
    lines = b"".join(filled.audit.export()).decode().splitlines()
    anchor = json.loads(lines[0])["anchor"]
    before = bytes.fromhex(anchor["hash"])
    for line in lines[1:]:
        row = json.loads(line)
        made = hashlib.sha256(before + row["seq"].to_bytes(8, "big") + row["entry"].encode())
        assert made.hexdigest() == row["hash"]
        before = made.digest()
    assert verify_export(lines).head == filled.audit.verify().head
    lines[4] = lines[4].replace("moat", "gate")
    assert verify_export(lines).broken.seq == 4
    with pytest.raises(ValueError, match="no export"):
        verify_export(["{}"])


def test_the_program_of_the_documentation_verifies_an_export(filled, tmp_path):
    page = (Path(__file__).parents[4] / "docs" / "audit.md").read_text()
    program = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    export = tmp_path / "trail.jsonl"

    def run():
        command = [sys.executable, "-c", program, str(export)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    export.write_bytes(b"".join(filled.audit.export()))
    head = filled.audit.verify().head
    assert run().stdout == f"intact up to {head.seq} {head.hash}\n"
    export.write_text(export.read_text().replace("r3", "r4", 1))
    done = run()
    assert (done.returncode, done.stderr) == (1, "entry 3 does not fit\n")


def test_retention_that_is_changed_is_in_force_at_the_next_sweep(store):
    for number in range(1, 5):
        store.audit.append([entry(number, timestamp_ns=NOW + number * DAY_NS)])
    store.audit.configure(1000, 1)
    store.sweep(NOW + 4 * DAY_NS)
    assert [each.seq for each in store.audit.query(AuditQuery())[0]] == [4, 3]


def test_text_that_is_not_unicode_is_kept(store):
    store.audit.append([entry(1, detail="caf\udce9")])
    assert store.audit.query(AuditQuery())[0][0].detail == "caf?"
    assert store.audit.verify().intact


def test_what_is_written_together_is_one_transaction_in_order(store, file):
    with store.together():
        store.audit.append([entry(1)])
        store.items.put("moat", "rules", "a", {"id": "a"})
        store.audit.append([entry(2)])
        assert file.execute("SELECT count(*) FROM audit").fetchone() == (0,)
    assert file.execute("SELECT count(*) FROM audit").fetchone() == (2,)
    assert store.items.query("moat", "rules") == [{"id": "a"}]
    assert store.audit.verify().entries == 2
