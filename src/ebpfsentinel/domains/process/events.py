"""Records, keys and values of the process domain. Generated from BTF by `make gen`: do not edit."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

def _record(itemsize: int, fields: tuple[tuple[str, Any, int], ...]) -> np.dtype[Any]:
    names, formats, offsets = zip(*fields, strict=True)
    return np.dtype(
        {
            "names": list(names),
            "formats": list(formats),
            "offsets": list(offsets),
            "itemsize": itemsize,
        }
    )


PROCESS_FORK = _record(
    88,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("cgroup_id", "<u8", 80),
    ),
)

PROCESS_EXEC = _record(
    840,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("cgroup_id", "<u8", 80),
        ("inode", "<u8", 88),
        ("device", "<u4", 96),
        ("loginuid", "<u4", 100),
        ("sessionid", "<u4", 104),
        ("mnt_ns", "<u4", 108),
        ("net_ns", "<u4", 112),
        ("user_ns", "<u4", 116),
        ("uts_ns", "<u4", 120),
        ("ipc_ns", "<u4", 124),
        ("argc", "<u4", 128),
        ("argv_bytes", "<u4", 132),
        ("path", "|S128", 136),
        ("cwd", "|S128", 264),
        ("cgroup", "|S192", 392),
        ("argv", "|S256", 584),
    ),
)

PROCESS_EXEC_LARGE = _record(
    6472,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("cgroup_id", "<u8", 80),
        ("inode", "<u8", 88),
        ("device", "<u4", 96),
        ("loginuid", "<u4", 100),
        ("sessionid", "<u4", 104),
        ("mnt_ns", "<u4", 108),
        ("net_ns", "<u4", 112),
        ("user_ns", "<u4", 116),
        ("uts_ns", "<u4", 120),
        ("ipc_ns", "<u4", 124),
        ("argc", "<u4", 128),
        ("argv_bytes", "<u4", 132),
        ("path", "|S1024", 136),
        ("cwd", "|S1024", 1160),
        ("cgroup", "|S192", 2184),
        ("argv", "|S4096", 2376),
    ),
)

PROCESS_EXEC_FAILED = _record(
    344,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("error", "<i4", 80),
        ("dirfd", "<i4", 84),
        ("filename", "|S256", 88),
    ),
)

PROCESS_EXIT = _record(
    88,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("code", "<i4", 80),
        ("signal", "<u4", 84),
    ),
)

PROCESS_PTRACE = _record(
    128,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("target_start_ns", "<u8", 80),
        ("request", "<u4", 88),
        ("result", "<i4", 92),
        ("asked_pid", "<u4", 96),
        ("target_pid", "<u4", 100),
        ("target_tid", "<u4", 104),
        ("target_uid", "<u4", 108),
        ("target_comm", "|S16", 112),
    ),
)

PROCESS_SETUID = _record(
    136,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("call", "<u4", 80),
        ("result", "<i4", 84),
        ("asked_1", "<u4", 88),
        ("asked_2", "<u4", 92),
        ("asked_3", "<u4", 96),
        ("old_uid", "<u4", 100),
        ("old_gid", "<u4", 104),
        ("old_euid", "<u4", 108),
        ("old_egid", "<u4", 112),
        ("new_uid", "<u4", 116),
        ("new_gid", "<u4", 120),
        ("new_euid", "<u4", 124),
        ("new_egid", "<u4", 128),
        ("reserved", "<u4", 132),
    ),
)

PROCESS_TASK = _record(
    2376,
    (
        ("version", "<u2", 0),
        ("type", "<u2", 2),
        ("flags", "<u4", 4),
        ("time_ns", "<u8", 8),
        ("start_ns", "<u8", 16),
        ("parent_start_ns", "<u8", 24),
        ("pid", "<u4", 32),
        ("ppid", "<u4", 36),
        ("uid", "<u4", 40),
        ("gid", "<u4", 44),
        ("euid", "<u4", 48),
        ("egid", "<u4", 52),
        ("pid_ns", "<u4", 56),
        ("ns_pid", "<u4", 60),
        ("comm", "|S16", 64),
        ("cgroup_id", "<u8", 80),
        ("inode", "<u8", 88),
        ("device", "<u4", 96),
        ("loginuid", "<u4", 100),
        ("sessionid", "<u4", 104),
        ("mnt_ns", "<u4", 108),
        ("net_ns", "<u4", 112),
        ("user_ns", "<u4", 116),
        ("uts_ns", "<u4", 120),
        ("ipc_ns", "<u4", 124),
        ("argc", "<u4", 128),
        ("argv_bytes", "<u4", 132),
        ("path", "|S1024", 136),
        ("cwd", "|S1024", 1160),
        ("cgroup", "|S192", 2184),
    ),
)

LEDGER = _record(
    32,
    (
        ("seen", "<u8", 0),
        ("ring_full", "<u8", 8),
        ("backpressure", "<u8", 16),
        ("discarded", "<u8", 24),
    ),
)

PROCESS_CALL = _record(
    40,
    (
        ("first", "<u8", 0),
        ("second", "<u8", 8),
        ("third", "<u8", 16),
        ("uid", "<u4", 24),
        ("gid", "<u4", 28),
        ("euid", "<u4", 32),
        ("egid", "<u4", 36),
    ),
)

PROCESS_COUNTS = _record(
    104,
    (
        ("exec", "<u8", 0),
        ("exec_failed", "<u8", 8),
        ("fork", "<u8", 16),
        ("thread", "<u8", 24),
        ("exit", "<u8", 32),
        ("ptrace", "<u8", 40),
        ("setuid", "<u8", 48),
        ("filtered", "<u8", 56),
        ("argv_unreadable", "<u8", 64),
        ("path_unreadable", "<u8", 72),
        ("filename_unreadable", "<u8", 80),
        ("call_unsaved", "<u8", 88),
        ("text_unread", "<u8", 96),
    ),
)

PROCESS_WANTED = _record(
    32,
    (
        ("events", "<u4", 0),
        ("capture", "<u4", 4),
        ("ptrace_requests", "<u8", 8),
        ("setuid_calls", "<u4", 16),
        ("ignored_names", "<u4", 20),
        ("ignored_paths", "<u4", 24),
        ("reserved", "<u4", 28),
    ),
)

PROCESS_NAME_KEY = _record(
    20,
    (
        ("prefix_bits", "<u4", 0),
        ("name", "|S16", 4),
    ),
)

PROCESS_PATH_KEY = _record(
    132,
    (
        ("prefix_bits", "<u4", 0),
        ("path", "|S128", 4),
    ),
)

TEXT_LINE = _record(
    2052,
    (
        ("text", "|S2048", 0),
        ("at", "<u4", 2048),
    ),
)

PROCESS_TEXT = _record(
    6432,
    (
        ("path", TEXT_LINE, 0),
        ("cwd", TEXT_LINE, 2052),
        ("cgroup", TEXT_LINE, 4104),
        ("name", "|S256", 6156),
        ("flags", "<u4", 6412),
        ("argv_bytes", "<u4", 6416),
        ("argv_start", "<u8", 6424),
    ),
)

RECORDS = {
    "forks": PROCESS_FORK,
    "execs": PROCESS_EXEC,
    "execs_large": PROCESS_EXEC_LARGE,
    "exec_fails": PROCESS_EXEC_FAILED,
    "exits": PROCESS_EXIT,
    "ptraces": PROCESS_PTRACE,
    "setuids": PROCESS_SETUID,
    "process_tasks": PROCESS_TASK,
}


class ProcessEvent(enum.IntEnum):
    """C ``enum process_event``."""

    PROCESS_EXEC = 1
    PROCESS_EXEC_FAILED = 2
    PROCESS_FORK = 3
    PROCESS_EXIT = 4
    PROCESS_PTRACE = 5
    PROCESS_SETUID = 6
    PROCESS_TASK = 7


class ProcessFlag(enum.IntEnum):
    """C ``enum process_flag``."""

    PROCESS_PATH_TRUNCATED = 1
    PROCESS_CWD_TRUNCATED = 2
    PROCESS_ARGV_TRUNCATED = 4
    PROCESS_CGROUP_TRUNCATED = 8
    PROCESS_ARGV_UNREADABLE = 16
    PROCESS_DELETED = 32
    PROCESS_MEMFD = 64
    PROCESS_SCRIPT = 128
    PROCESS_TTY = 256
    PROCESS_KERNEL = 512
    PROCESS_IGNORED = 1024
    PROCESS_CORE_DUMPED = 2048
    PROCESS_TARGET_KNOWN = 4096


class ProcessSetuidCall(enum.IntEnum):
    """C ``enum process_setuid_call``."""

    CALL_SETUID = 0
    CALL_SETGID = 1
    CALL_SETREUID = 2
    CALL_SETREGID = 3
    CALL_SETRESUID = 4
    CALL_SETRESGID = 5
    CALL_SETFSUID = 6
    CALL_SETFSGID = 7
    CALL_SETGROUPS = 8


class ProcessCapture(enum.IntEnum):
    """C ``enum process_capture``."""

    CAPTURE_ARGV = 1
    CAPTURE_CWD = 2


class ProcessForks(Batch):
    """Rows of C ``struct process_fork``."""

    record = PROCESS_FORK
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[np.uint64]:
        return self.rows["cgroup_id"]


class ProcessExecs(Batch):
    """Rows of C ``struct process_exec``."""

    record = PROCESS_EXEC
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[np.uint64]:
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[np.uint64]:
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[np.uint32]:
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[np.uint32]:
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[np.uint32]:
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[np.uint32]:
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[np.uint32]:
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[np.uint32]:
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[np.uint32]:
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[np.uint32]:
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[np.uint32]:
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[np.uint32]:
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        return self.rows["cgroup"]

    @property
    def argv(self) -> NDArray[Any]:
        return self.rows["argv"]


class ProcessExecLarges(Batch):
    """Rows of C ``struct process_exec_large``."""

    record = PROCESS_EXEC_LARGE
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[np.uint64]:
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[np.uint64]:
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[np.uint32]:
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[np.uint32]:
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[np.uint32]:
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[np.uint32]:
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[np.uint32]:
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[np.uint32]:
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[np.uint32]:
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[np.uint32]:
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[np.uint32]:
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[np.uint32]:
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        return self.rows["cgroup"]

    @property
    def argv(self) -> NDArray[Any]:
        return self.rows["argv"]


class ProcessExecFaileds(Batch):
    """Rows of C ``struct process_exec_failed``."""

    record = PROCESS_EXEC_FAILED
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def error(self) -> NDArray[np.int32]:
        return self.rows["error"]

    @property
    def dirfd(self) -> NDArray[np.int32]:
        return self.rows["dirfd"]

    @property
    def filename(self) -> NDArray[Any]:
        return self.rows["filename"]


class ProcessExits(Batch):
    """Rows of C ``struct process_exit``."""

    record = PROCESS_EXIT
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def code(self) -> NDArray[np.int32]:
        return self.rows["code"]

    @property
    def signal(self) -> NDArray[np.uint32]:
        return self.rows["signal"]


class ProcessPtraces(Batch):
    """Rows of C ``struct process_ptrace``."""

    record = PROCESS_PTRACE
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def target_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["target_start_ns"]

    @property
    def request(self) -> NDArray[np.uint32]:
        return self.rows["request"]

    @property
    def result(self) -> NDArray[np.int32]:
        return self.rows["result"]

    @property
    def asked_pid(self) -> NDArray[np.uint32]:
        return self.rows["asked_pid"]

    @property
    def target_pid(self) -> NDArray[np.uint32]:
        return self.rows["target_pid"]

    @property
    def target_tid(self) -> NDArray[np.uint32]:
        return self.rows["target_tid"]

    @property
    def target_uid(self) -> NDArray[np.uint32]:
        return self.rows["target_uid"]

    @property
    def target_comm(self) -> NDArray[Any]:
        return self.rows["target_comm"]


class ProcessSetuids(Batch):
    """Rows of C ``struct process_setuid``."""

    record = PROCESS_SETUID
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def call(self) -> NDArray[np.uint32]:
        return self.rows["call"]

    @property
    def result(self) -> NDArray[np.int32]:
        return self.rows["result"]

    @property
    def asked_1(self) -> NDArray[np.uint32]:
        return self.rows["asked_1"]

    @property
    def asked_2(self) -> NDArray[np.uint32]:
        return self.rows["asked_2"]

    @property
    def asked_3(self) -> NDArray[np.uint32]:
        return self.rows["asked_3"]

    @property
    def old_uid(self) -> NDArray[np.uint32]:
        return self.rows["old_uid"]

    @property
    def old_gid(self) -> NDArray[np.uint32]:
        return self.rows["old_gid"]

    @property
    def old_euid(self) -> NDArray[np.uint32]:
        return self.rows["old_euid"]

    @property
    def old_egid(self) -> NDArray[np.uint32]:
        return self.rows["old_egid"]

    @property
    def new_uid(self) -> NDArray[np.uint32]:
        return self.rows["new_uid"]

    @property
    def new_gid(self) -> NDArray[np.uint32]:
        return self.rows["new_gid"]

    @property
    def new_euid(self) -> NDArray[np.uint32]:
        return self.rows["new_euid"]

    @property
    def new_egid(self) -> NDArray[np.uint32]:
        return self.rows["new_egid"]

    @property
    def reserved(self) -> NDArray[np.uint32]:
        return self.rows["reserved"]


class ProcessTasks(Batch):
    """Rows of C ``struct process_task``."""

    record = PROCESS_TASK
    __slots__ = ()

    @property
    def version(self) -> NDArray[np.uint16]:
        return self.rows["version"]

    @property
    def type(self) -> NDArray[np.uint16]:
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[np.uint32]:
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[np.uint64]:
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[np.uint64]:
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[np.uint64]:
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[np.uint32]:
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[np.uint32]:
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[np.uint32]:
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[np.uint32]:
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[np.uint32]:
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[np.uint32]:
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[np.uint32]:
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[np.uint32]:
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[np.uint64]:
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[np.uint64]:
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[np.uint32]:
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[np.uint32]:
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[np.uint32]:
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[np.uint32]:
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[np.uint32]:
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[np.uint32]:
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[np.uint32]:
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[np.uint32]:
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[np.uint32]:
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[np.uint32]:
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        return self.rows["cgroup"]
