"""The XDP chain as a whole: firewall, rate limits, DDoS defence, with one parse."""

from __future__ import annotations

import itertools
import random
import time

import msgspec
import numpy as np
import pytest

from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.domains.ddos.tests.defended import DROP, PASS, echo
from ebpfsentinel.domains.firewall.tests.fuzz_frames import Fuzz
from ebpfsentinel.kernel import clock
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import DRY, META, Frames, LimitStatus
from ebpfsentinel.model.packets import WOULD

HERE = "127.0.0.1"
SOURCES = (f"198.51.100.{number}" for number in itertools.count(1))
CHAIN = ("firewall", "ratelimit", "ddos")
CARDS = {card.name: card for card in discover(domains) if card.name in CHAIN}


class Chain:
    """The three, loaded, and their engines; a source of its own, and counts since :meth:`all`."""

    def __init__(self, kernel):
        self.kernel, self.source = kernel, next(SOURCES)
        self.engines = {name: card.engine(Tools(rules=None)) for name, card in CARDS.items()}

    def settings(self, name, mode="block", **written):
        if name == "firewall":
            written["anti_lockout"] = {"enabled": False}
        else:
            written["enabled"] = True
        wanted = msgspec.convert(written | {"mode": mode}, CARDS[name].settings)
        now_ns = time.time_ns()
        around = Surroundings(boot_offset_ns=clock.boot_offset_ns(), now_ns=now_ns, anew=True)
        plan = self.engines[name].plan(wanted, {}, around)
        self.kernel.apply(plan.actions)
        self.engines[name].commit(plan)

    def all(self, mode="block", action="log", rate=10, pings=5):
        rule = {"id": "r", "priority": 1, "action": action, "protocol": "icmp"}
        self.settings("firewall", mode, rules=[rule])
        self.settings("ratelimit", mode, default_rate=rate, default_burst=rate)
        self.settings("ddos", mode, icmp_protection={"enabled": True, "max_pps": pings})
        self.before = self.totals()

    def run(self, times):
        frames = Frames.of([echo(self.source, HERE)] * times)
        return self.kernel.run_many("xdp_root", frames).retval.tolist()

    def meta(self, program="xdp_root"):
        return np.frombuffer(self.kernel.run(program, echo(self.source, HERE)).meta, META)[0]

    def totals(self):
        limits, defence = self.kernel.total("rl_count"), self.kernel.total("ddos_count")
        return np.array(
            [
                self.kernel.total("fw_count")["packets"].sum(),
                limits["passed"].sum() + limits["over"].sum(),
                defence["packets"][0, -1],
                limits["over"].sum(),
                limits["dropped"].sum(),
                defence["refused"].sum(),
            ],
            np.int64,
        )

    def counted(self):
        """Packets that each has seen; over a limit, dropped for it, and refused as a flood."""
        return (self.totals() - self.before).tolist()


@pytest.fixture(scope="module")
def kernel():
    made = LinuxKernel()
    made.load(list(CARDS.values()))
    yield made
    made.detach()


@pytest.fixture
def chain(kernel):
    return Chain(kernel)


def test_each_judges_what_the_one_before_lets_pass(chain):
    chain.all(rate=10, pings=5)
    assert chain.run(30) == [PASS] * 5 + [DROP] * 25
    assert chain.counted() == [30, 30, 10, 20, 20, 5]


def test_what_the_firewall_denies_costs_nobody_a_token(chain):
    chain.all(action="deny")
    assert chain.run(30) == [DROP] * 30
    assert chain.counted() == [30, 0, 0, 0, 0, 0]


def test_the_rule_and_the_limit_travel_with_the_packet(chain):
    chain.all()
    meta = chain.meta()
    number = next(n for n, name in chain.engines["firewall"].names().items() if name == "r")
    assert (meta["rule_id"], meta["limit_status"]) == (number, LimitStatus.WITHIN)


def test_in_alert_mode_all_compute_the_same_and_drop_nothing(chain):
    chain.all("alert", action="deny", rate=10, pings=5)
    assert chain.run(30) == [PASS] * 30
    assert chain.counted() == [30, 30, 30, 20, 0, 25]


def test_a_question_is_answered_for_the_whole_chain(chain):
    chain.all(rate=100, pings=5)
    assert not chain.meta(DRY)["packet_flags"] & WOULD
    chain.run(5)
    asked = chain.meta(DRY)
    assert asked["packet_flags"] & WOULD
    assert asked["limit_status"] == LimitStatus.WITHIN
    chain.settings("ratelimit", default_rate=5, default_burst=1)
    chain.run(2)
    assert chain.meta(DRY)["limit_status"] == LimitStatus.OVER


def test_hostile_frames_pass_where_nothing_limits_them(chain):
    """Cut, chained and overlapping headers are not taken for a flood, nor for its answer."""
    chain.settings("firewall")
    chain.settings("ratelimit", default_rate=9_000_000, default_burst=9_000_000)
    huge = 90_000_000
    chain.settings(
        "ddos",
        syn_protection={"enabled": True, "threshold_pps": huge},
        icmp_protection={"enabled": True, "max_pps": huge, "max_payload_size": 0},
        amplification_protection={"enabled": True, "ports": [{"port": 53, "max_pps": huge}]},
        connection_tracking={
            "enabled": True,
            "rst_threshold": huge,
            "fin_threshold": huge,
            "ack_threshold": huge,
        },
    )
    frames = list(itertools.islice(hostile(), 5000))
    answers = chain.kernel.run_many("xdp_root", Frames.of(frames))
    verdicts = answers.retval[~answers.refused]
    assert len(verdicts) > 4000
    assert set(verdicts.tolist()) == {PASS}
    assert set(chain.kernel.failures().values()) == {0}


def test_hostile_frames_are_answered_with_nothing_but_a_verdict(chain):
    """Also with every guard at its tightest."""
    chain.settings(
        "ddos",
        syn_protection={"enabled": True, "threshold_mode": False},
        icmp_protection={"enabled": True, "max_pps": 1},
        connection_tracking={"enabled": True, "rst_threshold": 1, "fin_threshold": 1},
    )
    frames = list(itertools.islice(hostile(), 5000))
    answers = chain.kernel.run_many("xdp_root", Frames.of(frames))
    assert set(answers.retval[~answers.refused].tolist()) == {PASS, DROP}


def hostile():
    """Frames that nobody means well with, without end."""
    return itertools.chain.from_iterable(Fuzz(random.Random(5)))
