"""What systemd does to a process of a unit, as far as a process can do it to itself.

``python sandbox.py UNIT USER COMMAND...``: user, capabilities, no_new_privs, the filter of system
calls, and no memory that can be written and run. Machines that test this have no systemd running.
USER is the number of the user of the service.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1


def settings(unit: Path) -> dict[str, list[str]]:
    """Values by key; a key may stand several times."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def _calls(names: str) -> set[str]:
    """System calls, groups resolved."""
    found: set[str] = set()
    for name in names.split():
        if name.startswith("@"):
            command = ["systemd-analyze", "syscall-filter", "--no-pager", name]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            inner = [each.strip() for each in lines.splitlines()[1:]]
            found |= _calls(" ".join(each for each in inner if not each.startswith("#")))
        else:
            found.add(name)
    return found


def allowed(filters: list[str]) -> set[str]:
    """What several lines of SystemCallFilter= come to."""
    found = _calls("@default")
    for line in filters:
        found = found - _calls(line[1:]) if line.startswith("~") else found | _calls(line)
    return found


def _load(calls: set[str]) -> None:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p,
    ]  # fmt: skip
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    context = library.seccomp_init(_ERRNO | errno.EPERM)
    for name in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            library.seccomp_rule_add_array(context, _ALLOW, number, 0, None)
    assert not library.seccomp_load(context)


def _privileges(found: dict[str, list[str]], number: str) -> list[str]:
    """Arguments of setpriv(1)."""
    kept = found["CapabilityBoundingSet"][-1].replace("CAP_", "+").lower().split()
    user = "0" if found["User"] == ["root"] else number
    chosen = [f"--bounding-set={','.join(['-all', *kept])}", "--inh-caps=-all", "--no-new-privs"]
    return [*chosen, f"--reuid={user}", "--clear-groups", f"--regid={number}"]


def main() -> None:
    """Become as the unit says, then run the command."""
    unit, number, *command = sys.argv[1:]
    found = settings(Path(unit))
    if command[0] != "filtered":
        again = [sys.executable, __file__, unit, number, "filtered", *command]
        os.execvp("setpriv", ["setpriv", *_privileges(found, number), *again])
    calls = allowed(found["SystemCallFilter"])
    if found.get("MemoryDenyWriteExecute") == ["yes"]:
        assert not ctypes.CDLL(None).prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
    _load(calls)
    os.execv(command[1], command[1:])


if __name__ == "__main__":
    main()
