"""Scrubbing: packets that mean one thing to everybody, and say nothing that is not so."""

from ebpfsentinel.domains.scrub.engine import ScrubEngine
from ebpfsentinel.domains.scrub.settings import ScrubSettings
from ebpfsentinel.model.domain import Domain, Program

DOMAIN = Domain(
    name="scrub",
    summary="Mends packets: TTL, MSS, DF and id, TCP flags, ECN, DSCP, timestamps, fragments.",
    settings=ScrubSettings,
    engine=ScrubEngine,
    object="scrub.bpf.o",
    programs=(
        Program("tc_scrub", order=40, on_call=True),
        Program("egress_scrub", order=60, on_call=True),
    ),
    polled=("sc_count",),
    commands="ebpfsentinel.domains.scrub.cli:commands",
    sealed=("sc_head",),
)
