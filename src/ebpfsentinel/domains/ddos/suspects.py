"""Who sends: rates of sources and targets from two looks at sampled counts, and whom to block."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ddos.rates import SECOND_NS
from ebpfsentinel.domains.ddos.settings import Per
from ebpfsentinel.model.packets import address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ebpfsentinel.domains.ddos.settings import DdosPolicy

_TOP = 10
_PREFIX_SOURCES = 8
"""So many sources of one prefix together are blocked as one."""
_PREFIX_FACTOR = 4
_PREFIX_BITS = {4: 24, 6: 64}
_HOST_BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Seen:
    """Parties of one type of attack: keys ``(n,)`` and packets a second ``(n,)``, most first."""

    keys: NDArray[Any]
    pps: NDArray[np.float64]

    def most(self) -> float:
        """Of the one that has most."""
        return float(self.pps[0]) if len(self.pps) else 0.0

    def most_of_prefix(self) -> float:
        """Of the /24 or /64 that has most."""
        return float(_sums(self)[1].max(initial=0.0))

    def top(self) -> list[dict[str, Any]]:
        """Those with most, for people."""
        return [
            {
                "ip": address(key["addr"], key["family"] == 6),
                "port": int(key["port"]) or None,
                "pps": round(float(pps), 1),
            }
            for key, pps in zip(self.keys[:_TOP], self.pps[:_TOP], strict=True)
        ]


class Parties:
    """One table of sampled counts, looked at again and again."""

    def __init__(self) -> None:
        self._before: tuple[NDArray[Any], NDArray[Any]] | None = None
        self._before_ns = 0
        self._found: tuple[NDArray[Any], NDArray[np.float64]] | None = None

    def look(self, rows: NDArray[Any], now_ns: int) -> bool:
        """Take in ``key`` and ``value`` rows; False at the first look, which tells no rates.

        A key that was not there before counts from zero.
        """
        order = np.argsort(_plain(rows["key"]))
        keys, packets = rows["key"][order], rows["value"]["packets"][order].astype(np.float64)
        before, passed_ns = self._before, now_ns - self._before_ns
        self._before, self._before_ns = (keys, packets), now_ns
        if before is None or not 0 < passed_ns < 5 * SECOND_NS:
            self._found = None
            return False
        fresh = packets.copy()
        _, here, there = np.intersect1d(
            _plain(keys), _plain(before[0]), assume_unique=True, return_indices=True
        )
        older = before[1][there]
        fresh[here] -= np.where(older <= fresh[here], older, 0)
        self._found = keys, fresh * SECOND_NS / passed_ns
        return True

    def of(self, kind: int) -> Seen | None:
        """The parties of a type of attack; None before the second look."""
        if self._found is None:
            return None
        keys, pps = self._found
        wanted = np.flatnonzero((keys["type"] == kind) & (pps > 0))
        order = wanted[np.argsort(-pps[wanted])]
        return Seen(keys[order], pps[order])

    def forget(self) -> None:
        """The next look is the first."""
        self._before = self._found = None


def _plain(keys: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(keys).view(f"V{keys.dtype.itemsize}").reshape(-1)


Prefix = tuple[int, int, int]
"""Family, prefix bits, and the address as a number."""


def number_of(words: NDArray[Any], family: int) -> int:
    """Four words as a number of the address's own size."""
    if family == 4:
        return int(words[0])
    return int.from_bytes(words.astype(">u4").tobytes(), "big")


def address_of(family: int, number: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that has this number."""
    return ipaddress.IPv4Address(number) if family == 4 else ipaddress.IPv6Address(number)


def text_of(prefix: Prefix) -> str:
    """``192.0.2.0/24``; a host without its bits."""
    family, bits, number = prefix
    made = address_of(family, number)
    return str(made) if bits == _HOST_BITS[family] else f"{made}/{bits}"


def to_block(
    seen: Seen, policy: DdosPolicy, known: set[tuple[int, int]], most: int
) -> list[Prefix]:
    """Sources and prefixes that send more than they may; none that is known, nor its prefix.

    A prefix is blocked as one when many of its sources together send four times what one may, or
    what a policy says that is of prefixes.
    """
    source_pps = policy.source_pps
    factor = 1 if policy.per is Per.PREFIX else _PREFIX_FACTOR
    prefixes = list(_prefixes(seen, source_pps * factor, known))
    covered = {(family, number) for family, _, number in prefixes}
    hosts = []
    for key, _ in zip(seen.keys, seen.pps[seen.pps >= source_pps], strict=False):
        family = int(key["family"])
        number = number_of(key["addr"], family)
        if (family, number) in known or (family, _network(family, number)) in covered:
            continue
        hosts.append((family, _HOST_BITS[family], number))
    return [*prefixes, *hosts][:most]


def _network(family: int, number: int) -> int:
    free = _HOST_BITS[family] - _PREFIX_BITS[family]
    return number >> free << free


def _sums(seen: Seen) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.intp]]:
    """Prefixes (address and family), packets a second and sources of each.

    Vectorised: a flood of forged sources makes tens of thousands of rows.
    """
    networks = seen.keys["addr"].copy()
    four = seen.keys["family"] == 4
    networks[four, 0] &= 0xFFFFFF00
    networks[~four, 2:] = 0
    joined = np.concatenate([networks, seen.keys["family"][:, None].astype(np.uint32)], axis=1)
    rows, inverse, counts = np.unique(joined, axis=0, return_inverse=True, return_counts=True)
    sums = np.bincount(inverse.reshape(-1), weights=seen.pps, minlength=len(rows))
    return rows, sums.astype(np.float64), counts


def _prefixes(seen: Seen, least_pps: float, known: set[tuple[int, int]]) -> Iterator[Prefix]:
    kept = {(family, _network(family, number)) for family, number in known}
    rows, sums, counts = _sums(seen)
    for at in np.flatnonzero((sums >= least_pps) & (counts >= _PREFIX_SOURCES)).tolist():
        family = int(rows[at, 4])
        number = number_of(rows[at, :4], family)
        if (family, number) not in kept:
            yield family, _PREFIX_BITS[family], number
