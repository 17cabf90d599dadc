"""The pure half: settings to a table, counters that add up, and what is shown of rows."""

import contextlib
import ipaddress
import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.config import convert
from ebpfsentinel.domains.conntrack import DOMAIN
from ebpfsentinel.domains.conntrack.changes import KEPT, Changes, told
from ebpfsentinel.domains.conntrack.connections import filter_of, order, views
from ebpfsentinel.domains.conntrack.events import (
    CT_EVENT,
    CT_FAST_COUNT,
    FLOW_COUNT,
    FLOW_ENTRY,
    FlowStage,
)
from ebpfsentinel.domains.conntrack.settings import UNREAD, ConntrackSettings
from ebpfsentinel.domains.conntrack.table import head_of, ticks
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.model.action import EndFlows, Engage, Run
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.flows import STATES, FlowFilter, Stage
from ebpfsentinel.model.settings import SettingsError

FLOW = np.dtype([("lapse_ns", "<u8"), *((n, FLOW_ENTRY[n]) for n in FLOW_ENTRY.names)])
MINUTE_NS = 60_000_000_000


def settings(**fields):
    return msgspec.convert({"enabled": True, **fields}, ConntrackSettings)


@pytest.fixture
def engine():
    return DOMAIN.engine(Tools(rules=None))


