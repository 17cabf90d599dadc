"""The never-block floor as maps (``include/floor.h``), for the kernel and its twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.model.action import MapReplace, MapWrite
from ebpfsentinel.model.packets import words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.floor import Floor, Network

LOOPBACK = 1
"""The index of lo, in every network namespace (LOOPBACK_IFINDEX)."""
_HASH = np.uint32(0x9E3779B1)
_HASHED = {4: 16, 6: 32}

HEAD = np.dtype(
    [
        ("lapse_ns", "<u8"),
        ("lapse_xdp", "<u4"),
        ("lapse_tc", "<u4"),
        ("lapse_egress", "<u4"),
        ("loopback", "<u4"),
        ("port_filter", "<u8"),
        ("address_filter", "<u8", (4,)),
        ("ports", "<u8", (1024,)),
        ("tcp_ports", "<u8", (1024,)),
    ]
)
TCP = np.dtype(
    [("addr", "<u4", (4,)), ("remote_port", "<u2"), ("local_port", "<u2"), ("family", "<u4")]
)
NET = np.dtype([("prefix_bits", "<u4"), ("family", "<u4"), ("addr", "<u4", (4,))])
_NETWORK_ORDER = np.dtype([("prefix_bits", "<u4"), ("family", ">u4"), ("addr", ">u4", (4,))])


def _address_filter(networks: Iterable[Network]) -> NDArray[np.uint64]:
    """The bits of all addresses within; a network as wide as half the hashed bits sets all."""
    bits = np.zeros(256, np.bool_)
    for network in networks:
        hashed = _HASHED[network.version]
        first = int(network.network_address) >> (network.max_prefixlen - hashed)
        free = max(hashed - network.prefixlen, 0)
        if free > 16:
            bits[:] = True
        else:
            covered = np.arange(first, first + (1 << free), dtype=np.uint32)
            bits[covered * _HASH >> np.uint32(24)] = True
    return np.packbits(bits, bitorder="little").view(np.uint64)


def _bitmap(ports: Iterable[int]) -> NDArray[np.uint64]:
    """Bit p of 65,536."""
    bits = np.zeros(65536, np.bool_)
    bits[list(ports)] = True
    return np.packbits(bits, bitorder="little").view(np.uint64)


def _tcp(floor: Floor) -> NDArray[Any]:
    rows = [(words(address), 0, port, address.version) for address, port in floor.listeners]
    rows += [
        (words(each.remote), each.remote_port, each.local_port, each.remote.version)
        for each in floor.connections
    ]
    return np.array(rows, TCP)


def _nets(floor: Floor) -> NDArray[Any]:
    rows = [
        (32 + network.prefixlen, network.version, words(network.network_address))
        for network in floor.networks
    ]
    return np.array(rows, _NETWORK_ORDER).view(NET)


def floor_actions(floor: Floor, head: NDArray[Any]) -> list[Action]:
    """Bring the maps to ``floor``; ``head`` (shape ``(1,)``) is filled in.

    The tables first, so that a filter never leads to what is not there yet.
    """
    tcp, nets = _tcp(floor), _nets(floor)
    asked = [*floor.ports, *tcp["local_port"].tolist()]
    head["ports"] = _bitmap(floor.ports)
    head["tcp_ports"] = _bitmap(tcp["local_port"].tolist())
    head["port_filter"] = np.uint64(sum({1 << port % 64 for port in asked}))
    head["address_filter"] = _address_filter(floor.networks)
    return [
        MapReplace("floor_tcp", tcp, np.ones(len(tcp), np.uint32)),
        MapReplace("floor_net", nets, np.ones(len(nets), np.uint32)),
        head_action(head),
    ]


def head_action(head: NDArray[Any]) -> Action:
    """Write the head alone."""
    return MapWrite("floor_head", np.zeros(1, np.uint32), head.copy())
