"""The limiter in this machine's kernel, one packet at a time through ``xdp_root``: no traffic.

The boot clock runs on while a test sends. Rates of one or two packets a second make verdicts exact
all the same: what a test sends takes milliseconds.
"""

import ipaddress
import os
import threading
import time

import numpy as np
import pytest

from ebpfsentinel.domains.ratelimit.tables import hash_keys, hashed
from ebpfsentinel.domains.ratelimit.tests.judge import (
    DROP,
    NONE,
    OVER,
    PASS,
    SECRET,
    WITHIN,
    WOULD,
    place_interface,
    rule,
)
from ebpfsentinel.domains.ratelimit.tests.packets import ICMPV6, TCP, UDP, frame
from ebpfsentinel.model.settings import SettingsError, parse_moment

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

V4, V6 = {"src": "10.0.0.1"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
BUCKETS = ("token_bucket", "leaky_bucket")
WINDOWS = ("fixed_window", "sliding_window")


@pytest.mark.parametrize("address", [V4, V6])
@pytest.mark.parametrize("algorithm", BUCKETS)
def test_a_bucket_admits_its_burst_and_not_one_more(judge, algorithm, address):
    judge.limits(rule(rate=1, burst=7, algorithm=algorithm))
    assert judge.passed(frame(**address), 20) == 7
    count = judge.counts()
    assert (count.passed, count.over, count.dropped) == (7, 13, 13)


@pytest.mark.parametrize("address", [V4, V6])
@pytest.mark.parametrize("algorithm", WINDOWS)
def test_a_window_admits_its_rate_and_not_one_more(judge, algorithm, address):
    judge.limits(rule(rate=9, burst=1, algorithm=algorithm))
    assert judge.passed(frame(**address), 9) == 9
    assert judge.passed(frame(**address), 3) == 0


def test_the_seeds_rule_of_all_sources(judge):
    judge.limits(runtime=[rule("rl-global", rate=1, burst=3, scope="per_ip")])
    for host in range(4):
        assert judge.passed(frame(src=f"10.0.0.{host}"), 6) == 3


def test_the_default_holds_where_no_rule_does(judge):
    judge.limits(
        rule("paying", rate=1, burst=5, src_ip="10.0.0.9"), default_rate=1, default_burst=2
    )
    assert judge.passed(frame(src="10.0.0.9"), 9) == 5
    assert judge.passed(frame(src="10.0.0.8"), 9) == 2
    assert judge.passed(frame(**V6), 9) == 2


def test_what_is_not_limited_says_so_and_what_is_says_within_or_over(judge):
    judge.limits()
    assert judge.meta(frame())["limit_status"] == NONE
    judge.limits(rule(rate=1, burst=1, action="log"))
    assert judge.meta(frame())["limit_status"] == WITHIN
    assert judge.meta(frame())["limit_status"] == OVER


def test_the_most_specific_source_decides(judge):
    judge.limits(
        rule("any", rate=1, burst=1),
        rule("wide", rate=1, burst=2, src_ip="10.0.0.0/8"),
        rule("near", rate=1, burst=3, src_ip="10.1.0.0/16"),
        rule("host", rate=1, burst=4, src_ip="10.1.1.1"),
        rule("six", rate=1, burst=5, src_ip="2001:db8::/32"),
        rule("six-near", rate=1, burst=6, src_ip="2001:db8:1::/48"),
    )
    for source, burst in (
        ("11.0.0.1", 1),
        ("10.0.0.1", 2),
        ("10.1.0.1", 3),
        ("10.1.1.1", 4),
    ):
        assert judge.passed(frame(src=source), 9) == burst, source
    for source, burst in (("2001:db8::1", 5), ("2001:db8:1::1", 6), ("fd00::1", 1)):
        assert judge.passed(frame(src=source, dst="2001:db8::2"), 9) == burst, source


def test_a_rule_that_does_not_apply_leaves_the_packet_to_the_next_less_specific(judge):
    judge.limits(
        rule("dns", rate=1, burst=5, src_ip="10.0.0.1", protocol="udp", dst_port=53),
        rule("net", rate=1, burst=2, src_ip="10.0.0.0/8", protocol="udp"),
        rule("any", rate=1, burst=1),
    )
    assert judge.passed(frame(dport=53), 9) == 5
    assert judge.passed(frame(dport=80), 9) == 2
    assert judge.passed(frame(protocol=TCP, dport=53), 9) == 1


def test_per_prefix_counts_a_network_together_in_all_its_bits(judge):
    judge.limits(rule(rate=1, burst=4, scope="per_prefix"))
    assert sum(judge.passes(frame(src=f"10.0.0.{host}")) for host in range(20)) == 4
    assert judge.passed(frame(src="10.0.1.1"), 9) == 4
    hosts = [f"2001:db8::{host:x}:{host}" for host in range(1, 20)]
    assert sum(judge.passes(frame(src=each, dst="::1")) for each in hosts) == 4
    assert judge.passed(frame(src="2001:db8:0:1::1", dst="::1"), 9) == 4


def test_w35_sources_that_differ_in_any_bit_have_buckets_of_their_own(judge):
    """Folded by XOR, all of these were one."""
    judge.limits(rule(rate=1, burst=1))
    words = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (3, 2, 0, 0), (3, 0, 0, 2)]
    for each in words:
        source = ":".join(f"{word >> 16:x}:{word & 0xFFFF:x}" for word in each)
        assert judge.passed(frame(src=source, dst="::1"), 3) == 1, source
    assert judge.passed(frame(src="0.0.0.1"), 3) == 1, "and an IPv4 address of the same words"


