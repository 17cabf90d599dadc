"""Processes: exec, failed exec, fork, exit, ptrace and the setuid family, judged by CEL rules."""

from ebpfsentinel.domains.process.engine import ProcessEngine, rules_path
from ebpfsentinel.domains.process.rule_file import ProcessRule
from ebpfsentinel.domains.process.settings import ProcessSettings, spared
from ebpfsentinel.model.domain import Canary, Collection, Deed, Domain, Program

DOMAIN = Domain(
    name="process",
    summary="What processes execute, whom they trace, which ids they take on; the process tree.",
    settings=ProcessSettings,
    engine=ProcessEngine,
    object="process.bpf.o",
    programs=(Program("process_exit_old", instead_of="process_exit"),),
    polled=("process_counts",),
    canaries=(
        Canary("forks", Deed.EXEC, ring="forks"),
        Canary("execs", Deed.EXEC, ring="execs"),
        Canary("exits", Deed.EXEC, ring="exits"),
    ),
    sealed=("process_wanted", "process_names", "process_paths"),
    collections=(
        Collection(
            name="rules",
            item=ProcessRule,
            key="name",
            columns=(
                ("Name", "name"),
                ("Risk", "risk_score"),
                ("Action", "action"),
                ("Condition", "condition"),
            ),
        ),
    ),
    spares=spared,
    files=lambda settings: (rules_path(settings),),
    routes="ebpfsentinel.domains.process.api:routes",
)
