"""Each change against the frame that it should give, byte by byte, checksums included."""

from __future__ import annotations

import ipaddress
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.scrub.settings import IllegalFlags
from ebpfsentinel.domains.scrub.tables import DROP, flags_table
from ebpfsentinel.domains.scrub.tests.scrubbed import (
    ADDRESSES,
    IP,
    NEXT,
    ROOTS,
    TCP,
    Ether,
    Raw,
    fragment,
    frame,
    ip,
    raw,
    tcp,
    udp,
)
from ebpfsentinel.model.floor import Floor

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

FAMILIES, WAYS = (4, 6), tuple(ROOTS)
both = pytest.mark.parametrize("family", FAMILIES)
ways = pytest.mark.parametrize("way", WAYS)
DATA = Raw(b"seven b")
STAMP = ("Timestamp", (123456, 0))
NOPS = [("NOP", None)] * 10
EVERYTHING = {
    "min_ttl": 64,
    "min_hop_limit": 64,
    "max_mss": 1200,
    "random_ip_id": True,
    "clear_df": True,
    "scrub_tcp_flags": True,
    "illegal_tcp_flags": "drop",
    "strip_ecn": True,
    "dscp": "ef",
    "strip_tcp_timestamps": True,
    "fragments": "drop",
}


@both
@ways
def test_a_small_ttl_is_raised(scrubbed, family, way):
    scrubbed.settings(min_ttl=64, min_hop_limit=64)
    counter = "ttl_fixed" if family == 4 else "hop_fixed"
    for before, after in ((1, 64), (63, 64), (64, 64), (255, 255)):
        sent = frame(ip(family, ttl=before), udp(), DATA)
        assert scrubbed.changed(sent, way) == frame(ip(family, ttl=after), udp(), DATA)
    assert scrubbed.counts() == {counter: 2}
    assert scrubbed.status()[way][counter] == 2


@pytest.mark.parametrize("family_field", [(4, "min_hop_limit"), (6, "min_ttl")])
def test_each_family_has_its_own_minimum(scrubbed, family_field):
    family, field = family_field
    scrubbed.settings(**{field: 64})
    sent = frame(ip(family, ttl=1), tcp(), DATA)
    assert scrubbed.changed(sent) == sent


@pytest.mark.parametrize(
    ("family", "dst"), [(4, "224.0.0.5"), (4, "239.255.255.250"), (6, "ff02::5"), (6, "ff0e::1")]
)
def test_the_lifetime_of_multicast_says_how_far_it_may_go(scrubbed, family, dst):
    scrubbed.settings(min_ttl=64, min_hop_limit=64)
    sent = frame(ip(family, dst=dst, ttl=1), udp())
    assert scrubbed.changed(sent) == sent
    assert scrubbed.counts() == {}


@pytest.mark.parametrize("kind", range(133, 138))
def test_neighbour_discovery_that_came_from_far_away_stays_recognisable(scrubbed, kind):
    scrubbed.settings(min_hop_limit=254)
    sent = frame(ip(6, ttl=3, nh=58), Raw(bytes([kind]) + bytes(23)))
    assert scrubbed.changed(sent) == sent
    echo = frame(ip(6, ttl=3, nh=58), Raw(bytes([128]) + bytes(23)))
    assert scrubbed.changed(echo) == frame(ip(6, ttl=254, nh=58), Raw(bytes([128]) + bytes(23)))


@both
@ways
def test_dscp_is_set_and_ecn_is_left(scrubbed, family, way):
    scrubbed.settings(normalize_tos=True, tos_value=0x20)
    for before, after in ((0, 0x20), (0xB8, 0x20), (0x20, 0x20), (0xBB, 0x23), (0x02, 0x22)):
        sent = frame(ip(family, tos=before), tcp("PA"), DATA)
        assert scrubbed.changed(sent, way) == frame(ip(family, tos=after), tcp("PA"), DATA)
    assert scrubbed.counts() == {"tos_normalized": 4}


