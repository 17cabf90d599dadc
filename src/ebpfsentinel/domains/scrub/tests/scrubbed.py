"""The loaded programs as a test sees them: settings in, frames through, frames and counters out."""

from __future__ import annotations

import time
import warnings
from typing import Any

import msgspec
import numpy as np

from ebpfsentinel.domains.scrub import DOMAIN
from ebpfsentinel.domains.scrub.settings import ScrubSettings
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.floor import Floor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
    from scapy.layers.l2 import Dot1Q, Ether
    from scapy.packet import Raw, raw

NEXT, SHOT = 0xFFFFFFFF, 2
ROOTS = {"ingress": "tc_root", "egress": "egress_root"}
ADDRESSES = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
_INGRESS_IFINDEX, _GSO_SIZE, _SKB_BYTES = 9, 44, 192
"""Words of ``struct __sk_buff``, and its bytes."""
_LOOPBACK = 1


def ip(family: int = 4, **fields: Any) -> Any:
    """An IP header; ``tos`` and ``ttl`` are the traffic class and the hop limit of IPv6."""
    src, dst = ADDRESSES[family]
    fields = {"src": src, "dst": dst} | fields
    if family == 4:
        return IP(**fields)
    names = {"tos": "tc", "ttl": "hlim"}
    return IPv6(**{names.get(name, name): value for name, value in fields.items()})


def tcp(flags: str = "A", **fields: Any) -> Any:
    return TCP(**({"sport": 40000, "dport": 443, "seq": 7, "ack": 9, "flags": flags} | fields))


def udp(**fields: Any) -> Any:
    return UDP(**({"sport": 1, "dport": 2} | fields))


def frame(*layers: Any, vlan: int = 0) -> bytes:
    """An Ethernet frame of these layers, with all checksums right unless a layer says its own."""
    made = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
    for layer in ([Dot1Q(vlan=vlan)] if vlan else []) + list(layers):
        made /= layer
    return raw(made)


def fragment(
    family: int, offset: int, more: bool, protocol: int, payload: bytes, **fields
) -> bytes:
    """A piece of a packet; ``offset`` in bytes."""
    if family == 4:
        head = ip(4, id=77, frag=offset // 8, flags="MF" if more else 0, proto=protocol, **fields)
        return frame(head, Raw(payload))
    piece = IPv6ExtHdrFragment(nh=protocol, offset=offset // 8, m=int(more), id=77)
    return frame(ip(6, nh=44, **fields), piece, Raw(payload))


class Scrubbed:
    """A loaded kernel and its engine."""

    def __init__(self) -> None:
        self.kernel = LinuxKernel()
        self.kernel.load([DOMAIN])
        self.engine = DOMAIN.engine(Tools(rules=None))

    def begin(self) -> None:
        """Nothing is counted, reported or spared."""
        for name in ("sc_count", "sc_told"):
            keys, values = self.kernel.read(name)
            self.kernel._maps[name].write(keys, np.zeros(len(keys), values.dtype))
        self.kernel.drain("sc_events")
        self.kernel.protect(Floor())

    def settings(self, mode: str = "block", slots: dict[str, int] | None = None, **written):
        """Put settings in force, in block mode unless said otherwise."""
        wanted = msgspec.convert({"enabled": True, "mode": mode, **written}, ScrubSettings)
        around = Surroundings(boot_offset_ns=clock.boot_offset_ns(), interfaces=slots or {})
        plan = self.engine.plan(wanted, {}, around)
        self.kernel.apply(plan.actions)
        self.kernel._fill_chains()
        self.engine.commit(plan)

    def run(self, sent: bytes, way: str = "ingress", gso_size: int = 0) -> tuple[int, bytes]:
        """The verdict, and the frame as it is afterwards."""
        out, room = ffi.new("char[]", 1 << 16), 1 << 16
        head = ffi.new("uint32_t[]", _SKB_BYTES // 4)
        head[_INGRESS_IFINDEX], head[_GSO_SIZE] = _LOOPBACK, gso_size
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(sent),
            data_size_in=len(sent),
            data_out=out,
            data_size_out=room,
            repeat=1,
            ctx_in=head,
            ctx_size_in=_SKB_BYTES,
        )
        program = self.kernel._program(ROOTS[way]).fd
        check(lib().bpf_prog_test_run_opts(program, options), "running a frame")
        return options.retval, bytes(ffi.buffer(out, options.data_size_out))

    def changed(self, sent: bytes, way: str = "ingress") -> bytes:
        """The frame afterwards; it has to pass."""
        verdict, found = self.run(sent, way)
        assert verdict == NEXT
        return found

    def dropped(self, sent: bytes, way: str = "ingress") -> bool:
        verdict, found = self.run(sent, way)
        assert found == sent, "what is dropped, or passes for not being dropped, is not changed"
        return verdict == SHOT

    def status(self) -> dict[str, Any]:
        self.engine.feed("sc_count", self.kernel.total("sc_count"), time.time_ns())
        return self.engine.status()

    def counts(self) -> dict[str, int]:
        """Counters that are not zero."""
        status = self.status()
        return {name: status[name] for name in status["ingress"] if status[name]}

    def alerts(self) -> list[Any]:
        rows = self.kernel.drain("sc_events")
        return list(self.engine.feed("sc_events", rows, time.time_ns()).alerts) if len(rows) else []

    def close(self) -> None:
        self.kernel.detach()
