"""Live frames into the loaded limiter: rates on one and two CPUs, churn, changes under load."""

from __future__ import annotations

import contextlib
import json
import os
import time

import pytest

from ebpfsentinel.domains.ratelimit.tests.judge import rule
from ebpfsentinel.domains.ratelimit.tests.limited import Limited
from ebpfsentinel.domains.ratelimit.tests.packets import frame
from tests.flood import Flood
from tests.lab import GUARDED, GUARDED6, SENDER, SENDER6, Lab
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

FORGED = {4: "198.18.0.0", 6: "2001:db8:5::a000:0"}
OF = {4: (SENDER, GUARDED), 6: (SENDER6, GUARDED6)}
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("lab"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def flood(lab, tmp_path_factory):
    made = Flood(lab, tmp_path_factory.mktemp("flood"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def judge(lab):
    made = Limited(lab)
    yield made.judge
    made.close()


def to_guard(lab, family=4, **fields):
    told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
    mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
    return mac + frame(*OF[family], **fields)[6:]


def used_up(judge):
    """The next moment when packets are refused, and how many have passed by then."""
    before = judge.counts().over
    count = until(lambda: (found := judge.counts()).over > before and found)
    return time.monotonic(), count.passed


@pytest.mark.parametrize("cpus", [1, 2])
@pytest.mark.parametrize("algorithm", ["token_bucket", "fixed_window", "sliding_window"])
@pytest.mark.parametrize("family", [4, 6])
def test_w9_the_rate_is_true_on_any_number_of_cpus(lab, flood, judge, family, algorithm, cpus):
    """Ten times the rate is sent; once it is used up, what passes is the rate, and no more.

    Senders that other work holds up send too little for a while, which no limit makes good: so less
    than the rate is no fault here, as long as it is most of it (the bench is strict).
    """
    judge.limits(rule(rate=2000, burst=2000, algorithm=algorithm, protocol="udp"))
    flood.aim(to_guard(lab, family), OF[family][0], 1)
    with contextlib.ExitStack() as stack:
        for cpu in CPUS[:cpus]:
            stack.enter_context(flood.flowing(20_000 // cpus, cpu))
        until(lambda: judge.counts().passed > 3000)
        began, first = used_up(judge)
        until(lambda: time.monotonic() - began > 2)
        ended, last = used_up(judge)
    wanted = 2000 * (ended - began)
    window = 2000 if algorithm == "fixed_window" else 0
    assert 0.5 * wanted - window <= last - first <= 1.03 * wanted + window


@pytest.mark.parametrize("family", [4, 6])
def test_a_million_sources_do_not_push_a_customer_out(lab, flood, judge, family):
    """The customer has used up its burst; after the churn it still has."""
    source = OF[family][0]
    judge.limits(rule("customer", rate=1, burst=10, src_ip=source), rule("any", rate=1000))
    flood.aim(to_guard(lab, family), source, 1)
    flood.send(64)
    assert judge.counts("customer").passed == 10
    before = judge.table()["buckets_claimed"]
    flood.aim(to_guard(lab, family), FORGED[family], 1 << 20)
    began = time.monotonic()
    while judge.table()["buckets_claimed"] - before < 1_000_000:
        flood.send(1 << 18)
    flood.aim(to_guard(lab, family), source, 1)
    flood.send(64)
    assert judge.counts("customer").passed <= 10 + time.monotonic() - began + 1


def test_evictions_are_counted_where_more_sources_are_busy_than_there_are_places(lab, flood, judge):
    """A bucket of one packet a second is in use for a second: a million of them are too many."""
    judge.limits(rule("any", rate=1, burst=100))
    before = judge.table()["evictions"]
    flood.aim(to_guard(lab), FORGED[4], 1 << 20)
    until(lambda: flood.send(1 << 19) or judge.table()["evictions"] > before)
    assert [alert.rule_id for alert in judge.poll()][:1] in ([], ["bucket-table"])
    assert judge.table()["not_charged"] == 0


def test_a_change_under_load_keeps_the_buckets_of_what_did_not_change(lab, flood, judge):
    mine = rule(rate=1000, burst=2000, protocol="udp")
    judge.limits(mine)
    flood.aim(to_guard(lab), SENDER, 1)
    began = time.monotonic()
    with flood.flowing(30_000):
        until(lambda: judge.counts().over > 5000)
        for number in range(50):
            judge.limits(rule(f"more-{number}", rate=5, src_ip=f"192.0.2.{number}"), mine)
        until(lambda: time.monotonic() - began > 2)
        count = judge.counts()
        ended = time.monotonic()
    assert 1000 < count.passed <= 2000 + 1000 * (ended - began) + 20
