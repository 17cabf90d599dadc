"""Which addresses a webhook may go to: a guard against requests forged through the agent (SSRF).

The agent often stands where its author does not: beside cloud metadata services, databases without
a password, its own API. So a webhook's name is looked at, then resolved, every address it has is
looked at, and the connection is made to an address that was looked at, never to the name again:
who answers differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import ipaddress

from ebpfsentinel.sinks.sender import SendError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCAL_NAMES = ("localhost", "localdomain", "local", "internal", "intranet", "lan", "home.arpa")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(each) for each in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254")
)


def refusal_of_name(host: str, *, allow_private: bool) -> str:
    """Why no request may go to a host of this name; empty where one may."""
    name = host.rstrip(".").lower()
    if name in ("metadata.google.internal", "metadata"):
        return f"{host} is a metadata service"
    local = "." not in name and ":" not in name
    if not allow_private and (local or name.endswith(tuple(f".{end}" for end in _LOCAL_NAMES))):
        return f"{host} is a private name"
    return ""


def refusal_of_address(text: str, *, allow_private: bool) -> str:
    """Why no request may go to this address; empty where one may."""
    for address in _meant(ipaddress.ip_address(text.partition("%")[0])):
        if address in _METADATA or address.is_link_local:
            return f"{text} is link-local or a metadata service"
        if address.is_multicast or address.is_unspecified:
            return f"{text} is no host"
        if not address.is_loopback and (address.is_reserved or int(address) == 0xFFFFFFFF):
            return f"{text} is reserved"
        if not allow_private and (not address.is_global or _site_local(address)):
            return f"{text} is private"
    return ""


def _site_local(address: Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.is_site_local


def _meant(address: Address) -> list[Address]:
    """The address, and the IPv4 address inside it where it carries one."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    inside: list[Address] = []
    if address.sixtofour:
        inside.append(address.sixtofour)
    if address.teredo:
        inside += address.teredo
    return [address, *inside]


def check_name(host: str, *, allow_private: bool) -> None:
    """Refuse a host by its name, before anybody is asked for its addresses.

    Raises:
        SendError: no request may go there.
    """
    if why := refusal_of_name(host, allow_private=allow_private):
        raise SendError(f"refused: {why}{_remedy(allow_private=allow_private)}")


def chosen(host: str, addresses: list[str], *, allow_private: bool) -> str:
    """The address to connect to: the first, where all of them may be connected to.

    Raises:
        SendError: one of them may not, or there is none.
    """
    for address in addresses:
        if why := refusal_of_address(address, allow_private=allow_private):
            raise SendError(f"refused: {why}{_remedy(allow_private=allow_private)}")
    if not addresses:
        raise SendError(f"{host} has no address")
    return addresses[0]


def _remedy(*, allow_private: bool) -> str:
    return "" if allow_private else " (alerting.allow_private: true permits private ones)"
