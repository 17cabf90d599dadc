"""ICMP errors and fragments through the translator, against frames that scapy builds."""

import os

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    fragment6,
)
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.nat.tests.judge import true

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

INSIDE, OUTSIDE, SERVER, ROUTER = "10.0.0.7", "203.0.113.1", "198.51.100.9", "198.51.100.1"
INSIDE6, OUTSIDE6, SERVER6, ROUTER6 = (
    "fd00::7",
    "2001:db8:ffff::1",
    "2001:db8:9::9",
    "2001:db8:9::1",
)
OF = {4: (IP, INSIDE, OUTSIDE, SERVER, ROUTER), 6: (IPv6, INSIDE6, OUTSIDE6, SERVER6, ROUTER6)}
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
MASQUERADE = {"id": "m", "type": "masquerade", "interface": "wan"}


def error(family, kind):
    """The header of an ICMP error."""
    if family == 4:
        return {
            "big": ICMP(type=3, code=4, nexthopmtu=1400),
            "time": ICMP(type=11, code=0),
            "port": ICMP(type=3, code=3),
        }[kind]
    return {
        "big": ICMPv6PacketTooBig(mtu=1400),
        "time": ICMPv6TimeExceeded(),
        "port": ICMPv6DestUnreach(code=4),
    }[kind]


def packet_of(frame):
    """What is behind the link header, as it was on the wire."""
    return type(frame.payload)(bytes(frame.payload))


@pytest.mark.parametrize("kind", ["big", "time", "port"])
@pytest.mark.parametrize("transport", [TCP, UDP, "echo"])
@pytest.mark.parametrize("family", [4, 6])
def test_an_error_from_outside_finds_who_sent_the_packet(judge, family, transport, kind):
    """The port is another one too, so that it must be put back in what is quoted."""
    ip, inside, outside, server, router = OF[family]
    rule = {"id": "s", "type": "snat", "translated_addr": outside}
    other = {4: "10.0.0.8", 6: "fd00::8"}[family]
    judge.rules(snat_rules=[rule])

    def sent(source):
        if transport == "echo":
            icmp = ICMP(id=9) if family == 4 else ICMPv6EchoRequest(id=9)
            return LINK / ip(src=source, dst=server) / icmp / b"0123456789abcdef0123"
        return LINK / ip(src=source, dst=server) / transport(sport=4000, dport=80) / b"payload!"

    judge.leaves(sent(other))
    went = judge.leaves(sent(inside))
    told = LINK / ip(src=router, dst=outside) / error(family, kind) / packet_of(went)
    came = judge.comes(told)
    wanted = LINK / ip(src=router, dst=inside) / error(family, kind)
    assert bytes(came) == bytes(wanted / packet_of(Ether(bytes(sent(inside)))))
    assert judge.counts()["icmp_errors"] == 1


@pytest.mark.parametrize("family", [4, 6])
def test_an_error_from_inside_shows_nothing_of_the_inside(judge, family):
    """A forwarded port: the server's own error, and one of a router of ours, behind a DNAT."""
    ip, inside, outside, client, _ = OF[family]
    judge.rules(
        dnat_rules=[
            {"id": "f", "type": "port_forward", "dst": outside, "ext_port": 8080,
             "internal_addr": inside, "int_port": 80},
        ]
    )  # fmt: skip
    asked = LINK / ip(src=client, dst=outside) / TCP(sport=999, dport=8080) / b"x"
    inner = judge.comes(asked)
    gate = {4: "10.0.0.254", 6: "fd00::fe"}[family]
    for sender in (inside, gate):
        told = LINK / ip(src=sender, dst=client) / error(family, "big") / packet_of(inner)
        went = judge.leaves(told)
        wanted = LINK / ip(src=outside, dst=client) / error(family, "big")
        assert bytes(went) == bytes(wanted / packet_of(Ether(bytes(asked))))


@pytest.mark.parametrize("family", [4, 6])
def test_an_inside_hosts_error_about_an_answer_goes_out_translated(judge, family):
    ip, inside, outside, server, _ = OF[family]
    judge.rules(snat_rules=[MASQUERADE])
    judge.leaves(LINK / ip(src=inside, dst=server) / UDP(sport=4000, dport=53) / b"?")
    answer = LINK / ip(src=server, dst=outside) / UDP(sport=53, dport=4000) / b"!"
    inner = judge.comes(answer)
    told = LINK / ip(src=inside, dst=server) / error(family, "port") / packet_of(inner)
    wanted = LINK / ip(src=outside, dst=server) / error(family, "port")
    assert bytes(judge.leaves(told)) == bytes(wanted / packet_of(Ether(bytes(answer))))


