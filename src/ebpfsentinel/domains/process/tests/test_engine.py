"""Events to findings: rules, columns, filters, kills."""

import json

import msgspec
import numpy as np
import pytest
from process_records import NOW, OFFSET, engine, plan, record, rows

from ebpfsentinel.domains.process import DOMAIN
from ebpfsentinel.domains.process.columns import COLUMNS, Events, table
from ebpfsentinel.domains.process.events import (
    PROCESS_COUNTS,
    PROCESS_EXEC_LARGE,
    ProcessCapture,
    ProcessEvent,
    ProcessFlag,
    ProcessSetuidCall,
)
from ebpfsentinel.domains.process.fields import FIELDS
from ebpfsentinel.domains.process.rule_file import ProcessRule, RuleAction
from ebpfsentinel.model.action import Kill
from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.conditions import FieldType, Words
from ebpfsentinel.model.settings import Mode, SettingsError

DOCKER = "0123456789abcdef" * 4


def rule_file(condition, action="alert", **more):
    first = {"name": "r", "condition": condition, "risk_score": 0.7, "action": action, **more}
    return json.dumps({"rules": [first]})


def hits(condition, source, row, before=()):
    made = engine(rule_file(condition))
    for earlier, rows_before in before:
        made.feed(earlier, rows_before, NOW)
    return sum(alert.count for alert in made.feed(source, row, NOW).alerts)


def test_the_example_of_the_specification_as_it_stands():
    text = """{"rules": [{"name": "suspicious_temp_execution",
      "condition": "process.path.contains('/tmp/')", "risk_score": 0.7, "action": "alert"}]}"""
    made = engine(text)
    row = record("exec", 9, path=b"/tmp/evil", argv=["evil", "-x"], uid=1000, cwd=b"/home/u")
    (alert,) = made.feed("execs", row, NOW).alerts
    assert alert.rule_id == "suspicious_temp_execution"
    assert (alert.action, alert.severity, alert.component) == ("alert", Severity.HIGH, "process")
    assert alert.timestamp_ns == OFFSET + 90
    assert msgspec.to_builtins(alert.finding) == {
        "label": "Suspicious Temp Execution",
        "risk_score": 0.7,
        "detection_method": "rule_based",
        "recommendation": "monitor_process",
        "confidence": 0.8,
    }
    process = alert.context["process"]
    assert (process["argv"], process["cwd"], process["uid"]) == (["evil", "-x"], "/home/u", 1000)
    msgspec.json.encode(alert)


def test_a_condition_without_a_type_is_about_execs_only():
    before = [("execs", record("exec", 9, path=b"/tmp/evil"))]
    condition = "process.path.contains('/tmp/')"
    assert hits(condition, "exits", record("exit", 9), before) == 0
    typed = condition + " && event.type == 'exit'"
    assert hits(typed, "exits", record("exit", 9), before) == 1
    assert hits(typed, "execs", record("exec", 9, path=b"/tmp/evil")) == 0