def flows(count=1):
    rows = np.zeros(count, FLOW)
    rows["lapse_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + MINUTE_NS
    rows["key"]["family"], rows["key"]["protocol"] = 4, 6
    rows["key"]["addr"][:, 0, 0], rows["key"]["addr"][:, 1, 0] = 0x0A000001, 0x0A000002
    rows["key"]["port"][:, 0], rows["key"]["port"][:, 1] = 443, 1024 + np.arange(count)
    rows["status"] = Stage.ESTABLISHED | 1 << 5 | 3 << 6
    return rows


@pytest.mark.parametrize("name", UNREAD)
def test_w13_a_threshold_that_would_do_nothing_is_refused_in_words(name):
    with pytest.raises(SettingsError) as refused:
        convert({"enabled": True, name: 100}, ConntrackSettings, "conntrack")
    assert f"connection_tracking.{name} of the section of DDoS defence" in str(refused.value)


def test_the_defaults_are_the_references(engine):
    plan = engine.plan(settings(), {}, Surroundings(secret=b"s"))
    head = plan.actions[0].head
    assert int(head["sets"]) * 7 >= 262_144
    seconds = {
        FlowStage.FLOW_TCP_ESTABLISHED: 432_000,
        FlowStage.FLOW_SYN_SENT: 120,
        FlowStage.FLOW_FIN_WAIT: 120,
        FlowStage.FLOW_UDP_NEW: 30,
        FlowStage.FLOW_UDP_STREAM: 120,
        FlowStage.FLOW_ICMP_NEW: 30,
    }
    for stage, wanted in seconds.items():
        assert 0 <= int(head["timeout"][stage]) * 2**28 / 1e9 - wanted < 0.6


def test_every_stage_has_a_timeout():
    head = head_of(settings(), Surroundings(secret=b"s"))
    stages = set(FlowStage) - {FlowStage.FLOW_NONE, FlowStage.FLOW_STAGE_MAX}
    assert all(head["timeout"][stage] for stage in stages)


@given(st.integers(1, 30 * 86_400))
def test_a_flow_never_lapses_early(seconds):
    assert (ticks(seconds) - 1) * 2**28 >= seconds * 1_000_000_000


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_hashes_depend_on_the_secret(one, other):
    heads = [head_of(settings(), Surroundings(secret=each)) for each in (one, other)]
    keys = [head["hash_keys"].tobytes() for head in heads]
    assert (keys[0] == keys[1]) == (one == other)


def test_sockets_are_only_looked_up_where_somebody_knows_whose_they_are():
    assert not head_of(settings(), Surroundings())["names"]
    assert head_of(settings(), Surroundings(provided=frozenset({"owners"})))["names"]


@given(
    st.lists(
        st.sampled_from(["created", "expired", "replaced", "ended", "move_lost", "evicted"]),
        max_size=60,
    )
)
def test_active_is_what_was_created_less_what_went(happened):
    engine = DOMAIN.engine(Tools(rules=None))
    rows, there = np.zeros(1, FLOW_COUNT), 0
    for each in happened:
        if each == "created":
            rows["created"] += 1
            there += 1
        elif there:
            there -= 1
            if each == "evicted":
                rows["evicted"][0, there % 4] += 1
            else:
                rows[each] += 1
    engine.feed("flow_count", rows, 0)
    assert engine.active() == engine.status()["active"] == there
    (gauge,) = [m.value for m in engine.metrics() if m.name == "conntrack_active"]
    assert gauge == there


@pytest.mark.parametrize(
    ("written", "on"), [({}, True), ({"fast_path": False}, False), ({"enabled": False}, False)]
)
def test_the_fast_path_is_in_the_chains_while_it_is_wanted(engine, written, on):
    _, *engaged = engine.plan(settings(**written), {}, Surroundings(secret=b"s")).actions
    assert engaged == [Engage("tc_fast_path", on=on), Engage("egress_fast_path", on=on)]


def test_what_went_past_the_stack_and_who_looks_is_shown(engine):
    count = np.zeros(1, CT_FAST_COUNT)
    count["packets"], count["learned"], count["watched"] = 7, 2, (3, 4, 5)
    engine.feed("ct_fast", count, 0)
    watched = {"netfilter": 3, "tc": 4, "device": 5}
    shown = engine.status()["fast_path"]
    assert shown == {"enabled": True, "packets": 7, "learned": 2, "watched": watched}
    samples = {(m.name, m.labels.get("by")): m.value for m in engine.metrics()}
    assert samples["conntrack_fast_path_packets", None] == 7
    assert {by: samples["conntrack_fast_path_watched", by] for by in watched} == watched


def test_a_full_table_is_an_alert_once_a_minute(engine):
    rows = np.zeros(1, FLOW_COUNT)
    found = []
    for second in range(100):
        rows["full"] += 3
        found += engine.feed("flow_count", rows.copy(), second * 1_000_000_000).alerts
    assert [alert.rule_id for alert in found] == ["conntrack-table"]
    rows["full"] += 1
    (again,) = engine.feed("flow_count", rows.copy(), 300_000_000_000).alerts
    assert "max_entries" in again.message


def test_an_empty_table_is_not_swept(engine):
    assert not engine.tick(0).actions
    rows = np.zeros(1, FLOW_COUNT)
    rows["created"] = 1
    engine.feed("flow_count", rows, 0)
    assert [type(action) for action in engine.tick(0).actions] == [Run]


def test_a_flow_is_shown_from_who_opened_it():
    rows = flows()
    end = rows["end"]
    end["packets"], end["bytes"], end["last_ns"] = [[7, 5]], [[700, 500]], [[20, 15]]
    rows["start_ns"] = 10
    (view,) = views(rows, 1000)
    assert (view["src_ip"], view["src_port"]) == ("10.0.0.2", 1024)
    assert (view["dst_ip"], view["dst_port"]) == ("10.0.0.1", 443)
    assert (view["packets_fwd"], view["packets_rev"]) == (5, 7)
    assert (view["bytes_fwd"], view["bytes_rev"]) == (500, 700)
    assert (view["start_ns"], view["last_seen_ns"]) == (1010, 1020)
    assert (view["protocol"], view["state"], view["pid"]) == ("tcp", "established", None)


def test_a_flow_names_the_process_of_who_opened_it_first():
    rows = flows()
    owner = rows["end"]["owner"]
    owner["start_ns"], owner["pid"] = [[11, 22]], [[1, 2]]
    assert views(rows, 0)[0]["pid"] == 2
    owner["start_ns"][0, 1] = 0
    assert views(rows, 0)[0]["pid"] == 1


def test_the_order_and_the_limit():
    rows = flows(50)
    end = rows["end"]
    end["last_ns"][:, 1] = np.random.default_rng(1).permutation(50)
    assert order(rows, "last_seen", 3)["end"]["last_ns"][:, 1].tolist() == [49, 48, 47]
    end["bytes"][:, 0] = np.arange(50)
    assert order(rows, "bytes", 2)["end"]["bytes"][:, 0].tolist() == [49, 48]
    assert len(order(rows, "start", 1000)) == 50
    with pytest.raises(SettingsError, match="last_seen"):
        order(rows, "last_sen", 3)


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ({}, FlowFilter()),
        ({"address": "10.0.0.1"}, FlowFilter(address=ipaddress.ip_network("10.0.0.1"))),
        ({"protocol": "TCP"}, FlowFilter(protocol=6)),
        ({"protocol": "47"}, FlowFilter(protocol=47)),
        ({"state": "Established"}, FlowFilter(state="established")),
        ({"dst_port": "80-90", "port": 80}, FlowFilter(ports=(80, 90), port=80)),
    ],
)
def test_filters_as_they_are_written(wanted, meant):
    assert filter_of(wanted) == meant


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        ({"state": "establishd"}, "Did you mean 'established'?"),
        ({"protocol": "tpc"}, "Did you mean 'tcp'?"),
        ({"address": "10.0.0.1/8"}, "Did you mean 10.0.0.0/8?"),
        ({"dst_port": "90-80"}, "0-65535"),
    ],
)
def test_filters_that_cannot_be_understood_name_the_remedy(wanted, remedy):
    with pytest.raises(SettingsError) as refused:
        filter_of(wanted)
    assert remedy in str(refused.value)


