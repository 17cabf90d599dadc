"""The translator in this kernel, one frame at a time, against frames that scapy builds."""

import ipaddress
import os

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether

from ebpfsentinel.domains.nat.tests.judge import true
from ebpfsentinel.model.floor import Connection, Floor

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


def test_a_zero_udp_checksum_stays_zero_in_ipv4_and_none_becomes_zero(judge):
    judge.rules(snat_rules=[MASQUERADE])
    frame = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=5000, dport=53, chksum=0) / b"x"
    went = judge.leaves(frame)
    assert (went[IP].src, went[UDP].chksum) == (OUTSIDE, 0)
    assert went[IP].chksum == true(went)[IP].chksum
    for ending in range(0, 65536, 257):  # one of these sums up to zero, or near it
        load = ending.to_bytes(2, "big")
        frame = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=5000, dport=53) / load
        went = judge.leaves(frame)
        assert bytes(went) == bytes(true(went))
        assert went[UDP].chksum


def test_one_port_for_two_who_asked_for_it(judge):
    judge.rules(snat_rules=[MASQUERADE])
    seen = set()
    for host in range(2, 60):
        frame = LINK / IP(src=f"10.0.0.{host}", dst=SERVER) / TCP(sport=40000, dport=443)
        went = judge.leaves(frame)
        assert bytes(went) == bytes(true(went))
        seen.add(went[TCP].sport)
        back = LINK / IP(src=SERVER, dst=OUTSIDE) / TCP(sport=443, dport=went[TCP].sport)
        came = judge.comes(back)
        assert (came[IP].dst, came[TCP].dport) == (f"10.0.0.{host}", 40000)
    assert len(seen) == 58
    assert min(seen) >= 1024


def test_a_small_range_is_used_to_its_last_port_and_then_nothing_leaks(judge):
    rule = {"id": "s", "type": "snat", "translated_addr": OUTSIDE, "translated_port": "7000-7009"}
    judge.rules(snat_rules=[rule])
    given = []
    for sport in range(5000, 5012):
        went = judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=sport, dport=53) / b"x")
        given.append(went and went[UDP].sport)
    assert sorted(given[:10]) == list(range(7000, 7010))
    assert given[10:] == [None, None]
    counts, found = judge.counts(), judge.rule("s")
    assert (counts["port_alloc_fail"], found.translations, found.failed) == (2, 10, 2)
    (alert,) = judge.alerts()
    assert (alert.rule_id, alert.action) == ("s", "drop")
    other = judge.leaves(LINK / IP(src=INSIDE, dst="198.51.100.8") / UDP(sport=1, dport=53))
    assert 7000 <= other[UDP].sport <= 7009


def test_a_port_within_the_range_is_kept(judge):
    rule = {"id": "s", "type": "snat", "translated_addr": OUTSIDE, "translated_port": "7000-7999"}
    judge.rules(snat_rules=[rule])
    went = judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=7123, dport=80))
    assert went[TCP].sport == 7123


def test_the_answer_of_a_routed_server_is_no_flow_of_its_own(judge):
    judge.rules(snat_rules=[MASQUERADE])
    asked = LINK / IP(src=SERVER, dst=INSIDE) / UDP(sport=4000, dport=53) / b"?"
    assert bytes(judge.comes(asked)) == bytes(asked)
    answer = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=53, dport=4000) / b"!"
    assert bytes(judge.leaves(answer)) == bytes(answer)
    early = LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=80, dport=4001, flags="SA")
    assert bytes(judge.leaves(early)) == bytes(early), "its SYN came before the rules"


def test_a_flow_that_finds_its_tuple_taken_gets_another_port(judge):
    judge.rules(snat_rules=[MASQUERADE | {"src": "10.0.0.0/24"}])
    judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=40000, dport=80))
    own = LINK / IP(src=OUTSIDE, dst=SERVER) / TCP(sport=40000, dport=80)
    went = judge.leaves(own)
    assert went[IP].src == OUTSIDE
    assert went[TCP].sport != 40000
    assert bytes(went) == bytes(true(went))
    back = LINK / IP(src=SERVER, dst=OUTSIDE) / TCP(sport=80, dport=went[TCP].sport)
    assert judge.comes(back)[TCP].dport == 40000
    assert judge.counts()["clashed"] == 1
    again = judge.leaves(own)
    assert again[TCP].sport == went[TCP].sport


