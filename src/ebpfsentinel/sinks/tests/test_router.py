"""Routes and destinations against a real receiver that fails, and recovers."""

import asyncio
import hashlib
import hmac
import json
import logging

import pytest

from ebpfsentinel.model.alert import Severity
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.sinks import Router
from ebpfsentinel.sinks.breaker import Breaker, Circuit, Pace
from ebpfsentinel.sinks.tests.receivers import HttpReceiver, alert, route, until

QUICK = Pace(waits_s=(0.01, 0.02), failures=3, open_s=0.05, jitter=0)


def webhook(receiver, name="hook", **rest):
    url = receiver.url + "/in?k=v"
    return route(name=name, destination="webhook", webhook_url=url, **rest)


def alerting(*routes, **rest):
    return Alerting(routes=list(routes), allow_private=True, **rest)


@pytest.fixture
def make(tmp_path):
    made = []

    def router(*routes, pace=QUICK, **rest):
        found = Router(tmp_path / "spool", "9.9", pace)
        found.configure(alerting(*routes, **rest))
        found.start()
        made.append(found)
        return found

    return router


def numbers(receiver):
    """The alerts that arrived, in order; batches opened."""
    found = []
    for _, _, body in receiver.taken:
        tree = json.loads(body)
        found += tree if isinstance(tree, list) else [tree]
    return [int(each["id"].partition("-")[0]) for each in found]


def test_a_receiver_that_fails_in_every_way_gets_each_alert_in_order(make):
    async def body():
        async with HttpReceiver([500, "reset", 503, 429, (302, {"location": "/"})]) as receiver:
            router = make(webhook(receiver))
            for number in range(20):
                await router.deliver([alert(number)])
            await receiver.wait(lambda: len(receiver.taken) == 20)
            assert numbers(receiver) == list(range(20))
            assert [path for path, _, _ in receiver.requests] == ["/in?k=v"] * 25
            await router.stop()

    asyncio.run(body())


def test_a_receiver_that_never_answers_is_given_up_on_and_tried_again(make):
    async def body():
        async with HttpReceiver(["hang", 0.01]) as receiver:
            router = make(webhook(receiver, timeout_ms=1000))
            await router.deliver([alert(1)])
            await receiver.wait(lambda: len(receiver.taken) == 1)
            view = router.views()[0]
            assert view.last_error == "no answer within 1 s"
            await router.stop()

    asyncio.run(body())


def test_a_destination_that_is_down_holds_up_no_other(make):
    async def body():
        async with HttpReceiver() as bad, HttpReceiver() as good:
            bad.always = "hang"
            router = make(webhook(bad, "bad"), webhook(good, "good"))
            for number in range(50):
                await router.deliver([alert(number)])
            await good.wait(lambda: len(good.taken) == 50)
            waiting = {view.name: view.waiting for view in router.views()}
            assert waiting["bad"] == 50
            await router.stop()

    asyncio.run(body())


def test_the_circuit_of_each_destination_is_its_own(make):
    async def body():
        async with HttpReceiver() as bad, HttpReceiver() as good:
            bad.always = 500
            router = make(webhook(bad, "bad"), webhook(good, "good"), pace=Pace((0.001,), 0, 5, 60))
            await router.deliver([alert(1)])
            await until(lambda: router.views()[0].state == "open")
            assert len(bad.requests) == 5
            await good.wait(lambda: good.taken)
            states = {
                metric.labels["destination"]: metric.value
                for metric in router.metrics()
                if metric.name == "alert_sender_circuit_state"
            }
            assert states == {"bad": Circuit.OPEN, "good": Circuit.CLOSED}
            await router.stop()

    asyncio.run(body())


def test_what_waits_survives_the_router_and_goes_on_where_it_stopped(make):
    async def body():
        async with HttpReceiver() as receiver:
            receiver.always = 500
            router = make(webhook(receiver))
            for number in range(30):
                await router.deliver([alert(number)])
            await router.stop()
            receiver.always = 200
            router = make(webhook(receiver))
            await router.deliver([alert(30)])
            await receiver.wait(lambda: len(receiver.taken) == 31)
            assert numbers(receiver) == list(range(31))
            sequences = [int(head["x-ebpfsentinel-sequence"]) for _, head, _ in receiver.taken]
            assert sequences == list(range(1, 32))
            await router.stop()

    asyncio.run(body())


def test_a_reload_moves_what_waits_to_the_new_receiver(make):
    async def body():
        async with HttpReceiver() as old, HttpReceiver() as new:
            old.always = "hang"
            router = make(webhook(old))
            await router.deliver([alert(number) for number in range(10)])
            await old.wait(lambda: old.requests)
            router.configure(alerting(webhook(new, batch=4)))
            await router.deliver([alert(10)])
            await until(lambda: len(numbers(new)) == 11)
            assert numbers(new) == list(range(11))
            assert [len(json.loads(body)) for _, _, body in new.taken] == [4, 4, 3]
            await router.stop()

    asyncio.run(body())


