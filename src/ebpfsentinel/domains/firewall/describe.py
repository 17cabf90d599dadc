"""A frame and what the chain found in it, as text: five-tuple, tags, flags, verdict."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.events import PacketAction
from ebpfsentinel.model.packets import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Mapping

IPV6, VLAN, LATER, PORTS, MALFORMED = 0x01, 0x02, 0x20, 0x40, 0x80
FRAGMENT = 0x10
DEFAULT_RULE = "default-policy"
UNJUDGED = "not judged"
_ACTIONS: dict[int, str] = {
    PacketAction.ACTION_PASS: "allow",
    PacketAction.ACTION_DROP: "deny",
    PacketAction.ACTION_LOG: "log",
    PacketAction.ACTION_REJECT: "reject",
    PacketAction.ACTION_SPARED: "spared",
}


def verdict(action: int) -> str:
    """``allow``, ``deny``, ``log``, ``reject``, or ``spared`` (the never-block floor)."""
    return _ACTIONS.get(action, f"action {action}")


def endpoints(frame: bytes, meta: Any) -> dict[str, Any]:
    """What a rule could ask of the frame, as far as it was understood; ``meta`` is one of META."""
    found: dict[str, Any] = {"vlan_id": int(meta["vlan_id"])} if meta["packet_flags"] & VLAN else {}
    at, flags = int(meta["l3_offset"]), int(meta["packet_flags"])
    version = frame[at] >> 4 if at < len(frame) else 0
    if flags & IPV6 and len(frame) >= at + 40:
        found["src_ip"] = str(ipaddress.IPv6Address(frame[at + 8 : at + 24]))
        found["dst_ip"] = str(ipaddress.IPv6Address(frame[at + 24 : at + 40]))
    elif version == 4 and frame[at - 2 : at] == b"\x08\x00" and len(frame) >= at + 20:
        found["src_ip"] = str(ipaddress.IPv4Address(frame[at + 12 : at + 16]))
        found["dst_ip"] = str(ipaddress.IPv4Address(frame[at + 16 : at + 20]))
    else:
        return found | {"ethertype": f"0x{frame[at - 2 : at].hex()}"}
    found["protocol"] = PROTOCOLS.get(int(meta["protocol"]), int(meta["protocol"]))
    if flags & PORTS:
        ports = frame[int(meta["l4_offset"]) :][:4]
        found["src_port"] = int.from_bytes(ports[:2], "big")
        found["dst_port"] = int.from_bytes(ports[2:], "big")
    return found


def packet_text(found: Mapping[str, Any]) -> str:
    """``tcp 10.0.0.1:4242 > 10.0.0.2:22``; what is not IP, by its ethertype."""
    tag = f" vlan {found['vlan_id']}" if "vlan_id" in found else ""
    if "src_ip" not in found:
        return f"ethertype {found['ethertype']}{tag}"
    sides = [_side(found[f"{side}_ip"], found.get(f"{side}_port")) for side in ("src", "dst")]
    return f"{found['protocol']} {sides[0]} > {sides[1]}{tag}"


def _side(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
