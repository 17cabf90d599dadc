"""The live feed: everyone sees everything, nobody holds up anybody, and nothing is missed."""

from __future__ import annotations

import asyncio

from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.missed import Missed
from ebpfsentinel.sinks import LiveFeed


def alert(number):
    return Alert(
        id=str(number),
        timestamp_ns=number,
        component="test",
        severity=Severity.LOW,
        rule_id="r",
        action="log",
        message="",
    )


def ids(listener):
    async def collect():
        return [found.id async for found in listener]

    return asyncio.run(collect())


def everything(listener):
    async def collect():
        return [found async for found in listener]

    return asyncio.run(collect())


def test_every_listener_sees_every_alert_until_the_feed_closes():
    feed = LiveFeed(lambda _: [])
    one, other = feed.subscribe(), feed.subscribe()
    asyncio.run(feed.deliver([alert(1), alert(2)]))
    feed.close()
    assert ids(one) == ids(other) == ["1", "2"]
    assert ids(feed.subscribe()) == []


def test_who_comes_back_gets_what_was_kept_first():
    feed = LiveFeed(lambda last: [alert(int(last) + 1)])
    listener = feed.subscribe("7")
    asyncio.run(feed.deliver([alert(9)]))
    feed.close()
    assert ids(listener) == ["8", "9"]


def test_a_slow_listener_misses_alerts_that_are_counted_and_the_other_none():
    feed = LiveFeed(lambda _: [])
    slow, quick = feed.subscribe(), feed.subscribe()

    async def flood():
        for number in range(1500):
            await feed.deliver([alert(number)])
            await anext(quick)

    asyncio.run(flood())
    feed.close()
    assert (slow.missed, feed.missed) == (500, 500)
    told = everything(slow)
    assert [found.id for found in told[:-1]] == [str(number) for number in range(1000)]
    assert told[-1] == Missed(500)


def test_the_gap_stands_where_the_alerts_would_have_stood():
    feed = LiveFeed(lambda _: [])
    slow = feed.subscribe(takes=lambda found: found.timestamp_ns % 2 == 0)

    async def flood():
        await feed.deliver([alert(number) for number in range(2100)])
        first = await anext(slow)
        await feed.deliver([alert(3000), alert(3001), alert(3002)])
        return first

    assert asyncio.run(flood()).id == "0"
    feed.close()
    told = everything(slow)
    assert [told[998].id, told[999], told[1000].id] == ["1998", Missed(50), "3000"]
    assert told[1001] == Missed(1)


def test_a_listener_that_left_is_handed_nothing():
    feed = LiveFeed(lambda _: [])
    listener = feed.subscribe()
    asyncio.run(listener.aclose())
    asyncio.run(feed.deliver([alert(1)] * 2000))
    assert feed.missed == 0
