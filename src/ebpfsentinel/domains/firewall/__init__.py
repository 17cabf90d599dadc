"""The firewall: ranked rules over packet headers, judged in the kernel at constant cost."""

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.model.domain import Collection, Domain, Program

DOMAIN = Domain(
    name="firewall",
    summary="Drops, lets through or logs packets by the first of up to 4,096 rules that matches.",
    settings=FirewallSettings,
    engine=FirewallEngine,
    object="firewall.bpf.o",
    programs=(
        Program("xdp_firewall", order=10),
        Program("tc_firewall", order=10, instead_of="xdp_firewall"),
    ),
    polled=("fw_count",),
    routes="ebpfsentinel.domains.firewall.api:routes",
    commands="ebpfsentinel.domains.firewall.cli:commands",
    collections=(
        Collection(
            name="rules",
            item=FirewallRule,
            columns=(
                ("ID", "id"),
                ("PRI", "priority"),
                ("ACTION", "action"),
                ("PROTO", "protocol"),
                ("SRC IP", "src_ip"),
                ("DST IP", "dst_ip"),
                ("SRC PORT", "src_port"),
                ("DST PORT", "dst_port"),
                ("SCOPE", "scope"),
                ("ENABLED", "enabled"),
            ),
        ),
    ),
)
