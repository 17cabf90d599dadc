"""Names of what system calls take and give: ptrace requests, the setuid family, error numbers."""

from __future__ import annotations

import errno

from ebpfsentinel.domains.process.events import ProcessSetuidCall

PTRACE_REQUESTS = {
    0: "TRACEME",
    1: "PEEKTEXT",
    2: "PEEKDATA",
    3: "PEEKUSER",
    4: "POKETEXT",
    5: "POKEDATA",
    6: "POKEUSER",
    7: "CONT",
    8: "KILL",
    9: "SINGLESTEP",
    12: "GETREGS",
    13: "SETREGS",
    14: "GETFPREGS",
    15: "SETFPREGS",
    16: "ATTACH",
    17: "DETACH",
    18: "GETFPXREGS",
    19: "SETFPXREGS",
    21: "OLDSETOPTIONS",
    24: "SYSCALL",
    25: "GET_THREAD_AREA",
    26: "SET_THREAD_AREA",
    30: "ARCH_PRCTL",
    31: "SYSEMU",
    0x4200: "SETOPTIONS",
    0x4201: "GETEVENTMSG",
    0x4202: "GETSIGINFO",
    0x4203: "SETSIGINFO",
    0x4204: "GETREGSET",
    0x4205: "SETREGSET",
    0x4206: "SEIZE",
    0x4207: "INTERRUPT",
    0x4208: "LISTEN",
    0x4209: "PEEKSIGINFO",
    0x420A: "GETSIGMASK",
    0x420B: "SETSIGMASK",
    0x420C: "SECCOMP_GET_FILTER",
    0x420D: "SECCOMP_GET_METADATA",
    0x420E: "GET_SYSCALL_INFO",
    0x420F: "GET_RSEQ_CONFIGURATION",
    0x4210: "SET_SYSCALL_USER_DISPATCH_CONFIG",
    0x4211: "GET_SYSCALL_USER_DISPATCH_CONFIG",
    0x4212: "SET_SYSCALL_INFO",
}
"""Request numbers of linux/ptrace.h and x86's asm/ptrace-abi.h, without their prefix."""

SETUID_CALLS = {call: call.name.removeprefix("CALL_").lower() for call in ProcessSetuidCall}
"""The system calls of the setuid family by their number in our records."""

_FIRST_NEW = 0x4200


def request_name(request: int) -> str:
    """``ATTACH`` for 16; of an unknown request its number in hexadecimal."""
    return PTRACE_REQUESTS.get(request, hex(request))


def request_of_bit(bit: int) -> int:
    """The request that a bit of ``process_wanted.ptrace_requests`` stands for."""
    return bit if bit < 32 else _FIRST_NEW + bit - 32


def call_name(call: int) -> str:
    """``setresuid`` for its number; of an unknown one the number."""
    names: dict[int, str] = dict(SETUID_CALLS.items())
    return names.get(call, str(call))


def error_name(number: int) -> str:
    """``ENOENT`` for 2; of an unknown one the number."""
    return errno.errorcode.get(number, str(number))
