"""Leaving privilege behind, for good: user, capabilities, and a filter of system calls.

The problem. Once the keeper holds the kernel, this process needs nothing that only root may do. But
who takes it over would like to have it back, or to reach what any process of any user may try: a
user namespace, ``ptrace`` of a neighbour, ``io_uring``, which no filter sees into.

The way. The user becomes another in all three of its ids, groups are the user's, all five sets of
capabilities are empty, and ``no_new_privs`` says that no program that we run gets any more
(prctl(2)). Then a seccomp filter, by libseccomp, which knows the numbers of calls on every
architecture. It names what is forbidden, and lets the rest pass: an interpreter with C libraries
makes other calls after every update of any of them, and an agent that dies of a new libc's
``rseq`` protects nobody. The service has, beside ours, systemd's list of what is allowed
(``SystemCallFilter=@system-service``), which its makers keep up to date.

What is in effect is read from ``/proc/self/status``, not remembered.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebpfsentinel.model.kernel import KernelError

_PR_SET_DUMPABLE, _PR_CAPBSET_READ, _PR_CAPBSET_DROP = 4, 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 47, 4
_CAPABILITY_VERSION = 0x20080522
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_TSYNC, _MASKED_EQ = 4, 7

FORBIDDEN = {
    "programs in the kernel": ("bpf", "perf_event_open", "userfaultfd"),
    "other processes": (
        "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease",
        "pidfd_getfd", "kcmp",
    ),
    "the kernel itself": (
        "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
        "swapon", "swapoff", "syslog", "acct", "quotactl", "quotactl_fd", "iopl", "ioperm",
        "modify_ldt", "lookup_dcookie", "vhangup", "personality", "nfsservctl", "_sysctl",
    ),
    "mounts and namespaces": (
        "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen",
        "fsconfig", "fsmount", "fspick", "mount_setattr", "setns", "unshare",
        "name_to_handle_at", "open_by_handle_at", "fanotify_init",
    ),
    "keys": ("add_key", "request_key", "keyctl"),
    "clocks and names": (
        "clock_settime", "clock_settime64", "settimeofday", "stime", "adjtimex", "clock_adjtime",
        "clock_adjtime64", "sethostname", "setdomainname",
    ),
    "what no filter sees into": ("io_uring_setup", "io_uring_enter", "io_uring_register"),
}  # fmt: skip
"""System calls that fail with EPERM, by what they would reach. A name that this libseccomp does not
know is of a call that its kernel headers did not have."""
_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET."""


@dataclass(frozen=True, slots=True)
class User:
    """Who to become."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in effect for this process. ``seccomp``: a filter is."""

    uid: int
    capabilities: int
    no_new_privs: bool
    seccomp: bool

    @property
    def whole(self) -> bool:
        """Is nothing left of what root may do?"""
        return bool(self.uid and not self.capabilities and self.no_new_privs and self.seccomp)


class _Compare(ctypes.Structure):
    """``struct scmp_arg_cmp``."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def user(name: str) -> User:
    """A user by name or number.

    Raises:
        KernelError: there is none of that name, or it is root.
    """
    try:
        found = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
        made = User(found.pw_name, found.pw_uid, found.pw_gid)
    except KeyError:
        if not name.isdigit():
            remedy = f"useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
            raise KernelError(f"agent.user: there is no user {name}. {remedy}") from None
        made = User(name, int(name), int(name))
    if not made.uid:
        raise KernelError("agent.user: root is what privilege separation takes away. Name another")
    return made


def become(wanted: User) -> None:
    """Be this user from now on, with no capability and no way to get one.

    Raises:
        KernelError: the kernel refuses.
    """
    try:
        for capability in range(64):
            if _libc().prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
                _prctl(_PR_CAPBSET_DROP, capability)
        if wanted.name.isdigit():
            os.setgroups([wanted.gid])
        else:
            os.initgroups(wanted.name, wanted.gid)
        os.setresgid(wanted.gid, wanted.gid, wanted.gid)
        os.setresuid(wanted.uid, wanted.uid, wanted.uid)
    except OSError as error:
        raise KernelError(f"privilege cannot be left behind: {error.strerror}") from None


def seal() -> None:
    """Nothing comes back: no capability, no new privileges, no system call of :data:`FORBIDDEN`.

    Raises:
        KernelError: the kernel refuses, or libseccomp is missing.
    """
    try:
        _prctl(_PR_CAP_AMBIENT, _CLEAR_ALL)
        if confinement().capabilities:  # who has none may not even be let to say so
            _drop_capabilities()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_DUMPABLE, 0)  # neighbours of the same user may not look in
    except OSError as error:
        raise KernelError(f"privilege cannot be left behind: {error.strerror}") from None
    _forbid()


def confinement() -> Confinement:
    """What is in effect now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    return Confinement(
        min(map(int, found["Uid"])),
        int(found["CapEff"][0], 16) | int(found["CapPrm"][0], 16) | int(found["CapInh"][0], 16),
        found.get("NoNewPrivs", ["0"])[0] == "1",
        found.get("Seccomp", ["0"])[0] == "2",
    )


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc().prctl(option, argument, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _drop_capabilities() -> None:
    """Capset(2) to nothing, of this thread; others of a process that changed its user have none."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    if _libc().capset(header, (ctypes.c_uint32 * 6)()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _forbid() -> None:
    """Load the filter into all threads."""
    library = _seccomp()
    context = library.seccomp_init(_ALLOW)
    try:
        for names in FORBIDDEN.values():
            for name in names:
                _refuse(library, context, name, errno.EPERM)
        for flag in _NAMESPACES:
            compare = _Compare(0, _MASKED_EQ, flag, flag)
            _refuse(library, context, "clone", errno.EPERM, compare)
        _refuse(library, context, "clone3", errno.ENOSYS)  # flags in memory: libc takes clone(2)
        library.seccomp_attr_set(context, _TSYNC, 1)
        if result := library.seccomp_load(context):
            raise KernelError(f"the filter of system calls is refused: {os.strerror(-result)}")
    finally:
        library.seccomp_release(context)


def _refuse(
    library: Any, context: int, name: str, number: int, compare: _Compare | None = None
) -> None:
    call = library.seccomp_syscall_resolve_name(name.encode())
    if call == -1:
        return
    conditions = ctypes.byref(compare) if compare else None
    result = library.seccomp_rule_add_array(
        context, _ERRNO | number, call, 1 if compare else 0, conditions
    )
    if result not in (0, -errno.EDOM):  # a call that this architecture does not have
        raise KernelError(f"the filter of system calls cannot name {name}: {os.strerror(-result)}")


def _seccomp() -> Any:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise KernelError(f"libseccomp.so.2 is missing ({error}): install libseccomp2") from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = [ctypes.c_void_p]
    return library