@both
def test_dscp_goes_by_name_too(scrubbed, family):
    scrubbed.settings(dscp="ef")
    assert scrubbed.changed(frame(ip(family), tcp())) == frame(ip(family, tos=46 << 2), tcp())


@both
@ways
def test_ecn_is_taken_out_of_ip_but_congestion_is_still_told(scrubbed, family, way):
    scrubbed.settings(strip_ecn=True)
    for before, after in ((1, 0), (2, 0), (0xB9, 0xB8), (3, 3), (0, 0)):
        sent = frame(ip(family, tos=before), tcp("PAE"), DATA)
        assert scrubbed.changed(sent, way) == frame(ip(family, tos=after), tcp("PAE"), DATA)
    assert scrubbed.counts() == {"ecn_stripped": 3}


@both
@ways
def test_ecn_is_not_offered(scrubbed, family, way):
    scrubbed.settings(strip_ecn=True)
    assert scrubbed.changed(frame(ip(family), tcp("SEC")), way) == frame(ip(family), tcp("S"))
    accurate = frame(ip(family), tcp("SECN"))
    assert scrubbed.changed(accurate, way) == frame(ip(family), tcp("S"))
    agreed = frame(ip(family), tcp("SAE"))
    assert scrubbed.changed(agreed, way) == agreed, "who says so has agreed already"
    assert scrubbed.counts() == {"ecn_stripped": 2}


@ways
def test_df_is_cleared_and_who_may_be_cut_gets_an_id(scrubbed, way):
    scrubbed.settings(clear_df=True)
    named = {"id": 4321}
    sent = frame(ip(4, flags="DF", **named), tcp(), DATA)
    assert scrubbed.changed(sent, way) == frame(ip(4, flags=0, **named), tcp(), DATA)
    plain = frame(ip(4, flags=0, id=0), tcp(), DATA)
    assert scrubbed.changed(plain, way) == plain
    assert scrubbed.counts() == {"df_cleared": 1}
    found = {same_but_id(scrubbed, frame(ip(4, flags="DF", id=0), tcp()), way) for _ in range(8)}
    assert len(found) > 4
    assert scrubbed.counts() == {"df_cleared": 9, "ipid_randomized": 8}


def same_but_id(scrubbed, sent, way):
    """The id that the frame got; all else is as of a frame without DF, and its checksum right."""
    found = scrubbed.changed(sent, way)
    number = int.from_bytes(found[18:20], "big")
    wanted = Ether(sent)
    wanted[IP].id, wanted[IP].flags = number, 0
    del wanted[IP].chksum
    assert found == raw(wanted)
    return number


@ways
def test_only_atomic_datagrams_get_a_random_id(scrubbed, way):
    scrubbed.settings(random_ip_id=True)
    sent = frame(ip(4, flags="DF", id=1), tcp(), DATA)
    found = {scrubbed.changed(sent, way) for _ in range(16)}
    ids = {int.from_bytes(each[18:20], "big") for each in found}
    assert len(ids) > 8
    for each in found:
        assert each == frame(ip(4, flags="DF", id=Ether(each)[IP].id), tcp(), DATA)
    before = scrubbed.counts()
    for other in (
        frame(ip(4, flags=0, id=1), tcp(), DATA),
        fragment(4, 0, True, 17, bytes(16)),
        fragment(4, 16, False, 17, bytes(16)),
        frame(ip(4, flags="MF+DF", id=1), Raw(bytes(16))),
        frame(ip(6), tcp(), DATA),
    ):
        assert scrubbed.changed(other, way) == other
    assert scrubbed.counts() == before == {"ipid_randomized": 16}


@both
@ways
def test_reserved_bits_are_cleared(scrubbed, family, way):
    scrubbed.settings(scrub_tcp_flags=True)
    sent = frame(ip(family), tcp("PAECN", reserved=7), DATA)
    assert scrubbed.changed(sent, way) == frame(ip(family), tcp("PAEC", reserved=0), DATA)
    clean = frame(ip(family), tcp("PAEC"), DATA)
    assert scrubbed.changed(clean, way) == clean
    assert scrubbed.counts() == {"tcp_flags_scrubbed": 1}


