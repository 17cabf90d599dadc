"""Rules and translations as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.nat.settings import NatRuleView, NatType, PrefixView
from ebpfsentinel.model.packets import PROTOCOLS, address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ebpfsentinel.domains.nat.checking import Prefix, Translation

_USED, _BUSY = 1, 2
_REPLY, _IDENTITY, _MASQUERADE, _SOURCE = 1, 2, 4, 8
_STATES = ("new", "replied", "established", "closing")
_SECOND_NS = 1_000_000_000
_WAYS = 8


def rule_view(each: Translation, count: Any) -> NatRuleView:
    """A rule in force with its counters, one row of ``nat_rule_count``."""
    rule = each.rule
    return NatRuleView(
        id=rule.id,
        type=rule.type.value,
        priority=rule.priority,
        src=str(each.src) if each.src and rule.type is not NatType.ONE_TO_ONE else None,
        dst=str(each.dst) if each.dst and rule.type is not NatType.ONE_TO_ONE else None,
        dst_port=_range(each.ports),
        protocol=rule.protocol.value,
        interface=rule.interface,
        to=_to(each),
        enabled=rule.enabled,
        origin=each.origin,
        translations=int(count["translations"]),
        failed=int(count["failed"]),
        would=int(count["would"]),
    )


def prefix_view(each: Prefix, count: Any) -> PrefixView:
    """A prefix in force with its packets."""
    return PrefixView(
        id=each.rule.id,
        internal_prefix=str(each.inside),
        external_prefix=str(each.outside),
        interface=each.rule.interface,
        enabled=each.rule.enabled,
        origin=each.origin,
        packets=int(count["packets"]),
    )


def _range(ports: tuple[int, int] | None) -> str | None:
    if ports is None:
        return None
    return str(ports[0]) if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _to(each: Translation) -> str:
    if each.rule.type is NatType.ONE_TO_ONE:
        return f"{each.src} <-> {each.dst}"
    if each.to is None:
        where = "this host" if each.rule.type is NatType.REDIRECT else "the interface"
    else:
        where = str(each.to.network_address)
    ports = _range(each.to_ports)
    return f"{where} port {ports}" if ports else where


def translations(
    table: NDArray[Any], name: Callable[[int], str], now_ns: int, most: int
) -> dict[str, Any]:
    """The live translations of ``nat_table`` (shape ``(sets,)``), those seen last first."""
    entries = table["entries"]
    tags = table["tags"]
    live = (tags & np.uint64(_USED | _BUSY)) == _USED
    live &= (entries["until_ns"] > now_ns) & (entries["from"]["kind"] == 0)
    untouched = live & ((entries["flags"] & _IDENTITY) != 0)
    forward = live & ((entries["flags"] & (_REPLY | _IDENTITY)) == 0)
    found = entries[forward]
    order = np.argsort(found["until_ns"])[::-1][:most]
    return {
        "places": int(tags.size),
        "in_use": int(live.sum()),
        "translations": int(forward.sum()),
        "untouched_flows": int(untouched.sum()) // 2,
        "listed": list(_rows(found[order], entries, name, now_ns)),
    }


def _rows(
    found: NDArray[Any], entries: NDArray[Any], name: Callable[[int], str], now_ns: int
) -> Iterator[dict[str, Any]]:
    for row in found:
        peer = entries[int(row["peer"]) // _WAYS, int(row["peer"]) % _WAYS]
        known = peer["serial"] == row["serial"]
        before, after = row["from"], row["to"]
        protocol = int(before["protocol"])
        yield {
            "rule_id": name(int(row["rule"])),
            "type": _type(int(row["flags"])),
            "protocol": PROTOCOLS.get(protocol, str(protocol)),
            "src": _end(before, "src"),
            "dst": _end(before, "dst"),
            "translated_src": _end(after, "src"),
            "translated_dst": _end(after, "dst"),
            "state": _STATES[int(row["state"]) % len(_STATES)],
            "packets": int(row["packets"]),
            "bytes": int(row["bytes"]),
            "reply_packets": int(peer["packets"]) if known else 0,
            "reply_bytes": int(peer["bytes"]) if known else 0,
            "age_seconds": (now_ns - int(row["since_ns"])) // _SECOND_NS,
            "expires_seconds": (int(row["until_ns"]) - now_ns) // _SECOND_NS,
        }


def _type(flags: int) -> str:
    if flags & _MASQUERADE:
        return "masquerade"
    return "snat" if flags & _SOURCE else "dnat"


def _end(found: Any, side: str) -> str:
    ipv6 = int(found["family"]) == 6
    text, port = address(found[f"{side}_addr"], ipv6), int(found[f"{side}_port"])
    return (f"[{text}]:{port}" if ipv6 else f"{text}:{port}") if port else text
