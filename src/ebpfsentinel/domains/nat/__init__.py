"""Address translation: who is seen under which address, and where what arrives really goes."""

from ebpfsentinel.domains.nat.engine import NatEngine
from ebpfsentinel.domains.nat.settings import (
    PREFIX_COLUMNS,
    RULE_COLUMNS,
    NatRule,
    NatSettings,
    PrefixRule,
)
from ebpfsentinel.model.domain import Collection, Domain, Program

DOMAIN = Domain(
    name="nat",
    summary="Translates addresses and ports: SNAT, masquerade, DNAT, redirect, one-to-one, NPTv6.",
    settings=NatSettings,
    engine=NatEngine,
    object="nat.bpf.o",
    programs=(
        Program("tc_nat", order=50),
        Program("tc_nat_new", called_from=("nat_calls", 0)),
        Program("tc_nat_error", called_from=("nat_calls", 1)),
        Program("tc_nat_fragment", called_from=("nat_calls", 2)),
        Program("egress_nat", order=50),
        Program("egress_nat_new", called_from=("nat_calls", 3)),
        Program("egress_nat_error", called_from=("nat_calls", 4)),
        Program("egress_nat_frag", called_from=("nat_calls", 5)),
    ),
    polled=("nat_count", "nat_rule_count"),
    survey="ebpfsentinel.domains.nat.host:survey",
    routes="ebpfsentinel.domains.nat.api:routes",
    commands="ebpfsentinel.domains.nat.cli:commands",
    sealed=("nat_rules",),
    collections=(
        Collection("rules", NatRule, columns=RULE_COLUMNS),
        Collection("nptv6", PrefixRule, singular="nptv6 rule", columns=PREFIX_COLUMNS),
    ),
)
