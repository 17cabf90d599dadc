"""Rate limits: how many packets a second a source, a destination or a service may have."""

from ebpfsentinel.domains.ratelimit.engine import RateLimitEngine
from ebpfsentinel.domains.ratelimit.settings import (
    RULE_COLUMNS,
    RateLimitRule,
    RateLimitSettings,
)
from ebpfsentinel.model.domain import Collection, Domain, Program

DOMAIN = Domain(
    name="ratelimit",
    summary="Holds each source, and what many share, to a rate of packets, true on all CPUs.",
    settings=RateLimitSettings,
    engine=RateLimitEngine,
    object="ratelimit.bpf.o",
    programs=(
        Program("xdp_ratelimit", order=20),
        Program("tc_ratelimit", order=20, instead_of="xdp_ratelimit"),
        Program("xdp_ratelimit_cookie", called_from=("rl_calls", 0), optional=True),
    ),
    polled=("rl_count", "rl_table_count", "rl_cookies"),
    techniques=(("*", "T1498"),),
    routes="ebpfsentinel.domains.ratelimit.api:routes",
    commands="ebpfsentinel.domains.ratelimit.cli:commands",
    sealed=("rl_limits",),
    collections=(
        Collection(
            name="rules",
            item=RateLimitRule,
            lapse=True,
            columns=RULE_COLUMNS,
        ),
    ),
)