@pytest.mark.parametrize(
    ("condition", "values"),
    [
        ("process.name == 'bash'", {"path": b"/usr/bin/bash"}),
        ("process.name == 'bash'", {"path": b"/usr/bin/bash (deleted)"}),
        ("process.name == 'kworker/0:1'", {"comm": b"kworker/0:1"}),
        ("process.args == 'a b c'", {"argv": ["a", "b", "c"]}),
        ("process.argv == ['a', '', 'c']", {"argv": ["a", "", "c"]}),
        ("process.argv[1] == '-e' && process.argc == 2", {"argv": ["nc", "-e"]}),
        ("process.uid == 4294967294", {"uid": 4294967294}),
        ("process.loginuid == -1", {"loginuid": 0xFFFFFFFF}),
        ("process.loginuid == 1000", {"loginuid": 1000}),
        ("process.memfd && process.deleted", {"flags": ProcessFlag.PROCESS_MEMFD | 32}),
        ("process.args_truncated", {"flags": ProcessFlag.PROCESS_ARGV_TRUNCATED}),
        ("process.tty", {"flags": ProcessFlag.PROCESS_TTY}),
        ("process.container.id == ''", {"cgroup": b"/user.slice/session-1.scope"}),
        (
            f"process.container.id == '{DOCKER}'",
            {"cgroup": f"/system.slice/docker-{DOCKER}.scope".encode()},
        ),
        (r"process.path == '/x\\xff'", {"path": b"/x\xff"}),
        ("process.net_ns == 4026531833", {"net_ns": 4026531833}),
        (
            "process.script == '/tmp/x.sh'",
            {"argv": ["/bin/sh", "/tmp/x.sh"], "flags": ProcessFlag.PROCESS_SCRIPT},
        ),
        (
            "process.script == '/home/u/x.sh'",
            {
                "argv": ["/bin/sh", "-e", "./x.sh", "one"],
                "cwd": b"/home/u",
                "flags": ProcessFlag.PROCESS_SCRIPT,
            },
        ),
        (
            "process.script == '/tmp/x.py'",
            {
                "argv": ["/usr/bin/env", "python3", "/tmp/x.py"],
                "path": b"/usr/bin/env",
                "flags": ProcessFlag.PROCESS_SCRIPT,
            },
        ),
        ("process.script == ''", {"argv": ["/bin/sh", "/tmp/x.sh"]}),
    ],
)
def test_fields_of_an_exec(condition, values):
    assert hits(condition, "execs", record("exec", 9, **values)) == 1
    assert hits(f"!({condition})", "execs", record("exec", 9, **values)) == 0


def test_fields_of_the_other_events():
    assert hits(
        "event.type == 'exec_failed' && exec.error == 'ENOENT' && exec.filename == '/nope'",
        "exec_fails",
        record("exec_failed", 9, error=2, dirfd=-100, filename=b"/nope"),
    )
    assert hits(
        "event.type == 'exit' && exit.signal == 11 && exit.code == 0",
        "exits",
        record("exit", 9, signal=11),
    )
    assert hits(
        "event.type == 'setuid' && setuid.call == 'setresuid' && setuid.old_uid == 1000 "
        "&& process.uid == 0 && setuid.asked == -1",
        "setuids",
        record(
            "setuid", 9, call=ProcessSetuidCall.CALL_SETRESUID, old_uid=1000, asked_1=0xFFFFFFFF
        ),
    )
    victim = [("execs", record("exec", 50, path=b"/usr/bin/victim", uid=77))]
    known = record(
        "ptrace",
        9,
        flags=ProcessFlag.PROCESS_TARGET_KNOWN,
        request=16,
        target_pid=50,
        target_start_ns=500,
        target_uid=77,
    )
    condition = (
        "event.type == 'ptrace' && ptrace.request == 'ATTACH' && ptrace.target.name == 'victim' "
        "&& ptrace.target.uid == 77 && ptrace.target.pid == 50"
    )
    assert hits(condition, "ptraces", known, victim)
    refused = record("ptrace", 9, request=16, result=-1, asked_pid=3, pid_ns=4)
    in_container = [
        ("execs", record("exec", 50, path=b"/usr/bin/victim", uid=77, pid_ns=4, ns_pid=3))
    ]
    assert hits(condition + " && ptrace.result == -1", "ptraces", refused, in_container)
    assert hits("event.type == 'ptrace' && ptrace.target.uid == -1", "ptraces", refused)


def test_parents_are_what_they_were_when_they_forked():
    before = [
        ("execs", record("exec", 5, path=b"/usr/sbin/nginx")),
        ("forks", record("fork", 6, parent=(5, 50))),
        ("execs", record("exec", 5, time=5_000, path=b"/bin/else")),
    ]
    row = record("exec", 6, parent=(1, 1), time=6_000, path=b"/bin/sh")
    assert hits(
        "process.parent.path == '/usr/sbin/nginx' && process.ppid == 1", "execs", row, before
    )
    assert hits("process.ancestors.exists(a, a == 'nginx')", "execs", row, before)


