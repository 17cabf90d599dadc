"""Records, keys and values of the process domain. Generated from BTF by `make gen`: do not edit."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.batch import Batch

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ProcessEvent(enum.IntEnum):
    """C: ``enum process_event``."""

    PROCESS_EXEC = 1
    PROCESS_EXEC_FAILED = 2
    PROCESS_FORK = 3
    PROCESS_EXIT = 4
    PROCESS_PTRACE = 5
    PROCESS_SETUID = 6
    PROCESS_TASK = 7


class ProcessFlag(enum.IntEnum):
    """C: ``enum process_flag``."""

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
    """C: ``enum process_setuid_call``."""

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
    """C: ``enum process_capture``."""

    CAPTURE_ARGV = 1
    CAPTURE_CWD = 2


PROCESS_SUBJECT = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
    ]
)
"""C: ``struct process_subject``."""

PROCESS_IMAGE = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("cgroup_id", "<u8"),
        ("inode", "<u8"),
        ("device", "<u4"),
        ("loginuid", "<u4"),
        ("sessionid", "<u4"),
        ("mnt_ns", "<u4"),
        ("net_ns", "<u4"),
        ("user_ns", "<u4"),
        ("uts_ns", "<u4"),
        ("ipc_ns", "<u4"),
        ("argc", "<u4"),
        ("argv_bytes", "<u4"),
    ]
)
"""C: ``struct process_image``."""

PROCESS_EXEC = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("cgroup_id", "<u8"),
        ("inode", "<u8"),
        ("device", "<u4"),
        ("loginuid", "<u4"),
        ("sessionid", "<u4"),
        ("mnt_ns", "<u4"),
        ("net_ns", "<u4"),
        ("user_ns", "<u4"),
        ("uts_ns", "<u4"),
        ("ipc_ns", "<u4"),
        ("argc", "<u4"),
        ("argv_bytes", "<u4"),
        ("path", "S128"),
        ("cwd", "S128"),
        ("cgroup", "S192"),
        ("argv", "S256"),
    ]
)
"""C: ``struct process_exec``."""

PROCESS_EXEC_LARGE = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("cgroup_id", "<u8"),
        ("inode", "<u8"),
        ("device", "<u4"),
        ("loginuid", "<u4"),
        ("sessionid", "<u4"),
        ("mnt_ns", "<u4"),
        ("net_ns", "<u4"),
        ("user_ns", "<u4"),
        ("uts_ns", "<u4"),
        ("ipc_ns", "<u4"),
        ("argc", "<u4"),
        ("argv_bytes", "<u4"),
        ("path", "S1024"),
        ("cwd", "S1024"),
        ("cgroup", "S192"),
        ("argv", "S4096"),
    ]
)
"""C: ``struct process_exec_large``."""

PROCESS_TASK = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("cgroup_id", "<u8"),
        ("inode", "<u8"),
        ("device", "<u4"),
        ("loginuid", "<u4"),
        ("sessionid", "<u4"),
        ("mnt_ns", "<u4"),
        ("net_ns", "<u4"),
        ("user_ns", "<u4"),
        ("uts_ns", "<u4"),
        ("ipc_ns", "<u4"),
        ("argc", "<u4"),
        ("argv_bytes", "<u4"),
        ("path", "S1024"),
        ("cwd", "S1024"),
        ("cgroup", "S192"),
    ]
)
"""C: ``struct process_task``."""

PROCESS_EXEC_FAILED = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("error", "<i4"),
        ("dirfd", "<i4"),
        ("filename", "S256"),
    ]
)
"""C: ``struct process_exec_failed``."""

PROCESS_FORK = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("cgroup_id", "<u8"),
    ]
)
"""C: ``struct process_fork``."""

PROCESS_EXIT = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("code", "<i4"),
        ("signal", "<u4"),
    ]
)
"""C: ``struct process_exit``."""

PROCESS_PTRACE = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("target_start_ns", "<u8"),
        ("request", "<u4"),
        ("result", "<i4"),
        ("asked_pid", "<u4"),
        ("target_pid", "<u4"),
        ("target_tid", "<u4"),
        ("target_uid", "<u4"),
        ("target_comm", "S16"),
    ]
)
"""C: ``struct process_ptrace``."""

PROCESS_SETUID = np.dtype(
    [
        ("version", "<u2"),
        ("type", "<u2"),
        ("flags", "<u4"),
        ("time_ns", "<u8"),
        ("start_ns", "<u8"),
        ("parent_start_ns", "<u8"),
        ("pid", "<u4"),
        ("ppid", "<u4"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
        ("pid_ns", "<u4"),
        ("ns_pid", "<u4"),
        ("comm", "S16"),
        ("call", "<u4"),
        ("result", "<i4"),
        ("asked_1", "<u4"),
        ("asked_2", "<u4"),
        ("asked_3", "<u4"),
        ("old_uid", "<u4"),
        ("old_gid", "<u4"),
        ("old_euid", "<u4"),
        ("old_egid", "<u4"),
        ("new_uid", "<u4"),
        ("new_gid", "<u4"),
        ("new_euid", "<u4"),
        ("new_egid", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""C: ``struct process_setuid``."""

