"""API keys, and what happens to those who guess."""

import itertools

import pytest

from ebpfsentinel.auth import attempts as attempts_module
from ebpfsentinel.auth import limits as limits_module
from ebpfsentinel.auth.attempts import FREE, LONGEST_LOOPBACK_S, LONGEST_S, Attempts
from ebpfsentinel.auth.limits import Limits
from ebpfsentinel.model.identity import Identity, Role, Unauthenticated
from ebpfsentinel.model.keys import NewKey
from ebpfsentinel.model.refusal import DuplicateItem, UnknownItem
from ebpfsentinel.model.security import ApiKey, ApiRateLimit
from ebpfsentinel.model.settings import SettingsError

SECOND_NS = 10**9
STATIC = ApiKey(name="ops", key="a.static.key-with-dots", role=Role.OPERATOR, namespaces=["a"])


def made(gate, name="bob", role=Role.ANALYST, expires_ns=None):
    return gate.keys.create(name, role, ["a"], 10 * SECOND_NS, expires_ns)


@pytest.mark.parametrize("salt", [None, "pepper"])
def test_keys_of_the_configuration_get_in_by_both_headers(door, salt):
    ask = door(api_keys=[STATIC], api_key_salt=salt)
    wanted = Identity("ops", Role.OPERATOR, "key", frozenset({"a"}))
    assert ask(x_api_key=STATIC.key) == wanted
    assert ask.bearer(STATIC.key) == wanted
    assert ask(authorization=f"bearer  {STATIC.key}") == wanted