@given(
    st.dictionaries(
        st.sampled_from(["address", "source", "port", "dst_port", "protocol", "state"]),
        st.text(max_size=8),
    )
)
def test_no_filter_breaks_it(wanted):
    with contextlib.suppress(SettingsError):
        assert filter_of(wanted)


@given(
    st.builds(
        FlowFilter,
        port=st.none() | st.integers(440, 446) | st.integers(1020, 1030),
        ports=st.none() | st.tuples(st.integers(440, 446), st.integers(440, 446)),
        protocol=st.none() | st.sampled_from([6, 17]),
        state=st.none() | st.sampled_from(STATES),
        source=st.none()
        | st.sampled_from([ipaddress.ip_network("10.0.0.2"), ipaddress.ip_network("10.0.0.0/30")]),
        address=st.none() | st.just(ipaddress.ip_network("10.0.0.1")),
    )
)
def test_a_filter_means_the_rows_that_plain_python_would(wanted):
    rows = flows(10)
    rows["key"]["protocol"][5:] = 17
    rows["status"][5:] = Stage.UDP_STREAM | 3 << 6
    expected = [plainly(wanted, view) for view in views(rows, 0)]
    assert wanted.mask(rows).tolist() == expected


def plainly(wanted, view):
    protocols = {"tcp": 6, "udp": 17}
    holds = [
        wanted.port is None or wanted.port in (view["src_port"], view["dst_port"]),
        wanted.ports is None or wanted.ports[0] <= view["dst_port"] <= wanted.ports[1],
        wanted.protocol is None or protocols[view["protocol"]] == wanted.protocol,
        wanted.state is None or view["state"] == wanted.state,
        wanted.source is None or ipaddress.ip_address(view["src_ip"]) in wanted.source,
        wanted.address is None
        or any(ipaddress.ip_address(view[end]) in wanted.address for end in ("src_ip", "dst_ip")),
    ]
    return all(holds)


class TestChanges:
    def rows(self, count, first=0):
        rows = np.zeros(count, CT_EVENT)
        rows["timestamp_ns"] = first + np.arange(count)
        rows["key"]["family"] = 4
        return rows

    @given(st.lists(st.integers(0, 20), max_size=20), st.integers(0, 100))
    def test_a_listener_gets_all_from_where_it_stands(self, sizes, start):
        changes, told_ = Changes(), 0
        for size in sizes:
            changes.add(self.rows(size, told_))
            told_ += size
        number, found = changes.since(min(start, told_))
        got = [int(each) for rows in found for each in rows["timestamp_ns"]]
        assert got == list(range(min(start, told_), told_))
        assert number == told_

    def test_what_a_slow_listener_missed_is_counted(self):
        changes = Changes()
        for first in range(0, KEPT * 3, 1024):
            changes.add(self.rows(1024, first))
        number, found = changes.since(0)
        assert number == KEPT * 3
        assert sum(map(len, found)) + changes.skipped == KEPT * 3

    def test_what_became_of_a_flow_is_told(self):
        rows = self.rows(2)
        rows["change"], rows["why"] = [0, 3], [0, 4]
        rows["status"] = Stage.SYN_SENT | 1 << 6
        new, gone = told(rows, 1000)
        assert (new["event"], new["why"], new["timestamp_ns"]) == ("new", None, 1000)
        assert (gone["event"], gone["why"]) == ("gone", "evicted_unreplied")
        assert gone["state"] == "syn_sent"


def test_it_works_on_the_kernel_in_memory(engine):
    kernel = FakeKernel()
    kernel.load([DOMAIN])
    plan = engine.plan(settings(max_entries=512), {}, Surroundings(secret=b"s"))
    kernel.apply(plan.actions)
    engine.commit(plan)
    assert kernel.put_flows(flows(100)) == 100
    kernel.apply([EndFlows((FlowFilter(port=1030),))])
    assert len(kernel.flows()) == 99
    bigger = engine.plan(settings(max_entries=4096), {}, Surroundings(secret=b"s"))
    kernel.apply(bigger.actions)
    assert len(kernel.flows()) == 99
