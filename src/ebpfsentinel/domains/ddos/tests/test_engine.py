"""Detection by time, and what follows from it: the engine as a conversation."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.ddos import DOMAIN
from ebpfsentinel.domains.ddos.attacks import Status
from ebpfsentinel.domains.ddos.events import (
    DDOS_BLOCK,
    DDOS_COUNT,
    DDOS_KNOWN,
    DDOS_PARTY,
    DDOS_PREFIX,
    DDOS_TRAFFIC,
    DdosMode,
)
from ebpfsentinel.domains.ddos.rates import Rates
from ebpfsentinel.domains.ddos.settings import AttackType, DdosPolicy, DdosSettings
from ebpfsentinel.domains.ddos.tables import THROTTLE_NS, limit
from ebpfsentinel.model.action import MapDelete, MapWrite, Swap
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import SettingsError

MS, S = 1_000_000, 1_000_000_000
SYN, ACK = AttackType.SYN_FLOOD.number, AttackType.ACK_FLOOD.number
BEGAN = 1_700_000_000 * S


def policy(**fields):
    written = {"id": "syn", "attack_type": "syn_flood", "detection_threshold_pps": 1000}
    return written | fields


class Conversation:
    """An engine, the packets that came, and the time: what is said is heard at once."""

    def __init__(self, **written):
        self.engine = DOMAIN.engine(Tools(rules=None))
        self.now_ns = BEGAN
        self.counts = np.zeros(1, DDOS_COUNT)
        self.alerts, self.actions = [], []
        self.configure(**written)
        self.step(0, 1)

    def configure(self, runtime=(), **written):
        written = {"enabled": True, "mode": "block"} | written
        wanted = msgspec.convert(written, DdosSettings)
        plan = self.engine.plan(wanted, {"policies": runtime}, Surroundings(now_ns=self.now_ns))
        self.engine.commit(plan)
        self.actions += plan.actions

    def hear(self, outcome):
        self.alerts += outcome.alerts
        self.actions += outcome.actions
        self.wanted = outcome.wanted
        return outcome

    def step(self, pps, times=1, every_ms=100, kind=SYN, field="packets"):
        """So many pulses go by, with packets at this rate."""
        for _ in range(times):
            self.now_ns += every_ms * MS
            self.counts[field][0, kind] += pps * every_ms // 1000
            self.engine.feed("ddos_count", self.counts, self.now_ns)
            self.hear(self.engine.tick(self.now_ns))

    def status(self, policy_id="syn"):
        found = [each for each in self.engine.attacks() if each["policy"] == policy_id]
        return found[0]["status"] if found else None

    def head(self):
        return [action for action in self.actions if isinstance(action, Swap)][-1].value

    def targets(self, table):
        """What the kernel has of targets: (address, packets) pairs."""
        self.now_ns += 100 * MS
        rows = self.rows(table)
        self.hear(self.engine.feed("ddos_targets", rows, self.now_ns))

    def rows(self, table):
        rows = np.zeros(len(table), [("key", DDOS_PARTY), ("value", DDOS_TRAFFIC)])
        for row, (address, packets) in zip(rows, table, strict=True):
            row["key"]["addr"][0], row["key"]["family"], row["key"]["type"] = address, 4, SYN
            row["value"]["packets"] = packets
        return rows

    def sources(self, table, known=()):
        """What the kernel has of sources: (address, packets) pairs."""
        rows = self.rows(table)
        self.now_ns += 250 * MS
        outcome = self.hear(self.engine.feed("ddos_sources", rows, self.now_ns))
        if "ddos_known" in outcome.wanted:
            here = np.zeros(len(known), [("key", DDOS_KNOWN), ("value", "<u8")])
            for row, address in zip(here, known, strict=True):
                row["key"]["addr"][0], row["key"]["family"] = address, 4
            self.hear(self.engine.feed("ddos_known", here, self.now_ns))

    def blocked(self):
        return sorted(each["source"] for each in self.engine.blocked())


def test_an_attack_begins_when_the_rate_has_been_up_for_a_while():
    said = Conversation(policies=[policy()])
    said.step(5000, 2)
    assert said.status() == "detecting"
    assert not said.alerts
    said.step(5000, 3)
    assert said.status() == "active"
    (alert,) = said.alerts
    assert (alert.rule_id, alert.component, alert.action) == ("syn", "ddos", "alert")
    assert alert.technique == "T1499.001"
    assert alert.context["attack"]["id"] == "ddos-1"


def test_a_burst_is_no_attack_however_many_packets_it_has():
    said = Conversation(policies=[policy()])
    said.step(100_000, 1, every_ms=20)
    said.step(0, 30)
    assert said.status() is None
    assert not said.alerts


def test_a_flood_in_pulses_is_an_attack():
    said = Conversation(policies=[policy()])
    for _ in range(8):
        said.step(20_000, 1)
        said.step(0, 1)
    assert said.status() == "active"


def test_few_packets_confirm_nothing_however_often_one_looks():
    said = Conversation(policies=[policy()])
    said.step(900, 200, every_ms=20)
    assert said.status() is None


def test_an_attack_ends_when_nothing_comes_any_more():
    """Nothing but time passes: no packet and no event moves it on."""
    said = Conversation(policies=[policy()], detection={"calm_secs": 5, "forget_secs": 20})
    said.step(5000, 10)
    said.step(0, 45)
    assert said.status() == "active"
    said.step(0, 30)
    assert said.status() == "mitigated"
    said.step(0, 250)
    assert said.status() is None
    (past,) = said.engine.past.attacks
    assert (past["id"], past["status"]) == ("ddos-1", "expired")
    assert past["total_packets"] == pytest.approx(5000, rel=0.5)
    assert [each.message.split(":")[0] for each in said.alerts] == [
        f"syn_flood ddos-1 is {status}" for status in ("active", "mitigated", "expired")
    ]


def test_an_attack_that_comes_back_is_the_same_one():
    said = Conversation(policies=[policy()], detection={"calm_secs": 2, "forget_secs": 60})
    said.step(5000, 10)
    said.step(0, 60)
    assert said.status() == "mitigated"
    said.step(5000, 10)
    assert said.status() == "active"
    assert {each.context["attack"]["id"] for each in said.alerts} == {"ddos-1"}


def test_each_policy_of_a_type_has_an_attack_of_its_own():
    both = [policy(), policy(id="worse", detection_threshold_pps=20_000)]
    said = Conversation(policies=both)
    said.step(5000, 10)
    assert (said.status(), said.status("worse")) == ("active", None)
    said.step(50_000, 15)
    assert (said.status(), said.status("worse")) == ("active", "active")


def test_attacks_that_begin_together_have_numbers_of_their_own():
    said = Conversation(policies=[policy(), policy(id="other")])
    said.step(5000, 10)
    assert sorted(each["id"] for each in said.engine.attacks()) == ["ddos-1", "ddos-2"]


def test_types_without_a_policy_are_watched_by_the_products_own_and_only_alert():
    said = Conversation(policies=[policy()])
    views = {view.id: view for view in said.engine.items("policies")}
    assert set(views) == {"syn"} | {
        f"default-{kind.value}" for kind in AttackType if kind is not AttackType.SYN_FLOOD
    }
    assert {view.mitigation_action for view in views.values()} == {"alert"}


def test_acks_count_when_they_belong_to_no_flow():
    said = Conversation()
    said.step(50_000, 10, kind=ACK)
    assert said.status("default-ack_flood") is None
    said.step(50_000, 10, kind=ACK, field="stray")
    assert said.status("default-ack_flood") == "active"
    assert said.head()["every_ack"][0] == 1


def test_a_throttle_holds_while_the_attack_does_and_lapses_by_itself():
    said = Conversation(policies=[policy(mitigation_action="throttle")])
    assert said.head()["throttle"]["interval"][0, SYN] == 0
    said.step(5000, 10)
    interval, tolerance = limit(1000, 101)
    assert said.head()["throttle"]["interval"][0, SYN] == interval
    assert said.head()["throttle"]["tolerance"][0, SYN] == tolerance
    first = int(said.head()["throttle_until_ns"][0, SYN])
    assert said.now_ns < first <= said.now_ns + THROTTLE_NS
    said.step(5000, 60)
    assert int(said.head()["throttle_until_ns"][0, SYN]) > first
    said.step(0, 400)
    assert said.status() == "mitigated"
    assert said.head()["throttle"]["interval"][0, SYN] == 0


def test_of_several_throttles_the_strictest_holds():
    both = [
        policy(mitigation_action="throttle", detection_threshold_pps=4000),
        policy(id="strict", mitigation_action="throttle"),
    ]
    said = Conversation(policies=both)
    said.step(50_000, 10)
    assert said.head()["throttle"]["interval"][0, SYN] == limit(1000)[0]


def test_no_measure_is_taken_where_the_policy_only_alerts():
    said = Conversation(policies=[policy()])
    said.step(50_000, 20)
    assert not said.head()["throttle"]["interval"].any()


def attacked(**fields):
    said = Conversation(policies=[policy(mitigation_action="block", **fields)])
    said.step(5000, 10)
    return said


def test_the_source_that_sends_most_is_blocked_and_no_other():
    said = attacked()
    said.sources([(1, 500), (2, 100)])
    said.sources([(1, 1500), (2, 110)])
    assert said.blocked() == ["0.0.0.1"]
    (write,) = [action for action in said.actions if isinstance(action, MapWrite)]
    assert write.keys["addr"][0].tolist() == [1, 0, 0, 0]
    assert int(write.values["until_ns"][0]) == said.now_ns + 300 * S
    assert said.head()["blocking"][0] == 1
    assert said.engine.attacks()[0]["sources"][0]["ip"] == "0.0.0.1"


def test_a_source_that_is_known_is_never_blocked():
    said = attacked()
    said.sources([(1, 0), (2, 0)])
    said.sources([(1, 5000), (2, 5000)], known=[2])
    assert said.blocked() == ["0.0.0.1"]


def test_many_sources_of_one_prefix_are_blocked_as_one():
    said = attacked()
    base = 10 << 24
    said.sources([(base + at, 0) for at in range(20)])
    said.sources([(base + at, 15) for at in range(20)])
    assert said.blocked() == ["10.0.0.0/24"]


def test_a_prefix_with_a_known_source_in_it_is_not_blocked():
    said = attacked()
    base = 10 << 24
    said.sources([(base + at, 0) for at in range(20)])
    said.sources([(base + at, 15) for at in range(20)], known=[base + 99])
    assert said.blocked() == []


def test_a_policy_per_source_is_of_the_one_that_sends_most():
    said = Conversation(policies=[policy(per="source", mitigation_action="block")])
    said.step(5000, 5)
    assert "ddos_sources" in said.wanted
    said.sources([(at, 0) for at in range(50)])
    said.sources([(at, 25) for at in range(50)])
    said.step(5000, 5)
    assert said.status() is None
    for packets in (400, 800, 1200, 1600):
        said.sources([(at, 25 + packets * (at == 7)) for at in range(50)])
        said.step(5000, 1)
    assert said.status() == "active"
    assert said.head()["throttle"]["interval"][0, SYN] == 0
    said.sources([(at, 25 + 2500 * (at == 7)) for at in range(50)])
    assert said.blocked() == ["0.0.0.7"]


def test_a_policy_per_destination_is_of_the_one_that_gets_most():
    said = Conversation(policies=[policy(per="destination", mitigation_action="throttle")])
    said.step(5000, 5)
    for packets in range(0, 1000, 100):
        said.targets([(1, 50), (2, packets // 10)])
        said.step(5000, 1)
    assert said.status() is None
    for packets in range(1000, 10_000, 1000):
        said.targets([(1, 50), (2, packets)])
        said.step(5000, 1)
    assert said.status() == "active"
    assert said.head()["throttle"]["interval"][0, SYN]
    assert said.engine.attacks()[0]["targets"][0]["ip"] == "0.0.0.2"


def test_a_policy_per_prefix_blocks_the_prefix():
    said = Conversation(policies=[policy(per="prefix", mitigation_action="block")])
    base = 10 << 24
    said.step(5000, 5)
    for packets in range(0, 200, 20):
        said.sources([(base + at, packets) for at in range(20)])
        said.step(5000, 1)
    assert said.status() == "active"
    said.sources([(base + at, 300) for at in range(20)])
    assert said.blocked() == ["10.0.0.0/24"]


def test_a_block_lapses_and_is_taken_out_of_the_map():
    said = attacked(auto_block_duration_secs=5)
    said.sources([(1, 0)])
    said.sources([(1, 5000)])
    said.step(0, 60)
    assert said.blocked() == []
    assert any(isinstance(action, MapDelete) for action in said.actions)


def test_what_an_earlier_agent_blocked_is_taken_over():
    said = Conversation()
    said.step(0, 1)
    assert "ddos_blocked" in said.wanted
    rows = np.zeros(1, [("key", DDOS_PREFIX), ("value", DDOS_BLOCK)])
    rows["key"]["addr"][0, 0], rows["key"]["family"], rows["key"]["bits"] = 9, 4, 32
    rows["value"]["until_ns"], rows["value"]["packets"] = said.now_ns + 2 * S, 77
    said.engine.feed("ddos_blocked", rows, said.now_ns)
    assert said.engine.blocked()[0]["packets"] == 77
    said.step(0, 30)
    assert said.blocked() == []


def test_in_alert_mode_it_is_said_what_would_be_done():
    said = Conversation(mode="alert", policies=[policy(mitigation_action="block")])
    said.step(5000, 10)
    assert said.head()["mode"][0] == DdosMode.DDOS_MODE_ALERT
    assert [alert.action for alert in said.alerts] == ["would_block"]


def test_an_attack_goes_on_over_a_reload_that_leaves_its_policy():
    said = Conversation(policies=[policy(mitigation_action="throttle")])
    said.step(5000, 10)
    said.configure(policies=[policy(mitigation_action="throttle")], source_share_pps=7)
    assert said.status() == "active"
    assert said.head()["throttle"]["interval"][0, SYN]
    said.configure(policies=[policy(detection_threshold_pps=9000)])
    assert said.status() is None


def test_history_and_what_was_learned_outlive_the_agent():
    said = Conversation(policies=[policy()], detection={"calm_secs": 1, "forget_secs": 1})
    said.step(5000, 10)
    said.step(0, 700)
    after = DOMAIN.engine(Tools(rules=None))
    after.recall(msgspec.json.decode(msgspec.json.encode(said.engine._memo())))
    assert [each["id"] for each in after.past.attacks] == ["ddos-1"]
    assert after.past.number == 1
    assert after.baseline() == said.engine.baseline()


def test_a_threshold_is_proposed_from_what_was_normal():
    said = Conversation()
    said.step(200, 5000)
    assert said.engine.baseline()["syn_flood"]["proposed_threshold_pps"] is None
    said.step(200, 2000)
    found = said.engine.baseline()["syn_flood"]
    assert found["highest_pps"] == pytest.approx(200, rel=0.1)
    assert found["proposed_threshold_pps"] == pytest.approx(600, rel=0.1)


def test_an_attack_is_not_learned_as_normal():
    said = Conversation(policies=[policy()])
    said.step(200, 100)
    said.step(90_000, 100)
    assert said.engine.baseline()["syn_flood"]["highest_pps"] < 1000


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ({"policies": [policy(), policy()]}, "ddos.policies[0].id"),
        ({"policies": [policy(id="a b")]}, "ddos.policies[0].id"),
        (
            {"policies": [policy(source_threshold_pps=2000)]},
            "ddos.policies[0].source_threshold_pps",
        ),
        (
            {"amplification_protection": {"ports": [{"port": 53, "max_pps": 1}] * 2}},
            "ddos.amplification_protection.ports[0].port",
        ),
        ({"amplification_protection": {"enabled": True}}, "ddos.amplification_protection.ports"),
    ],
)
def test_what_cannot_be_taken_names_its_place(written, place):
    with pytest.raises(SettingsError) as raised:
        Conversation(**written)
    assert raised.value.place == place


def test_a_policy_added_while_running_takes_the_place_of_the_products_own():
    said = Conversation()
    added = msgspec.convert(policy(id="mine"), DdosPolicy)
    said.configure(runtime=[added])
    origins = {view.id: view.origin for view in said.engine.items("policies")}
    assert origins["mine"] == "runtime"
    assert "default-syn_flood" not in origins


def test_every_counter_has_a_name():
    names = {metric.name for metric in Conversation().engine.metrics()}
    assert {"ddos_packets", "ddos_refused", "ddos_refused_by", "ddos_syncookies"} <= names
    assert {"ddos_attacks_active", "ddos_mitigations", "ddos_evictions", "ddos_spared"} <= names


@settings(max_examples=60, deadline=None)
@given(
    pulses=st.lists(st.integers(30, 900), min_size=20, max_size=60), pps=st.integers(0, 1_000_000)
)
def test_the_average_is_that_of_the_time_whatever_the_times_of_looking(pulses, pps):
    rates, count, now_ns = Rates(1), 0.0, BEGAN
    rates.look(np.array([count]), now_ns, 500 * MS)
    for pulse in pulses:
        now_ns += pulse * MS
        count += pps * pulse / 1000
        assert rates.look(np.array([count]), now_ns, 500 * MS)
    gone = sum(pulses) / 500
    assert rates.smooth[0] == pytest.approx(pps * (1 - np.exp(-gone)), rel=1e-6, abs=1e-6)


def test_a_clock_that_was_set_makes_no_attack():
    said = Conversation(policies=[policy()])
    said.now_ns -= 3600 * S
    said.step(100, 20)
    said.now_ns += 7200 * S
    said.step(100, 20)
    assert said.status() is None
    assert Status.ACTIVE not in [each["status"] for each in said.engine.attacks()]