def test_hairpin_translates_both_ends_there_and_back(judge):
    for family, (ip, client, outside, _) in OF.items():
        server = {4: "10.0.0.80", 6: "fd00::80"}[family]
        gate = {4: "10.0.0.1", 6: "fd00::1"}[family]
        net = {4: "10.0.0.0/24", 6: "fd00::/64"}[family]
        judge.rules(
            dnat_rules=[
                {"id": "w", "type": "port_forward", "dst": outside, "ext_port": 80,
                 "internal_addr": server, "int_port": 8080},
            ],
            hairpin={"enabled": True, "internal_subnet": net, "hairpin_snat_ip": gate},
        )  # fmt: skip
        came = judge.comes(LINK / ip(src=client, dst=outside) / TCP(sport=900, dport=80), "lan")
        went = judge.leaves(came, "lan")
        assert bytes(went) == bytes(LINK / ip(src=gate, dst=server) / TCP(sport=900, dport=8080))
        back = LINK / ip(src=server, dst=gate) / TCP(sport=8080, dport=900, flags="SA")
        home = judge.leaves(judge.comes(back, "lan"), "lan")
        wanted = LINK / ip(src=outside, dst=client) / TCP(sport=80, dport=900, flags="SA")
        assert bytes(home) == bytes(wanted)
        direct = LINK / ip(src=client, dst=server) / TCP(sport=901, dport=8080)
        assert bytes(judge.leaves(judge.comes(direct, "lan"), "lan")) == bytes(direct)


def test_masquerade_follows_the_address_and_flows_of_the_old_one_begin_anew(judge):
    judge.rules(snat_rules=[MASQUERADE])
    frame = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=5000, dport=53) / b"x"
    assert judge.leaves(frame)[IP].src == OUTSIDE
    judge.rules(snat_rules=[MASQUERADE], addresses={"wan": ("203.0.113.77",)})
    assert judge.leaves(frame)[IP].src == "203.0.113.77"
    came = judge.comes(LINK / IP(src=SERVER, dst="203.0.113.77") / UDP(sport=53, dport=5000))
    assert came[IP].dst == INSIDE
    judge.rules(snat_rules=[MASQUERADE], addresses={"wan": ("203.0.113.77", "2001:db8::1")})
    assert judge.leaves(frame)[IP].src == "203.0.113.77"
    assert judge.rule("m").translations == 2
    judge.rules(snat_rules=[MASQUERADE], addresses={})
    assert judge.leaves(frame) is None
    assert judge.counts()["no_address"] == 1


def test_flows_keep_their_translation_when_rules_change(judge):
    judge.rules(snat_rules=[MASQUERADE])
    frame = LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=5000, dport=80)
    first = judge.leaves(frame)
    judge.rules(snat_rules=[{"id": "n", "type": "snat", "translated_addr": "192.0.2.99"}])
    assert bytes(judge.leaves(frame)) == bytes(first)
    fresh = judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / TCP(sport=5001, dport=80))
    assert fresh[IP].src == "192.0.2.99"


def test_alert_mode_tells_what_it_would_do_and_does_nothing(judge):
    judge.rules(snat_rules=[MASQUERADE], mode="alert")
    frame = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=5000, dport=53) / b"x"
    assert bytes(judge.leaves(frame)) == bytes(frame)
    assert bytes(judge.leaves(frame)) == bytes(frame)
    (alert,) = judge.alerts()
    assert (alert.rule_id, alert.action) == ("m", "would_translate")
    assert OUTSIDE in alert.message
    assert (judge.rule("m").would, judge.rule("m").translations) == (1, 0)


def test_multicast_broadcast_and_link_local_stay_what_they_are(judge):
    judge.rules(snat_rules=[MASQUERADE, {"id": "a", "type": "snat", "translated_addr": OUTSIDE}])
    for ip, src, dst in (
        (IP, INSIDE, "224.0.0.251"),
        (IP, INSIDE, "255.255.255.255"),
        (IP, "0.0.0.0", "255.255.255.255"),
        (IPv6, INSIDE6, "ff02::fb"),
        (IPv6, "fe80::1", "fe80::2"),
    ):
        frame = LINK / ip(src=src, dst=dst) / UDP(sport=68, dport=67) / b"x"
        assert bytes(judge.leaves(frame)) == bytes(frame)


SCTP = b"\x13\x88\x00\x50" + bytes(12)


@pytest.mark.parametrize(("number", "load"), [(132, SCTP), (47, bytes(8))])
def test_protocols_whose_ports_cannot_move_get_other_addresses(judge, number, load):
    judge.rules(snat_rules=[MASQUERADE])
    frame = LINK / IP(src=INSIDE, dst=SERVER, proto=number) / load
    went = judge.leaves(frame)
    assert bytes(went) == bytes(LINK / IP(src=OUTSIDE, dst=SERVER, proto=number) / load)
    assert judge.leaves(LINK / IP(src="10.0.0.8", dst=SERVER, proto=number) / load) is None
    assert judge.counts()["port_alloc_fail"] == 1


