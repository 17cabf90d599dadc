"""Limits as the kernel has them: ``struct rl_limits``, one generation, replaced whole."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ratelimit.checking import PROTOCOLS, Network
from ebpfsentinel.domains.ratelimit.events import (
    RL_LIMITS,
    RL_RULE,
    RlAction,
    RlAlgorithm,
    RlKey,
    RlMode,
)
from ebpfsentinel.domains.ratelimit.settings import (
    MAX_SHARED,
    Algorithm,
    LimitAction,
    LimitProtocol,
    LimitScope,
)
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.ratelimit.checking import Limit

NUMBERS = RL_LIMITS["rules"].shape[0]
_SLOTS = RL_LIMITS["slots"].shape[0]
_LENGTHS = 33
_CHAIN, _PROBES, _SALTS = 64, 16, 64
_GCRA_SECOND = 1_000_000_000 << 8
_ALGORITHMS = {
    Algorithm.TOKEN_BUCKET: RlAlgorithm.RL_GCRA,
    Algorithm.LEAKY_BUCKET: RlAlgorithm.RL_GCRA,
    Algorithm.SYN_COOKIE: RlAlgorithm.RL_GCRA,
    Algorithm.FIXED_WINDOW: RlAlgorithm.RL_FIXED_WINDOW,
    Algorithm.SLIDING_WINDOW: RlAlgorithm.RL_SLIDING_WINDOW,
}
_ACTIONS = {
    LimitAction.DROP: RlAction.RL_DROP,
    LimitAction.PASS: RlAction.RL_PASS,
    LimitAction.LOG: RlAction.RL_LOG,
}
_KEYS = {
    LimitScope.PER_IP: RlKey.RL_KEY_SOURCE,
    LimitScope.PER_PREFIX: RlKey.RL_KEY_SOURCE,
    LimitScope.PER_DESTINATION: RlKey.RL_KEY_DESTINATION,
}
_SOURCE, _DESTINATION, _PROTOCOL, _PORT, _VLAN, _INTERFACE, _TIME, _SYN = (
    1 << bit for bit in range(8)
)
_WORD = 0xFFFFFFFF
Chain = list[int]


class Compiler:
    """Makes generations; of a limit that was in the last one, its row is taken over."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Limit, int, bytes]] = {}

    def compiled(
        self,
        limits: Sequence[Limit],
        numbers: Mapping[str, int],
        mode: Mode,
        secret: bytes,
        boot_offset_ns: int,
    ) -> NDArray[Any]:
        """One generation, shape ``(1,)``; ``numbers`` by rule id.

        Raises:
            SettingsError: more shared limits, prefix lengths or limits of a source than may be.
        """
        made, enabled = np.zeros(1, RL_LIMITS), [limit for limit in limits if limit.rule.enabled]
        block = mode is Mode.BLOCK
        made["mode"] = RlMode.RL_MODE_BLOCK if block else RlMode.RL_MODE_ALERT
        made["hash_keys"] = hash_keys(secret)
        if enabled:
            places = [numbers[limit.rule.id] for limit in enabled]
            packed = self._packed(enabled, boot_offset_ns)
            made["rules"][0, places] = np.frombuffer(packed, RL_RULE)
        _put_shared(made, [limit for limit in enabled if limit.is_shared], numbers)
        _put_sources(made, [limit for limit in enabled if not limit.is_shared], numbers)
        return made

    def _packed(self, limits: Sequence[Limit], boot_offset_ns: int) -> bytes:
        known, self._rows = self._rows, {}
        for limit in limits:
            found = known.get(limit.rule.id)
            if not found or found[0] is not limit or found[1] != boot_offset_ns:
                found = limit, boot_offset_ns, _row(limit, boot_offset_ns)
            self._rows[limit.rule.id] = found
        return b"".join(row for _, _, row in self._rows.values())


def hash_keys(secret: bytes) -> NDArray[np.uint64]:
    """The words that keys are hashed with, from the secret; shape ``(6,)``."""
    raw = hashlib.blake2b(secret, digest_size=48, person=b"rate limits").digest()
    return np.frombuffer(raw, np.uint64)


def words(address: int, version: int) -> list[int]:
    """An address as four words in host order; IPv4 is the first."""
    if version == 4:
        return [address, 0, 0, 0]
    return [address >> shift & _WORD for shift in (96, 64, 32, 0)]


def mask_words(bits: int, version: int) -> list[int]:
    """The mask of a prefix length, as :func:`words`."""
    width = 32 if version == 4 else 128
    found = words((1 << width) - (1 << width - bits), version)
    return found if version == 6 else [found[0], _WORD, _WORD, _WORD]


def _row(limit: Limit, boot_offset_ns: int) -> bytes:
    """``struct rl_rule`` of the limit, but for ``next``."""
    made, rule = np.zeros(1, RL_RULE), limit.rule
    row = made[0]
    interval = round(_GCRA_SECOND / rule.rate)
    row["interval"], row["tolerance"] = interval, interval * (limit.burst - 1)
    row["rate"], row["burst"] = rule.rate, limit.burst
    row["exact"] = limit.burst < rule.rate
    row["algorithm"], row["action"] = _ALGORITHMS[rule.algorithm], _ACTIONS[rule.action]
    own = limit.has_own_bucket
    row["key"] = RlKey.RL_KEY_RULE if own else _KEYS[rule.scope]
    row["whole"] = rule.scope is not LimitScope.PER_PREFIX
    asks = _put_network(row, "src", limit.src, _SOURCE * limit.is_shared)
    asks |= _put_network(row, "dst", limit.dst, _DESTINATION)
    if rule.algorithm is Algorithm.SYN_COOKIE:
        row["cookies"], asks = 1, asks | _SYN
    if limit.src:
        row["src_bits"] = limit.src.bits
    if rule.protocol is not LimitProtocol.ANY:
        row["protocol"], asks = PROTOCOLS[rule.protocol], asks | _PROTOCOL
    if limit.ports:
        low, high = limit.ports
        row["dst_port"], row["dst_ports"], asks = low, high - low, asks | _PORT
    if rule.vlan_id is not None:
        row["vlan_id"], asks = rule.vlan_id, asks | _VLAN
    if limit.slots:
        row["interfaces"], asks = limit.slots, asks | _INTERFACE
    if limit.expires_ns is not None:
        row["until_ns"], asks = max(limit.expires_ns - boot_offset_ns, 0), asks | _TIME
    row["asks"] = asks
    return made.tobytes()


