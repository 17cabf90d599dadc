import json

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ebpfsentinel.api import alerts as live
from ebpfsentinel.sinks import live as feed
from ebpfsentinel.store import AuditQuery


def error(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    return answer.json()["error"]["message"]


@pytest.fixture
def kept(served, alert):
    many = [alert(n) for n in range(20)]
    if not served.agent.store.alerts.query(live.AlertQuery())[1]:
        served.agent.store.alerts.append(many)
    return many


def test_alerts_with_filters_and_true_total(client, kept):
    body = client.get("/api/v1/alerts", params={"component": "moat", "limit": 3}).json()
    matching = [a.id for a in reversed(kept) if a.component == "moat"]
    assert (body["total"], body["limit"], body["offset"]) == (len(matching), 3, 0)
    assert [a["id"] for a in body["alerts"]] == matching[:3]
    found = client.get("/api/v1/alerts", params={"min_severity": "CRIT"}).json()
    assert {a["severity"] for a in found["alerts"]} == {"critical"}
    query = {"from": "1970-01-01T00:00:05Z", "to": str(7 * 10**9)}
    found = client.get("/api/v1/alerts", params=query).json()
    assert [a["timestamp_ns"] // 10**9 for a in found["alerts"]] == [7, 6, 5]
    assert client.get("/api/v1/alerts?limit=5000").json()["limit"] == 1000


def test_filters_that_make_no_sense_are_refused(client):
    error(client.get("/api/v1/alerts?min_severity=bad"), 400, "INVALID_SEVERITY")
    message = error(client.get("/api/v1/alerts?min_sevrity=low"), 400, "VALIDATION_ERROR")
    assert "Did you mean 'min_severity'?" in message
    error(client.get("/api/v1/alerts?from=yesterday"), 400, "VALIDATION_ERROR")
    error(client.get("/api/v1/alerts/stream?severity_min=bad"), 400, "INVALID_SEVERITY")


@pytest.mark.usefixtures("kept")
def test_marking_a_false_positive_is_kept_and_audited(served, client):
    answer = client.post("/api/v1/alerts/3-r-3/false-positive")
    assert answer.status_code == 200
    assert answer.json() == {"alert_id": "3-r-3", "marked": True}
    found = client.get("/api/v1/alerts?false_positive=true").json()
    assert [(a["id"], a["false_positive"]) for a in found["alerts"]] == [("3-r-3", True)]
    entries, _ = served.agent.store.audit.query(AuditQuery(action="false_positive"))
    assert entries[0].detail == "3-r-3"
    error(client.post("/api/v1/alerts/none/false-positive"), 404, "ALERT_NOT_FOUND")


def events(answer):
    """Blocks of a server-sent stream, as dictionaries."""
    block = {}
    for line in answer.iter_lines():
        if not line:
            if block:
                yield block
            block = {}
        else:
            name, _, value = line.partition(": ")
            block[name or "comment"] = value


def test_the_stream_tells_alerts_as_they_happen(served, client, alert):
    path = "/api/v1/alerts/stream?severity_min=high&component=moat"
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer)
        assert "comment" in next(found)
        for number in range(100, 108):
            served.call(served.agent.alerts.publish, alert(number))
        first = next(found)
        assert (first["event"], first["id"]) == ("alert", "103-r-103")
        assert json.loads(first["data"])["component"] == "moat"
        assert next(found)["id"] == "107-r-107"


def test_the_stream_replays_what_was_missed(served, client, alert):
    for number in range(200, 205):
        served.call(served.agent.alerts.publish, alert(number))
    headers = {"Last-Event-ID": "202-r-202"}
    with client.stream("GET", "/api/v1/alerts/stream", headers=headers) as answer:
        found = events(answer)
        ids = []
        while len(ids) < 2:
            block = next(found)
            ids += [block["id"]] if "id" in block else []
    assert ids == ["203-r-203", "204-r-204"]


def test_a_slow_listener_is_told_what_it_missed(served, client, alert, monkeypatch):
    monkeypatch.setattr(feed, "_QUEUE", 3)
    with client.stream("GET", "/api/v1/alerts/stream") as answer:
        found = events(answer)
        next(found)

        def flood():
            for number in range(400, 410):
                served.agent.alerts.publish(alert(number))

        served.call(flood)
        assert [next(found)["id"] for _ in range(3)] == ["400-r-400", "401-r-401", "402-r-402"]
        gap = next(found)
        assert (gap["event"], json.loads(gap["data"])) == ("missed", {"missed": 7})


def test_streams_are_narrowed_by_attack(served, client, alert):
    path = "/api/v1/alerts/stream?mitre_tactic=impact&mitre_technique_id=T1499"
    with client.stream("GET", path) as answer:
        found = events(answer)
        next(found)
        for number, technique in enumerate((None, "T1498", "T1499.001", "T14999"), start=500):
            served.call(served.agent.alerts.publish, alert(number, technique=technique))
        served.call(served.agent.alerts.publish, alert(510, technique="T1499"))
        assert [next(found)["id"] for _ in range(2)] == ["502-r-502", "510-r-510"]
    for query in ("mitre_tactic=harm", "mitre_technique_id=1499"):
        error(client.get(f"/api/v1/alerts/stream?{query}"), 400, "VALIDATION_ERROR")


def test_a_quiet_stream_is_kept_alive(client, monkeypatch):
    monkeypatch.setattr(live, "KEEPALIVE_S", 0.01)
    with client.stream("GET", "/api/v1/alerts/stream") as answer:
        found = events(answer)
        assert [next(found)["comment"] for _ in range(3)] == ["keepalive"] * 3


def test_the_stream_ends_with_the_agent_and_listeners_are_forgotten(served, client):
    with client.stream("GET", "/api/v1/alerts/stream") as answer:
        found = events(answer)
        next(found)
        served.call(served.agent.alerts.publish, None)
        assert list(found) == []
    assert not served.agent.alerts.listeners


def test_the_websocket_tells_alerts_as_they_happen(served, alert):
    url = served.url.replace("http", "ws") + "/api/v1/alerts/ws?component=moat"
    before = served.agent.alerts.listeners
    with connect(url) as socket:
        while served.agent.alerts.listeners == before:
            served.call(lambda: None)
        for number in (300, 301):
            served.call(served.agent.alerts.publish, alert(number))
        assert json.loads(socket.recv(10))["id"] == "301-r-301"
        socket.send("ignored")
        served.call(served.agent.alerts.publish, alert(303))
        assert json.loads(socket.recv(10))["id"] == "303-r-303"


def test_the_websocket_refuses_other_sites_and_bad_filters(served):
    url = served.url.replace("http", "ws") + "/api/v1/alerts/ws"
    with pytest.raises(InvalidStatus, match="403"):
        connect(url, origin="https://evil.example")
    with (
        pytest.raises((InvalidStatus, ConnectionClosed)),
        connect(url + "?severity_min=bad") as socket,
    ):
        socket.recv(10)


def test_open_streams_do_not_hold_up_the_end(serve):
    served = serve()
    with served.client.stream("GET", "/api/v1/alerts/stream") as answer:
        next(events(answer))
        served.run(served.listeners.stop())
