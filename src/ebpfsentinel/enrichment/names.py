"""Host names that were seen on the wire as the names of addresses.

Whoever sees answers of DNS hands them on (``names`` of :class:`ebpfsentinel.model.domain.Outcome`).
We never ask a resolver: that would tell an attacker who looks.
"""

from __future__ import annotations

from collections import OrderedDict

MOST = 65_536
_SECOND_NS = 10**9


class SeenNames:
    """Address to name, while the TTL of the answer lasts; of too many the oldest goes."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._names: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def see(self, address: str, name: str, ttl_s: int, now_ns: int) -> None:
        """An answer said that ``name`` is at ``address``."""
        self._names[address] = (name.rstrip(".").lower(), now_ns + ttl_s * _SECOND_NS)
        self._names.move_to_end(address)
        if len(self._names) > self._most:
            self._names.popitem(last=False)

    def name_of(self, address: str, now_ns: int) -> str | None:
        """The name last seen for it, if that still holds."""
        name, until_ns = self._names.get(address, (None, 0))
        if name is not None and until_ns <= now_ns:
            del self._names[address]
            return None
        return name
