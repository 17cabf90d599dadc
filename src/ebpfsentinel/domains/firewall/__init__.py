"""The firewall: ranked rules over packet headers, judged in the kernel at constant cost."""

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.groups import files_of, hosts_of
from ebpfsentinel.domains.firewall.owners import cgroups_of, executables_of
from ebpfsentinel.domains.firewall.settings import RULE_COLUMNS, FirewallRule, FirewallSettings
from ebpfsentinel.model.domain import Collection, Domain, Program

DOMAIN = Domain(
    name="firewall",
    summary="Drops, lets through or logs packets by the first of up to 16,384 rules that matches.",
    settings=FirewallSettings,
    engine=FirewallEngine,
    object="firewall.bpf.o",
    programs=(
        Program("xdp_firewall", order=10),
        Program("tc_firewall", order=10, instead_of="xdp_firewall"),
        Program("egress_firewall", order=20, optional=True, on_call=True),
        Program("xdp_reject", called_from=("fw_xdp_calls", 0), optional=True),
        Program("tc_reject", called_from=("fw_tc_calls", 0), optional=True),
        Program("xdp_mirror", called_from=("fw_xdp_calls", 1), optional=True),
        Program("tc_mirror", called_from=("fw_tc_calls", 1), optional=True),
    ),
    polled=("fw_count", "fw_over", "fw_rejects", "fw_copies"),
    files=lambda settings: files_of(settings.aliases),
    hosts=lambda settings: hosts_of(settings.aliases),
    executables=executables_of,
    cgroups=cgroups_of,
    techniques=(("*", "T1046"),),
    routes="ebpfsentinel.domains.firewall.api:routes",
    commands="ebpfsentinel.domains.firewall.cli:commands",
    sealed=("fw_banks", "fw_head", "fw_limits", "fw_exes", "fw_cgroups"),
    collections=(Collection(name="rules", item=FirewallRule, lapse=True, columns=RULE_COLUMNS),),
)