ILLEGAL = {"SF": "S", "SR": "R", "SFRPAU": "RPAU", "RF": "R", "SU": "S", "SAF": "SA"}
HOPELESS = ("", "F", "P", "U", "FPU", "EC")
LEGAL = ("S", "SP", "SA", "SAP", "A", "PA", "FA", "FPA", "R", "RA", "UA", "RP", "SEC")


@both
@ways
@pytest.mark.parametrize("flags", [*ILLEGAL, *HOPELESS])
def test_contradicting_flags_are_dropped(scrubbed, family, way, flags):
    scrubbed.settings(illegal_tcp_flags="drop", dscp="ef")
    assert scrubbed.dropped(frame(ip(family), tcp(flags), DATA), way)
    assert scrubbed.counts() == {"tcp_flags_dropped": 1}


@both
@ways
@pytest.mark.parametrize("flags", ILLEGAL)
def test_contradicting_flags_are_cleared(scrubbed, family, way, flags):
    scrubbed.settings(illegal_tcp_flags="clear")
    sent = frame(ip(family), tcp(flags), DATA)
    assert scrubbed.changed(sent, way) == frame(ip(family), tcp(ILLEGAL[flags]), DATA)
    assert scrubbed.counts() == {"tcp_flags_scrubbed": 1}


@both
def test_flags_that_cannot_be_mended_are_dropped_and_legal_ones_left(scrubbed, family):
    for policy in ("drop", "clear"):
        scrubbed.settings(illegal_tcp_flags=policy)
        for flags in LEGAL:
            sent = frame(ip(family), tcp(flags), DATA)
            assert scrubbed.changed(sent) == sent
    assert scrubbed.counts() == {}
    assert all(scrubbed.dropped(frame(ip(family), tcp(flags))) for flags in HOPELESS)


def test_every_combination_is_judged_as_the_table_says(scrubbed):
    scrubbed.settings(illegal_tcp_flags="clear")
    for flags, wanted in enumerate(flags_table(IllegalFlags.CLEAR).tolist()):
        sent = frame(ip(), tcp(flags))
        if wanted == DROP:
            assert scrubbed.dropped(sent)
        else:
            assert scrubbed.changed(sent) == frame(ip(), tcp(wanted))


@both
@ways
def test_the_mss_of_syns_is_lowered_never_raised(scrubbed, family, way):
    scrubbed.settings(max_mss=1200)
    for flags in ("S", "SA"):
        for before, after in ((1460, 1200), (1201, 1200), (1200, 1200), (536, 536), (65535, 1200)):
            made = [
                frame(ip(family), tcp(flags, options=[("MSS", mss), ("SAckOK", b"")]))
                for mss in (before, after)
            ]
            assert scrubbed.changed(made[0], way) == made[1]
    assert scrubbed.counts() == {"mss_clamped": 6}
    data = frame(ip(family), tcp("PA", options=[("MSS", 1460)]), DATA)
    assert scrubbed.changed(data, way) == data, "an MSS means something in a SYN only"


@both
@pytest.mark.parametrize("before", range(1, 5))
def test_an_mss_at_an_odd_offset_keeps_the_checksum_right(scrubbed, family, before):
    scrubbed.settings(max_mss=999)
    nops = [("NOP", None)] * before
    sent = frame(ip(family), tcp("S", options=[*nops, ("MSS", 1460)]), DATA)
    assert scrubbed.changed(sent) == frame(
        ip(family), tcp("S", options=[*nops, ("MSS", 999)]), DATA
    )


