"""Records as the kernel makes them, for tests without a kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebpfsentinel.domains.process.engine import ProcessEngine
from ebpfsentinel.domains.process.events import (
    PROCESS_EXEC,
    PROCESS_EXEC_FAILED,
    PROCESS_EXIT,
    PROCESS_FORK,
    PROCESS_PTRACE,
    PROCESS_SETUID,
    PROCESS_TASK,
    ProcessEvent,
)
from ebpfsentinel.domains.process.settings import ProcessSettings
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.rules import Cel

RULES = str(Path(__file__).parents[1] / "rules.json")
NOW = 1_700_000_000_000_000_000
OFFSET = 1_600_000_000_000_000_000

_TYPES = {
    "exec": (PROCESS_EXEC, ProcessEvent.PROCESS_EXEC),
    "exec_failed": (PROCESS_EXEC_FAILED, ProcessEvent.PROCESS_EXEC_FAILED),
    "fork": (PROCESS_FORK, ProcessEvent.PROCESS_FORK),
    "exit": (PROCESS_EXIT, ProcessEvent.PROCESS_EXIT),
    "ptrace": (PROCESS_PTRACE, ProcessEvent.PROCESS_PTRACE),
    "setuid": (PROCESS_SETUID, ProcessEvent.PROCESS_SETUID),
    "task": (PROCESS_TASK, ProcessEvent.PROCESS_TASK),
}


def record(kind, pid, start=None, parent=(1, 1), time=None, **values):
    """One record: ``parent`` is (ppid, start); ``argv`` may be a list of strings."""
    dtype, number = _TYPES[kind]
    row = np.zeros(1, dtype)
    row["version"], row["type"] = 1, number
    row["pid"], row["start_ns"] = pid, pid * 10 if start is None else start
    row["ppid"], row["parent_start_ns"] = parent
    row["time_ns"] = row["start_ns"] if time is None else time
    if "argv" in values:
        argv = values.pop("argv")
        values["argv"] = b"\0".join(each.encode() for each in argv) + b"\0"
        values["argv_bytes"] = len(values["argv"])
        values["argc"] = len(argv)
    for name, value in values.items():
        row[name] = value
    return row


def rows(*records):
    return np.concatenate(records)


def bare(history=4096):
    """An engine without rules: its tree is at work all the same."""
    made = ProcessEngine(Tools(rules=Cel()))
    made.tree.history = history
    return made


def engine(rules=None, runtime=(), own_pid=0, **settings):
    """An engine with a committed plan: ``rules`` is the text of a rule file, or the default."""
    made = ProcessEngine(Tools(rules=Cel()))
    made.commit(plan(made, rules, runtime, own_pid, **settings))
    return made


def plan(made, rules=None, runtime=(), own_pid=0, **settings):
    path, files = RULES, {RULES: Path(RULES).read_bytes()}
    if rules is not None:
        path = "/etc/rules.json"
        settings["rules_file"] = path
        files = {path: rules.encode()}
    around = Surroundings(files=files, own_pid=own_pid, boot_offset_ns=OFFSET)
    return made.plan(ProcessSettings(**settings), {"rules": list(runtime)}, around)