def test_w45_a_rule_holds_for_ipv6_and_a_host_of_it_has_its_own(judge):
    judge.limits(rule("host", rate=1, burst=5, src_ip="2001:db8::1"), rule("any", rate=1, burst=1))
    assert judge.passed(frame(**V6), 9) == 5
    assert judge.passed(frame(**V6 | {"src": "2001:db8::3"}), 9) == 1


def test_w42_a_later_fragment_has_no_port(judge):
    judge.limits(rule("dns", rate=1, burst=1, scope="per_rule", dst_port=53))
    later = bytearray(frame(dport=53))
    later[20:22] = b"\x00\x05"
    assert judge.passed(bytes(later), 5) == 5
    assert judge.passed(frame(dport=53), 5) == 1


def test_shared_limits_apply_in_addition(judge):
    judge.limits(
        rule("each", rate=1, burst=3),
        rule("dns", rate=1, burst=5, scope="per_rule", protocol="udp", dst_port=53),
        rule("server", rate=1, burst=6, scope="per_destination", dst_ip="10.0.0.2"),
        rule("all", rate=1, burst=20, scope="global"),
    )
    got = [judge.passed(frame(src=f"10.0.0.{host}"), 4) for host in range(10, 14)]
    assert got == [3, 2, 0, 0], "of the source, then of the rule"
    assert judge.passed(frame(src="10.0.0.20", dport=80), 4) == 1, "the destination's sixth"
    assert judge.passed(frame(src="10.0.0.20", dst="10.0.0.3", dport=80), 4) == 2
    wide = [
        judge.passed(frame(src=f"10.1.0.{host}", dst="10.0.0.9", dport=1), 3) for host in range(6)
    ]
    assert sum(wide) == 20 - 8


def test_a_packet_that_one_limit_refuses_is_charged_to_no_other(judge):
    judge.limits(
        rule("each", rate=1, burst=9),
        rule("all", rate=1, burst=2, scope="global"),
    )
    assert judge.passed(frame(), 8) == 2
    judge.limits(rule("each", rate=1, burst=9))
    assert judge.passed(frame(), 20) == 7, "the six refused ones are not among the nine"
    count = judge.counts("each")
    assert (count.passed, count.over) == (9, 13)


def test_per_destination_is_by_the_whole_address(judge):
    judge.limits(rule(rate=1, burst=2, scope="per_destination"))
    for last in ("10.0.0.2", "10.0.0.3", "10.0.1.2"):
        assert judge.passed(frame(dst=last), 4) == 2
    for last in ("2001:db8::2", "2001:db8::1:2"):
        assert judge.passed(frame(src="::1", dst=last), 4) == 2


