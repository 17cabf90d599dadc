"""Records to names, and to counts of what could be made of them."""

import msgspec
import numpy as np

from ebpfsentinel.domains.dns import DOMAIN
from ebpfsentinel.domains.dns.events import DNS_ANSWER, DNS_COUNT
from ebpfsentinel.domains.dns.settings import DnsSettings
from ebpfsentinel.domains.dns.tests.test_message import answer
from ebpfsentinel.model.domain import SeenName, Surroundings, Tools

NOW_NS = 1_800_000_000 * 10**9


def engine_of(**written):
    engine = DOMAIN.engine(Tools(rules=None))
    settings = msgspec.convert({"enabled": True, **written}, DnsSettings)
    engine.commit(engine.plan(settings, {}, Surroundings()))
    return engine


def rows(*messages: bytes):
    made = np.zeros(len(messages), DNS_ANSWER)
    for row, message in zip(made, messages, strict=True):
        row["captured"] = row["bytes"] = len(message)
        row["message"][: len(message)] = np.frombuffer(message, np.uint8)
    return made


def test_every_address_gets_the_name_that_was_asked_for():
    message = answer(
        ("www.example.com", "A", "198.51.100.7", 300), ("www.example.com", "AAAA", "2001:db8::7", 5)
    )
    assert engine_of().feed("dns_answers", rows(message), NOW_NS).names == [
        SeenName("198.51.100.7", "www.example.com", 300),
        SeenName("2001:db8::7", "www.example.com", 60),
    ]


def test_a_name_holds_as_long_as_the_settings_say_at_least():
    message = answer(("www.example.com", "A", "198.51.100.7", 1))
    engine = engine_of(cache={"min_ttl_secs": 10})
    assert engine.feed("dns_answers", rows(message), NOW_NS).names[0].ttl_s == 10


def test_what_cannot_be_read_is_counted_and_costs_its_neighbours_nothing():
    good = answer(("www.example.com", "A", "198.51.100.7", 300))
    engine = engine_of()
    outcome = engine.feed("dns_answers", rows(b"nothing", good, good[:-2], b""), NOW_NS)
    assert [each.address for each in outcome.names] == ["198.51.100.7"]
    told = {tuple(m.labels.values()): m.value for m in engine.metrics() if m.name == "dns_answers"}
    assert told == {("whole",): 1, ("cut_off",): 1, ("malformed",): 2}
    assert engine.status()["names"] == 1


def test_counters_are_those_of_the_kernel():
    counts = np.zeros(1, DNS_COUNT)
    counts["unasked"] = 7
    engine = engine_of()
    assert not engine.feed("dns_count", counts, NOW_NS).names
    counts["unasked"] = 0
    assert engine.status()["unasked"] == 7