def test_auto_is_what_the_mtu_carries(scrubbed):
    scrubbed.settings(max_mss="auto")  # BPF_PROG_RUN: lo, 65536 bytes
    for family, headers in ((4, 40), (6, 60)):
        sent = frame(ip(family), tcp("S", options=[("MSS", 65535)]))
        wanted = frame(ip(family), tcp("S", options=[("MSS", 65536 - headers)]))
        assert scrubbed.changed(sent) == wanted


@both
@ways
def test_timestamps_are_taken_out_of_syns_only(scrubbed, family, way):
    scrubbed.settings(strip_tcp_timestamps=True)
    head, tail = [("MSS", 1460), ("SAckOK", b"")], [("NOP", None), ("WScale", 7)]
    sent = frame(ip(family), tcp("S", options=[*head, STAMP, *tail]))
    assert scrubbed.changed(sent, way) == frame(ip(family), tcp("S", options=[*head, *NOPS, *tail]))
    for flags in ("SA", "A", "PA", "FA", "R"):
        agreed = frame(ip(family), tcp(flags, options=[("NOP", None), ("NOP", None), STAMP]))
        assert scrubbed.changed(agreed, way) == agreed
    assert scrubbed.counts() == {"tcp_ts_stripped": 1}


OPTION = st.one_of(
    st.just(b"\x01"),
    st.just(b"\x02\x04\x05\xb4"),
    st.just(b"\x08\x0a" + bytes(8)),
    st.binary(min_size=1, max_size=10),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(OPTION, max_size=10), st.sampled_from(FAMILIES))
def test_options_of_any_kind_are_changed_as_a_plain_reading_would(scrubbed, made, family):
    scrubbed.settings(max_mss=1000, strip_tcp_timestamps=True)
    options = b"".join(made)[:40]
    options += bytes(-len(options) % 4)
    sent = with_options(family, options)
    assert scrubbed.changed(sent) == with_options(family, plain_reading(options))


def with_options(family, options):
    """A SYN with these bytes of options."""
    head = bytearray(raw(TCP(sport=1, dport=2, flags="S", seq=1)))
    head[12] = (20 + len(options)) // 4 << 4
    carrier = frame(ip(family, **{"proto" if family == 4 else "nh": 6}), Raw(bytes(head) + options))
    parsed = Ether(carrier)
    start = 34 if family == 4 else 54
    segment = bytes(head[:16]) + bytes(4) + options
    total = sum(int.from_bytes(segment[at : at + 2], "big") for at in range(0, len(segment), 2))
    total += checksum_of_addresses(parsed) + 6 + len(segment)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return carrier[: start + 16] + (0xFFFF - total).to_bytes(2, "big") + carrier[start + 18 :]


def checksum_of_addresses(parsed):
    packed = bytes(parsed.payload)[12:20] if parsed.type == 0x800 else bytes(parsed.payload)[8:40]
    return sum(int.from_bytes(packed[at : at + 2], "big") for at in range(0, len(packed), 2))


def plain_reading(options):
    """Options with the last MSS at most 1000, and the last timestamps as NOPs."""
    found, at = {}, 0
    while at < len(options) and options[at]:
        size = 1 if options[at] == 1 else (options[at + 1] if at + 1 < len(options) else 0)
        if not size or at + size > len(options):
            break
        found[options[at], size] = at
        at += size
    made = bytearray(options)
    if (at := found.get((2, 4))) is not None:
        mss = int.from_bytes(made[at + 2 : at + 4], "big")
        made[at + 2 : at + 4] = min(mss, 1000).to_bytes(2, "big")
    if (at := found.get((8, 10))) is not None:
        made[at : at + 10] = b"\x01" * 10
    return bytes(made)


@both
@ways
def test_all_fragments_are_dropped(scrubbed, family, way):
    scrubbed.settings(drop_fragments=True)
    assert scrubbed.dropped(fragment(family, 0, True, 17, bytes(16)), way)
    assert scrubbed.dropped(fragment(family, 16, True, 17, bytes(16)), way)
    assert scrubbed.dropped(fragment(family, 32, False, 17, bytes(3)), way)
    assert scrubbed.changed(frame(ip(family), udp()), way)
    assert scrubbed.counts() == {"fragments_dropped": 3}


