"""The fields that conditions of process rules may name."""

from __future__ import annotations

from ebpfsentinel.model.conditions import Field, FieldType

_S, _I, _B, _L = FieldType.STRING, FieldType.INT, FieldType.BOOL, FieldType.STRINGS

FIELDS = (
    Field("event.type", _S, "exec, exec_failed, fork, exit, ptrace or setuid"),
    Field(
        "process.path", _S, "executable, as /proc/PID/exe reads: a lost one ends in ' (deleted)'"
    ),
    Field("process.name", _S, "last part of the path; of a kernel thread its comm"),
    Field("process.comm", _S, "name as the kernel has it, 15 characters, chosen by the process"),
    Field("process.args", _S, "arguments joined by blanks, the zeroth included"),
    Field("process.argv", _L, "arguments, the zeroth included"),
    Field("process.argc", _I, "number of arguments at exec"),
    Field("process.args_truncated", _B, "the arguments were longer than 4096 bytes"),
    Field("process.script", _S, "script that was executed (#!), made absolute; else empty"),
    Field("process.cwd", _S, "working directory at exec"),
    Field("process.deleted", _B, "the executable has no name in its file system any more"),
    Field("process.memfd", _B, "the executable is an anonymous file in memory"),
    Field("process.tty", _B, "has a controlling terminal"),
    Field("process.pid", _I, "process id"),
    Field("process.ppid", _I, "parent's process id at the event"),
    Field("process.uid", _I, "real user id"),
    Field("process.gid", _I, "real group id"),
    Field("process.euid", _I, "effective user id"),
    Field("process.egid", _I, "effective group id"),
    Field("process.loginuid", _I, "user id of the login session; -1 when none"),
    Field("process.sessionid", _I, "audit session; -1 when none"),
    Field("process.parent.path", _S, "executable of the parent when it forked this process"),
    Field("process.parent.name", _S, "its name"),
    Field("process.ancestors", _L, "names of parent, grandparent and so on, at most 32"),
    Field("process.cgroup", _S, "path in the unified cgroup hierarchy"),
    Field("process.container.id", _S, "container id from the cgroup path; empty outside"),
    Field("process.pid_ns", _I, "inode number of the pid namespace"),
    Field("process.mnt_ns", _I, "of the mount namespace"),
    Field("process.net_ns", _I, "of the network namespace"),
    Field("process.user_ns", _I, "of the user namespace"),
    Field("process.uts_ns", _I, "of the uts namespace"),
    Field("process.ipc_ns", _I, "of the ipc namespace"),
    Field("exec.filename", _S, "exec_failed: path as the caller wrote it"),
    Field("exec.errno", _I, "exec_failed: error number"),
    Field("exec.error", _S, "exec_failed: its name, such as ENOENT"),
    Field("exit.code", _I, "exit: code given to exit(2)"),
    Field("exit.signal", _I, "exit: signal that ended the process, 0 when none"),
    Field("ptrace.request", _S, "ptrace: request without PTRACE_, such as ATTACH"),
    Field("ptrace.result", _I, "ptrace: 0, or an error number below 0"),
    Field("ptrace.target.pid", _I, "ptrace: traced process"),
    Field("ptrace.target.uid", _I, "ptrace: its user id; -1 when not known"),
    Field("ptrace.target.path", _S, "ptrace: its executable"),
    Field("ptrace.target.name", _S, "ptrace: its name"),
    Field("setuid.call", _S, "setuid: system call, setuid to setgroups"),
    Field(
        "setuid.result", _I, "setuid: 0, or an error number below 0; setfsuid, setfsgid: the old id"
    ),
    Field("setuid.asked", _I, "setuid: first argument, -1 for 'leave as it is'"),
    Field("setuid.old_uid", _I, "setuid: real user id before; process.uid is the one after"),
    Field("setuid.old_euid", _I, "setuid: effective user id before"),
    Field("setuid.old_gid", _I, "setuid: real group id before"),
    Field("setuid.old_egid", _I, "setuid: effective group id before"),
)
"""Strings that do not apply to an event are empty, numbers are 0, booleans false."""

TYPES = {field.name: field.type for field in FIELDS}
"""Type by name."""

ARGUMENT_FIELDS = frozenset(
    {"process.args", "process.argv", "process.argc", "process.args_truncated", "process.script"}
)
"""What needs the kernel to collect arguments."""

CWD_FIELDS = frozenset({"process.cwd", "process.script"})
"""What needs the kernel to collect working directories."""


def markdown() -> str:
    """The fields as the table of the docs page."""
    rows = [f"| `{field.name}` | {field.type.value} | {field.help} |" for field in FIELDS]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])
