"""Packets in one line: understood whole or refused with the place; frames as scapy builds them."""

import contextlib
import dataclasses
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6Unknown
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.firewall.asking import FLAGS, WITH_PORTS, Asked, parse
from ebpfsentinel.domains.firewall.building import build
from ebpfsentinel.domains.firewall.tests.packets import (
    ICMP,
    IP,
    TCP,
    UDP,
    Dot1AD,
    Dot1Q,
    IPv6,
    IPv6ExtHdrFragment,
)
from ebpfsentinel.model.settings import SettingsError

V4 = "10.0.0.1:4242 -> 10.0.0.2:22"


def test_a_whole_line_is_understood():
    asked = parse(f"tcp {V4} syn ack vlan 7 inner 8 dscp 46 from 02:00:00:00:00:09 on eth0")
    assert (str(asked.src), asked.src_port, asked.dst_port) == ("10.0.0.1", 4242, 22)
    assert (asked.flags, asked.vlan_id, asked.inner_vlan_id) == (18, 7, 8)
    assert (asked.dscp, asked.src_mac, asked.interface) == (46, "02:00:00:00:00:09", "eth0")
    assert parse("icmp 1.1.1.1 > 1.1.1.2").icmp_type == 8
    assert parse("icmpv6 ::1 -> ::2").icmp_type == 128
    assert parse("tcp [::1]:1 -> [::2]:2").flags == FLAGS["syn"]
    assert parse("47 ::1 -> ::2 fragment later").protocol == 47


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "column 1: a protocol is missing"),
        ("tpc " + V4, "column 1, 'tpc': is no protocol"),
        ("tcp 10.0.0:1 -> 10.0.0.2:2", "column 5, '10.0.0:1': is no address"),
        ("tcp 10.0.0.1:99999 -> 10.0.0.2:2", "column 5.*'99999' is no port"),
        ("tcp 10.0.0.1: -> 10.0.0.2:2", "a port is wanted behind the colon"),
        ("tcp 10.0.0.1:1 10.0.0.2:2", "column 16.*an arrow is wanted"),
        ("tcp 10.0.0.1:1 ->", "column 18: a destination is missing"),
        ("tcp 10.0.0.1:1 -> [::1]:2", "one address is IPv4, the other IPv6"),
        ("tcp [::1:1 -> [::1]:2", "column 5.*is no address"),
        ("tcp 10.0.0.1 -> 10.0.0.2:2", "both ports are wanted"),
        ("icmp 10.0.0.1:1 -> 10.0.0.2:2", "this protocol has no ports"),
        (f"tcp {V4} fragment later", "a later fragment has neither ports"),
        (f"udp {V4} syn", "only tcp has flags"),
        (f"tcp {V4} type 8", "only icmp and icmpv6 have"),
        (f"tcp {V4} vlan", "column 38: the number of 'vlan' is missing"),
        (f"tcp {V4} vlan 4095", "column 39, '4095': is no vlan"),
        (f"tcp {V4} vlan 7 vlan 8", "said twice"),
        (f"tcp {V4} inner 7", "an inner tag without an outer one"),
        (f"tcp {V4} vlna 7", "column 34, 'vlna': is not known.*Did you mean 'vlan'"),
        (f"tcp {V4} from 02:00", "is no MAC address"),
        (f"tcp {V4} fragment middle", "is no fragment"),
        (f"tcp {V4} dscp \u0664", "is no dscp"),
    ],
)
def test_what_is_not_understood_is_refused_at_its_place(line, told):
    with pytest.raises(SettingsError, match=told):
        parse(line)


@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from([*V4.split(), "tcp", "vlan", "7"])).map(" ".join)
)
def test_no_line_breaks_the_parser(line):
    with contextlib.suppress(SettingsError):
        assert isinstance(parse(line), Asked)


ADDRESSES = {
    4: st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    6: st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address),
}


@st.composite
def packets(draw):
    address = ADDRESSES[draw(st.sampled_from([4, 6]))]
    protocol = draw(st.sampled_from([6, 17, 1, 58, 132, 33, 136, 47]))
    fragment = draw(st.sampled_from(["", "", "first", "later"]))
    asked = Asked(protocol, draw(address), draw(address), fragment=fragment)
    if protocol in WITH_PORTS and fragment != "later":
        asked.src_port, asked.dst_port = (draw(st.integers(0, 65535)) for _ in range(2))
    if protocol == 6 and fragment != "later":
        asked.flags = draw(st.integers(1, 255))
    if protocol in (1, 58) and fragment != "later":
        asked.icmp_type, asked.icmp_code = (draw(st.integers(0, 255)) for _ in range(2))
    asked.vlan_id, asked.dscp = draw(st.integers(0, 4094)), draw(st.integers(0, 63))
    if asked.vlan_id:
        asked.inner_vlan_id = draw(st.integers(0, 4094))
    asked.interface = draw(st.sampled_from(["", "eth0"]))
    return asked


@given(packets())
def test_a_line_and_its_packet_are_one(asked):
    again = parse(asked.text())
    assert dataclasses.replace(again, said=set()) == asked
    assert again.text() == asked.text()


@given(packets())
def test_frames_have_the_lengths_and_checksums_that_scapy_computes(asked):
    parsed = parse(asked.text())
    frame = build(parsed)
    layers = Ether(frame)
    for layer in (IP, TCP, UDP, ICMP, ICMPv6EchoRequest, ICMPv6Unknown):
        for name in ("len", "chksum", "cksum") if layer in layers else ():
            if name in layers[layer].fields:
                delattr(layers[layer], name)
    if asked.fragment != "first" and (asked.family == 6) is not (asked.protocol == 1):
        assert bytes(layers) == frame
    assert (IPv6 if asked.family == 6 else IP) in layers
    assert (IPv6ExtHdrFragment in layers) is bool(asked.family == 6 and asked.fragment)
    assert (Dot1Q in layers or Dot1AD in layers) is bool(asked.vlan_id)
