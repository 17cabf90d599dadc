"""Connection tracking: which flows there are, how far they are, and what they carry."""

from ebpfsentinel.domains.conntrack.engine import ConntrackEngine
from ebpfsentinel.domains.conntrack.settings import ConntrackSettings
from ebpfsentinel.model.domain import Domain, Program

DOMAIN = Domain(
    name="conntrack",
    summary="Knows every flow: its state, both directions, and when it lapses; drops nothing.",
    settings=ConntrackSettings,
    engine=ConntrackEngine,
    object="conntrack.bpf.o",
    programs=(
        Program("tc_conntrack", order=60),
        Program("egress_conntrack", order=10),
        Program("tc_fast_path", order=99, optional=True, on_call=True),
        Program("egress_fast_path", order=9, optional=True, on_call=True),
        Program("flow_sweep", called_from=("ct_calls", 0)),
        Program("flow_move", called_from=("ct_calls", 1)),
        Program("flow_end", called_from=("ct_calls", 2)),
    ),
    polled=("flow_count", "ct_fast"),
    provides=("flows",),
    techniques=(("conntrack-table", "T1499.001"),),
    routes="ebpfsentinel.domains.conntrack.api:routes",
    commands="ebpfsentinel.domains.conntrack.cli:commands",
)
