"""Connection tracking, translation and scrubbing together, and nftables beside them.

The client, router and server of ``bench_nat``: the router tracks connections, masquerades, clamps
the MSS and clears TCP's reserved bits, once a packet: by an agent (at TC; no XDP program anywhere),
by nftables, or not at all. Throughput is iperf3's, connections are one after the other and for each
second of the core that client and server share.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from bench.bench_enforce import _middle, _row
from bench.bench_nat import _OURS, _in_turn, _Lab, _ratios
from bench.flood import nft
from ebpfsentinel.domains.nat.tests import routed

if TYPE_CHECKING:
    from collections.abc import Iterator

_MSS = 1400
_NFT = f"""add table inet bench
add chain inet bench post {{ type nat hook postrouting priority srcnat; }}
add rule inet bench post oifname wan0 masquerade
add chain inet bench pass {{ type filter hook forward priority filter; }}
add rule inet bench pass tcp flags syn tcp option maxseg size set {_MSS}
add rule inet bench pass tcp reserved != 0 tcp reserved set 0
add rule inet bench pass ct state invalid drop
add rule inet bench pass ct state established,related accept
"""
_SCRUB = {
    "enabled": True,
    "mode": "block",
    "direction": "egress",  # once a packet, as nftables does
    "max_mss": _MSS,
    "scrub_tcp_flags": True,
}
_WAYS = ("ours", "nftables", "off")


@contextlib.contextmanager
def _routing(lab: _Lab, how: str) -> Iterator[None]:
    agent = None
    if how == "ours":
        agent = lab.agent(
            **routed.Routed.sections(snat_rules=_OURS),
            conntrack={"enabled": True},
            scrub=_SCRUB,
            sockets={"enabled": False},
        )
    elif how == "nftables":
        nft(lab, _NFT)
    try:
        yield
    finally:
        if agent:
            agent.end()
        elif how == "nftables":
            nft(lab, "delete table inet bench")


def run() -> list[dict[str, Any]]:
    """The rows of the table."""
    return list(_rows())


def _rows() -> Iterator[dict[str, Any]]:
    bits, connections = _in_turn(_WAYS, _routing)
    for way in _WAYS:
        gigabits = [each / 1e9 for each in bits[way]]
        yield _row(f"iperf3 through conntrack, NAT and scrub, {way}", "Gbit/s", _middle(gigabits))
        many = _middle(connections[way])
        yield _row(f"connections through conntrack, NAT and scrub, {way}", "connections/s", many)
    for name, found, goals in (
        ("throughput: on / off", _ratios(bits, "off"), (0.9, 0.95)),
        ("throughput: ours / nftables", _ratios(bits, "nftables"), (1.0, 1.5)),
        ("connections/s: ours / nftables", _ratios(connections, "nftables"), (1.0, 1.5)),
    ):
        yield _row(f"conntrack, NAT and scrub, {name}", "ratio", _middle(found), *goals)