@pytest.mark.parametrize("vlan", [0, 7])
def test_vlan_and_protocol_are_asked_for(judge, vlan):
    judge.limits(rule(rate=1, burst=1, scope="per_rule", vlan_id=vlan, protocol="udp"))
    assert judge.passed(frame(vlan=vlan), 4) == 1
    assert judge.passed(frame(vlan=7 - vlan), 4) == 4
    assert judge.passed(frame(vlan=vlan, protocol=TCP), 4) == 4


def test_an_interface_is_asked_for(judge):
    names = {"eth0": 3, "eth1": 5}
    judge.limits(rule(rate=1, burst=1, interfaces=["eth1"]), interfaces=names)
    for slot, passed in ((3, 4), (5, 1)):
        place_interface(judge.kernel, slot)
        assert judge.passed(frame(), 4) == passed


def test_w8_pass_only_counts_and_log_only_reports(judge):
    for action, reported in (("pass", 0), ("log", 1)):
        judge.limits(rule(action, rate=1, burst=2, action=action))
        assert judge.passed(frame(), 6) == 6
        count = judge.counts(action)
        assert (count.passed, count.over, count.dropped) == (2, 4, 0)
        events = judge.events()
        assert len(events) == reported
        assert (events["packet"]["action"] == 2).all()


def test_alert_mode_judges_alike_and_drops_nothing(judge):
    judge.limits(rule(rate=1, burst=2), mode="alert")
    flags = [int(judge.meta(frame())["packet_flags"]) & WOULD for _ in range(5)]
    assert flags == [0, 0, WOULD, WOULD, WOULD]
    count = judge.counts()
    assert (count.passed, count.over, count.dropped) == (2, 3, 0)
    (alert,) = judge.alerts()
    assert (alert.action, alert.rule_id, alert.count) == ("would_drop", "r", 1)


def test_a_question_leaves_no_trace(judge):
    judge.limits(rule(rate=1, burst=2), rule("all", rate=1, burst=9, scope="global"))
    for _ in range(5):
        meta = judge.meta(frame(), "xdp_dry")
        assert (meta["limit_status"], meta["packet_flags"] & WOULD) == (WITHIN, 0)
    assert judge.table()["buckets_claimed"] == 0
    assert judge.passed(frame(), 5) == 2
    meta = judge.meta(frame(), "xdp_dry")
    assert (meta["limit_status"], meta["packet_flags"] & WOULD) == (OVER, WOULD)
    assert (judge.counts().over, len(judge.events())) == (3, 1)


def test_the_first_packet_over_a_limit_is_an_event_and_the_rest_is_told_later(judge):
    judge.limits(rule(rate=1, burst=2))
    judge.passed(frame(), 50)
    judge.passed(frame(**V6), 5)
    events = judge.events()
    assert events["suppressed"].tolist() == [0, 0]
    assert events["rate"].tolist() == [1, 1]
    time.sleep(1.1)
    judge.passed(frame(), 3)
    (later,) = judge.events()
    assert later["suppressed"] == 47
    told = sum(1 + int(each["suppressed"]) for each in [*events, later])
    assert judge.counts().over == told + 3 - 1 - 1 + 2, "one a bucket, 47, and the last not yet"


def test_what_a_source_was_not_told_of_when_it_stops_is_told_once_it_is_quiet(judge):
    judge.limits(rule(rate=1, burst=2))
    judge.passed(frame(), 50)
    alerts = judge.alerts()
    judge.poll()
    assert judge.engine.tick(time.time_ns()).alerts == []
    alerts += judge.engine.tick(time.time_ns() + 3 * 10**9).alerts
    assert [alert.count for alert in alerts] == [1, 47]
    assert sum(alert.count for alert in alerts) == judge.counts().over == 48
    time.sleep(1.1)
    judge.passed(frame(), 2)
    alerts += judge.alerts()
    judge.poll()
    alerts += judge.engine.tick(time.time_ns() + 9 * 10**9).alerts
    assert sum(alert.count for alert in alerts) == judge.counts().over


