"""Groups of addresses and ports (aliases): what they contain at this moment."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.settings import Alias, AliasType
from ebpfsentinel.model.settings import SettingsError, nearest, parse_network, parse_ports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ebpfsentinel.model.domain import Surroundings

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ranges = tuple[tuple[int, int], ...]
_BITS = {4: 32, 6: 128}


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Inclusive ranges in order, those that overlap or touch made one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return tuple(found)


def without(ranges: Ranges, size: int) -> Ranges:
    """All values below ``size`` that are not in ``ranges``, which are :func:`joined`."""
    edges = [-1, *(edge for low, high in ranges for edge in (low, high)), size]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((low + 1, high - 1) for low, high in pairs if low + 1 <= high - 1)


def spans(networks: Iterable[Network], family: int) -> Ranges:
    """The addresses of one family as ranges of integers."""
    return joined(
        (int(found.network_address), int(found.broadcast_address))
        for found in networks
        if found.version == family
    )


@dataclass(frozen=True, slots=True)
class Group:
    """What an alias stands for: addresses, or ports. ``waiting``: DNS names not resolved yet."""

    networks: tuple[Network, ...] = ()
    ports: Ranges = ()
    waiting: tuple[str, ...] = ()
    addresses: dict[int, Ranges] = field(default_factory=dict)


class Groups:
    """All aliases of a configuration, each worked out when it is first asked for.

    ``place`` of an error is the alias's; an alias that no rule names is checked all the same, but
    has no effect.
    """

    def __init__(self, aliases: Mapping[str, Alias], around: Surroundings) -> None:
        self._aliases, self._around = aliases, around
        self._known: dict[str, Group] = {}
        for name in aliases:
            self._find(name, ())

    def find(self, name: str, place: str) -> Group:
        """The group called ``name``, for the rule field ``place``.

        Raises:
            SettingsError: there is none.
        """
        self._require(name, place)
        return self._find(name, ())

    def waiting(self) -> tuple[str, ...]:
        """DNS names that have not been resolved yet."""
        return tuple(sorted({host for group in self._known.values() for host in group.waiting}))

    def _find(self, name: str, within: tuple[str, ...]) -> Group:
        place = f"firewall.aliases.{name}"
        if name in within:
            raise SettingsError(place, f"contains itself: {' -> '.join((*within, name))}")
        if name not in self._known:
            self._known[name] = self._work_out(self._aliases[name], place, (*within, name))
        return self._known[name]

    def _work_out(self, alias: Alias, place: str, within: tuple[str, ...]) -> Group:
        match alias.type:
            case AliasType.NESTED:
                return self._nested(alias, place, within)
            case AliasType.PORT_SET:
                ranges = (parse_ports(f"{place}.values", value) for value in alias.values)
                return Group(ports=joined(ranges))
            case AliasType.IP_SET:
                return _group(
                    parse_network(f"{place}.values[{index}]", str(value))
                    for index, value in enumerate(alias.values)
                )
            case AliasType.FILE:
                return _group(_lines(self._around.files[alias.path], alias.path))
            case AliasType.DYNAMIC_DNS:
                return self._resolved(alias)

    def _nested(self, alias: Alias, place: str, within: tuple[str, ...]) -> Group:
        found = []
        for value in alias.values:
            self._require(str(value), f"{place}.values")
            found.append(self._find(str(value), within))
        if any(group.ports for group in found) and any(group.networks for group in found):
            raise SettingsError(f"{place}.values", "mixes addresses and ports", "Make two aliases.")
        networks = (network for group in found for network in group.networks)
        ports = joined(span for group in found for span in group.ports)
        waiting = tuple(host for group in found for host in group.waiting)
        return _group(networks, ports, waiting)

    def _require(self, name: str, place: str) -> None:
        if name not in self._aliases:
            raise SettingsError(
                place, f"there is no alias {name!r}", nearest(name, self._aliases, "Aliases are")
            )

    def _resolved(self, alias: Alias) -> Group:
        hosts = [str(value) for value in alias.values]
        known = self._around.addresses
        networks = (ipaddress.ip_network(text) for host in hosts for text in known.get(host, ()))
        return _group(networks, (), tuple(host for host in hosts if host not in known))


def _group(networks: Iterable[Network], ports: Ranges = (), waiting: tuple[str, ...] = ()) -> Group:
    found = tuple(networks)
    return Group(found, ports, waiting, {family: spans(found, family) for family in _BITS})


def _lines(content: bytes, path: str) -> Iterator[Network]:
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if text:
            yield parse_network(f"{path}:{number}", text)


def files_of(aliases: Mapping[str, Alias]) -> list[str]:
    """The files that aliases are read from."""
    return [alias.path for alias in aliases.values() if alias.type is AliasType.FILE]


def hosts_of(aliases: Mapping[str, Alias]) -> list[str]:
    """The DNS names that aliases stand for."""
    return [
        str(value)
        for alias in aliases.values()
        if alias.type is AliasType.DYNAMIC_DNS
        for value in alias.values
    ]
