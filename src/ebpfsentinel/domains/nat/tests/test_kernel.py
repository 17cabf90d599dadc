"""The translator in this kernel, one frame at a time, against frames that scapy builds."""

import os

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.nat.tests.judge import true

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

INSIDE, OUTSIDE, SERVER = "10.0.0.7", "203.0.113.1", "198.51.100.9"
INSIDE6, OUTSIDE6, SERVER6 = "fd00::7", "2001:db8:ffff::1", "2001:db8:9::9"
OF = {4: (IP, INSIDE, OUTSIDE, SERVER), 6: (IPv6, INSIDE6, OUTSIDE6, SERVER6)}
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
MASQUERADE = {"id": "m", "type": "masquerade", "interface": "wan"}


def transport(kind, sport, dport, load=b"some payload"):
    return kind(sport=sport, dport=dport) / load


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_masquerade_there_and_back(judge, kind, family):
    ip, inside, outside, server = OF[family]
    judge.rules(snat_rules=[MASQUERADE])
    went = judge.leaves(LINK / ip(src=inside, dst=server) / transport(kind, 40000, 80))
    wanted = LINK / ip(src=outside, dst=server) / transport(kind, 40000, 80)
    assert bytes(went) == bytes(wanted)
    came = judge.comes(LINK / ip(src=server, dst=outside) / transport(kind, 80, 40000))
    assert bytes(came) == bytes(LINK / ip(src=server, dst=inside) / transport(kind, 80, 40000))
    assert judge.counts()["masq_applied"] == 2
    assert judge.rule("m").translations == 1


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("kind", [TCP, UDP])
def test_dnat_and_port_forward_there_and_back(judge, kind, family):
    ip, inside, outside, server = OF[family]
    judge.rules(
        dnat_rules=[
            {"id": "web", "type": "port_forward", "ext_port": 8080, "internal_addr": inside,
             "int_port": 80, "dst": outside},
            {"id": "dns", "type": "dnat", "dst": outside, "dst_port": 53,
             "translated_addr": inside},
        ]
    )  # fmt: skip
    for outer, inner in ((8080, 80), (53, 53)):
        came = judge.comes(LINK / ip(src=server, dst=outside) / transport(kind, 4000, outer))
        wanted = LINK / ip(src=server, dst=inside) / transport(kind, 4000, inner)
        assert bytes(came) == bytes(wanted)
        went = judge.leaves(LINK / ip(src=inside, dst=server) / transport(kind, inner, 4000))
        wanted = LINK / ip(src=outside, dst=server) / transport(kind, outer, 4000)
        assert bytes(went) == bytes(wanted)
    assert judge.counts()["dnat_applied"] == 4


def test_a_forwarded_range_keeps_its_order(judge):
    judge.rules(
        dnat_rules=[
            {"id": "r", "type": "port_forward", "dst": OUTSIDE, "ext_port": "8000-8009",
             "internal_addr": INSIDE, "int_port": "9000-9009"},
        ]
    )  # fmt: skip
    for outer in (8000, 8005, 8009):
        came = judge.comes(LINK / IP(src=SERVER, dst=OUTSIDE) / TCP(sport=1, dport=outer))
        assert came[TCP].dport == outer + 1000
        assert bytes(came) == bytes(true(came))
    for outer in (7999, 8010):
        frame = LINK / IP(src=SERVER, dst=OUTSIDE) / TCP(sport=1, dport=outer)
        assert bytes(judge.comes(frame)) == bytes(frame)


@pytest.mark.parametrize("family", [4, 6])
def test_redirect_is_to_the_address_of_the_interface(judge, family):
    ip, inside, outside, server = OF[family]
    judge.rules(dnat_rules=[{"id": "r", "type": "redirect", "dst_port": 80, "port": 3128}])
    came = judge.comes(LINK / ip(src=inside, dst=server) / TCP(sport=5, dport=80), "wan")
    assert bytes(came) == bytes(LINK / ip(src=inside, dst=outside) / TCP(sport=5, dport=3128))
    went = judge.leaves(LINK / ip(src=outside, dst=inside) / TCP(sport=3128, dport=5), "wan")
    assert bytes(went) == bytes(LINK / ip(src=server, dst=inside) / TCP(sport=80, dport=5))


@pytest.mark.parametrize("family", [4, 6])
def test_one_to_one_works_from_both_sides(judge, family):
    ip, _, _, server = OF[family]
    external, internal = {4: ("198.18.5.0/24", "10.0.5.0/24"), 6: ("2001:db8:5::/64", "fd05::/64")}[
        family
    ]
    outer, inner = {4: ("198.18.5.9", "10.0.5.9"), 6: ("2001:db8:5::9", "fd05::9")}[family]
    rule = {"id": "o", "type": "one_to_one", "external": external, "internal": internal}
    judge.rules(snat_rules=[rule])
    went = judge.leaves(LINK / ip(src=inner, dst=server) / UDP(sport=9, dport=53) / b"x")
    assert bytes(went) == bytes(LINK / ip(src=outer, dst=server) / UDP(sport=9, dport=53) / b"x")
    came = judge.comes(LINK / ip(src=server, dst=outer) / TCP(sport=7, dport=443))
    assert bytes(came) == bytes(LINK / ip(src=server, dst=inner) / TCP(sport=7, dport=443))
    went = judge.leaves(LINK / ip(src=inner, dst=server) / TCP(sport=443, dport=7))
    assert bytes(went) == bytes(LINK / ip(src=outer, dst=server) / TCP(sport=443, dport=7))


ECHO = {4: (ICMP, ICMP), 6: (ICMPv6EchoRequest, ICMPv6EchoReply)}


def echo(family, ident, *, reply=False):
    if family == 4:
        return ICMP(type=0 if reply else 8, id=ident, seq=1) / b"abcdefgh"
    return ECHO[6][reply](id=ident, seq=1, data=b"abcdefgh")


@pytest.mark.parametrize("family", [4, 6])
def test_echoes_of_two_that_chose_one_identifier_are_told_apart(judge, family):
    ip, inside, outside, server = OF[family]
    other = {4: "10.0.0.8", 6: "fd00::8"}[family]
    judge.rules(snat_rules=[MASQUERADE])
    first = judge.leaves(LINK / ip(src=inside, dst=server) / echo(family, 77))
    assert bytes(first) == bytes(LINK / ip(src=outside, dst=server) / echo(family, 77))
    second = judge.leaves(LINK / ip(src=other, dst=server) / echo(family, 77))
    assert bytes(second) == bytes(true(second))
    given = second.lastlayer().underlayer.id if family == 4 else second[ICMPv6EchoRequest].id
    assert given != 77
    back = judge.comes(LINK / ip(src=server, dst=outside) / echo(family, given, reply=True))
    assert bytes(back) == bytes(LINK / ip(src=server, dst=other) / echo(family, 77, reply=True))
    back = judge.comes(LINK / ip(src=server, dst=outside) / echo(family, 77, reply=True))
    assert bytes(back) == bytes(LINK / ip(src=server, dst=inside) / echo(family, 77, reply=True))
