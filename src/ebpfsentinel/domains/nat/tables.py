"""Rules as the kernel has them: ``struct nat_rules``, one generation, replaced whole."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.nat.checking import PROTOCOLS, Checked, Prefix, Translation
from ebpfsentinel.domains.nat.events import NAT_RULES, TR_HEAD, NatWhat
from ebpfsentinel.domains.nat.settings import HAIRPIN, NatProtocol, NatType
from ebpfsentinel.model.packets import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

NUMBERS = 1024
_SOURCE, _DESTINATION, _PORT, _PROTOCOL, _INTERFACE, _FAMILY, _LOCAL, _TRANSLATED = (
    1 << bit for bit in range(8)
)
_WORD = 0xFFFFFFFF
_ANY = np.uint64(0xFFFFFFFFFFFFFFFF)
_SHORT = 48
_SECOND_NS = 1_000_000_000
TIMEOUTS_S = np.array(
    [[120, 60, 432_000, 120], [30, 120, 120, 120], [30, 30, 30, 30], [600, 600, 600, 600]],
    np.uint64,
)
"""By ``enum tr_class`` and ``enum tr_state``: TCP, UDP, ICMP, others."""
Links = dict[str, tuple[str, ...]]
Since = dict[str, int]
"""Boot clock, ns, by interface."""


def head(
    secret: bytes, masquerade: int, since: Since, slots: Mapping[str, int], *, prefixes: bool
) -> NDArray[Any]:
    """``struct tr_head``, shape ``(1,)``."""
    made = np.zeros(1, TR_HEAD)
    count = made["hash_keys"].shape[1]
    raw = b"".join(
        hashlib.blake2b(secret, digest_size=48, person=b"nat table", salt=bytes([part])).digest()
        for part in range(count * 8 // 48 + 1)
    )
    made["hash_keys"] = np.frombuffer(raw[: count * 8], np.uint64)
    made["timeout_ns"] = TIMEOUTS_S * np.uint64(_SECOND_NS)
    made["active"], made["masquerade"], made["prefixes"] = 1, masquerade, prefixes
    for name, since_ns in since.items():
        made["judged_since_ns"][0, slots[name]] = since_ns
    return made


def judged_since(made: NDArray[Any], slots: Mapping[str, int], before: Since, now_ns: int) -> Since:
    """Since when rules are asked about what passes an interface; the others are left out.

    ``made`` is of :func:`compiled`; ``now_ns`` is boot clock. Where rules were asked before, the
    time stays, unless it is to come: then it is of an earlier boot.
    """
    sides = [made[side][0, : int(made[f"{side}_count"][0])] for side in ("source", "destination")]
    asked = np.concatenate(
        [np.where(rows["interfaces"], rows["interfaces"], _ANY) for rows in sides]
    )
    judged = int(np.bitwise_or.reduce(asked, initial=np.uint64(0)))
    known = {name: since_ns for name, since_ns in before.items() if since_ns <= now_ns}
    return {name: known.get(name, now_ns) for name, slot in slots.items() if judged >> slot & 1}


def compiled(
    checked: Checked,
    numbers: Mapping[str, int],
    links: Links,
    slots: Mapping[str, int],
    *,
    alert: bool,
) -> NDArray[Any]:
    """One generation, shape ``(1,)``; ``numbers`` by rule id."""
    made = np.zeros(1, NAT_RULES)
    used = [each for each in checked.translations if each.rule.enabled]
    source = [each for each in used if each.is_source]
    destination = [each for each in used if each.is_destination]
    prefixes = [each for each in checked.prefixes if each.rule.enabled]
    made["source_count"], made["destination_count"] = len(source), len(destination)
    made["prefix_count"], made["alert"] = len(prefixes), alert
    for at, each in enumerate(source):
        _put_source(made["source"][0, at], each, numbers[each.rule.id])
    for at, each in enumerate(destination):
        _put_destination(made["destination"][0, at], each, numbers[each.rule.id])
    for at, prefix in enumerate(prefixes):
        _put_prefix(made["prefixes"][0, at], prefix, numbers[prefix.rule.id])
    halves = (made["source"][0, : len(source)], made["destination"][0, : len(destination)])
    asked = np.concatenate([half["asks"] for half in halves])
    made["asks"] = int(np.bitwise_or.reduce(asked, initial=0)) & (_LOCAL | _TRANSLATED)
    for name, slot in slots.items():
        _put_link(made["links"][0, slot], links.get(name, ()))
    return made


def _put_match(row: Any, each: Translation, number: int) -> int:
    rule, asks = each.rule, 0
    row["number"], row["interfaces"], row["family"] = number, each.slots, each.family
    asks |= _INTERFACE * bool(each.slots) | _FAMILY * bool(each.family)
    if rule.protocol is not NatProtocol.ANY:
        row["protocol"], asks = PROTOCOLS[rule.protocol], asks | _PROTOCOL
    if each.ports:
        row["dst_port"], row["dst_ports"] = each.ports[0], each.ports[1] - each.ports[0]
        asks |= _PORT
    return asks


def _put_network(row: Any, side: str, network: Any) -> None:
    row[f"{side}_addr"] = words(network.network_address)
    row[f"{side}_mask"] = words(network.netmask)


def _put_target(row: Any, network: Any) -> None:
    row["to_addr"] = words(network.network_address)
    row["keep_mask"] = words(network.hostmask)


def _put_to_ports(row: Any, each: Translation) -> None:
    if not each.to_ports:
        return
    low, high = each.to_ports
    row["to_port"], row["to_ports"] = low, high - low
    row["shift_port"] = bool(each.ports and each.ports[1] - each.ports[0] == high - low)


def _put_source(row: Any, each: Translation, number: int) -> None:
    asks = _put_match(row, each, number)
    masquerades = each.rule.type is NatType.MASQUERADE
    row["what"] = NatWhat.NAT_MASQ if masquerades else NatWhat.NAT_SNAT
    if each.src:
        _put_network(row, "src", each.src)
        asks |= _SOURCE
    if each.dst and each.rule.type is not NatType.ONE_TO_ONE:
        _put_network(row, "dst", each.dst)
        asks |= _DESTINATION
    if each.to:
        _put_target(row, each.to)
    _put_to_ports(row, each)
    if each.rule.id == HAIRPIN:
        asks |= _TRANSLATED
    row["asks"] = asks


def _put_destination(row: Any, each: Translation, number: int) -> None:
    asks, kind = _put_match(row, each, number), each.rule.type
    row["what"] = NatWhat.NAT_REDIRECT if kind is NatType.REDIRECT else NatWhat.NAT_DNAT
    if kind is NatType.ONE_TO_ONE:
        _put_target(row, each.src)
    elif each.to:
        _put_target(row, each.to)
    if each.src and kind is not NatType.ONE_TO_ONE:
        _put_network(row, "src", each.src)
        asks |= _SOURCE
    if each.dst:
        _put_network(row, "dst", each.dst)
        asks |= _DESTINATION
    elif kind is NatType.PORT_FORWARD:
        asks |= _LOCAL
    _put_to_ports(row, each)
    row["asks"] = asks


def _put_prefix(row: Any, each: Prefix, number: int) -> None:
    row["inside"], row["outside"] = (
        words(each.inside.network_address),
        words(each.outside.network_address),
    )
    row["mask"], row["interfaces"], row["number"] = words(each.inside.netmask), each.slots, number
    row["short_prefix"] = each.inside.prefixlen <= _SHORT
    row["adjust_out"] = adjustment(each.inside, each.outside)
    row["adjust_in"] = adjustment(each.outside, each.inside)


def adjustment(old: ipaddress.IPv6Network, new: ipaddress.IPv6Network) -> int:
    """What is added to a word so that the sum of the address stays (RFC 6296 section 3.1)."""
    return _fold(_sum(old) + (0xFFFF ^ _sum(new)))


def _sum(network: ipaddress.IPv6Network) -> int:
    packed = network.network_address.packed
    return _fold(sum(int.from_bytes(packed[at : at + 2]) for at in range(0, 16, 2)))


def _fold(value: int) -> int:
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def _put_link(row: Any, addresses: Sequence[str]) -> None:
    for text in addresses:
        found = ipaddress.ip_address(text)
        if found.version == 4 and not row["has_v4"]:
            row["v4"], row["has_v4"] = int(found), 1
        elif found.version == 6 and not row["has_v6"]:
            row["v6"], row["has_v6"] = words(found), 1
