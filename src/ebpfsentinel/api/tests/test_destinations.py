"""Destinations and exceptions over the API: what is shown, what is refused, what is audited."""

import pytest

from ebpfsentinel.api.tests.conftest import make_alert
from ebpfsentinel.store import AuditQuery

PATH = "/api/v1/alerts/exceptions"


@pytest.fixture
def alert(served):
    made = make_alert(4, src_ip="192.0.2.1", id="4-r-4")
    served.agent.store.alerts.append([made])
    yield made
    for each in served.agent.exemptions.found.all():
        served.agent.exemptions.remove(each.id)


def actions(served):
    found, _ = served.agent.store.audit.query(AuditQuery(component="alerts"))
    return [(entry.action, entry.rule_id) for entry in found]


def test_destinations_are_listed_with_their_state(client):
    body = client.get("/api/v1/alerts/destinations").json()
    (log,) = body["destinations"]
    assert (log["name"], log["kind"], log["state"]) == ("default-log", "log", "closed")


def test_a_destination_is_tested(client):
    body = client.post("/api/v1/alerts/destinations/default-log/test").json()
    assert body == {"destination": "default-log", "delivered": True, "error": ""}
    answer = client.post("/api/v1/alerts/destinations/nobody/test")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "DESTINATION_NOT_FOUND")


def test_an_exception_is_made_listed_and_ended(client, served, alert):
    wanted = {"alert_id": alert.id, "scope": ["source"], "expires": "2h", "reason": "scanner"}
    answer = client.post(PATH, json=wanted)
    assert answer.status_code == 201
    made = answer.json()
    assert made["wanted"] == {"source": "192.0.2.1"}
    assert made["expires_ns"] - made["created_ns"] == 7200 * 10**9
    assert client.get(PATH).json()["exceptions"] == [made]
    assert client.delete(f"{PATH}/{made['id']}").status_code == 200
    assert client.get(PATH).json()["exceptions"] == []
    assert client.delete(f"{PATH}/{made['id']}").json()["error"]["code"] == "EXCEPTION_NOT_FOUND"
    assert {("exception_added", made["id"]), ("exception_removed", made["id"])} <= set(
        actions(served)
    )


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"alert_id": "nobody"}, 404, "There is no alert 'nobody'"),
        ({"alert_id": "4-r-4", "scope": ["container"]}, 400, "has no container"),
        ({"alert_id": "4-r-4", "scope": ["sauce"]}, 400, "scope"),
        ({"alert_id": "4-r-4", "scope": []}, 400, "scope"),
        ({"alert_id": "4-r-4", "expires": "soon"}, 400, "is not a duration"),
        ({"alert_id": "4-r-4", "more": 1}, 400, "more"),
        ({}, 400, "alert_id"),
    ],
)
@pytest.mark.usefixtures("alert")
def test_a_wrong_exception_is_refused_with_what_is_wrong(client, body, status, said):
    answer = client.post(PATH, json=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_one_without_an_end_lasts(client, alert):
    made = client.post(PATH, json={"alert_id": alert.id, "expires": None}).json()
    assert made["expires_ns"] == 0
