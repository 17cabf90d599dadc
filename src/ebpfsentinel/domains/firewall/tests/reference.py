"""What the rules mean, as plainly as it can be said; everything else is held against this."""

from __future__ import annotations

import ipaddress
from functools import cache

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}


def first_match(rules, packet):
    """The rule that decides over ``packet``, or None: the default policy."""
    return next((rule for rule in ranked(rules) if matches(rule, packet)), None)


def ranked(rules):
    """Lower priority numbers first, ties in the order written."""
    return sorted((rule for rule in rules if rule.enabled), key=lambda rule: rule.priority)


def matches(rule, packet):
    sport, dport = packet.ports or (None, None)
    return (
        rule.protocol in ("any", _name(packet.protocol))
        and (rule.src_port is None or _holds(rule.src_port, sport))
        and (rule.dst_port is None or _holds(rule.dst_port, dport))
        and (rule.src_ip is None or _within(rule.src_ip, packet.family, packet.src))
        and (rule.dst_ip is None or _within(rule.dst_ip, packet.family, packet.dst))
        and (rule.vlan_id is None or rule.vlan_id == packet.vlan)
        and rule.scope in ("global", packet.interface)
    )


@cache
def _name(number):
    return next((name for name, known in PROTOCOLS.items() if known == number), "another")


def _holds(ports, port):
    low, high = _ports(ports)
    return port is not None and low <= port <= high


@cache
def _ports(ports):
    low, _, high = str(ports).partition("-")
    return int(low), int(high or low)


def _within(text, family, address):
    version, low, high = _network(text)
    return version == family and low <= address <= high


@cache
def _network(text):
    found = ipaddress.ip_network(text)
    return found.version, int(found.network_address), int(found.broadcast_address)
