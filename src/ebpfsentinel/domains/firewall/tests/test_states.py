"""Rules on flows: states, what a source may begin, and flows that a new rule ends."""

import ipaddress
import os
import time

import numpy as np
import pytest
from scapy.layers.inet6 import ICMPv6PacketTooBig

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.settings import FirewallSettings
from ebpfsentinel.domains.firewall.tests.judge import DROP, PASS, rule
from ebpfsentinel.domains.firewall.tests.packets import ICMP, IP, TCP, UDP, IPv6, ether
from ebpfsentinel.model.action import EndFlows, FlowTable, MapReplace
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.flows import PacketFilter, Stage
from ebpfsentinel.model.settings import Mode, SettingsError

root = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
CLIENT, HOST = "192.0.2.7", "198.51.100.1"
CLIENT6, HOST6 = "2001:db8::7", "2001:db8::1"
TRACKED = {"provided": frozenset({"flows"})}
TRACKED_RULES = {"around": TRACKED, "end_flows": False}


def segment(sport, flags="A", src=CLIENT, dst=HOST, dport=443):
    ip = IPv6 if ":" in src else IP
    return ether(ip(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags=flags))


def datagram(sport, dport=53, src=CLIENT, dst=HOST):
    return ether(IP(src=src, dst=dst) / UDP(sport=sport, dport=dport))