def test_a_route_that_goes_keeps_its_alerts_for_its_return(make, caplog):
    async def body():
        async with HttpReceiver() as receiver:
            receiver.always = 500
            router = make(webhook(receiver))
            await router.deliver([alert(1)])
            router.configure(alerting())
            assert "1 alerts wait in" in caplog.text
            receiver.always = 200
            router.configure(alerting(webhook(receiver)))
            await receiver.wait(lambda: receiver.taken)
            await router.stop()

    asyncio.run(body())


def test_what_a_receiver_rejects_is_dropped_counted_and_holds_up_nothing(make):
    async def body():
        async with HttpReceiver([413, 200, 413, 200]) as receiver:
            router = make(webhook(receiver, batch=2))
            await router.deliver([alert(number) for number in range(4)])
            await receiver.wait(lambda: len(receiver.requests) == 4)
            await until(lambda: not router.views()[0].waiting)
            assert router.dropped == {"rejected": 1}
            assert router.views()[0].exported == 3
            await router.stop()

    asyncio.run(body())


def test_alerts_go_by_severity_and_component_and_others_are_counted(make):
    async def body():
        async with HttpReceiver() as high, HttpReceiver() as moat:
            router = make(
                webhook(high, "high", min_severity=Severity.HIGH),
                webhook(moat, "moat", event_types=["moat"]),
            )
            await router.deliver(
                [
                    alert(1, Severity.CRITICAL, "gate"),
                    alert(2, Severity.LOW, "moat"),
                    alert(3, Severity.LOW, "gate", count=5),
                ]
            )
            await high.wait(lambda: high.taken)
            await moat.wait(lambda: moat.taken)
            assert (numbers(high), numbers(moat)) == ([1], [2])
            assert router.dropped == {"no_route": 5}
            await router.stop()

    asyncio.run(body())


def test_a_full_spool_refuses_the_newest_and_says_so_in_its_place(make):
    async def body():
        async with HttpReceiver() as receiver:
            receiver.always = 500
            router = make(webhook(receiver, spool_bytes=65_536))
            for number in range(300):
                await router.deliver([alert(number)])
            kept = router.views()[0].waiting
            assert router.dropped == {"spool_full": 300 - kept}
            receiver.always = 200
            await until(lambda: not router.views()[0].waiting)
            await router.deliver([alert(300)])
            await receiver.wait(lambda: len(receiver.taken) == kept + 2)
            last = [json.loads(body) for _, _, body in receiver.taken[-2:]]
            assert last[0]["rule_id"] == "alerts-dropped"
            assert last[0]["count"] == 300 - kept
            assert last[1]["id"].startswith("300-")
            await router.stop()

    asyncio.run(body())


def test_requests_are_signed_and_carry_their_headers(make):
    async def body():
        async with HttpReceiver() as receiver:
            headers = {"Authorization": "Bearer hidden"}
            router = make(webhook(receiver, webhook_headers=headers, webhook_secret="key"))
            await router.deliver([alert(1)])
            await receiver.wait(lambda: receiver.taken)
            _, head, content = receiver.taken[0]
            signed = head["x-ebpfsentinel-timestamp"].encode() + b"." + content
            expected = hmac.new(b"key", signed, hashlib.sha256).hexdigest()
            assert head["x-ebpfsentinel-signature"] == f"sha256={expected}"
            assert head["authorization"] == "Bearer hidden"
            assert head["content-type"] == "application/json"
            await router.stop()

    asyncio.run(body())


def test_a_test_of_a_destination_says_what_is_wrong_without_secrets(make, caplog):
    async def body():
        async with HttpReceiver([401]) as receiver:
            hidden = {"X-Key": "hunter2"}
            router = make(
                webhook(receiver, webhook_headers=hidden), route(name="l", destination="log")
            )
            assert await router.test("hook") == f"{receiver.url} answered 401"
            assert await router.test("hook") == ""
            assert await router.test("l") == ""
            assert await router.test("nobody") is None
            await receiver.close()
            assert receiver.url in await router.test("hook")
            await router.deliver([alert(1)])
            await until(lambda: router.views()[0].last_error)
            shown = str(router.views()) + caplog.text + str(list(router.metrics()))
            assert "hunter2" not in shown
            assert "k=v" not in shown
            await router.stop()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(body())


def test_without_permission_nothing_goes_to_a_private_address(make):
    async def body():
        async with HttpReceiver() as receiver:
            router = make(webhook(receiver))
            router.configure(Alerting(routes=[webhook(receiver)]))
            said = await router.test("hook")
            assert "127.0.0.1 is private" in said
            assert "alerting.allow_private: true" in said
            assert not receiver.requests
            await router.stop()

    asyncio.run(body())


def test_the_waits_grow_and_the_circuit_opens_and_half_opens():
    breaker = Breaker(Pace())
    waits = [breaker.failed(0, 0) for _ in range(4)]
    assert waits == [1, 5, 30, 30]
    assert breaker.state(0) is Circuit.CLOSED
    assert breaker.failed(100, 0) == 60
    assert breaker.state(159) is Circuit.OPEN
    assert breaker.state(160) is Circuit.HALF_OPEN
    assert breaker.failed(160, 1) == pytest.approx(72)
    assert breaker.state(219) is Circuit.OPEN
    breaker.succeeded()
    assert breaker.state(0) is Circuit.CLOSED
    assert breaker.failed(0, 0) == 1
