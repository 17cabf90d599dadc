"""NPTv6 in this kernel, held against RFC 6296 worked out in Python."""

import ipaddress
import os

import pytest
from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.nat.tests.judge import true

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SERVER, ROUTER = "2001:db8:9::9", "2001:db8:9::1"


def rule(inside, outside, **fields):
    return {"id": "p", "internal_prefix": inside, "external_prefix": outside, **fields}


def ones(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def words_of(address):
    packed = ipaddress.ip_address(address).packed
    return [int.from_bytes(packed[at : at + 2]) for at in range(0, 16, 2)]


def mapped(address, old, new):
    """RFC 6296 sections 3.4 and 3.5, as they are written."""
    old, new = ipaddress.ip_network(old), ipaddress.ip_network(new)
    host = int(ipaddress.ip_address(address)) & int(old.hostmask)
    words = words_of(ipaddress.ip_address(int(new.network_address) | host))
    sums = [ones(sum(words_of(net.network_address))) for net in (old, new)]
    adjust = ones(sums[0] + (0xFFFF ^ sums[1]))
    at = 3 if old.prefixlen <= 48 else next(n for n in range(4, 8) if words[n] != 0xFFFF)
    words[at] = ones(words[at] + adjust) % 0xFFFF
    return str(ipaddress.IPv6Address(b"".join(word.to_bytes(2) for word in words)))


def test_the_rfcs_own_example(judge):
    """Section 3.1 and appendix B."""
    judge.rules(nptv6_rules=[rule("fd01:203:405::/48", "2001:db8:1::/48")])
    frame = LINK / IPv6(src="fd01:203:405:1::1234", dst=SERVER) / UDP(sport=1, dport=2) / b"x"
    assert judge.leaves(frame)[IPv6].src == "2001:db8:1:d550::1234"


@pytest.mark.parametrize(
    ("inside", "outside", "host"),
    [
        ("fd01:203:405::/48", "2001:db8:1::/48", "fd01:203:405:7::42"),
        ("fd00::/8", "2000::/8", "fd12:3456:789a:bc::1"),
        ("fc00::/7", "2000::/7", "fdff:1:2:3:4:5:6:7"),
        ("fd00:5::/32", "2001:db8::/32", "fd00:5:6:7::9"),
        ("fd00:5:0:1200::/56", "2001:db8:0:3400::/56", "fd00:5:0:12ab::9"),
        ("fd00:5:0:1::/64", "2001:db8:0:2::/64", "fd00:5:0:1::9"),
        ("fd00:5:0:1::/64", "2001:db8:0:2::/64", "fd00:5:0:1:ffff:2:3:4"),
        ("fd00:5:0:1::/64", "2001:db8:0:2::/64", "fd00:5:0:1:ffff:ffff:ffff:4"),
    ],
)
def test_there_and_back_with_every_checksum_true(judge, inside, outside, host):
    judge.rules(nptv6_rules=[rule(inside, outside)])
    seen = mapped(host, inside, outside)
    for payload in (
        TCP(sport=9, dport=80) / b"data",
        UDP(sport=9, dport=53) / b"x",
        ICMPv6EchoRequest(id=3, data=b"ping"),
    ):
        frame = LINK / IPv6(src=host, dst=SERVER) / payload
        sum_before = true(frame).lastlayer()
        went = judge.leaves(Ether(bytes(frame)))
        assert went[IPv6].src == seen
        assert bytes(went) == bytes(true(went)), sum_before
        back = LINK / IPv6(src=SERVER, dst=seen) / payload
        assert bytes(judge.comes(back)) == bytes(LINK / IPv6(src=SERVER, dst=host) / payload)
    assert judge.rule("p", "nptv6").packets == 6
    assert judge.counts()["nptv6_translated"] == 6


@pytest.mark.parametrize(
    ("inside", "outside", "host"),
    [
        ("fd00:5::/48", "2001:db8::/48", "fd00:5:0:ffff::1"),
        ("fd00:5:0:1::/64", "2001:db8:0:2::/64", "fd00:5:0:1:ffff:ffff:ffff:ffff"),
    ],
)
def test_an_address_without_a_counterpart_does_not_leak(judge, inside, outside, host):
    judge.rules(nptv6_rules=[rule(inside, outside)])
    assert judge.leaves(LINK / IPv6(src=host, dst=SERVER) / UDP()) is None
    assert judge.counts()["nptv6_untranslatable"] == 1


def test_errors_are_mapped_with_what_they_quote(judge):
    inside, outside = "fd00:5::/48", "2001:db8:5::/48"
    judge.rules(nptv6_rules=[rule(inside, outside)])
    sent = LINK / IPv6(src="fd00:5::9", dst=SERVER) / UDP(sport=1, dport=2) / b"x"
    went = judge.leaves(sent)
    quote = IPv6(bytes(went.payload))
    told = LINK / IPv6(src=ROUTER, dst=went[IPv6].src) / ICMPv6TimeExceeded() / quote
    wanted = LINK / IPv6(src=ROUTER, dst="fd00:5::9") / ICMPv6TimeExceeded()
    sent = Ether(bytes(sent))
    assert bytes(judge.comes(told)) == bytes(wanted / IPv6(bytes(sent.payload)))


def test_only_its_interface_and_not_what_stays_inside(judge):
    judge.rules(nptv6_rules=[rule("fd00:5::/48", "2001:db8:5::/48", interface="wan")])
    for dst, interface in (("fd00:5:0:2::1", "wan"), (SERVER, "lan")):
        frame = LINK / IPv6(src="fd00:5::9", dst=dst) / UDP(sport=1, dport=2) / b"x"
        assert bytes(judge.leaves(frame, interface)) == bytes(frame)
