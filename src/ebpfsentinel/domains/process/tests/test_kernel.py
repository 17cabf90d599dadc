"""The kernel half on this machine's kernel: real processes, seen as they were."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from process_records import NOW, RULES, engine, plan

from ebpfsentinel.domains.process import DOMAIN
from ebpfsentinel.domains.process.events import PROCESS_EXEC, ProcessFlag, ProcessSetuidCall
from ebpfsentinel.kernel.load import LinuxKernel

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

RINGS = ("forks", "execs", "execs_large", "exec_fails", "ptraces", "setuids", "exits")
EVERYTHING = json.dumps(
    {
        "rules": [
            {"name": "e", "condition": "event.type != ''", "risk_score": 0.1, "action": "log"},
            {
                "name": "a",
                "condition": "process.args != process.cwd",
                "risk_score": 0.1,
                "action": "log",
            },
        ]
    }
)
SYS_CLONE3, SYS_EXECVEAT = 435, 322
AT_EMPTY_PATH = 0x1000


class Watch:
    """The loaded domain with its engine; all that is drained is also fed to the engine."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.rules(EVERYTHING)

    def rules(self, text=None, **settings):
        self.engine = engine(text, **settings)
        self.kernel.apply(plan(self.engine, text, **settings).actions)
        self.drain()
        self.engine.feed("process_tasks", self.kernel.seed("process_tasks"), NOW)

    def drain(self):
        """All records since the last call by ring, and what the engine made of them."""
        found = {ring: self.kernel.drain(ring) for ring in RINGS}
        self.outcomes = [
            self.engine.feed(ring, rows, NOW) for ring, rows in found.items() if len(rows)
        ]
        return found

    def alerts(self):
        return [alert for outcome in self.outcomes for alert in outcome.alerts]

    def of(self, ring, pid):
        """The records of one ring about one process."""
        rows = self.drain()[ring]
        return rows[rows["pid"] == pid]

    def counts(self):
        total = self.kernel.total("process_counts")
        return {name: int(total[name].sum()) for name in total.dtype.names}

    def ledger(self, ring):
        return next(each for each in self.kernel.ledgers() if each.ring == ring)


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    kernel.attach([])
    yield kernel
    kernel.detach()


@pytest.fixture
def watch(loaded):
    return Watch(loaded)


def run(*argv, **more):
    """Run to the end; returns the pid and what wait(2) said."""
    child = subprocess.Popen(argv, **more)
    return child.pid, child.wait()


def in_child(act):
    """Fork, ``act()`` in the child without exec; returns the pid and the exit status."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(act() or 0)
        finally:
            os._exit(99)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start_of(pid):
    """Start of a process in clock ticks of 10 ms, as /proc has it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_an_exec_with_all_it_says(watch, tmp_path):
    pid, _ = run("/bin/true", "one", "", "zwei drei", "ö", cwd=tmp_path)
    (row,) = watch.of("execs", pid)
    assert row["path"] == os.path.realpath("/bin/true").encode()
    assert row["cwd"] == str(tmp_path).encode()
    assert row["argv"] == "/bin/true\0one\0\0zwei drei\0ö".encode()
    assert (row["argc"], row["ppid"], row["comm"]) == (5, os.getpid(), b"true")
    assert row["parent_start_ns"] // 10_000_000 == start_of(os.getpid())
    assert (row["uid"], row["gid"], row["euid"], row["egid"]) == (*os.getresuid()[:1], 0, 0, 0)
    assert row["loginuid"] == int(Path("/proc/self/loginuid").read_text())
    for name in ("pid", "mnt", "net", "user", "uts", "ipc"):
        assert row[f"{name}_ns"] == Path(f"/proc/self/ns/{name}").stat().st_ino
    assert row["ns_pid"] == pid
    assert row["inode"] == Path("/bin/true").stat().st_ino
    assert row["flags"] & ~np.uint32(ProcessFlag.PROCESS_TTY) == 0
    assert row["cgroup"].decode() == own_cgroup()


def own_cgroup():
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next(line.split("::")[1] for line in lines if line.startswith("0::"))