def test_a_quote_of_eight_bytes_is_enough(judge):
    judge.rules(snat_rules=[{"id": "s", "type": "snat", "translated_addr": OUTSIDE}])
    sent = LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=4000, dport=80)
    went = judge.leaves(sent)
    short, before = (bytes(Ether(bytes(each)).payload)[:28] for each in (went, sent))
    told = LINK / IP(src=ROUTER, dst=OUTSIDE) / ICMP(type=11) / short
    wanted = LINK / IP(src=ROUTER, dst=INSIDE) / ICMP(type=11) / before
    assert bytes(judge.comes(told)) == bytes(wanted)


def test_an_error_about_nothing_known_stays_as_it_is(judge):
    judge.rules(snat_rules=[MASQUERADE])
    stranger = IP(src=OUTSIDE, dst=SERVER) / TCP(sport=1, dport=2)
    for quote in (stranger, b"", b"garbage garbage garbage garbage"):
        told = LINK / IP(src=ROUTER, dst=OUTSIDE) / ICMP(type=11) / quote
        assert bytes(judge.comes(told)) == bytes(told)


def test_fragments_follow_the_first_one_in_ipv4(judge):
    judge.rules(snat_rules=[{"id": "s", "type": "snat", "translated_addr": OUTSIDE}])
    judge.leaves(LINK / IP(src="10.0.0.8", dst=SERVER) / UDP(sport=4000, dport=53))
    whole = IP(src=INSIDE, dst=SERVER, id=77) / UDP(sport=4000, dport=53) / (bytes(range(200)) * 10)
    parts = fragment(IP(bytes(whole)), 800)
    went = [judge.leaves(LINK / part) for part in parts]
    assert all(each[IP].src == OUTSIDE for each in went)
    assert [bytes(each) for each in went[1:]] == [bytes(LINK / _moved(part)) for part in parts[1:]]
    joined = IP(src=OUTSIDE, dst=SERVER, id=77, proto=17) / b"".join(
        bytes(each[IP].payload) for each in went
    )
    joined = IP(bytes(joined))
    assert joined[UDP].sport not in (0, 4000)
    assert bytes(true(LINK / joined)[UDP]) == bytes(joined[UDP])
    assert judge.counts()["fragments"] == len(parts) - 1


def _moved(part):
    moved = part.copy()
    moved.src = OUTSIDE
    del moved.chksum
    return moved


def test_fragments_follow_the_first_one_in_ipv6(judge):
    judge.rules(snat_rules=[{"id": "s", "type": "snat", "translated_addr": OUTSIDE6}])
    judge.leaves(LINK / IPv6(src="fd00::8", dst=SERVER6) / UDP(sport=4000, dport=53))
    whole = (
        IPv6(src=INSIDE6, dst=SERVER6)
        / IPv6ExtHdrFragment(id=0x12345678)
        / UDP(sport=4000, dport=53)
        / (bytes(range(200)) * 10)
    )
    parts = fragment6(whole, 900)
    went = [judge.leaves(LINK / part) for part in parts]
    assert len(went) > 2
    assert {each[IPv6].src for each in went} == {OUTSIDE6}
    body = b"".join(bytes(each[IPv6ExtHdrFragment].payload) for each in went)
    joined = IPv6(bytes(IPv6(src=OUTSIDE6, dst=SERVER6, nh=17, plen=len(body)) / body))
    assert joined[UDP].sport != 4000
    assert bytes(true(LINK / joined)[UDP]) == bytes(joined[UDP])


def test_the_answers_fragments_come_home(judge):
    judge.rules(snat_rules=[MASQUERADE])
    judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=4000, dport=53))
    whole = IP(src=SERVER, dst=OUTSIDE, id=9) / UDP(sport=53, dport=4000) / bytes(2000)
    came = [judge.comes(LINK / part) for part in fragment(IP(bytes(whole)), 800)]
    assert {each[IP].dst for each in came} == {INSIDE}


def test_a_later_fragment_whose_first_is_unknown_does_not_leak(judge):
    judge.rules(snat_rules=[MASQUERADE | {"src": "10.0.0.0/24"}])
    later = LINK / IP(src=INSIDE, dst=SERVER, id=5, frag=100, proto=17) / bytes(64)
    assert judge.leaves(later) is None
    assert judge.counts()["fragment_unknown"] == 1
    other = LINK / IP(src="10.0.1.7", dst=SERVER, id=5, frag=100, proto=17) / bytes(64)
    assert bytes(judge.leaves(other)) == bytes(other)