def row(flows, protocol, src, sport, dst, dport, *, answered):
    """A flow that ``src`` opened."""
    made = np.zeros(1, flows.layout.flow)
    ends = sorted(
        [(int(ipaddress.ip_address(src)), sport), (int(ipaddress.ip_address(dst)), dport)]
    )
    opener = ends.index((int(ipaddress.ip_address(src)), sport))
    version = ipaddress.ip_address(src).version
    for end, (number, port) in enumerate(ends):
        words = [number >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]
        made["key"]["addr"][0, end] = words if version == 6 else [number, 0, 0, 0]
        made["key"]["port"][0, end] = port
    made["key"]["protocol"], made["key"]["family"] = protocol, version
    seen = 3 if answered else 1 << opener
    made["status"] = Stage.ESTABLISHED | opener << 5 | seen << 6
    made["lapse_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 600 * 10**9
    return made


@pytest.fixture
def tracked(judge):
    """The judge, with flows: one of TCP, one of IPv6, and one of UDP that nobody has answered."""
    flows = judge.kernel._flows()
    head = np.zeros((), flows.layout.head)
    head["version"], head["sets"] = 1, 64
    secret = np.random.default_rng(7)
    head["hash_keys"] = secret.integers(1 << 63, size=head["hash_keys"].shape, dtype=np.uint64)
    head["timeout"] = 1000
    judge.kernel.apply([FlowTable(None), FlowTable(head)])
    for made in (
        row(flows, 6, CLIENT, 5000, HOST, 443, answered=True),
        row(flows, 6, HOST6, 6000, CLIENT6, 443, answered=True),
        row(flows, 17, CLIENT, 7000, HOST, 53, answered=False),
    ):
        assert flows.put_rows(made) == 1
    yield judge
    judge.kernel.apply([FlowTable(None)])
    empty = np.zeros(0, judge.kernel.read("flow_sources")[0].dtype)
    values = np.zeros(0, judge.kernel.read("flow_sources")[1].dtype)
    judge.kernel.apply([MapReplace("flow_sources", empty, values)])


OURS = segment(5000)
OURS6 = segment(443, src=CLIENT6, dst=HOST6, dport=6000)
FRAMES = {
    "established": [OURS, OURS6],
    "new": [
        segment(5001, "S"),
        datagram(7000),
        datagram(7001),
        segment(1, "S", src=CLIENT6, dst=HOST6),
    ],
    "related": [
        ether(IP(src="203.0.113.1", dst=HOST) / ICMP(type=3, code=4) / IP(OURS[14:])),
        ether(IPv6(src="2001:db8::9", dst=HOST6) / ICMPv6PacketTooBig() / IPv6(OURS6[14:])),
    ],
    "invalid": [
        segment(5001, "FA"),
        segment(5001, "SF"),
        segment(443, "A", src=CLIENT6, dst=HOST6),
    ],
}


@root
@pytest.mark.parametrize("how", ["compiled", "fresh"])
@pytest.mark.parametrize(
    "states", [["new"], ["established", "related"], ["invalid"], ["new", "invalid"]]
)
def test_a_rule_matches_its_states_and_no_others(tracked, states, how):
    wanted = rule("states", state=states)
    other = rule("other", priority=99, src_ip="203.0.113.99", state=["new"])
    if how == "compiled":
        tracked.rules(wanted, other, **TRACKED_RULES)
    else:
        tracked.rules(
            other,
            **TRACKED_RULES,
            added=[rule("a", src_ip="203.0.113.98"), rule("b", src_ip="203.0.113.97"), wanted],
        )
    for state, frames in FRAMES.items():
        for frame in frames:
            code = tracked.judge(frame).code
            assert code == (DROP if state in states else PASS), (state, frame.hex())


@root
def test_states_go_with_all_other_conditions(tracked):
    tracked.rules(rule("one", protocol="tcp", dst_port=443, state=["established"]), **TRACKED_RULES)
    assert tracked.judge(OURS).code == DROP
    assert tracked.judge(OURS6).code == PASS
    assert tracked.judge(segment(5001, "S")).code == PASS


@root
@pytest.mark.parametrize("keep", [True, False])
def test_a_default_drop_is_for_what_begins_while_state_is_kept(tracked, keep):
    tracked.rules(policy="drop", **TRACKED_RULES, keep_state=keep)
    for state, frames in FRAMES.items():
        passes = keep and state in ("established", "related")
        for frame in frames:
            assert tracked.judge(frame).code == (PASS if passes else DROP), (state, frame.hex())


@root
def test_without_a_table_nothing_is_of_a_flow(tracked):
    tracked.kernel.apply([FlowTable(None)])
    tracked.rules(policy="drop")
    assert tracked.judge(OURS).code == DROP


def holding(kernel, address, flows):
    """What connection tracking counts for a source."""
    keys, values = kernel.read("flow_sources")
    key, value = np.zeros(1, keys.dtype), np.zeros(1, values.dtype)
    key["addr"][0, 0], key["family"] = int(ipaddress.ip_address(address)), 4
    value["flows"] = flows
    kernel.apply([MapReplace("flow_sources", key, value)])


@root
def test_a_source_may_have_so_many_flows_and_keeps_those(tracked):
    tracked.rules(
        rule("web", "allow", protocol="tcp", dst_port=443, max_src_states=3), **TRACKED_RULES
    )
    holding(tracked.kernel, CLIENT, 2)
    assert tracked.judge(segment(5001, "S")).code == PASS
    holding(tracked.kernel, CLIENT, 3)
    verdict = tracked.judge(segment(5001, "S"))
    assert verdict.code == DROP
    assert verdict.event["rule_id"] == tracked.engine._set.numbers["web"]
    assert tracked.judge(OURS).code == PASS, "a flow that is there"
    assert tracked.judge(segment(5001, "S", src="192.0.2.8")).code == PASS, "another source"
    for name in ("fw_count", "fw_over"):
        tracked.engine.feed(name, tracked.kernel.total(name), 0)
    (view,) = tracked.engine.items("rules")
    assert (view.over, view.packets) == (1, 4)


@root
def test_a_source_may_begin_so_many_flows_in_so_long(tracked):
    limited = rule("web", "allow", protocol="tcp", dst_port=443, max_src_rate="3/10m")
    tracked.rules(limited, **TRACKED_RULES)
    assert [tracked.judge(segment(6000 + n, "S")).code for n in range(5)] == [PASS] * 3 + [DROP] * 2
    assert tracked.judge(segment(6000, "S", src="192.0.2.8")).code == PASS, "another source"
    assert tracked.judge(OURS).code == PASS, "a flow that is there"
    alert, *_ = tracked.engine.feed("fw_events", events_of(tracked, segment(6009, "S")), 0).alerts
    assert "more than it lets one source begin" in alert.message


def events_of(judge, frame):
    judge.quick(frame)
    return judge.kernel.drain("fw_events")


@root
def test_in_alert_mode_what_is_over_passes_and_is_said(tracked):
    limited = rule("web", "allow", protocol="tcp", max_src_rate="1/10m")
    tracked.rules(limited, **TRACKED_RULES, mode="alert")
    first, second = tracked.judge(segment(6000, "S")), tracked.judge(segment(6001, "S"))
    assert (first.code, second.code) == (PASS, PASS)
    assert first.event is None
    assert second.event["flags"] & 0x08


def refused(written, **around):
    engine = FirewallEngine(Tools(rules=None))
    with pytest.raises(SettingsError) as error:
        engine.plan(FirewallSettings(rules=[written]), {}, Surroundings(**around))
    return str(error.value)


def test_without_connection_tracking_such_rules_are_refused():
    assert "none are tracked" in refused(rule(state=["new"]))
    assert "Switch connection tracking on" in refused(rule(action="allow", max_src_states=3))


@pytest.mark.parametrize("text", ["", "3", "0/5s", "3/0s", "x/5s", "3/5x", "-1/5s"])
def test_a_rate_that_is_none_is_refused_with_its_place(text):
    assert "max_src_rate" in refused(rule(action="allow", max_src_rate=text), **TRACKED)


def test_a_rule_that_lets_nothing_in_has_no_limit():
    assert "lets nothing in" in refused(rule(max_src_states=3), **TRACKED)


def planned(engine, rules, mode=Mode.BLOCK, added=(), **settings):
    wanted = FirewallSettings(mode=mode, rules=list(rules), **settings)
    return commit(engine, wanted, added)


def commit(engine, wanted, added=()):
    plan = engine.plan(wanted, {"rules": added}, Surroundings(**TRACKED))
    engine.commit(plan)
    return [each for each in plan.actions if isinstance(each, EndFlows)]


@pytest.fixture
def engine():
    made = FirewallEngine(Tools(rules=None))
    planned(made, [rule("old", src_ip="203.0.113.9")])
    return made


OLD = rule("old", src_ip="203.0.113.9")


def test_a_new_deny_ends_what_it_covers_and_an_old_one_does_not_again(engine):
    new = rule("new", protocol="tcp", src_ip="192.0.2.0/24", dst_port="80-90")
    low = int(ipaddress.ip_address("192.0.2.0"))
    wanted = PacketFilter(4, src=((low, low + 255),), dst_ports=((80, 90),), protocols=((6, 6),))
    assert planned(engine, [OLD, new]) == [EndFlows((wanted,), barred=True)]
    assert planned(engine, [OLD, new]) == []
    assert planned(engine, [OLD]) == []


def test_one_that_is_added_by_the_api_ends_flows_too(engine):
    wanted = FirewallSettings(mode=Mode.BLOCK, rules=[OLD])
    commit(engine, wanted)
    (ending,) = commit(engine, wanted, [rule("more", dst_port=22, protocol="tcp")])
    assert {each.family for each in ending.filters} == {4, 6}


@pytest.mark.parametrize(
    "fields",
    [
        {"action": "allow"},
        {"enabled": False},
        {"vlan_id": 7},
        {"protocol": "tcp", "flags": "S/SA"},
        {"state": ["new"]},
        {"src_mac": "aa:bb:cc:dd:ee:ff"},
    ],
)
def test_what_denies_no_packets_of_flows_or_cannot_be_told_ends_none(engine, fields):
    assert planned(engine, [OLD, rule("new", **{"src_ip": "192.0.2.1", **fields})]) == []


def test_alert_mode_ends_nothing_and_going_to_block_mode_ends_all(engine):
    rules = [OLD, rule("new", src_ip="192.0.2.1")]
    assert planned(engine, rules, mode=Mode.ALERT) == []
    (ending,) = planned(engine, rules)
    assert len(ending.filters) == 2


def test_it_can_be_switched_off(engine):
    assert planned(engine, [OLD, rule("new", src_ip="192.0.2.1")], end_flows=False) == []


def test_many_are_ended_a_few_at_a_time_and_none_is_forgotten(engine):
    rules = [rule(f"new-{n}", src_ip=f"192.0.2.{n}") for n in range(80)]
    endings = planned(engine, [OLD, *rules])
    endings += planned(engine, [OLD, *rules, rule("last", src_ip="198.51.100.9")])
    for _ in range(5):
        endings += engine.tick(0).actions
    ended = [each for ending in endings for each in ending.filters]
    assert len(ended) == len(set(ended)) == 81
    assert max(len(ending.filters) for ending in endings) <= 32