def test_the_large_record_is_an_exec_like_the_small_one():
    row = np.zeros(1, PROCESS_EXEC_LARGE)
    row["version"], row["type"], row["pid"] = 1, ProcessEvent.PROCESS_EXEC, 9
    row["path"] = b"/" + b"d" * 900
    row["argv"] = b"\0".join([b"x" * 100] * 40)
    assert hits("process.path.size() == 901 && process.argv.size() == 40", "execs_large", row) == 1


def test_every_documented_field_has_a_column_of_its_type_for_every_event():
    assert set(COLUMNS) == {field.name for field in FIELDS}
    made = engine()
    for source, kind in (
        ("_execs", "exec"),
        ("_forks", "fork"),
        ("_exits", "exit"),
        ("_exec_fails", "exec_failed"),
        ("_ptraces", "ptrace"),
        ("_setuids", "setuid"),
    ):
        events: Events = getattr(made, source)(rows(record(kind, 9), record(kind, 10)))
        columns = table(events, COLUMNS).columns
        for field in FIELDS:
            column = columns[field.name]
            if field.type in {FieldType.STRING, FieldType.STRINGS}:
                assert isinstance(column, Words)
                wanted = str if field.type is FieldType.STRING else tuple
                assert all(isinstance(value, wanted) for value in column.values)
                assert column.codes.shape == (2,)
            else:
                assert column.shape == (2,)
                assert column.dtype == (np.bool_ if field.type is FieldType.BOOL else np.int64)


def test_matches_that_are_alike_make_one_alert_with_a_count():
    made = engine(rule_file("process.path.contains('/tmp/')"))
    batch = rows(*(record("exec", pid, path=b"/tmp/x", argv=["x"]) for pid in range(10, 60)))
    (alert,) = made.feed("execs", batch, NOW).alerts
    assert alert.count == 50


def test_ignored_processes_stay_in_the_tree_and_are_not_judged():
    made = engine(rule_file("process.path != '' || event.type == 'fork'"), ignored=["/opt/agent/*"])
    flagged = record("exec", 9, path=b"/opt/agent/run", flags=ProcessFlag.PROCESS_IGNORED)
    assert not made.feed("execs", flagged, NOW).alerts
    assert not made.feed("forks", record("fork", 10, parent=(9, 90)), NOW).alerts
    assert made.tree.at_pid(9).ignored
    assert made.tree.live == 2
    made.commit(plan(made, rule_file("process.path != '' || event.type == 'fork'")))
    assert not made.tree.at_pid(9).ignored


def test_only_what_a_rule_may_match_is_collected():
    def wanted(condition, **settings):
        actions = plan(engine(), rule_file(condition), **settings).actions
        return next(a.values[0] for a in actions if a.map == "process_wanted")

    quiet = wanted("process.path.contains('/tmp/')", capture_args=False, capture_cwd=False)
    assert not any(quiet[name] for name in ("events", "capture", "ptrace_requests", "setuid_calls"))
    ptrace = wanted("event.type == 'ptrace' && ptrace.request in ['ATTACH', 'SEIZE']")
    assert ptrace["events"] == 1 << ProcessEvent.PROCESS_PTRACE
    assert ptrace["ptrace_requests"] == 1 << 16 | 1 << (32 + 6)
    setuid = wanted("event.type == 'setuid' && setuid.call == 'setuid'")
    assert setuid["setuid_calls"] == 1 << ProcessSetuidCall.CALL_SETUID
    assert wanted("event.type == 'exec_failed'")["events"] == 1 << ProcessEvent.PROCESS_EXEC_FAILED
    assert (
        wanted("process.argv.size() > 3", capture_args=False)["capture"]
        & ProcessCapture.CAPTURE_ARGV
    )
    assert wanted("process.cwd == '/'", capture_cwd=False)["capture"] & ProcessCapture.CAPTURE_CWD
    everything = wanted("event.type != 'exec'")
    assert everything["ptrace_requests"] == 2**64 - 1
    assert everything["setuid_calls"] == 2**9 - 1