def test_long_arguments_and_paths_go_by_the_large_record(watch, tmp_path):
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    program = shutil.copy("/bin/true", deep / "prog")
    pid, _ = run(str(program), "x" * 400, cwd=deep)
    rows = watch.drain()
    assert pid not in rows["execs"]["pid"]
    (row,) = rows["execs_large"][rows["execs_large"]["pid"] == pid]
    assert row["path"] == str(program).encode()
    assert row["cwd"] == str(deep).encode()
    assert row["argv"] == f"{program}\0".encode() + b"x" * 400
    assert not row["flags"] & ProcessFlag.PROCESS_ARGV_TRUNCATED


def test_what_does_not_fit_is_cut_and_says_so(watch, tmp_path):
    pid, _ = run("/bin/true", *["y" * 999] * 9)
    (row,) = watch.of("execs_large", pid)
    assert row["flags"] & ProcessFlag.PROCESS_ARGV_TRUNCATED
    assert len(row["argv"]) == 4096
    assert row["argv_bytes"] == len("/bin/true") + 1 + 9 * 1000
    deep = tmp_path
    for _ in range(6):
        deep /= "f" * 200
    deep.mkdir(parents=True)
    pid, _ = run("/bin/true", cwd=deep)
    (row,) = watch.of("execs_large", pid)
    assert row["flags"] & ProcessFlag.PROCESS_CWD_TRUNCATED
    assert str(deep).encode().endswith(row["cwd"])
    assert len(row["cwd"]) > 800


def test_nothing_of_an_earlier_record_shows_in_a_later_one(watch):
    run("/bin/true", "s3cret" * 30, cwd="/usr/share")
    pid, _ = run("/bin/true", cwd="/")
    (row,) = watch.of("execs", pid)
    assert bytes(row.tobytes()).count(b"s3cret") == 0
    assert row["cwd"] == b"/"
    tail = PROCESS_EXEC["argv"].itemsize
    assert row.tobytes()[-tail:].rstrip(b"\0") == b"/bin/true"


def test_an_executable_in_memory_and_a_deleted_one(watch, tmp_path):
    def from_memory():
        fd = os.memfd_create("ghost")
        os.write(fd, Path("/bin/true").read_bytes())
        os.execve(fd, ["ghost"], {})

    def deleted():
        program = shutil.copy("/bin/true", tmp_path / "gone")
        fd = os.open(program, os.O_RDONLY)
        Path(program).unlink()
        os.execve(fd, ["gone"], {})

    memory, status = in_child(from_memory)
    assert status == 0
    gone, _ = in_child(deleted)
    rows = watch.drain()["execs"]
    row = rows[rows["pid"] == memory][0]
    assert row["path"] == b"/memfd:ghost (deleted)"
    assert row["flags"] & ProcessFlag.PROCESS_MEMFD
    row = rows[rows["pid"] == gone][0]
    assert row["path"] == f"{tmp_path}/gone (deleted)".encode()
    assert row["flags"] & ProcessFlag.PROCESS_DELETED
    assert not row["flags"] & ProcessFlag.PROCESS_MEMFD


def test_a_script_is_known_by_its_path(watch, tmp_path):
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh -e\nexit 0\n")
    script.chmod(0o755)
    watch.rules(
        json.dumps(
            {
                "rules": [
                    {
                        "name": "s",
                        "condition": f"process.script == '{script}' && process.name == 'dash'",
                        "risk_score": 0.5,
                        "action": "alert",
                    }
                ]
            }
        )
    )
    pid, _ = run("./job.sh", "arg", cwd=tmp_path)
    watch.drain()
    assert [alert.pid for alert in watch.alerts()] == [pid]