@pytest.mark.parametrize(
    "headers",
    [{}, {"x_api_key": ""}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"}],
)
def test_who_shows_nothing_is_told_how_to(door, headers):
    with pytest.raises(Unauthenticated, match="X-API-Key") as caught:
        door(api_keys=[STATIC])(**headers)
    assert caught.value.retry_after_s == 0


def test_a_made_key_gets_in_and_is_kept_as_a_hash_alone(door, room):
    ask = door()
    record, key = made(ask.gate)
    assert ask(x_api_key=key) == Identity("bob", Role.ANALYST, "key", frozenset({"a"}))
    assert key.startswith(f"ebs_{record.id}_")
    secret = key.split("_", 2)[2]
    assert secret not in repr(room.records)
    assert len(secret) >= 40
    assert room.records[record.id].last_used_ns is not None


def test_keys_outlive_the_gatekeeper(door):
    _, key = made(door().gate)
    again = door()
    with pytest.raises(Unauthenticated):
        again(x_api_key=key)
    again.gate.keys.restore()
    assert again(x_api_key=key).name == "bob"


def test_an_expired_key_is_good_no_more(door):
    gate = door().gate
    _, key = made(gate, expires_ns=20 * SECOND_NS)
    assert gate.keys.find(key, 20 * SECOND_NS - 1)
    assert gate.keys.find(key, 20 * SECOND_NS) is None


def test_rotation_replaces_a_key_at_once_or_after_a_while(door):
    gate = door().gate
    record, first = made(gate)
    _, second = gate.keys.rotate(record.id, 100 * SECOND_NS, 0)
    assert gate.keys.find(first, 100 * SECOND_NS) is None
    _, third = gate.keys.rotate(record.id, 200 * SECOND_NS, 10 * SECOND_NS)
    assert gate.keys.find(second, 210 * SECOND_NS - 1)
    assert gate.keys.find(second, 210 * SECOND_NS) is None
    assert gate.keys.find(third, 10**6 * SECOND_NS).name == "bob"


def test_a_revoked_key_is_forgotten(door, room):
    gate = door().gate
    record, key = made(gate)
    gate.keys.revoke(record.id)
    assert gate.keys.find(key, 11 * SECOND_NS) is None
    assert room.records == {}
    for change in (gate.keys.revoke, lambda key_id: gate.keys.rotate(key_id, 0, 0)):
        with pytest.raises(UnknownItem):
            change(record.id)


def test_a_name_has_one_key(door):
    gate = door().gate
    made(gate)
    with pytest.raises(DuplicateItem):
        made(gate)


def test_the_end_of_a_key_is_in_the_future():
    now = 10**18
    assert NewKey(name="a").expires_ns(now) is None
    assert NewKey(name="a", ttl="2h").expires_ns(now) == now + 7200 * SECOND_NS
    for wrong in ({"ttl": "2h", "expires_at": "2099-01-01T00:00:00Z"},
                  {"expires_at": "2000-01-01T00:00:00Z"}, {"ttl": "soon"}):  # fmt: skip
        with pytest.raises(SettingsError):
            NewKey(name="a", **wrong).expires_ns(now)


def test_reloaded_keys_are_in_force_at_once(door):
    ask = door(api_keys=[STATIC])
    other = ApiKey(name="ops", key="another-static-key", role=Role.VIEWER)
    ask.set(api_keys=[other])
    assert ask(x_api_key=other.key).role is Role.VIEWER
    with pytest.raises(Unauthenticated):
        ask(x_api_key=STATIC.key)


def test_guessing_is_slowed_and_then_the_right_key_waits_too(door):
    ask = door(api_keys=[STATIC])
    for number in range(FREE):
        with pytest.raises(Unauthenticated) as caught:
            ask(x_api_key=f"guess-{number}")
        assert caught.value.retry_after_s == 0
    with pytest.raises(Unauthenticated):
        ask(x_api_key="one more")
    with pytest.raises(Unauthenticated, match="Too many") as caught:
        ask(x_api_key=STATIC.key)
    assert 0 < caught.value.retry_after_s <= 1
    assert ask(x_api_key=STATIC.key, address="192.0.2.2").name == "ops"
    assert {
        metric.labels["result"]: metric.value
        for metric in ask.gate.metrics()
        if metric.labels.get("how") == "credential"
    } == {"refused": FREE + 1, "slowed": 1}


def test_the_same_wrong_key_again_is_no_guess(door):
    ask = door(api_keys=[STATIC])
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            ask(x_api_key="revoked")
    assert ask(x_api_key=STATIC.key).name == "ops"


def test_a_wrong_key_that_becomes_right_gets_in(door):
    ask = door()
    with pytest.raises(Unauthenticated):
        ask(x_api_key=STATIC.key)
    ask.set(api_keys=[STATIC])
    assert ask(x_api_key=STATIC.key).name == "ops"


@pytest.mark.parametrize(
    ("address", "longest"), [("192.0.2.1", LONGEST_S), ("127.0.0.1", LONGEST_LOOPBACK_S)]
)
def test_waits_grow_and_end(address, longest):
    tried, now = Attempts(), 1000.0
    waits = []
    for number in range(40):
        tried.failed(address, str(number), now)
        waits.append(tried.wait_s(address, now))
        now += waits[-1]
        assert tried.wait_s(address, now) == 0
    assert waits[:FREE] == [0.0] * FREE
    assert all(before <= after for before, after in itertools.pairwise(waits))
    assert max(waits) == longest
    tried.succeeded(address)
    tried.failed(address, "x", now)
    assert tried.wait_s(address, now) == 0


def test_neighbours_of_a_64_are_one():
    tried = Attempts()
    for number in range(FREE + 1):
        tried.failed(f"2001:db8::{number + 1:x}", str(number), 0.0)
    assert tried.wait_s("2001:db8::ffff", 0.0) > 0
    assert tried.wait_s("2001:db8:0:1::1", 0.0) == 0
    assert tried.wait_s("::ffff:192.0.2.1", 0.0) == 0


def test_the_tables_are_bounded(monkeypatch):
    monkeypatch.setattr(attempts_module, "ADDRESSES", 8)
    monkeypatch.setattr(limits_module, "IDENTITIES", 8)
    tried, limits = Attempts(), Limits()
    for number in range(50):
        tried.failed(f"10.0.0.{number}", "x", 0.0)
        limits.spend(str(number), ApiRateLimit(), 0.0, write=True)
    assert len(tried) == len(limits) == 8


def test_limits_refill_and_are_each_ones_own():
    limits, limit = Limits(), ApiRateLimit(write_per_second=2, write_burst=3)
    spent = [limits.spend("a", limit, 0.0, write=True) for _ in range(4)]
    assert spent == [0, 0, 0, 0.5]
    assert limits.spend("b", limit, 0.0, write=True) == 0
    assert limits.spend("a", limit, 0.0, write=False) == 0
    assert limits.spend("a", limit, 0.5, write=True) == 0
    assert limits.spend("a", limit, 0.5, write=True) > 0
    assert limits.refused == {"read": 0, "write": 2}


def test_a_dashboard_is_not_throttled():
    limits = Limits()
    for second, _panel in itertools.product(range(120), range(40)):
        assert limits.spend("dashboard", ApiRateLimit(), float(second), write=False) == 0


def test_loopback_is_exempt_where_that_is_said(door):
    ask = door(api_keys=[STATIC], limits=ApiRateLimit(write_burst=1))
    who = ask(x_api_key=STATIC.key)
    spent = [ask.gate.spend(who, "127.0.0.1", write=True) for _ in range(5)]
    assert spent == [0] * 5
    ask.set(api_keys=[STATIC], limits=ApiRateLimit(write_burst=1, exempt_loopback=False))
    assert ask.gate.spend(who, "127.0.0.1", write=True) == 0
    assert ask.gate.spend(who, "127.0.0.1", write=True) > 0
