"""The bulk sender and a real OpenSearch node: nothing twice, one bad document holds up no other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import msgspec

from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.sinks import Router
from ebpfsentinel.sinks.breaker import Pace

INDEX = "peers-alerts"


def alert(number: int, **context: Any) -> Alert:
    return Alert(
        timestamp_ns=1_700_000_000_000_000_000 + number,
        id=f"{number}-r-{number}",
        component="peers",
        severity=Severity.HIGH,
        rule_id="r",
        action="deny",
        message=f"number {number}",
        src_ip="192.0.2.1",
        dst_ip="2001:db8::1",
        technique="T1046",
        context=context,
    )


def found(node: str) -> list[dict[str, Any]]:
    with httpx.Client(base_url=node) as client:
        client.post(f"/{INDEX}/_refresh")
        body = client.get(f"/{INDEX}/_search", params={"size": 1000, "sort": "@timestamp"}).json()
    return [hit["_source"] for hit in body["hits"]["hits"]]


async def deliver(folder: Any, node: str, alerts: list[Alert]) -> dict[str, int]:
    """Through a router until nothing waits; what was dropped."""
    route = {
        "name": "search",
        "destination": "opensearch",
        "batch": 50,
        "elasticsearch": {"url": node, "index": INDEX},
    }
    router = Router(folder, "9.9", Pace(waits_s=(0.2,), open_s=0.5))
    router.configure(msgspec.convert({"routes": [route]}, Alerting))
    router.start()
    await router.deliver(alerts)
    while router.views()[0].waiting:  # noqa: ASYNC110 -- the end, which nothing else asks for
        await asyncio.sleep(0.05)
    await router.stop()
    return dict(router.dropped)


def test_what_is_sent_twice_is_there_once_and_as_ecs(opensearch: str, tmp_path: Any) -> None:
    alerts = [alert(number) for number in range(200)]
    assert asyncio.run(deliver(tmp_path / "a", opensearch, alerts)) == {}
    assert asyncio.run(deliver(tmp_path / "b", opensearch, alerts)) == {}
    documents = found(opensearch)
    assert [each["message"] for each in documents] == [f"number {n}" for n in range(200)]
    assert documents[0]["threat"]["technique"]["id"] == ["T1046"]
    assert documents[0]["destination"]["ip"] == "2001:db8::1"


def test_a_document_that_does_not_fit_is_dropped_and_no_other(
    opensearch: str, tmp_path: Any
) -> None:
    fine = [alert(300, score=1), alert(302, score=2)]
    asyncio.run(deliver(tmp_path / "c", opensearch, fine[:1]))
    bad = alert(301, score={"is": "no number"})
    dropped = asyncio.run(deliver(tmp_path / "d", opensearch, [bad, fine[1]]))
    assert dropped == {"rejected": 1}
    assert {"number 300", "number 302"} <= {each["message"] for each in found(opensearch)}
    assert "number 301" not in json.dumps(found(opensearch))