def test_an_atomic_fragment_is_none(scrubbed):
    scrubbed.settings(fragments="drop")
    sent = fragment(6, 0, False, 17, raw(udp()) + bytes(8))
    assert scrubbed.changed(sent) == sent


HONEST = {
    "first of UDP": (0, True, 17, 16),
    "first of TCP": (0, True, 6, 24),
    "in the midst": (1480, True, 17, 1480),
    "the last": (2960, False, 17, 3),
    "the last of the largest": (65504, False, 17, 11),
}
DISHONEST = {
    "TCP header not whole": (0, True, 6, 16),
    "over the TCP header": (8, True, 6, 16),
    "UDP header not whole": (0, True, 1, 0),
    "cut in the midst of eight bytes": (1480, True, 17, 1481),
    "beyond what a packet can be": (65512, False, 17, 1000),
    "empty": (1480, True, 17, 0),
}


@both
@ways
@pytest.mark.parametrize("what", HONEST)
def test_honest_fragments_pass_the_strict_policy(scrubbed, family, way, what):
    scrubbed.settings(fragments="strict")
    offset, more, protocol, size = HONEST[what]
    payload = raw(TCP() if protocol == 6 else udp(len=2000)).ljust(size, b"\0")[:size]
    sent = fragment(family, offset, more, protocol, payload)
    assert scrubbed.changed(sent, way) == sent
    assert scrubbed.counts() == {}


@both
@ways
@pytest.mark.parametrize("what", DISHONEST)
def test_dishonest_fragments_are_dropped_by_the_strict_policy(scrubbed, family, way, what):
    scrubbed.settings(fragments="strict")
    offset, more, protocol, size = DISHONEST[what]
    assert scrubbed.dropped(fragment(family, offset, more, protocol, bytes(size)), way)
    assert scrubbed.counts() == {"fragments_dropped": 1}


@both
@ways
def test_everything_at_once(scrubbed, family, way):
    scrubbed.settings(**EVERYTHING)
    named = {"id": 5, "flags": 0} if family == 4 else {}
    sent = frame(
        ip(family, ttl=1, tos=2, **named),
        tcp("SEC", reserved=6, options=[("MSS", 1460), STAMP]),
        DATA,
    )
    wanted = frame(
        ip(family, ttl=64, tos=46 << 2, **named),
        tcp("S", reserved=0, options=[("MSS", 1200), *NOPS]),
        DATA,
    )
    assert scrubbed.changed(sent, way) == wanted
    assert scrubbed.changed(wanted, way) == wanted, "what is clean stays as it is"
    assert scrubbed.counts() == {
        "ttl_fixed" if family == 4 else "hop_fixed": 1,
        "tos_normalized": 1,
        "ecn_stripped": 1,
        "tcp_flags_scrubbed": 1,
        "mss_clamped": 1,
        "tcp_ts_stripped": 1,
    }


@both
@ways
def test_alert_mode_counts_all_of_it_and_touches_nothing(scrubbed, family, way):
    scrubbed.settings(**EVERYTHING | {"mode": "alert", "fragments": "drop"})
    named = {"id": 5, "flags": "DF"} if family == 4 else {}
    for sent in (
        frame(ip(family, ttl=1, tos=2, **named), tcp("SC", options=[("MSS", 1460), STAMP])),
        frame(ip(family), tcp("SF"), DATA),
        fragment(family, 16, False, 17, bytes(8)),
    ):
        assert scrubbed.run(sent, way) == (NEXT, sent)
    would = scrubbed.counts()
    assert would["tcp_flags_dropped"] == would["fragments_dropped"] == 1
    for name in ("ecn_stripped", "mss_clamped", "tcp_ts_stripped", "tos_normalized"):
        assert would[name] == 1
    assert {alert.action for alert in scrubbed.alerts()} == {"would_drop"}
    scrubbed.settings(**EVERYTHING)
    assert scrubbed.counts() == {}, "what was done is counted apart from what would have been"