def _put_network(row: Any, side: str, network: Network | None, ask: int) -> int:
    if network is None:
        return 0
    row[f"{side}_family"] = network.version
    row[f"{side}_addr"] = words(network.address, network.version)
    row[f"{side}_mask"] = mask_words(network.bits, network.version)
    return ask


def _put_shared(made: NDArray[Any], limits: Sequence[Limit], numbers: Mapping[str, int]) -> None:
    if len(limits) > MAX_SHARED:
        raise SettingsError(
            "ratelimit.rules",
            f"{len(limits)} limits that sources share; {MAX_SHARED} is the most",
            "Each packet is held against all of them: use per_ip or per_prefix for the others.",
        )
    made["shared_count"] = len(limits)
    for at, limit in enumerate(limits):
        made["shared"][0, at] = numbers[limit.rule.id]


def _put_sources(made: NDArray[Any], limits: Sequence[Limit], numbers: Mapping[str, int]) -> None:
    """The limits by source: each names the next less specific one, networks are hashed."""
    nodes: dict[Network, Chain] = defaultdict(list)
    any_source: Chain = []
    for limit in limits:
        chain = nodes[limit.src] if limit.src else any_source
        chain.append(numbers[limit.rule.id])
    lengths, rules = _lengths(nodes), made["rules"][0]
    _link(rules, any_source, 0)
    first = any_source[0] if any_source else 0
    made["first"] = first
    depth: dict[int, int] = {first: len(any_source)}
    for network in sorted(nodes, key=lambda each: each.bits):
        above = _above(network, nodes, lengths[network.version]) or first
        chain = nodes[network]
        _link(rules, chain, above)
        depth[chain[0]] = depth[above] + len(chain)
    if max(depth.values()) > _CHAIN:
        raise SettingsError(
            "ratelimit.rules",
            f"{max(depth.values())} limits would be asked for one source; {_CHAIN} is the most",
            "Use fewer networks inside each other, or fewer limits for one of them.",
        )
    _put_lengths(made, lengths)
    _put_slots(made, {network: chain[0] for network, chain in nodes.items()})


def _lengths(nodes: Iterable[Network]) -> dict[int, list[int]]:
    """The prefix lengths that occur by family, longest first."""
    found = {
        version: sorted({n.bits for n in nodes if n.version == version}, reverse=True)
        for version in (4, 6)
    }
    if len(found[6]) > _LENGTHS:
        raise SettingsError(
            "ratelimit.rules",
            f"sources of {len(found[6])} different IPv6 prefix lengths; {_LENGTHS} is the most",
            "Use the same lengths for several networks.",
        )
    return found


def _above(network: Network, nodes: Mapping[Network, Chain], lengths: Sequence[int]) -> int:
    """The first limit of the smallest network around this one; 0: there is none."""
    around = (network.within(bits) for bits in lengths if bits < network.bits)
    return next((nodes[each][0] for each in around if each in nodes), 0)


def _link(rules: NDArray[Any], chain: Chain, then: int) -> None:
    for number, following in zip(chain, [*chain[1:], then], strict=False):
        rules[number]["next"] = following


def _put_lengths(made: NDArray[Any], lengths: Mapping[int, Sequence[int]]) -> None:
    for at, version in enumerate((4, 6)):
        made["lengths"][0, at] = len(lengths[version])
        for place, bits in enumerate(lengths[version]):
            row = made["length"][0, at, place]
            row["mask"], row["bits"] = mask_words(bits, version), bits


def _put_slots(made: NDArray[Any], firsts: Mapping[Network, int]) -> None:
    """Open addressing with another salt until no network is further than a few probes."""
    if not firsts:
        return
    address = np.array([words(n.address, n.version) for n in firsts], np.uint64)
    bits = np.array([n.bits for n in firsts], np.uint64)
    six = np.array([n.version == 6 for n in firsts], np.uint64)
    for salt in range(_SALTS):
        what = np.uint64(salt << 9) | bits << np.uint64(1) | six
        at = hashed(made["hash_keys"][0], address, what)
        if _fill(made["slots"][0], at.tolist(), list(firsts.values())):
            made["salt"] = salt
            return
    raise SettingsError("ratelimit.rules", "too many sources to look them up", "Use fewer.")


def hashed(
    keys: NDArray[np.uint64], address: NDArray[np.uint64], what: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """As ``hash_of`` in ``buckets.h``; words that are 0 change nothing."""
    total = keys[0] + keys[1] * what + (keys[2:] * address).sum(axis=1, dtype=np.uint64)
    return np.asarray(total >> np.uint64(32))


def _fill(slots: NDArray[np.uint16], at: Sequence[int], numbers: Sequence[int]) -> bool:
    taken: dict[int, int] = {}
    for place, number in zip(at, numbers, strict=True):
        probes = ((place + probe) % _SLOTS for probe in range(_PROBES))
        free = next((slot for slot in probes if slot not in taken), None)
        if free is None:
            return False
        taken[free] = number
    slots[list(taken)] = list(taken.values())
    return True