def test_conditions_of_a_rule(judge):
    rule = {"id": "s", "type": "snat", "translated_addr": OUTSIDE, "src": "10.0.0.0/24",
            "dst": "198.51.100.0/24", "dst_port": "80-90", "protocol": "tcp",
            "interface": "wan"}  # fmt: skip
    judge.rules(snat_rules=[rule])
    for src, dst, kind, port, interface, hit in (
        (INSIDE, SERVER, TCP, 80, "wan", True),
        (INSIDE, SERVER, TCP, 90, "wan", True),
        (INSIDE, SERVER, TCP, 91, "wan", False),
        (INSIDE, SERVER, UDP, 80, "wan", False),
        (INSIDE, SERVER, TCP, 81, "lan", False),
        ("10.0.1.7", SERVER, TCP, 80, "wan", False),
        (INSIDE, "198.51.101.9", TCP, 80, "wan", False),
    ):
        frame = LINK / IP(src=src, dst=dst) / kind(sport=3000 + port, dport=port)
        assert (judge.leaves(frame, interface)[IP].src == OUTSIDE) is hit


def test_the_first_rule_by_priority_decides(judge):
    rules = [
        {"id": "late", "type": "snat", "translated_addr": "192.0.2.2"},
        {"id": "first", "type": "snat", "translated_addr": "192.0.2.1", "priority": 5},
    ]
    judge.rules(snat_rules=rules)
    went = judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=1, dport=2))
    assert went[IP].src == "192.0.2.1"
    assert (judge.rule("first").translations, judge.rule("late").translations) == (1, 0)


def test_a_tagged_frame_and_ip_options_are_translated_too(judge):
    judge.rules(snat_rules=[MASQUERADE])
    frame = (
        LINK
        / Dot1Q(vlan=7)
        / IP(src=INSIDE, dst=SERVER, options=[IPOption(b"\x94\x04\x00\x00")])
        / TCP(sport=5, dport=80, options=[("MSS", 1400), ("Timestamp", (1, 2))])
        / b"odd"
    )
    went = judge.leaves(frame)
    assert went[IP].src == OUTSIDE
    assert bytes(went) == bytes(true(went))
    assert went[TCP].options[:2] == frame[TCP].options


def test_a_management_port_and_session_are_never_sent_elsewhere(judge):
    judge.rules(
        dnat_rules=[{"id": "all", "type": "dnat", "dst": OUTSIDE, "translated_addr": INSIDE}]
    )
    peer = ipaddress.ip_address("198.51.100.50")
    floor = Floor(
        ports=frozenset({2222}),
        listeners=frozenset({(ipaddress.ip_address(OUTSIDE), 8080)}),
        connections=frozenset({Connection(peer, 5000, 22)}),
    )
    judge.kernel.protect(floor)
    try:
        for src, sport, dport, stays in (
            (SERVER, 1, 2222, True),
            (SERVER, 1, 8080, True),
            (str(peer), 5000, 22, True),
            (str(peer), 5001, 22, False),
            (SERVER, 1, 80, False),
        ):
            frame = LINK / IP(src=src, dst=OUTSIDE) / TCP(sport=sport, dport=dport)
            assert (judge.comes(frame)[IP].dst == OUTSIDE) is stays, dport
        assert judge.counts()["spared"] == 3
        assert judge.rule("all").translations == 2
    finally:
        judge.kernel.protect(Floor())


def test_a_lapsed_change_translates_no_new_flow(judge):
    judge.rules(snat_rules=[MASQUERADE], dnat_rules=[{"id": "d", "type": "dnat", "dst": OUTSIDE,
                "translated_addr": INSIDE}])  # fmt: skip
    asked = LINK / IP(src=SERVER, dst=OUTSIDE) / UDP(sport=1, dport=53) / b"x"
    before = judge.comes(asked)
    judge.kernel.lapse(1, ["nat"])
    try:
        assert bytes(judge.comes(asked)) == bytes(before), "a flow that was there goes on"
        fresh = LINK / IP(src=SERVER, dst=OUTSIDE) / UDP(sport=2, dport=53) / b"x"
        assert bytes(judge.comes(fresh)) == bytes(fresh)
        fresh = LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=3, dport=53) / b"x"
        assert bytes(judge.leaves(fresh)) == bytes(fresh)
    finally:
        judge.kernel.lapse(0, [])