def test_ignore_list_as_keys_of_a_longest_prefix_trie():
    actions = plan(engine(), ignored=["cron", "systemd*", "/usr/bin/top", "/opt/*"]).actions
    names, paths = actions[0], actions[1]
    assert (names.map, paths.map) == ("process_names", "process_paths")
    assert [(row["name"], row["prefix_bits"]) for row in names.keys] == [
        (b"cron", 40),
        (b"systemd", 56),
    ]
    assert [(row["path"], row["prefix_bits"]) for row in paths.keys] == [
        (b"/usr/bin/top", 104),
        (b"/opt/", 40),
    ]


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("*", "every process"),
        ("a*b", "Only the last character"),
        ("a-name-longer-than-15", "'a-name-longer-t'"),
    ],
)
def test_an_ignore_entry_that_cannot_work_is_refused(pattern, told):
    with pytest.raises(SettingsError, match=r"process\.ignored\[0\]") as caught:
        plan(engine(), ignored=[pattern])
    assert told in str(caught.value)


KILL = rule_file("process.path.contains('/tmp/') || process.uid == 7", action="kill")


def killing(row, before=(), **settings):
    made = engine(KILL, own_pid=400, **settings)
    for source, earlier in before:
        made.feed(source, earlier, NOW)
    outcome = made.feed("execs", row, NOW)
    (alert,) = outcome.alerts
    return alert, list(outcome.actions)


def test_a_kill_needs_enable_kill():
    alert, actions = killing(record("exec", 9, path=b"/tmp/x"))
    assert (alert.action, actions) == ("would_kill", [])
    assert alert.context["event"]["not_killed"] == "process.enable_kill is false"
    alert, actions = killing(record("exec", 9, path=b"/tmp/x"), enable_kill=True)
    assert (alert.action, actions) == ("kill", [Kill(9, 90)])
    assert "not_killed" not in alert.context["event"]
    alert, actions = killing(record("exec", 9, path=b"/tmp/x"), enable_kill=True, mode=Mode.ALERT)
    assert (alert.action, actions) == ("would_kill", [])


AGENT = [
    ("execs", record("exec", 300, path=b"/usr/bin/supervisor")),
    ("forks", record("fork", 400, parent=(300, 3_000))),
    ("execs", record("exec", 400, path=b"/usr/bin/agent", mnt_ns=1)),
]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (record("exec", 1, uid=7, path=b"/x"), "process 1"),
        (record("exec", 9, uid=7, flags=ProcessFlag.PROCESS_KERNEL), "kernel thread"),
        (record("exec", 400, uid=7, path=b"/x", time=5_000), "the agent"),
        (record("exec", 300, uid=7, path=b"/x", time=5_000), "the agent"),
        (record("exec", 9, uid=7, path=b"/usr/sbin/sshd", mnt_ns=1), "/usr/sbin/sshd"),
        (record("exec", 9, uid=7, path=b"/usr/lib/systemd/systemd-x", mnt_ns=1), "systemd"),
    ],
)
def test_the_never_kill_list_comes_first(row, why):
    alert, actions = killing(row, AGENT, enable_kill=True)
    assert (alert.action, actions) == ("would_kill", [])
    assert why in alert.context["event"]["not_killed"]


def test_a_name_on_the_never_kill_list_does_not_protect_inside_a_container():
    row = record("exec", 9, uid=7, path=b"/usr/sbin/sshd", mnt_ns=2)
    assert killing(row, AGENT, enable_kill=True)[1] == [Kill(9, 90)]


def test_a_process_that_has_exited_is_not_killed():
    before = [("exits", record("exit", 9))]
    alert, actions = killing(record("exec", 9, path=b"/tmp/x"), before, enable_kill=True)
    assert (alert.action, actions) == ("would_kill", [])