def test_failed_execs_with_error_and_path(watch, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")

    def fail():
        for path in ("/nonexistent/x", str(plain)):
            with contextlib.suppress(OSError):
                os.execve(path, ["x"], {})

    before = watch.counts()
    pid, _ = in_child(fail)
    found = [(row["error"], row["filename"], row["dirfd"]) for row in watch.of("exec_fails", pid)]
    assert found == [
        (errno.ENOENT, b"/nonexistent/x", -100),
        (errno.EACCES, str(plain).encode(), -100),
    ]
    assert watch.counts()["exec_failed"] - before["exec_failed"] >= 2


def test_execveat_failing_and_succeeding(watch):
    libc = ctypes.CDLL(None, use_errno=True)

    def by_handle():
        folder = os.open("/usr", os.O_RDONLY)
        argv = (ctypes.c_char_p * 2)(b"via", None)
        libc.syscall(SYS_EXECVEAT, folder, b"no/such", argv, None, 0)
        program = os.open("/bin/true", os.O_RDONLY)
        libc.syscall(SYS_EXECVEAT, program, b"", argv, None, AT_EMPTY_PATH)

    pid, status = in_child(by_handle)
    assert status == 0
    rows = watch.drain()
    (failed,) = rows["exec_fails"][rows["exec_fails"]["pid"] == pid]
    assert (failed["error"], failed["filename"]) == (errno.ENOENT, b"no/such")
    assert failed["dirfd"] > 2
    (done,) = rows["execs"][rows["execs"]["pid"] == pid]
    assert (done["path"], done["argv"]) == (os.path.realpath("/bin/true").encode(), b"via")


def test_fork_thread_and_exit(watch):
    before = watch.counts()

    def with_threads():
        threads = [threading.Thread(target=lambda: None) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        return 7

    pid, status = in_child(with_threads)
    rows = watch.drain()
    (born,) = rows["forks"][rows["forks"]["pid"] == pid]
    (gone,) = rows["exits"][rows["exits"]["pid"] == pid]
    assert (born["ppid"], status, gone["code"], gone["signal"]) == (os.getpid(), 7, 7, 0)
    assert born["start_ns"] == gone["start_ns"]
    assert born["time_ns"] <= gone["time_ns"]
    now = watch.counts()
    assert now["thread"] - before["thread"] >= 3
    assert watch.engine.tree.get((pid, int(born["start_ns"]))).ended.code == 7


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_exit_by_a_signal(watch, number):
    pid, _ = in_child(lambda: os.kill(os.getpid(), number))
    (gone,) = watch.of("exits", pid)
    assert (gone["code"], gone["signal"]) == (0, number)


def test_an_exec_by_another_thread_is_of_the_same_process(watch):
    def other_thread():
        threading.Thread(target=lambda: os.execv("/bin/true", ["threaded"])).start()
        signal.pause()

    pid, status = in_child(other_thread)
    assert status == 0
    rows = watch.drain()
    (born,) = rows["forks"][rows["forks"]["pid"] == pid]
    (done,) = rows["execs"][rows["execs"]["pid"] == pid]
    (gone,) = rows["exits"][rows["exits"]["pid"] == pid]
    assert born["start_ns"] == done["start_ns"] == gone["start_ns"]
    assert done["argv"] == b"threaded"


PTRACE_TRACER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
target = int(sys.argv[1])
assert libc.ptrace(16, target, 0, 0) == 0
os.waitpid(target, 0)
assert libc.ptrace(17, target, 0, 0) == 0
assert libc.ptrace(16, 2 ** 22, 0, 0) == -1
"""


def test_ptrace_with_request_target_and_result(watch):
    target = subprocess.Popen(["/bin/sleep", "60"])
    try:
        pid, status = run(sys.executable, "-c", PTRACE_TRACER, str(target.pid))
        assert status == 0
        rows = watch.of("ptraces", pid)
    finally:
        target.kill()
        target.wait()
    attach, detach, refused = rows
    assert (attach["request"], attach["result"], attach["asked_pid"]) == (16, 0, target.pid)
    assert (attach["target_pid"], attach["target_comm"]) == (target.pid, b"sleep")
    assert attach["flags"] & ProcessFlag.PROCESS_TARGET_KNOWN
    assert (detach["request"], detach["result"]) == (17, 0)
    assert (refused["result"], refused["asked_pid"]) == (-errno.ESRCH, 2**22)
    assert not refused["flags"] & ProcessFlag.PROCESS_TARGET_KNOWN
    contexts = [alert.context["event"] for alert in watch.alerts() if alert.pid == pid]
    told = next(each for each in contexts if each.get("request") == "ATTACH")
    assert told["target"]["path"] == os.path.realpath("/bin/sleep")


def test_the_setuid_family_with_old_and_new_ids(watch):
    def drop():
        os.setgroups([])
        os.setgid(65533)
        os.setresuid(1, 65534, 65534)
        try:
            os.setuid(0)
        except OSError:
            return 0
        return 1

    pid, status = in_child(drop)
    assert status == 0
    groups, gid, uids, refused = watch.of("setuids", pid)
    assert (groups["call"], groups["asked_1"]) == (ProcessSetuidCall.CALL_SETGROUPS, 0)
    assert (gid["call"], gid["old_gid"], gid["new_gid"]) == (
        ProcessSetuidCall.CALL_SETGID,
        0,
        65533,
    )
    assert uids["call"] == ProcessSetuidCall.CALL_SETRESUID
    assert [uids[f"asked_{each}"] for each in (1, 2, 3)] == [1, 65534, 65534]
    assert [uids[name] for name in ("old_uid", "new_uid", "old_euid", "new_euid")] == [
        0,
        1,
        0,
        65534,
    ]
    assert (refused["call"], refused["result"]) == (ProcessSetuidCall.CALL_SETUID, -errno.EPERM)
    assert (refused["asked_1"], refused["new_uid"]) == (0, 1)


def test_every_call_of_the_family_has_its_programs(watch):
    libc = ctypes.CDLL(None)

    def all_of_them():
        for name in ("setfsuid", "setfsgid", "setgid", "setuid"):
            getattr(libc, name)(0)
        for name in ("setreuid", "setregid"):
            getattr(libc, name)(0, 0)
        for name in ("setresuid", "setresgid"):
            getattr(libc, name)(0, 0, 0)
        libc.setgroups(0, None)

    pid, _ = in_child(all_of_them)
    assert set(watch.of("setuids", pid)["call"]) == {int(call) for call in ProcessSetuidCall}


def test_the_iterator_shows_every_process_as_proc_does(watch):
    rows = watch.kernel.seed("process_tasks")
    (own,) = rows[rows["pid"] == os.getpid()]
    assert own["path"] == str(Path("/proc/self/exe").readlink()).encode()
    assert own["start_ns"] // 10_000_000 == start_of(os.getpid())
    compared = 0
    for row in rows:
        proc = Path(f"/proc/{row['pid']}")
        try:
            stat = (proc / "stat").read_text().rpartition(")")[2].split()
            exe = str((proc / "exe").readlink())
        except OSError:
            continue
        if int(stat[19]) == row["start_ns"] // 10_000_000 and exe == row["path"].decode():
            compared += int(row["ppid"]) == int(stat[1])
    with_exe = [row for row in rows if row["path"]]
    assert compared >= len(with_exe) - 2


def living():
    """(pid, start in ticks) of every process in /proc that is not a zombie."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat[0] not in "ZX":
            found.add((int(folder.name), int(stat[19])))
    return found


def test_the_tree_is_exact_after_a_storm(watch):
    storm = "for i in $(seq 300); do /bin/true & done; wait; (sleep 60 >&- 2>&- & echo $!)"
    out = subprocess.run(["/bin/sh", "-c", storm], stdout=subprocess.PIPE, check=True, text=True)
    sleeper = int(out.stdout)
    try:
        before, known, after = living(), None, None
        for _ in range(20):
            watch.drain()
            tree = watch.engine.tree
            known = {(n.key[0], n.key[1] // 10_000_000) for n in tree if n.ended is None}
            after = living()
            if before == after:
                break
            before = after
        assert known == after
        assert watch.engine.tree.at_pid(sleeper).up.names[0] in {"sh", "dash"}
    finally:
        os.kill(sleeper, signal.SIGKILL)


class CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def fork_as(pid):
    """Fork a child that gets this very pid; it exits at once."""
    wanted = ctypes.c_int(pid)
    arguments = CloneArgs(
        exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(wanted), set_tid_size=1
    )
    got = ctypes.CDLL(None, use_errno=True).syscall(
        SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments)
    )
    if got == 0:
        os._exit(5)
    assert got == pid, os.strerror(ctypes.get_errno())
    os.waitpid(pid, 0)


def test_a_pid_that_is_used_again_is_two_processes(watch):
    pid, _ = in_child(lambda: 4)
    fork_as(pid)
    rows = watch.drain()
    first, second = rows["forks"][rows["forks"]["pid"] == pid]
    assert first["start_ns"] != second["start_ns"]
    tree = watch.engine.tree
    assert tree.get((pid, int(first["start_ns"]))).ended.code == 4
    assert tree.get((pid, int(second["start_ns"]))).ended.code == 5


def test_a_full_ring_is_counted_and_the_next_record_arrives(watch):
    watch.drain()
    before = watch.ledger("exec_fails")

    def fail():
        for _ in range(4000):
            with contextlib.suppress(OSError):
                os.execve("/nope", ["x"], {})

    in_child(fail)
    after = watch.ledger("exec_fails")
    assert after.seen - before.seen >= 4000
    assert sum(after.lost.values()) > sum(before.lost.values())
    assert after.seen == after.sent + sum(after.lost.values())
    watch.drain()
    after = watch.ledger("exec_fails")
    assert after.sent == after.delivered
    pid, _ = in_child(lambda: os.execve("/nope", ["x"], {}))
    assert len(watch.of("exec_fails", pid)) == 1


def test_ten_thousand_execs_are_all_counted_and_all_reported(watch):
    before = watch.counts()
    loop = "i=0; while [ $i -lt 10000 ]; do /bin/true; i=$((i+1)); done"
    child = subprocess.Popen(["/bin/sh", "-c", loop])
    seen = 0
    while child.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.1)
        rows = watch.drain()["execs"]
        seen += int((rows["ppid"] == child.pid).sum())
    rows = watch.drain()["execs"]
    seen += int((rows["ppid"] == child.pid).sum())
    assert seen == 10_000
    assert watch.counts()["exec"] - before["exec"] >= 10_001
    for ring in RINGS:
        ledger = watch.ledger(ring)
        assert ledger.seen == ledger.sent + sum(ledger.lost.values())


def test_ignored_by_name_and_by_path(watch, tmp_path):
    program = shutil.copy("/bin/true", tmp_path / "quiet")
    named = shutil.copy("/bin/true", tmp_path / "hush-name")  # no other process is called so
    watch.rules(EVERYTHING, ignored=["hush-*", str(program)])
    before = watch.counts()
    by_name, _ = run(str(named))
    by_path, _ = run(str(program))
    judged, _ = run("/bin/echo", stdout=subprocess.DEVNULL)
    rows = watch.drain()
    flags = {
        int(row["pid"]): int(row["flags"])
        for ring in ("execs", "execs_large")
        for row in rows[ring]
    }
    assert flags[by_name] & ProcessFlag.PROCESS_IGNORED
    assert flags[by_path] & ProcessFlag.PROCESS_IGNORED
    assert not flags[judged] & ProcessFlag.PROCESS_IGNORED
    assert watch.counts()["filtered"] - before["filtered"] == 2
    pids = {alert.pid for alert in watch.alerts() if alert.context["event"]["type"] == "exec"}
    assert judged in pids
    assert not {by_name, by_path} & pids
    assert watch.engine.tree.at_pid(by_path).ended


def test_the_calls_of_an_ignored_process_are_counted_and_not_reported(watch):
    watch.rules(EVERYTHING, ignored=[str(Path("/proc/self/exe").readlink())])
    before = watch.counts()
    pid, _ = in_child(lambda: os.setuid(0))
    assert not len(watch.of("setuids", pid))
    now = watch.counts()
    assert now["setuid"] > before["setuid"]
    assert now["filtered"] > before["filtered"]


def test_what_no_rule_can_match_is_counted_and_not_collected(watch):
    text = json.dumps(
        {
            "rules": [
                {
                    "name": "g",
                    "condition": "event.type == 'setuid' && setuid.call == 'setgid'",
                    "risk_score": 0.1,
                    "action": "log",
                }
            ]
        }
    )
    watch.rules(text, capture_args=False, capture_cwd=False)
    before = watch.counts()

    def calls():
        os.setuid(0)
        os.setgid(0)
        try:
            os.execve("/nope", ["x"], {})
        except OSError:
            os.execve("/bin/true", ["true", "hidden"], {})

    pid, _ = in_child(calls)
    rows = watch.drain()
    assert list(rows["setuids"][rows["setuids"]["pid"] == pid]["call"]) == [1]
    assert not len(rows["exec_fails"])
    (done,) = rows["execs"][rows["execs"]["pid"] == pid]
    assert (done["argv"], done["cwd"]) == (b"", b"")
    now = watch.counts()
    assert now["setuid"] - before["setuid"] >= 2
    assert now["exec_failed"] > before["exec_failed"]


def test_a_process_in_a_pid_namespace(watch):
    outer, _ = run("unshare", "--pid", "--fork", "--kill-child", "/bin/true", "inside")
    rows = watch.drain()["execs"]
    inside = rows[rows["argv"] == b"/bin/true\0inside"]
    assert len(inside) == 1
    assert (inside["ns_pid"][0], inside["ppid"][0]) == (1, outer)
    assert inside["pid_ns"][0] != Path("/proc/self/ns/pid").stat().st_ino


def unified():
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)


def test_a_container_is_known_by_its_cgroup(watch):
    root = unified()
    if root is None or not os.access(root / "cgroup.procs", os.W_OK):
        pytest.skip("no writable unified cgroup hierarchy")
    name = "0123456789abcdef" * 4
    group = root / f"docker-{name}.scope"
    group.mkdir()
    try:

        def enter():
            (group / "cgroup.procs").write_text("0")
            os.execv("/bin/true", ["true"])

        pid, status = in_child(enter)
        assert status == 0
        (row,) = watch.of("execs", pid)
        assert row["cgroup"].decode() == f"/docker-{name}.scope"
        assert row["cgroup_id"] == group.stat().st_ino
        contexts = [alert.context for alert in watch.alerts() if alert.pid == pid]
        (told,) = {
            context["process"]["container_id"]
            for context in contexts
            if context["event"]["type"] == "exec"
        }
        assert told == name
    finally:
        group.rmdir()


@pytest.fixture
def sticky():
    """A program in /tmp, where the rule that comes with the product looks."""
    folder = Path("/tmp") / f"sentinel-test-{os.getpid()}"
    folder.mkdir()
    yield Path(shutil.copy("/bin/sleep", folder / "dropper"))
    shutil.rmtree(folder)


def test_the_rules_that_come_with_the_product_see_a_program_in_tmp(watch, sticky):
    watch.rules()
    pid, _ = run(str(sticky), "0")
    watch.drain()
    (alert,) = [each for each in watch.alerts() if each.pid == pid]
    assert alert.rule_id == "suspicious_temp_execution"
    assert alert.context["process"]["argv"] == [str(sticky), "0"]
    names = [each["pid"] for each in alert.context["process"]["ancestors"]]
    assert names[0] == os.getpid()


def test_a_kill_rule_kills(watch, sticky):
    text = json.dumps(
        {
            "rules": [
                {
                    "name": "k",
                    "condition": f"process.path == '{sticky}'",
                    "risk_score": 1,
                    "action": "kill",
                }
            ]
        }
    )
    watch.rules(text, enable_kill=True)
    child = subprocess.Popen([str(sticky), "60"])
    while child.returncode is None:
        watch.drain()
        for outcome in watch.outcomes:
            watch.kernel.apply(outcome.actions)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.1)
    assert child.returncode == -signal.SIGKILL


def test_the_default_rules_are_those_of_the_folder():
    assert Path(RULES).is_file()