def test_a_limit_that_did_not_change_keeps_its_buckets_and_a_changed_one_begins_anew(judge):
    kept, host = rule("kept", rate=1, burst=3), rule("host", rate=1, burst=4, src_ip="10.0.0.9")
    judge.limits(kept, host)
    assert [judge.passed(frame(), 9), judge.passed(frame(src="10.0.0.9"), 9)] == [3, 4]
    judge.limits(rule("more", rate=5, src_ip="10.9.0.0/16"), host, kept)
    assert [judge.passed(frame(), 9), judge.passed(frame(src="10.0.0.9"), 9)] == [0, 0]
    judge.limits(rule("kept", rate=1, burst=5), rule("host", rate=1, burst=6, src_ip="10.0.0.9"))
    assert [judge.passed(frame(), 9), judge.passed(frame(src="10.0.0.9"), 9)] == [5, 6]


def test_a_limit_lapses_in_the_kernel(judge):
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    judge.limits(rule(rate=1, burst=1, expires_at=until))
    assert judge.passed(frame(), 5) == 1
    while judge.passed(frame(), 3) != 3:
        time.sleep(0.05)
    assert time.time() >= parse_moment("", until) / 1e9 - 0.01
    assert judge.passed(frame(), 5) == 5


def test_a_disabled_limit_is_not_in_force(judge):
    judge.limits(rule(rate=1, burst=1, enabled=False))
    assert judge.passed(frame(), 5) == 5


def test_what_is_not_ip_and_neighbour_discovery_have_no_limit(judge):
    judge.limits(rule(rate=1, burst=1, scope="global"))
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    assert judge.passed(arp, 5) == 5
    assert judge.passed(frame(protocol=ICMPV6, **V6), 5) == 1
    echo = frame(protocol=ICMPV6, **V6)
    solicitation = echo[:54] + b"\x87" + echo[55:]
    assert judge.passed(solicitation, 5) == 5


def test_ten_thousand_sources_with_limits_of_their_own(judge):
    rules = [
        rule(f"c{n}", rate=1, burst=1 + n % 5, src_ip=f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
        for n in range(10_240)
    ]
    judge.limits(*rules)
    for n in range(0, 10_240, 509):
        source = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        assert judge.passed(frame(src=source), 7) == 1 + n % 5
    with pytest.raises(SettingsError, match="10240 is the most"):
        judge.limits(*rules, rule("one-more", rate=1))
    assert judge.table()["buckets_claimed"] == 0, "each has its bucket by number"


def test_networks_of_every_length_are_found(judge):
    v4 = [rule(f"n{bits}", rate=1, burst=1 + bits, src_ip=f"{_cidr4(bits)}") for bits in range(33)]
    judge.limits(*v4)
    for bits in range(33):
        source = "10.77.66.55" if bits == 32 else _just_outside(bits)
        assert judge.passed(frame(src=source), 40) == 1 + bits, (bits, source)


def _cidr4(bits):
    low = 32 - bits
    value = 0x0A4D4237 >> low << low
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}/{bits}"


def _just_outside(bits):
    """An address that shares so many bits with 10.77.66.55, and not one more."""
    value = 0x0A4D4237 ^ 1 << 31 - bits
    return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


