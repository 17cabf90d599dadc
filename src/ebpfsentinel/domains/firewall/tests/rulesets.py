"""Random rule sets and packets that meet them: ports and addresses crowd around a few values."""

from __future__ import annotations

import ipaddress

from ebpfsentinel.domains.firewall.settings import FirewallRule, Fragment, Protocol, RuleAction
from ebpfsentinel.domains.firewall.tests.packets import FIRST, LATER, WHOLE, WITH_PORTS, Packet

BITS = {4: 32, 6: 128}
PORTS = (0, 1, 53, 80, 81, 443, 1023, 1024, 32768, 65534, 65535)
PROTOCOLS = (1, 6, 6, 6, 17, 17, 17, 58, 47, 50, 132, 0, 255)
INTERFACES = {"lan0": 1, "wan0": 2}


def address(pick, family, near):
    """Any address, or one that shares a prefix with one of ``near``."""
    bits = BITS[family]
    found = pick.getrandbits(bits)
    if near and pick.random() < 0.9:
        base = pick.choice(near)
        keep = pick.choice((0, 1, 8, bits // 4, bits // 2, bits - 8, bits - 1, bits, bits))
        low = (1 << (bits - keep)) - 1
        tail = pick.choice((0, low, found & low, 1 & low))
        found = (base & ~low) | tail
    return found


def cidr(pick, family, near):
    """A network as users write it."""
    bits = BITS[family]
    length = pick.choice((0, 1, 8, bits // 4, bits // 2, bits - 8, bits - 1, bits, bits))
    base = address(pick, family, near) >> (bits - length) << (bits - length)
    text = str((ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address)(base))
    return text if length == bits and pick.random() < 0.5 else f"{text}/{length}"


def ports(pick):
    """None, a port or a range, as users write it."""
    low, high = sorted((port(pick), port(pick)))
    return pick.choice((None, low, str(high), f"{low}-{high}", {"start": low, "end": high}))


def port(pick):
    return pick.choice(PORTS) if pick.random() < 0.8 else pick.randrange(65536)


MACS = (0x0200000000FF, 0x020000000001, 0x020000000002, 0)
FLAGS = ("S", "S/SA", "A/A", "/SAFR", "FSRPAUEC", "R", "SA/SAEC", "E/EC")
MOMENTS = ("2001-01-01T00:00:00Z", "2029-12-31T23:59:00Z", "2030-01-01T01:00:00Z")
NOW_S = 1893456000
"""2030-01-01T00:00:00Z: the first two have lapsed."""


def rule(pick, number, near):
    """One rule; ``near`` holds base addresses by family."""
    family = pick.choice((4, 4, 6))
    protocol = pick.choice(list(Protocol))
    portless = protocol in (Protocol.ICMP, Protocol.ICMPV6)
    both = [ports(pick), ports(pick)]
    both = [f"{p['start']}-{p['end']}" if isinstance(p, dict) else p for p in both]
    src_ip = pick.choice((None, cidr(pick, family, near[family])))
    dst_ip = pick.choice((None, cidr(pick, family, near[family])))
    rare = pick.random() < 0.5
    return FirewallRule(
        id=f"r{number}",
        priority=pick.choice((1, 2, 5, 5, 5, 10, 1_000_000)),
        action=pick.choice(list(RuleAction)),
        protocol=protocol,
        src_ip=src_ip,
        dst_ip=dst_ip,
        src_port=None if portless or pick.random() < 0.5 else both[0],
        dst_port=None if portless else both[1],
        vlan_id=pick.choice((None, None, None, None, 0, 1, 100, 4094)),
        scope=pick.choice(("global", "global", "global", "lan0", "wan0")),
        enabled=pick.random() < 0.95,
        negate_source=src_ip is not None and pick.random() < 0.1,
        negate_destination=dst_ip is not None and pick.random() < 0.1,
        **(_rare(pick, protocol) if rare else {}),
    )


def _rare(pick, protocol):
    """Conditions that few rules have; each about one time in four."""
    found = {
        "inner_vlan_id": pick.choice((0, 1, 5)),
        "src_mac": _mac(pick),
        "dst_mac": _mac(pick),
        "dscp_match": pick.choice((0, 46, 63)),
        "fragment": pick.choice(list(Fragment)),
        "expires_at": pick.choice(MOMENTS),
    }
    if protocol is Protocol.TCP:
        found["flags"] = pick.choice(FLAGS)
    if protocol in (Protocol.ICMP, Protocol.ICMPV6):
        found["icmp_type"] = pick.choice((0, 3, 8, 128, 255))
    chosen = {name: value for name, value in found.items() if pick.random() < 0.25}
    if "icmp_type" in chosen and pick.random() < 0.5:
        chosen["icmp_code"] = pick.choice((0, 1, 255))
    return chosen


def _mac(pick):
    return pick.choice(MACS).to_bytes(6, "big").hex(":")


def bases(pick):
    """A few addresses around which rules and packets gather."""
    edge = {family: [0, (1 << bits) - 1] for family, bits in BITS.items()}
    return {
        family: edge[family] + [pick.getrandbits(BITS[family]) for _ in "abc"] for family in BITS
    }


def ruleset(pick, count):
    """``count`` rules, and the bases they gather around."""
    near = bases(pick)
    return [rule(pick, number, near) for number in range(count)], near


def packet(pick, near, interface=None):
    """A packet; one in five of those whose protocol has ports is a fragment."""
    family = pick.choice((4, 6))
    protocol = pick.choice(PROTOCOLS)
    if family == 6 and protocol in (0, 50):
        protocol = 59
    kind = pick.choice((WHOLE,) * 8 + (FIRST, LATER)) if protocol in WITH_PORTS else WHOLE
    carries = kind != LATER and protocol in WITH_PORTS
    icmp = (pick.choice((0, 3, 8, 128, 255)), pick.choice((0, 1, 255)))
    return Packet(
        family,
        address(pick, family, near[family]),
        address(pick, family, near[family]),
        protocol,
        (port(pick), port(pick)) if carries else None,
        pick.choice((0, 0, 0, 1, 100, 4094, 4095)),
        interface,
        inner_vlan=pick.choice((0, 0, 0, 1, 5)),
        icmp=icmp if protocol in (1, 58) else None,
        tcp_flags=pick.choice((2, 16, 18, 0, 4, 255)) if carries and protocol == 6 else None,
        dscp=pick.choice((0, 0, 46, 63)),
        fragment=kind,
        src_mac=pick.choice(MACS),
        dst_mac=pick.choice(MACS),
    )
