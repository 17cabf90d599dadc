"""The loaded defence as a test sees it: settings in, frames through, verdicts and counts out."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.domains.ddos import DOMAIN
from ebpfsentinel.domains.ddos.settings import DdosSettings
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import Frames

if TYPE_CHECKING:
    import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw, raw

DROP, PASS, TX = 1, 2, 3


def ether(*layers: Any) -> bytes:
    """An Ethernet frame of these layers."""
    frame = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    for layer in layers:
        frame /= layer
    return raw(frame)


def ip(src: str, dst: str) -> Any:
    return IPv6(src=src, dst=dst) if ":" in src else IP(src=src, dst=dst)


def tcp(src: str, dst: str, flags: str, sport: int = 4242, dport: int = 80, **fields: Any) -> bytes:
    return ether(ip(src, dst), TCP(sport=sport, dport=dport, flags=flags, **fields))


def udp(src: str, dst: str, sport: int, dport: int = 5000) -> bytes:
    return ether(ip(src, dst), UDP(sport=sport, dport=dport), Raw(b"x" * 100))


def echo(src: str, dst: str, payload: int = 32) -> bytes:
    kind = ICMPv6EchoRequest(data=b"x" * payload) if ":" in src else ICMP() / Raw(b"x" * payload)
    return ether(ip(src, dst), kind)


class Defended:
    """A loaded kernel and its engine."""

    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self.kernel.load([DOMAIN])
        self.engine = DOMAIN.engine(Tools(rules=None))

    def settings(self, mode: str = "block", **sections: Any) -> None:
        """Put settings in force, in block mode unless said otherwise."""
        written = {"enabled": True, "mode": mode, **sections}
        wanted = msgspec.convert(written, DdosSettings)
        offset_ns = clock.boot_offset_ns()
        around = Surroundings(boot_offset_ns=offset_ns, now_ns=time.time_ns())
        plan = self.engine.plan(wanted, {}, around)
        self.kernel.apply(plan.actions)
        self.engine.commit(plan)
        self.kernel.drain("ddos_events")

    def run(self, frame: bytes, times: int = 1) -> list[int]:
        """What became of the frame, each time; so quickly that no bucket gets another token."""
        return self.run_all([frame] * times)

    def run_all(self, frames: list[bytes]) -> list[int]:
        """What became of each."""
        return self.kernel.run_many("xdp_root", Frames.of(frames)).retval.tolist()

    def counts(self) -> np.void:
        return self.kernel.total("ddos_count")[0]

    def events(self) -> np.ndarray:
        return self.kernel.drain("ddos_events")

    def close(self) -> None:
        self.kernel.detach()
