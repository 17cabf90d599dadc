"""DDoS defence: guards and SYN cookies in the kernel, detection by rates, measures that lapse."""

from ebpfsentinel.domains.ddos.engine import DdosEngine
from ebpfsentinel.domains.ddos.settings import POLICY_COLUMNS, DdosPolicy, DdosSettings
from ebpfsentinel.model.domain import Collection, Domain, Program

DOMAIN = Domain(
    name="ddos",
    summary="Notices floods by their rates, answers SYNs with cookies, throttles and blocks.",
    settings=DdosSettings,
    engine=DdosEngine,
    object="ddos.bpf.o",
    programs=(
        Program("xdp_ddos", order=30),
        Program("tc_ddos", order=30, instead_of="xdp_ddos"),
        Program("xdp_ddos_cookie", called_from=("ddos_calls", 0), optional=True),
    ),
    polled=("ddos_count",),
    pulse_ms=100,
    sealed=("ddos_head", "ddos_ports"),
    collections=(
        Collection(name="policies", item=DdosPolicy, singular="policy", columns=POLICY_COLUMNS),
    ),
    routes="ebpfsentinel.domains.ddos.api:routes",
    commands="ebpfsentinel.domains.ddos.cli:commands",
)
