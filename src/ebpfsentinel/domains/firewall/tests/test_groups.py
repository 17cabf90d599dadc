"""Groups of addresses and ports, and schedules: what they contain, and what is refused."""

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.config import convert
from ebpfsentinel.domains.firewall.groups import Groups, joined, without
from ebpfsentinel.domains.firewall.schedules import AHEAD_DAYS, next_day_ns, spans_of
from ebpfsentinel.domains.firewall.settings import FirewallSettings, Schedule
from ebpfsentinel.model.domain import Surroundings
from ebpfsentinel.model.settings import SettingsError

HOUR = 3600
MONDAY = int(dt.datetime(2030, 1, 7, tzinfo=dt.UTC).timestamp())

RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)).map(sorted).map(tuple))


@given(RANGES)
def test_joined_ranges_hold_the_same_values_in_order_and_apart(ranges):
    found = joined(ranges)
    held = {value for low, high in ranges for value in range(low, high + 1)}
    assert {value for low, high in found for value in range(low, high + 1)} == held
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
    left = {value for low, high in without(found, 301) for value in range(low, high + 1)}
    assert left == set(range(301)) - held


def groups(aliases, **around):
    settings = convert({"aliases": aliases}, FirewallSettings, "firewall")
    return Groups(settings.aliases, Surroundings(**around))


def test_groups_of_each_kind():
    found = groups(
        {
            "lan": {"type": "ip_set", "values": ["10.0.0.0/24", "10.0.1.0/24", "2001:db8::/32"]},
            "web": {"type": "port_set", "values": [443, "80", "8000-8010"]},
            "both": {"type": "nested", "values": ["lan", "listed"]},
            "listed": {"type": "file", "path": "/list"},
            "named": {"type": "dynamic_dns", "values": ["www.test", "new.test"]},
        },
        files={"/list": b"# ours\n192.0.2.1  # a host\n\n198.51.100.0/24\n"},
        addresses={"www.test": ("203.0.113.7", "2001:db8::7")},
    )
    assert found.find("lan", "").addresses[4] == ((0x0A000000, 0x0A0001FF),)
    assert found.find("web", "").ports == ((80, 80), (443, 443), (8000, 8010))
    assert len(found.find("both", "").addresses[4]) == 3
    assert found.find("named", "").addresses[4] == ((0xCB007107, 0xCB007107),)
    assert found.waiting() == ("new.test",)


@pytest.mark.parametrize(
    ("aliases", "text"),
    [
        ({"a": {"type": "ip_set", "values": ["10.0.0.1/8"]}}, r"aliases\.a\.values\[0\].*10\.0"),
        ({"a": {"type": "port_set", "values": ["http"]}}, r"aliases\.a\.values.*not a port"),
        ({"a": {"type": "nested", "values": ["a"]}}, "contains itself: a -> a"),
        (
            {"a": {"type": "nested", "values": ["b"]}, "b": {"type": "nested", "values": ["a"]}},
            "contains itself",
        ),
        (
            {"lan": {"type": "ip_set"}, "a": {"type": "nested", "values": ["lna"]}},
            "Did you mean 'lan'",
        ),
        ({"a": {"type": "file", "path": "/list"}}, r"/list:2: .*nonsense"),
        (
            {
                "p": {"type": "port_set", "values": [1]},
                "i": {"type": "ip_set", "values": ["::1"]},
                "a": {"type": "nested", "values": ["p", "i"]},
            },
            "mixes addresses and ports",
        ),
    ],
)
def test_a_group_that_cannot_be_is_refused_though_no_rule_names_it(aliases, text):
    with pytest.raises(SettingsError, match=text):
        groups(aliases, files={"/list": b"10.0.0.1\nnonsense\n"})


def schedule(*entries):
    return convert({"entries": list(entries)}, Schedule, "schedule")


def holds(spans, moment):
    return any(low <= moment <= high for low, high in spans)


def test_a_schedule_holds_on_its_days_at_its_time_in_local_time():
    office = schedule({"days": ["mon", "Tuesday"], "time": "08:00-17:30"})
    spans = spans_of("office", office, MONDAY, 2 * HOUR)
    for hour, held in ((5.9, False), (6, True), (15.4, True), (15.6, False), (30, True)):
        assert holds(spans, MONDAY + hour * HOUR) == held, hour
    assert not holds(spans, MONDAY + 2 * 24 * HOUR + 7 * HOUR)
    assert holds(spans, MONDAY + 7 * 24 * HOUR + 7 * HOUR)
    assert max(high for _, high in spans) <= MONDAY + AHEAD_DAYS * 24 * HOUR


def test_a_span_over_midnight_belongs_to_the_day_it_begins_on():
    night = schedule({"days": ["sun"], "time": "22:00-06:00"})
    spans = spans_of("night", night, MONDAY, 0)
    assert holds(spans, MONDAY - HOUR)
    assert holds(spans, MONDAY + 5 * HOUR)
    assert not holds(spans, MONDAY + 23 * HOUR)


def test_midnight_is_local():
    assert next_day_ns(MONDAY + 23 * HOUR, 2 * HOUR) == (MONDAY + 46 * HOUR) * 10**9


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"days": ["someday"]}, r"entries\[0\]\.days: 'someday'"),
        ({"time": "8-17"}, "Write it as 08:00-17:30"),
        ({"time": "08:00-08:00"}, "not a span"),
        ({"time": "25:00-26:00"}, "not a span"),
    ],
)
def test_a_schedule_that_cannot_be_read_names_its_place(entry, text):
    with pytest.raises(SettingsError, match=text):
        spans_of("s", schedule(entry), MONDAY, 0)
