"""The trail of what was refused, and its chain, as the API tells them."""

import json
import time

import msgspec
import pytest

from ebpfsentinel.api import trail
from ebpfsentinel.model.security import ApiKey, Auth
from ebpfsentinel.store import AuditQuery
from tests.waiting import until

KEY = "a-long-key-of-a-viewer"


def entries(served, action):
    found, _ = served.agent.store.audit.query(AuditQuery(action=action))
    return [(each.actor, each.result, each.detail) for each in reversed(found)]


def test_a_write_that_is_refused_or_fails_is_in_the_trail_with_the_reason(serve):
    made = serve()
    bridge = {"id": "north", "priority": 5}
    made.client.post("/api/v1/moat/bridges", json=bridge)
    made.client.post("/api/v1/moat/bridges", json=bridge)
    made.client.post("/api/v1/moat/bridges", json={"id": "x", "priority": 0})
    made.client.delete("/api/v1/moat/bridges/none")
    made.client.post("/api/v1/moat/bridges", json={**bridge, "id": "k", "src_ip": "kernel"})
    made.client.get("/api/v1/moat/none")  # a read is no write
    found = entries(made, "request_refused")
    assert [(actor, result) for actor, result, _ in found] == [("api", "refused")] * 4
    for (_, _, detail), wanted in zip(
        found,
        (
            "POST /api/v1/moat/bridges: 409 DUPLICATE_",
            "POST /api/v1/moat/bridges: 400 VALIDATION_ERROR: ",
            "DELETE /api/v1/moat/bridges/none: 404 BRIDGE_NOT_FOUND: There is no",
            "POST /api/v1/moat/bridges: 400 ENFORCEMENT_FAILED: map is full",
        ),
        strict=True,
    ):
        assert detail.startswith(wanted)


def test_logins_that_fail_are_told_once_a_minute_with_their_count(serve):
    def before(agent):
        auth = Auth(enabled=True, api_keys=[ApiKey(name="viewer", key=KEY)])
        limits = agent.settings.agent.api_rate_limit
        agent.gatekeeper.adopt(agent.gatekeeper.prepare(auth, limits))

    made = serve(before)
    for number in range(4):
        path = "/api/v1/moat/status" if number % 2 else "/api/v1/alerts"
        answer = made.client.get(path, headers={"x-api-key": f"wrong-{number}"})
        assert answer.status_code == 401
    assert len(entries(made, "login_failed")) == 1
    made.loop.time = lambda: time.monotonic() + trail.WINDOW_S  # what waited for it is due
    until(lambda: made.call(entries, made, "login_failed")[1:])  # asking wakes the loop
    (first, second) = entries(made, "login_failed")
    assert first[1] == second[1] == "refused"
    assert "wrong-" not in first[2]
    assert second[2] == "3 more within 60 s"
    answer = made.client.post("/api/v1/moat/bridges", headers={"x-api-key": KEY}, json={})
    assert answer.status_code == 403
    assert entries(made, "request_refused")[0][0] == "viewer"


def test_the_chain_is_verified_and_exported(serve):
    made = serve()
    for name in ("north", "south"):
        made.client.post("/api/v1/moat/bridges", json={"id": name, "priority": 5})
    found = made.client.get("/api/v1/audit/verify").json()
    assert (found["intact"], found["entries"], found["head"]["seq"]) == (True, 2, 2)
    answer = made.client.get("/api/v1/audit/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["hash"] == found["head"]["hash"]
    made.agent.store._database._connection.execute("DELETE FROM audit WHERE seq = 1")
    found = made.client.get("/api/v1/audit/verify").json()
    assert (found["intact"], found["broken"]["seq"]) == (False, 2)


@pytest.mark.parametrize("enabled", [True, False])
def test_without_an_audit_trail_nothing_is_kept(serve, enabled):
    def before(agent):
        msgspec.structs.force_setattr(agent.settings.audit, "enabled", enabled)

    made = serve(before)
    made.client.delete("/api/v1/moat/bridges/none")
    assert len(entries(made, "request_refused")) == enabled
