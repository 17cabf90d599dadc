"""Streams end when what opened them is good no more."""

import asyncio
import json
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from ebpfsentinel.api import streams
from ebpfsentinel.auth import NOBODY_ASKED
from ebpfsentinel.model.identity import Identity, Role

ADMIN = {"x-api-key": "the-key-of-admin"}
AUTH = {
    "enabled": True,
    "api_keys": [{"name": "admin", "key": "the-key-of-admin", "role": "admin"}],
}
WHERE = "/api/v1/auth/keys"


@pytest.fixture
def server(serve, monkeypatch):
    monkeypatch.setattr(streams, "LOOK_S", 0.02)
    return serve(auth=AUTH)


@pytest.fixture
def robot(server):
    body = server.client.post(WHERE, json={"name": "robot"}, headers=ADMIN).json()
    return body["id"], {"x-api-key": body["key"]}


def test_an_event_stream_ends_with_its_key(server, robot, caplog):
    key_id, shown = robot
    with server.client.stream("GET", "/api/v1/alerts/stream", headers=shown) as answer:
        lines = answer.iter_lines()
        assert next(lines)  # the first keepalive
        server.client.delete(f"{WHERE}/{key_id}", headers=ADMIN)
        assert [line for line in lines if line] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_web_socket_ends_with_its_key(server, robot, alert):
    key_id, shown = robot
    url = f"ws{server.url[4:]}/api/v1/alerts/ws"

    async def watching():
        async with connect(url, additional_headers=shown) as live:
            await asyncio.to_thread(server.call, server.agent.alerts.publish, alert(1))
            told = json.loads(await live.recv())
            await asyncio.to_thread(server.client.delete, f"{WHERE}/{key_id}", headers=ADMIN)
            with pytest.raises(ConnectionClosed):
                await live.recv()
            return told["id"], live.close_code, live.close_reason

    found, code, reason = asyncio.run(watching())
    assert (found, code) == (alert(1).id, 1008)
    assert "good no more" in reason


def test_others_stay(server, robot):
    key_id, _ = robot
    with server.client.stream("GET", "/api/v1/alerts/stream", headers=ADMIN) as answer:
        lines = answer.iter_lines()
        assert next(lines)
        server.client.delete(f"{WHERE}/{key_id}", headers=ADMIN)
        time.sleep(0.1)  # five looks
        server.call(server.agent.alerts.publish, None)  # the agent ends the stream
        assert "event: alert" not in list(lines)


def test_who_may_stay(server):
    gate, now = server.agent.gatekeeper, time.time_ns()
    admin = Identity("admin", Role.ADMIN, "key")
    assert gate.is_good(admin)
    assert not gate.is_good(Identity("admin", Role.VIEWER, "key"))
    assert not gate.is_good(NOBODY_ASKED)
    assert not gate.is_good(Identity("alice", Role.ADMIN, "certificate"))
    assert gate.is_good(Identity("a", Role.VIEWER, "oidc", until_ns=now + 10**10))
    assert not gate.is_good(Identity("a", Role.VIEWER, "oidc", until_ns=now))