PROCESS_COUNTS = np.dtype(
    [
        ("exec", "<u8"),
        ("exec_failed", "<u8"),
        ("fork", "<u8"),
        ("thread", "<u8"),
        ("exit", "<u8"),
        ("ptrace", "<u8"),
        ("setuid", "<u8"),
        ("filtered", "<u8"),
        ("argv_unreadable", "<u8"),
        ("path_unreadable", "<u8"),
        ("filename_unreadable", "<u8"),
        ("call_unsaved", "<u8"),
        ("text_unread", "<u8"),
    ]
)
"""C: ``struct process_counts``."""

PROCESS_WANTED = np.dtype(
    [
        ("events", "<u4"),
        ("capture", "<u4"),
        ("ptrace_requests", "<u8"),
        ("setuid_calls", "<u4"),
        ("ignored_names", "<u4"),
        ("ignored_paths", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""C: ``struct process_wanted``."""

PROCESS_NAME_KEY = np.dtype(
    [
        ("prefix_bits", "<u4"),
        ("name", "S16"),
    ]
)
"""C: ``struct process_name_key``."""

PROCESS_PATH_KEY = np.dtype(
    [
        ("prefix_bits", "<u4"),
        ("path", "S128"),
    ]
)
"""C: ``struct process_path_key``."""

PROCESS_CALL = np.dtype(
    [
        ("first", "<u8"),
        ("second", "<u8"),
        ("third", "<u8"),
        ("uid", "<u4"),
        ("gid", "<u4"),
        ("euid", "<u4"),
        ("egid", "<u4"),
    ]
)
"""C: ``struct process_call``."""


class ProcessSubject(Batch):
    """Rows of ``struct process_subject``."""

    record = PROCESS_SUBJECT
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]


class ProcessImage(Batch):
    """Rows of ``struct process_image``."""

    record = PROCESS_IMAGE
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[Any]:
        """Column ``cgroup_id``."""
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[Any]:
        """Column ``inode``."""
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[Any]:
        """Column ``device``."""
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[Any]:
        """Column ``loginuid``."""
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[Any]:
        """Column ``sessionid``."""
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[Any]:
        """Column ``mnt_ns``."""
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[Any]:
        """Column ``net_ns``."""
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[Any]:
        """Column ``user_ns``."""
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[Any]:
        """Column ``uts_ns``."""
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[Any]:
        """Column ``ipc_ns``."""
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[Any]:
        """Column ``argc``."""
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[Any]:
        """Column ``argv_bytes``."""
        return self.rows["argv_bytes"]


class ProcessExec(Batch):
    """Rows of ``struct process_exec``."""

    record = PROCESS_EXEC
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[Any]:
        """Column ``cgroup_id``."""
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[Any]:
        """Column ``inode``."""
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[Any]:
        """Column ``device``."""
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[Any]:
        """Column ``loginuid``."""
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[Any]:
        """Column ``sessionid``."""
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[Any]:
        """Column ``mnt_ns``."""
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[Any]:
        """Column ``net_ns``."""
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[Any]:
        """Column ``user_ns``."""
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[Any]:
        """Column ``uts_ns``."""
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[Any]:
        """Column ``ipc_ns``."""
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[Any]:
        """Column ``argc``."""
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[Any]:
        """Column ``argv_bytes``."""
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        """Column ``path``."""
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        """Column ``cwd``."""
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        """Column ``cgroup``."""
        return self.rows["cgroup"]

    @property
    def argv(self) -> NDArray[Any]:
        """Column ``argv``."""
        return self.rows["argv"]


class ProcessExecLarge(Batch):
    """Rows of ``struct process_exec_large``."""

    record = PROCESS_EXEC_LARGE
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[Any]:
        """Column ``cgroup_id``."""
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[Any]:
        """Column ``inode``."""
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[Any]:
        """Column ``device``."""
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[Any]:
        """Column ``loginuid``."""
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[Any]:
        """Column ``sessionid``."""
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[Any]:
        """Column ``mnt_ns``."""
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[Any]:
        """Column ``net_ns``."""
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[Any]:
        """Column ``user_ns``."""
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[Any]:
        """Column ``uts_ns``."""
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[Any]:
        """Column ``ipc_ns``."""
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[Any]:
        """Column ``argc``."""
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[Any]:
        """Column ``argv_bytes``."""
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        """Column ``path``."""
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        """Column ``cwd``."""
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        """Column ``cgroup``."""
        return self.rows["cgroup"]

    @property
    def argv(self) -> NDArray[Any]:
        """Column ``argv``."""
        return self.rows["argv"]


class ProcessTask(Batch):
    """Rows of ``struct process_task``."""

    record = PROCESS_TASK
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[Any]:
        """Column ``cgroup_id``."""
        return self.rows["cgroup_id"]

    @property
    def inode(self) -> NDArray[Any]:
        """Column ``inode``."""
        return self.rows["inode"]

    @property
    def device(self) -> NDArray[Any]:
        """Column ``device``."""
        return self.rows["device"]

    @property
    def loginuid(self) -> NDArray[Any]:
        """Column ``loginuid``."""
        return self.rows["loginuid"]

    @property
    def sessionid(self) -> NDArray[Any]:
        """Column ``sessionid``."""
        return self.rows["sessionid"]

    @property
    def mnt_ns(self) -> NDArray[Any]:
        """Column ``mnt_ns``."""
        return self.rows["mnt_ns"]

    @property
    def net_ns(self) -> NDArray[Any]:
        """Column ``net_ns``."""
        return self.rows["net_ns"]

    @property
    def user_ns(self) -> NDArray[Any]:
        """Column ``user_ns``."""
        return self.rows["user_ns"]

    @property
    def uts_ns(self) -> NDArray[Any]:
        """Column ``uts_ns``."""
        return self.rows["uts_ns"]

    @property
    def ipc_ns(self) -> NDArray[Any]:
        """Column ``ipc_ns``."""
        return self.rows["ipc_ns"]

    @property
    def argc(self) -> NDArray[Any]:
        """Column ``argc``."""
        return self.rows["argc"]

    @property
    def argv_bytes(self) -> NDArray[Any]:
        """Column ``argv_bytes``."""
        return self.rows["argv_bytes"]

    @property
    def path(self) -> NDArray[Any]:
        """Column ``path``."""
        return self.rows["path"]

    @property
    def cwd(self) -> NDArray[Any]:
        """Column ``cwd``."""
        return self.rows["cwd"]

    @property
    def cgroup(self) -> NDArray[Any]:
        """Column ``cgroup``."""
        return self.rows["cgroup"]


class ProcessExecFailed(Batch):
    """Rows of ``struct process_exec_failed``."""

    record = PROCESS_EXEC_FAILED
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def error(self) -> NDArray[Any]:
        """Column ``error``."""
        return self.rows["error"]

    @property
    def dirfd(self) -> NDArray[Any]:
        """Column ``dirfd``."""
        return self.rows["dirfd"]

    @property
    def filename(self) -> NDArray[Any]:
        """Column ``filename``."""
        return self.rows["filename"]


class ProcessFork(Batch):
    """Rows of ``struct process_fork``."""

    record = PROCESS_FORK
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def cgroup_id(self) -> NDArray[Any]:
        """Column ``cgroup_id``."""
        return self.rows["cgroup_id"]


class ProcessExit(Batch):
    """Rows of ``struct process_exit``."""

    record = PROCESS_EXIT
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def code(self) -> NDArray[Any]:
        """Column ``code``."""
        return self.rows["code"]

    @property
    def signal(self) -> NDArray[Any]:
        """Column ``signal``."""
        return self.rows["signal"]


class ProcessPtrace(Batch):
    """Rows of ``struct process_ptrace``."""

    record = PROCESS_PTRACE
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def target_start_ns(self) -> NDArray[Any]:
        """Column ``target_start_ns``."""
        return self.rows["target_start_ns"]

    @property
    def request(self) -> NDArray[Any]:
        """Column ``request``."""
        return self.rows["request"]

    @property
    def result(self) -> NDArray[Any]:
        """Column ``result``."""
        return self.rows["result"]

    @property
    def asked_pid(self) -> NDArray[Any]:
        """Column ``asked_pid``."""
        return self.rows["asked_pid"]

    @property
    def target_pid(self) -> NDArray[Any]:
        """Column ``target_pid``."""
        return self.rows["target_pid"]

    @property
    def target_tid(self) -> NDArray[Any]:
        """Column ``target_tid``."""
        return self.rows["target_tid"]

    @property
    def target_uid(self) -> NDArray[Any]:
        """Column ``target_uid``."""
        return self.rows["target_uid"]

    @property
    def target_comm(self) -> NDArray[Any]:
        """Column ``target_comm``."""
        return self.rows["target_comm"]


class ProcessSetuid(Batch):
    """Rows of ``struct process_setuid``."""

    record = PROCESS_SETUID
    __slots__ = ()

    @property
    def version(self) -> NDArray[Any]:
        """Column ``version``."""
        return self.rows["version"]

    @property
    def type(self) -> NDArray[Any]:
        """Column ``type``."""
        return self.rows["type"]

    @property
    def flags(self) -> NDArray[Any]:
        """Column ``flags``."""
        return self.rows["flags"]

    @property
    def time_ns(self) -> NDArray[Any]:
        """Column ``time_ns``."""
        return self.rows["time_ns"]

    @property
    def start_ns(self) -> NDArray[Any]:
        """Column ``start_ns``."""
        return self.rows["start_ns"]

    @property
    def parent_start_ns(self) -> NDArray[Any]:
        """Column ``parent_start_ns``."""
        return self.rows["parent_start_ns"]

    @property
    def pid(self) -> NDArray[Any]:
        """Column ``pid``."""
        return self.rows["pid"]

    @property
    def ppid(self) -> NDArray[Any]:
        """Column ``ppid``."""
        return self.rows["ppid"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]

    @property
    def pid_ns(self) -> NDArray[Any]:
        """Column ``pid_ns``."""
        return self.rows["pid_ns"]

    @property
    def ns_pid(self) -> NDArray[Any]:
        """Column ``ns_pid``."""
        return self.rows["ns_pid"]

    @property
    def comm(self) -> NDArray[Any]:
        """Column ``comm``."""
        return self.rows["comm"]

    @property
    def call(self) -> NDArray[Any]:
        """Column ``call``."""
        return self.rows["call"]

    @property
    def result(self) -> NDArray[Any]:
        """Column ``result``."""
        return self.rows["result"]

    @property
    def asked_1(self) -> NDArray[Any]:
        """Column ``asked_1``."""
        return self.rows["asked_1"]

    @property
    def asked_2(self) -> NDArray[Any]:
        """Column ``asked_2``."""
        return self.rows["asked_2"]

    @property
    def asked_3(self) -> NDArray[Any]:
        """Column ``asked_3``."""
        return self.rows["asked_3"]

    @property
    def old_uid(self) -> NDArray[Any]:
        """Column ``old_uid``."""
        return self.rows["old_uid"]

    @property
    def old_gid(self) -> NDArray[Any]:
        """Column ``old_gid``."""
        return self.rows["old_gid"]

    @property
    def old_euid(self) -> NDArray[Any]:
        """Column ``old_euid``."""
        return self.rows["old_euid"]

    @property
    def old_egid(self) -> NDArray[Any]:
        """Column ``old_egid``."""
        return self.rows["old_egid"]

    @property
    def new_uid(self) -> NDArray[Any]:
        """Column ``new_uid``."""
        return self.rows["new_uid"]

    @property
    def new_gid(self) -> NDArray[Any]:
        """Column ``new_gid``."""
        return self.rows["new_gid"]

    @property
    def new_euid(self) -> NDArray[Any]:
        """Column ``new_euid``."""
        return self.rows["new_euid"]

    @property
    def new_egid(self) -> NDArray[Any]:
        """Column ``new_egid``."""
        return self.rows["new_egid"]

    @property
    def reserved(self) -> NDArray[Any]:
        """Column ``reserved``."""
        return self.rows["reserved"]


class ProcessCounts(Batch):
    """Rows of ``struct process_counts``."""

    record = PROCESS_COUNTS
    __slots__ = ()

    @property
    def exec(self) -> NDArray[Any]:
        """Column ``exec``."""
        return self.rows["exec"]

    @property
    def exec_failed(self) -> NDArray[Any]:
        """Column ``exec_failed``."""
        return self.rows["exec_failed"]

    @property
    def fork(self) -> NDArray[Any]:
        """Column ``fork``."""
        return self.rows["fork"]

    @property
    def thread(self) -> NDArray[Any]:
        """Column ``thread``."""
        return self.rows["thread"]

    @property
    def exit(self) -> NDArray[Any]:
        """Column ``exit``."""
        return self.rows["exit"]

    @property
    def ptrace(self) -> NDArray[Any]:
        """Column ``ptrace``."""
        return self.rows["ptrace"]

    @property
    def setuid(self) -> NDArray[Any]:
        """Column ``setuid``."""
        return self.rows["setuid"]

    @property
    def filtered(self) -> NDArray[Any]:
        """Column ``filtered``."""
        return self.rows["filtered"]

    @property
    def argv_unreadable(self) -> NDArray[Any]:
        """Column ``argv_unreadable``."""
        return self.rows["argv_unreadable"]

    @property
    def path_unreadable(self) -> NDArray[Any]:
        """Column ``path_unreadable``."""
        return self.rows["path_unreadable"]

    @property
    def filename_unreadable(self) -> NDArray[Any]:
        """Column ``filename_unreadable``."""
        return self.rows["filename_unreadable"]

    @property
    def call_unsaved(self) -> NDArray[Any]:
        """Column ``call_unsaved``."""
        return self.rows["call_unsaved"]

    @property
    def text_unread(self) -> NDArray[Any]:
        """Column ``text_unread``."""
        return self.rows["text_unread"]


class ProcessWanted(Batch):
    """Rows of ``struct process_wanted``."""

    record = PROCESS_WANTED
    __slots__ = ()

    @property
    def events(self) -> NDArray[Any]:
        """Column ``events``."""
        return self.rows["events"]

    @property
    def capture(self) -> NDArray[Any]:
        """Column ``capture``."""
        return self.rows["capture"]

    @property
    def ptrace_requests(self) -> NDArray[Any]:
        """Column ``ptrace_requests``."""
        return self.rows["ptrace_requests"]

    @property
    def setuid_calls(self) -> NDArray[Any]:
        """Column ``setuid_calls``."""
        return self.rows["setuid_calls"]

    @property
    def ignored_names(self) -> NDArray[Any]:
        """Column ``ignored_names``."""
        return self.rows["ignored_names"]

    @property
    def ignored_paths(self) -> NDArray[Any]:
        """Column ``ignored_paths``."""
        return self.rows["ignored_paths"]

    @property
    def reserved(self) -> NDArray[Any]:
        """Column ``reserved``."""
        return self.rows["reserved"]


class ProcessNameKey(Batch):
    """Rows of ``struct process_name_key``."""

    record = PROCESS_NAME_KEY
    __slots__ = ()

    @property
    def prefix_bits(self) -> NDArray[Any]:
        """Column ``prefix_bits``."""
        return self.rows["prefix_bits"]

    @property
    def name(self) -> NDArray[Any]:
        """Column ``name``."""
        return self.rows["name"]


class ProcessPathKey(Batch):
    """Rows of ``struct process_path_key``."""

    record = PROCESS_PATH_KEY
    __slots__ = ()

    @property
    def prefix_bits(self) -> NDArray[Any]:
        """Column ``prefix_bits``."""
        return self.rows["prefix_bits"]

    @property
    def path(self) -> NDArray[Any]:
        """Column ``path``."""
        return self.rows["path"]


class ProcessCall(Batch):
    """Rows of ``struct process_call``."""

    record = PROCESS_CALL
    __slots__ = ()

    @property
    def first(self) -> NDArray[Any]:
        """Column ``first``."""
        return self.rows["first"]

    @property
    def second(self) -> NDArray[Any]:
        """Column ``second``."""
        return self.rows["second"]

    @property
    def third(self) -> NDArray[Any]:
        """Column ``third``."""
        return self.rows["third"]

    @property
    def uid(self) -> NDArray[Any]:
        """Column ``uid``."""
        return self.rows["uid"]

    @property
    def gid(self) -> NDArray[Any]:
        """Column ``gid``."""
        return self.rows["gid"]

    @property
    def euid(self) -> NDArray[Any]:
        """Column ``euid``."""
        return self.rows["euid"]

    @property
    def egid(self) -> NDArray[Any]:
        """Column ``egid``."""
        return self.rows["egid"]


RECORDS: dict[str, np.dtype[Any]] = {
    "forks": PROCESS_FORK,
    "execs": PROCESS_EXEC,
    "execs_large": PROCESS_EXEC_LARGE,
    "exec_fails": PROCESS_EXEC_FAILED,
    "exits": PROCESS_EXIT,
    "ptraces": PROCESS_PTRACE,
    "setuids": PROCESS_SETUID,
    "process_tasks": PROCESS_TASK,
}
"""Record type of each ring and iterator."""
