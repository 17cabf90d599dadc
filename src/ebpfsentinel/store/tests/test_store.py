import resource
import sqlite3
import time

import pytest

from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.store import (
    AlertQuery,
    AuditEntry,
    AuditQuery,
    RuleChange,
    Store,
    StoreError,
    database,
)
from ebpfsentinel.store.audit import DAY_NS


def alert(number: int, **changes) -> Alert:
    known = {
        "id": f"{number}-r-{number}",
        "timestamp_ns": number,
        "component": "moat" if number % 2 else "gate",
        "severity": list(Severity)[number % 4],
        "rule_id": f"r{number % 3}",
        "action": "alert",
        "message": "m",
        "context": {"interface": "eth0"},
    }
    return Alert(**(known | changes))


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path, alerts=100, audit=50, retention_days=7)
    yield made
    made.close()


@pytest.fixture
def file_limit():
    """Set how large a file may grow; the old limit comes back at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_items_survive_a_restart_in_order(tmp_path):
    first = Store(tmp_path)
    for key in ("b", "a", "c"):
        assert first.items.put("moat", "rules", key, {"id": key, "n": 1})
    first.items.put("gate", "rules", "a", {"id": "other"})
    first.items.put("moat", "rules", "a", {"id": "a", "n": 2})
    first.items.remove("moat", "rules", "c")
    first.items.remove("moat", "rules", "nothing")
    first.memos.put("moat", {"x": 1})
    first.memos.put("moat", {"x": 2})
    first.close()
    again = Store(tmp_path)
    assert again.items.query("moat", "rules") == [{"id": "b", "n": 1}, {"id": "a", "n": 2}]
    assert again.items.query("gate", "rules") == [{"id": "other"}]
    assert again.memos.get("moat") == {"x": 2}
    assert again.memos.get("gate") is None
    again.close()


def test_what_comes_to_a_memo_is_in_it_until_it_is_written_again(tmp_path):
    first = Store(tmp_path)
    first.memos.put("moat", {"numbers": {"a": 1}, "x": 1})
    first.memos.add("moat", {"numbers": {"b": 2}})
    first.memos.add("moat", {"numbers": {"a": 3}, "new": {"c": 4}})
    first.memos.add("gate", {"numbers": {"z": 1}})
    first.close()
    again = Store(tmp_path)
    assert again.memos.get("moat") == {"numbers": {"a": 3, "b": 2}, "x": 1, "new": {"c": 4}}
    again.memos.put("moat", {"numbers": {"b": 2}})
    assert again.memos.get("moat") == {"numbers": {"b": 2}}
    assert again.memos.get("gate") == {"numbers": {"z": 1}}
    again.close()


def test_the_file_is_ours_alone(tmp_path, store):
    store.memos.put("a", {})
    assert (tmp_path / "ebpfsentinel.db").stat().st_mode & 0o077 == 0


def test_alerts_are_bounded_by_count_newest_kept(store):
    for start in range(0, 300, 30):
        store.alerts.append([alert(n) for n in range(start, start + 30)])
    found, total = store.alerts.query(AlertQuery(limit=1000))
    assert total == 100
    assert [a.timestamp_ns for a in found] == list(range(299, 199, -1))
    assert found[0].context == {"interface": "eth0"}
    assert found[0].severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("wanted", "keep"),
    [
        (AlertQuery(component="moat"), lambda a: a.component == "moat"),
        (AlertQuery(min_severity=Severity.LOW), lambda _: True),
        (AlertQuery(min_severity=Severity.HIGH), lambda a: a.severity.ordinal >= 2),
        (AlertQuery(rule_id="r1"), lambda a: a.rule_id == "r1"),
        (AlertQuery(from_ns=10, to_ns=20), lambda a: 10 <= a.timestamp_ns <= 20),
        (AlertQuery(false_positive=True), lambda a: a.timestamp_ns == 33),
        (AlertQuery(false_positive=False), lambda a: a.timestamp_ns != 33),
        (AlertQuery(component="moat", rule_id="r2", limit=3, offset=2), None),
    ],
)
def test_alert_filters_and_their_true_total(store, wanted, keep):
    many = [alert(n) for n in range(60)]
    store.alerts.append(many)
    assert store.alerts.mark_false_positive("33-r-33")
    keep = keep or (lambda a: a.component == "moat" and a.rule_id == "r2")
    matching = [a.id for a in reversed(many) if keep(a)]
    found, total = store.alerts.query(wanted)
    assert total == len(matching)
    assert [a.id for a in found] == matching[wanted.offset : wanted.offset + wanted.limit]


def test_text_that_is_not_unicode_is_kept_as_far_as_it_is(store):
    assert store.alerts.append([alert(1, message="/tmp/\udcff", context={"argv": ["\udc80ok"]})])
    found, _ = store.alerts.query(AlertQuery())
    assert (found[0].message, found[0].context) == ("/tmp/?", {"argv": ["?ok"]})


def test_marking_what_is_not_there(store):
    assert not store.alerts.mark_false_positive("no")


def test_audit_filters_bounds_and_retention(store):
    now = 100 * DAY_NS
    store.audit.append(
        [
            AuditEntry(
                timestamp_ns=now - n * DAY_NS // 2,
                component="moat" if n % 2 else "config",
                action="rule_added",
                rule_id=f"r{n}",
                detail="d" * 600,
            )
            for n in range(60, 0, -1)
        ]
    )
    found, total = store.audit.query(AuditQuery(component="moat"))
    assert total == 25
    assert len(found[0].detail) == 512
    store.sweep(now)
    assert store.audit.query(AuditQuery())[1] == 14
    assert store.audit.query(AuditQuery(rule_id="r3"))[0][0].rule_id == "r3"


def test_rule_history_has_versions_and_is_bounded(store):
    for n in range(3):
        store.audit.append_change(
            RuleChange(
                timestamp_ns=n,
                component="moat",
                action="rule_updated",
                actor="api",
                rule_id="a",
                before={"n": n},
                after={"n": n + 1} if n < 2 else None,
            )
        )
    found = store.audit.history("a")
    assert [change.version for change in found] == [3, 2, 1]
    assert found[0].after is None
    assert found[2].before == {"n": 0}
    assert store.audit.history("b") == []
    store.sweep(100 * DAY_NS)
    assert [change.version for change in store.audit.history("a")] == [3]
    for n in range(70):
        store.audit.append_change(
            RuleChange(timestamp_ns=n, component="x", action="a", actor="b", rule_id="many")
        )
    assert len(store.audit.history("many", 500)) == 50


def test_a_full_disk_is_counted_logged_once_and_recovered(
    tmp_path, file_limit, monkeypatch, caplog
):
    monkeypatch.setattr(database, "BACKLOG_WRITES", 5)
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    store = Store(tmp_path)
    store.alerts.append([alert(1)])
    file_limit(200_000)
    big = {"context": {"x": "y" * 100_000}}
    results = [store.alerts.append([alert(n, **big)]) for n in range(2, 14)]
    assert not results[-1]
    assert store.trouble
    assert str(tmp_path) in store.trouble
    kept_now = results.count(True)
    assert store.waiting == 5
    assert store.lost == {"alerts": 12 - kept_now - 5}
    assert sum("store fails" in record.message for record in caplog.records) == 1
    file_limit(resource.RLIM_INFINITY)
    store.sweep(time.time_ns())
    assert store.trouble == ""
    assert store.waiting == 0
    assert store.alerts.query(AlertQuery())[1] == 1 + kept_now + 5
    assert sum("store works again" in record.message for record in caplog.records) == 1
    store.close()


def test_a_locked_file_waits_in_memory_and_is_written_later(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    monkeypatch.setattr(database, "BUSY_MS", 1)
    store = Store(tmp_path)
    other = sqlite3.connect(tmp_path / "ebpfsentinel.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert not store.items.put("moat", "rules", "a", {"id": "a"})
    assert "locked" in store.trouble
    assert "Another process holds it" in store.trouble
    other.execute("ROLLBACK")
    other.close()
    assert store.items.put("moat", "rules", "b", {"id": "b"})
    assert [item["id"] for item in store.items.query("moat", "rules")] == ["a", "b"]
    store.close()


def test_a_corrupt_file_is_moved_aside_not_deleted(tmp_path):
    path = tmp_path / "ebpfsentinel.db"
    path.write_bytes(b"not a database at all" * 100)
    store = Store(tmp_path)
    assert store.trouble == ""
    assert "was no usable database" in store.notes[0]
    aside = next(tmp_path.glob("ebpfsentinel.db.corrupt-*"))
    assert aside.read_bytes().startswith(b"not a database")
    assert store.alerts.append([alert(1)])
    store.close()


def test_a_file_that_rots_while_it_is_open_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    store = Store(tmp_path)
    store.alerts.append([alert(n) for n in range(500)])
    store.close()
    path = tmp_path / "ebpfsentinel.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    store = Store(tmp_path)
    with pytest.raises(StoreError, match="malformed"):
        store.alerts.query(AlertQuery())
    assert store.alerts.append([alert(1)])
    assert store.alerts.query(AlertQuery())[1] == 1
    assert list(tmp_path.glob("ebpfsentinel.db.corrupt-*"))
    store.close()


def test_a_state_folder_that_cannot_be_made_degrades(tmp_path):
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / "state")
    assert "agent.state_dir" in store.trouble
    assert not store.items.put("a", "b", "c", {})
    with pytest.raises(StoreError):
        store.items.query("a", "b")
    store.close()
    assert store.lost == {"items": 1}


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "ebpfsentinel.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = Store(tmp_path)
    assert "Start the newer version" in store.trouble
    assert not list(tmp_path.glob("*corrupt*"))
    store.close()


@pytest.mark.usefixtures("store")
def test_the_schema_version_is_recorded(tmp_path):
    rows = sqlite3.connect(tmp_path / "ebpfsentinel.db")
    assert rows.execute("SELECT version FROM migrations").fetchall() == [
        (number,) for number in range(1, len(database.MIGRATIONS) + 1)
    ]
    rows.close()