@pytest.mark.parametrize("algorithm", [*BUCKETS, *WINDOWS])
def test_w9_a_limit_is_true_on_two_cpus(judge, algorithm):
    """One bucket, two threads: together they get what one would."""
    judge.limits(rule(rate=100, burst=100, algorithm=algorithm, src_ip="10.0.0.1"))
    began = time.monotonic()
    threads = [
        threading.Thread(target=judge.kernel.run, args=("xdp_root", frame(), 200_000))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    count = judge.counts()
    assert count.passed + count.over == 400_000
    assert 100 <= count.passed <= 100 + 100 * (took + 1) + 1


@pytest.mark.parametrize("algorithm", [*BUCKETS, *WINDOWS])
def test_w6_w7_the_rate_is_exact_and_nobody_starves(judge, algorithm):
    """A thousand packets for each that may pass, for two seconds; a second or a burst is ahead."""
    burst = 600
    judge.limits(rule(rate=3001, burst=burst, algorithm=algorithm))
    began = time.monotonic_ns()
    judge.run(frame(), 30_000)
    while time.monotonic_ns() - began < 2_000_000_000:
        judge.run(frame(), 30_000)
    took = (time.monotonic_ns() - began) / 1e9
    passed = judge.counts().passed
    ahead = burst if algorithm in BUCKETS else 3001
    assert 3001 * (took - 0.05) <= passed <= 3001 * took + ahead + 1


def test_churn_does_not_push_a_customer_out(judge):
    """A customer at its limit stays there, whatever churns through the table around it."""
    judge.limits(
        rule("customer", rate=1, burst=50, src_ip="192.0.2.1"),
        rule("any", rate=1, burst=1000),
    )
    began = time.monotonic()
    assert 50 <= judge.passed(frame(src="192.0.2.1"), 60) <= 52
    before = judge.table()
    churn(judge, 60_000)
    after = judge.table()
    assert after["buckets_claimed"] - before["buckets_claimed"] == 60_000
    assert judge.passed(frame(src="192.0.2.1"), 60) <= time.monotonic() - began + 1


def test_sources_of_one_hash_have_buckets_of_their_own(judge):
    """All 32 bits of the hash are the same: the address tells them apart."""
    judge.limits(rule(rate=1, burst=3))
    number = judge.engine._now.numbers[judge.engine._now.limits[0].identity]
    addresses = np.random.default_rng(1).integers(0, 1 << 32, (1 << 19, 4), np.uint64)
    found = hashed(hash_keys(SECRET), addresses, np.full(1, number << 1 | 1, np.uint64))
    order = np.argsort(found)
    alike = np.flatnonzero(found[order][1:] == found[order][:-1])
    assert len(alike)
    for at in alike[:5]:
        pair = [addresses[order[at + one]].astype(">u4").tobytes() for one in (0, 1)]
        frames = [frame(str(ipaddress.IPv6Address(source)), "::1") for source in pair]
        assert [judge.passed(each, 9) for each in frames] == [3, 3]
        assert [judge.passed(each, 2) for each in frames] == [0, 0]


def churn(judge, count):
    """So many sources, one packet each."""
    body = bytearray(frame())
    for number in range(count):
        body[26:30] = (0x0B000000 + number).to_bytes(4, "big")
        judge.run(bytes(body))


def test_where_all_ways_are_in_use_the_one_that_is_free_soonest_goes_and_is_counted(judge):
    judge.limits(rule(rate=1, burst=10_000))
    table = judge.kernel._maps["rl_table"]
    keys, sets = table.read()
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for way in range(8):  # every place is another source's, in use for 100 s and more
        sets["tags"][:, way] = (1 << 18) | 5 << 32 | 77
        sets["entries"]["bucket"]["state"][:, way] = (now + (100 + way) * 10**9) << 8
    table.write(keys, sets)
    assert judge.passes(frame(src="10.0.0.1"))
    status = judge.table()
    assert (status["buckets_claimed"], status["evictions"]) == (1, 1)
    _, after = table.read()
    changed = np.argwhere(after["tags"] != sets["tags"])
    assert changed[:, 1].tolist() == [0], "the way that was free soonest"
    judge.passes(frame(src="10.0.0.2"))
    alerts = judge.poll()
    assert [(alert.rule_id, alert.action) for alert in alerts] == [("bucket-table", "evict")]
    judge.passes(frame(src="10.0.0.3"))
    assert judge.poll() == [], "told once, as long as it goes on"


def test_verdicts_travel_in_the_return_code(judge):
    judge.limits(rule(rate=1, burst=1))
    assert [judge.run(frame())[0] for _ in range(3)] == [PASS, DROP, DROP]
    judge.limits(rule(rate=1, burst=1, protocol="udp", dst_port="1000-2000"))
    assert judge.passed(frame(protocol=UDP, dport=999), 3) == 3
    assert judge.passed(frame(protocol=UDP, dport=2000), 3) == 1