@both
@ways
def test_what_stands_on_the_floor_is_not_dropped(scrubbed, family, way):
    remote = ADDRESSES[family][way == "egress"]
    scrubbed.kernel.protect(Floor(networks=frozenset({ipaddress.ip_network(remote)})))
    scrubbed.settings(illegal_tcp_flags="drop", fragments="drop")
    for sent in (frame(ip(family), tcp("SF")), fragment(family, 0, True, 17, bytes(16))):
        assert not scrubbed.dropped(sent, way)
    assert scrubbed.counts() == {"spared": 2}
    assert {alert.action for alert in scrubbed.alerts()} == {"spared"}


def test_a_dropped_packet_is_told_of_with_its_flags(scrubbed):
    scrubbed.settings(illegal_tcp_flags="drop")
    for _ in range(5):
        scrubbed.dropped(frame(ip(), tcp("FPU")))
    (alert,) = scrubbed.alerts()
    assert (alert.rule_id, alert.action, alert.technique) == (
        "illegal-tcp-flags",
        "drop",
        "T1595.001",
    )
    assert (alert.src_ip, alert.dst_port) == (ADDRESSES[4][0], 443)
    assert "FIN+PSH+URG" in alert.message
    assert alert.context["direction"] == "ingress"


def test_direction_and_interfaces_limit_it(scrubbed):
    sent = frame(ip(ttl=1), tcp())
    for direction, scrubs in (("ingress", "ingress"), ("egress", "egress")):
        scrubbed.settings(min_ttl=64, direction=direction)
        assert {way for way in WAYS if scrubbed.changed(sent, way) != sent} == {scrubs}
    slots = {"lo": 0, "eth9": 9}
    for interfaces, scrubs in (([], True), (["eth9"], False), (["eth9", "lo"], True)):
        scrubbed.settings(min_ttl=64, interfaces=interfaces, slots=slots)
        assert (scrubbed.changed(sent) != sent) is scrubs


@both
@ways
def test_tagged_frames_and_segments_to_be_cut_are_changed_alike(scrubbed, family, way):
    scrubbed.settings(min_ttl=64, min_hop_limit=64, max_mss=1200, scrub_tcp_flags=True)
    fields = {"options": [("MSS", 1460)]}
    sent = frame(ip(family, ttl=9), tcp("S", reserved=2, **fields), DATA, vlan=12)
    wanted = frame(ip(family, ttl=64), tcp("S", reserved=0, options=[("MSS", 1200)]), DATA, vlan=12)
    assert scrubbed.changed(sent, way) == wanted
    large = Raw(bytes(range(250)) * 12)
    named = {"id": 5} if family == 4 else {}
    sent = frame(ip(family, ttl=9, **named), tcp("PA", reserved=1), large)
    wanted = frame(ip(family, ttl=64, **named), tcp("PA", reserved=0), large)
    assert scrubbed.run(sent, way, gso_size=1400) == (NEXT, wanted)


@both
def test_headers_that_are_cut_short_are_left_alone(scrubbed, family):
    scrubbed.settings(**EVERYTHING | {"fragments": "pass", "dscp": None})
    whole = frame(ip(family, ttl=200), tcp("S", options=[("MSS", 1460), STAMP]))
    for size in range(14 + (20 if family == 4 else 40), len(whole)):
        verdict, found = scrubbed.run(whole[:size])
        assert verdict == NEXT
        assert len(found) == size
    assert "errors" not in scrubbed.counts()
    assert not any(scrubbed.kernel.failures().values())


def test_what_is_not_ip_is_left_alone(scrubbed):
    scrubbed.settings(**EVERYTHING)
    sent = raw(Ether(type=0x0806) / Raw(bytes(46)))
    assert scrubbed.changed(sent) == sent
