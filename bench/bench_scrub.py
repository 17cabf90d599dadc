"""What scrubbing costs.

``chain``: BPF_PROG_RUN of the TC chains, one frame of 80 bytes, nanoseconds: with an empty chain,
with everything off, with everything on and nothing to do, with an IP header to write, and
a SYN with options to change.

``throughput``: iperf3 through veth, TC alone, everything on against the same agent without the
section, one run after the other.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bench_enforce import _row
from bench.progrun import fd_of
from ebpfsentinel.domains.scrub.tests.scrubbed import Raw, Scrubbed, frame, ip, tcp
from tests.lab import GUARDED, Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS, REPEAT, PAIRS = 9, 200_000, 5
EVERYTHING: dict[str, Any] = {
    "min_ttl": 64,
    "min_hop_limit": 64,
    "max_mss": 1400,
    "random_ip_id": True,
    "scrub_tcp_flags": True,
    "illegal_tcp_flags": "drop",
    "strip_ecn": True,
    "dscp": "af21",
    "strip_tcp_timestamps": True,
    "fragments": "strict",
}


def chain() -> Iterator[dict[str, Any]]:
    """Nanoseconds per packet, IPv4 and IPv6."""
    scrubbed = Scrubbed()
    scrubbed.begin()
    try:
        for family in (4, 6):
            yield from _chain(scrubbed, family)
    finally:
        scrubbed.close()


def _chain(scrubbed: Scrubbed, family: int) -> Iterator[dict[str, Any]]:
    clean = frame(ip(family, tos=18 << 2), tcp("A"), Raw(bytes(26)))
    syn = frame(ip(family), tcp("S", options=[("MSS", 1460), ("Timestamp", (1, 0))]))
    whole: dict[str, tuple[bytes, dict[str, Any]]] = {
        "off": (clean, {}),
        "all on, nothing to do": (clean, EVERYTHING | {"random_ip_id": False}),
        "all on, a SYN in alert mode": (syn, EVERYTHING | {"mode": "alert"}),
    }
    if family == 4:
        atomic = frame(ip(4, tos=18 << 2, flags="DF"), tcp("A"), Raw(bytes(26)))
        whole["all on, an id to write"] = atomic, EVERYTHING
    base = [_ns(scrubbed, clean, None) for _ in range(RUNS)]
    yield _row(f"TC ingress, IPv{family}: empty chain", "ns/packet", base)
    for name, (sent, written) in whole.items():
        scrubbed.settings(**written)
        added = [_ns(scrubbed, sent, "tc_scrub") - before for before in base]
        yield _row(f"scrub, IPv{family}, added: {name}", "ns/packet", added)


def _ns(scrubbed: Scrubbed, sent: bytes, program: str | None) -> int:
    """The root with the domain's program behind it, or with nothing."""
    kernel = scrubbed.kernel
    kernel._fill("tc_chain", [fd_of(kernel, program)] if program else [])  # noqa: SLF001 (a chain of ours)
    return int(kernel.run("tc_root", sent, REPEAT).duration_ns)


def throughput() -> Iterator[dict[str, Any]]:
    """Bits a second with everything on, by those without."""
    ratios = []
    for _ in range(PAIRS):
        off = _iperf3({})
        ratios.append(_iperf3({"enabled": True, "mode": "block"} | EVERYTHING) / off)
    name = "iperf3 through veth, TC, everything scrubbed / not"
    yield _row(name, "ratio", ratios, 0.9, 0.95)


def _iperf3(section: dict[str, Any]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            for namespace, device in ((lab.sender, "send0"), (lab.guarded, "guard0")):
                lab.run(namespace, "ethtool", "-K", device, "tx", "on", "rx", "on")
            sections = {"scrub": section} if section else {}
            lab.agent(agent={"xdp_mode": "tc"}, process={"enabled": False}, **sections)
            lab.run(lab.guarded, "iperf3", "-s", "-D", "-1")
            shown = lab.run(lab.sender, "iperf3", "-J", "-t", "2", "-c", GUARDED).stdout
            return float(json.loads(shown)["end"]["sum_received"]["bits_per_second"])
        finally:
            lab.close()


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return [*chain(), *throughput()]


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
