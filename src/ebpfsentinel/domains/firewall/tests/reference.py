"""What the rules mean, as plainly as it can be said; everything else is held against this."""

from __future__ import annotations

import datetime as dt
import ipaddress
from functools import cache

FRAGMENTS = {"none": (0,), "first": (1,), "later": (2,), "any": (1, 2)}
PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58}


def first_match(rules, packet, now_s=0):
    """The rule that decides over ``packet``, or None: the default policy."""
    return next((rule for rule in ranked(rules) if matches(rule, packet, now_s)), None)


def ranked(rules):
    """Lower priority numbers first, ties in the order written."""
    return sorted((rule for rule in rules if rule.enabled), key=lambda rule: rule.priority)


def matches(rule, packet, now_s=0):
    """``now_s`` is wall time; the rules' times are compared with it."""
    sport, dport = packet.ports or (None, None)
    return (
        rule.protocol in ("any", _name(packet.protocol))
        and (rule.src_port is None or _holds(rule.src_port, sport))
        and (rule.dst_port is None or _holds(rule.dst_port, dport))
        and _end(rule.src_ip, rule.negate_source, packet.family, packet.src)
        and _end(rule.dst_ip, rule.negate_destination, packet.family, packet.dst)
        and rule.vlan_id in (None, packet.vlan)
        and rule.inner_vlan_id in (None, packet.inner_vlan)
        and (rule.src_mac is None or _mac(rule.src_mac) == packet.src_mac)
        and (rule.dst_mac is None or _mac(rule.dst_mac) == packet.dst_mac)
        and _detail(rule, packet)
        and rule.dscp_match in (None, packet.dscp)
        and (rule.fragment is None or packet.fragment in FRAGMENTS[rule.fragment])
        and rule.scope in ("global", packet.interface)
        and (rule.expires_at is None or now_s < _moment(rule.expires_at))
    )


def _end(text, negate, family, address):
    if text is None:
        return True
    version, low, high = _network(text)
    return version == family and (low <= address <= high) != negate


@cache
def _mac(text):
    return int(text.replace(":", ""), 16)


def _detail(rule, packet):
    if rule.flags is not None:
        wanted, mask = _flags(rule.flags)
        if packet.tcp_flags is None or packet.tcp_flags & mask != wanted:
            return False
    if rule.icmp_type is None:
        return True
    kind, code = packet.icmp or (None, None)
    return kind == rule.icmp_type and rule.icmp_code in (None, code)


@cache
def _flags(text):
    wanted, _, mask = text.partition("/")
    return tuple(sum(1 << "FSRPAUEC".index(f) for f in part) for part in (wanted, mask or wanted))


@cache
def _moment(text):
    return dt.datetime.fromisoformat(text).timestamp()


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


@cache
def _network(text):
    found = ipaddress.ip_network(text)
    return found.version, int(found.network_address), int(found.broadcast_address)
