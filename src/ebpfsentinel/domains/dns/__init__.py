"""DNS: the names that this host was told, and for which addresses."""

from ebpfsentinel.domains.dns.engine import DnsEngine
from ebpfsentinel.domains.dns.settings import DnsSettings
from ebpfsentinel.model.domain import Domain, Program

DOMAIN = Domain(
    name="dns",
    summary="Reads DNS answers on the wire, so that alerts name the addresses in them.",
    settings=DnsSettings,
    engine=DnsEngine,
    object="dns.bpf.o",
    programs=(
        Program("tc_dns", order=30),
        Program("egress_dns", order=90),
    ),
    polled=("dns_count",),
)
