"""Guessing is made slow: after some wrong tries, an address has to wait before the next counts.

What is counted are different wrong credentials. A dashboard that goes on with one that was revoked
learns nothing by it, so it does not keep its address out. A success clears the count. Waits are
short, so that nobody is kept out for good by a neighbour; on loopback they are shorter still. The
table is bounded: the address that was quiet for longest is forgotten.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections import OrderedDict
from dataclasses import dataclass

FREE = 5
LONGEST_S, LONGEST_LOOPBACK_S = 30.0, 4.0
ADDRESSES = 4096
_FORGET_S = 600.0


@dataclass(slots=True)
class _Tried:
    wrong: int = 0
    until_s: float = 0.0
    seen_s: float = 0.0
    last: bytes = b""


def _group(address: str) -> tuple[str, bool]:
    """Who shares a count, and is it loopback; of IPv6 the /64, which one host may have whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, False
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    if found.version == 4 or found.is_loopback:
        return str(found), found.is_loopback
    return str(ipaddress.ip_network((found, 64), strict=False)), False


class Attempts:
    """Wrong tries by address; ``now_s`` is monotonic throughout."""

    def __init__(self) -> None:
        self._tried: OrderedDict[str, _Tried] = OrderedDict()
        self._salt = secrets.token_bytes(16)

    def __len__(self) -> int:
        return len(self._tried)

    def wait_s(self, address: str, now_s: float) -> float:
        """How long this address has to wait; 0: it may try."""
        tried = self._tried.get(_group(address)[0])
        return max(0.0, tried.until_s - now_s) if tried else 0.0

    def is_known(self, address: str, shown: str) -> bool:
        """Is it what was wrong here the last time, too?"""
        tried = self._tried.get(_group(address)[0])
        return tried is not None and tried.last == self._digest(shown)

    def failed(self, address: str, shown: str, now_s: float) -> None:
        """A wrong credential was shown."""
        group, loopback = _group(address)
        tried = self._tried.pop(group, _Tried())
        if now_s - tried.seen_s > _FORGET_S:
            tried = _Tried()
        digest = self._digest(shown)
        if digest != tried.last:
            tried.wrong += 1
        tried.last, tried.seen_s = digest, now_s
        if tried.wrong > FREE:
            longest = LONGEST_LOOPBACK_S if loopback else LONGEST_S
            tried.until_s = now_s + min(longest, 2.0 ** min(tried.wrong - FREE - 1, 10))
        self._tried[group] = tried
        while len(self._tried) > ADDRESSES:
            self._tried.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """A right one was."""
        self._tried.pop(_group(address)[0], None)

    def _digest(self, shown: str) -> bytes:
        return hashlib.blake2b(shown.encode(), key=self._salt, digest_size=16).digest()