def test_every_process_of_a_group_of_alike_matches_is_killed():
    batch = rows(*(record("exec", pid, path=b"/tmp/x") for pid in (9, 10, 11)))
    alert, actions = killing(batch, enable_kill=True)
    assert alert.count == 3
    assert actions == [Kill(9, 90), Kill(10, 100), Kill(11, 110)]


def test_runtime_rules_are_added_and_take_the_place_of_their_namesakes():
    added = [
        ProcessRule(name="r", condition="process.uid == 5", risk_score=0.2, action=RuleAction.LOG),
        ProcessRule(name="s", condition="process.uid == 6", risk_score=0.2, action=RuleAction.LOG),
    ]
    made = engine(rule_file("process.uid == 4"), runtime=added)
    batch = rows(*(record("exec", uid + 10, uid=uid) for uid in (4, 5, 6)))
    assert [alert.rule_id for alert in made.feed("execs", batch, NOW).alerts] == ["r", "s"]
    assert [rule.name for rule in made.items("rules")] == ["r", "s"]
    assert made.status()["rule_count"] == 2


def test_a_wrong_runtime_condition_is_refused_and_the_old_rules_stay():
    made = engine(rule_file("process.uid == 4"))
    wrong = ProcessRule(
        name="bad", condition="process.pth == 'x'", risk_score=0, action=RuleAction.LOG
    )
    with pytest.raises(SettingsError, match=r"process\.rules\[bad\]\.condition.*process\.path"):
        plan(made, rule_file("process.uid == 4"), runtime=[wrong])
    assert made.feed("execs", record("exec", 9, uid=4), NOW).alerts


def test_a_rule_that_is_off_never_matches_and_is_still_checked():
    made = engine(rule_file("process.uid == 0", enabled=False))
    assert not made.feed("execs", record("exec", 9), NOW).alerts
    assert made.status()["rule_count"] == 0
    with pytest.raises(SettingsError):
        plan(made, rule_file("process.uid ==", enabled=False))


def test_counts_become_metrics():
    made = engine()
    counts = np.zeros(1, PROCESS_COUNTS)
    counts["exec"], counts["filtered"], counts["argv_unreadable"] = 12, 3, 1
    made.feed("process_counts", counts, NOW)
    found = {(m.name, *m.labels.values()): m.value for m in made.metrics()}
    assert found["process_events", "exec"] == 12
    assert found["process_events", "filtered"] == 3
    assert found["process_failures", "argv_unreadable"] == 1
    assert found["process_tree", "live"] == 0
    assert made.status()["events"]["exec"] == 12


def test_records_of_another_version_are_counted_and_left_out():
    made = engine(rule_file("true"))
    odd = record("exec", 9)
    odd["version"] = 2
    assert len(made.feed("execs", rows(odd, record("exec", 10)), NOW).alerts) == 1
    found = {(m.name, *m.labels.values()): m.value for m in made.metrics()}
    assert found["process_unknown_records", "execs"] == 1


def test_a_missing_rule_file_is_named():
    made = engine()
    with pytest.raises(SettingsError, match=r"process\.rules_file: .*/none\.json cannot be read"):
        plan(made, rules_file="/none.json")


def test_the_card_names_the_rule_file_to_read():
    assert DOMAIN.files(DOMAIN.settings(rules_file="/x.json")) == ("/x.json",)
    assert DOMAIN.files(DOMAIN.settings())[0].endswith("/rules.json")


def test_rows_may_be_reused_after_the_feed():
    made = engine()
    row = record("exec", 9, path=b"/bin/a", argv=["a", "b"], uid=5)
    made.feed("execs", row, NOW)
    row[:] = np.zeros(1, row.dtype)
    node = made.tree.at_pid(9)
    assert (node.image.path, int(node.image.numbers()["uid"])) == (b"/bin/a", 5)
