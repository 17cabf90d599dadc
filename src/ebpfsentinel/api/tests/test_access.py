"""Who may call which route: every route, every role, over real sockets."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ebpfsentinel.api import create_app
from ebpfsentinel.auth.permissions import permission
from ebpfsentinel.model.identity import Role

ROLES = [role.value for role in Role]
AUTH = {
    "enabled": True,
    "api_keys": [
        *({"name": role, "key": f"the-key-of-{role}", "role": role} for role in ROLES),
        {"name": "tenant", "key": "the-key-of-tenant", "role": "operator", "namespaces": ["a"]},
        {"name": "every", "key": "the-key-of-every", "role": "operator", "namespaces": ["*"]},
    ],
}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def guarded(serve_module):
    return serve_module(auth=AUTH)


def key(name):
    return {"x-api-key": f"the-key-of-{name}"}


def routes(app):
    """Every route of the app that a handler answers, with path parameters filled in."""
    for route in app.routes:
        path = "/".join(
            "x" if part.startswith("{") else part for part in route.path_format.split("/")
        )
        for handler in getattr(route, "route_handlers", None) or [route.route_handler]:
            for method in sorted(getattr(handler, "http_methods", {"WEBSOCKET"})):
                yield str(method), path or "/"


def status_of(server, method, path, headers):
    """The status and code of an answer; the body of one that is fine is not read."""
    with server.client.stream(method, path, headers=headers) as answer:
        if answer.status_code < 400:
            return answer.status_code, ""
        told = answer.read()
        is_ours = answer.headers["content-type"] == "application/json"
        return answer.status_code, json.loads(told)["error"]["code"] if is_ours else ""


def handshake(server, path, headers):
    async def opening():
        try:
            async with connect(f"ws{server.url[4:]}{path}", additional_headers=headers):
                return 101, ""
        except InvalidStatus as error:
            body = json.loads(error.response.body)
            return error.response.status_code, body["error"]["code"]

    return asyncio.run(opening())


def ask(server, method, path, headers):
    if method == "WEBSOCKET":
        return handshake(server, path, headers)
    return status_of(server, method, path, headers)


def test_every_route_does_what_the_table_says(guarded):
    found = sorted(set(routes(create_app(guarded.agent))))
    assert len(found) > 25
    assert {method for method, _ in found} >= {"GET", "POST", "DELETE", "WEBSOCKET"}
    for method, path in found:
        least = permission(method, path).least
        status, code = ask(guarded, method, path, {})
        if least is None:
            assert status not in (401, 403), f"{method} {path} is not open"
            continue
        assert (status, code) == (401, "AUTHENTICATION_REQUIRED"), f"{method} {path}: {status}"
        for role in Role:
            status, code = ask(guarded, method, path, key(role.value))
            refused = (status, code) == (403, "INSUFFICIENT_ROLE")
            assert status != 401, f"{method} {path} as {role}"
            assert refused is not role.allows(least), f"{method} {path} as {role}: {status} {code}"


def test_who_shows_nothing_is_challenged(guarded):
    answer = guarded.client.get("/api/v1/agent/status")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "X-API-Key" in answer.json()["error"]["message"]


def test_a_refusal_says_what_would_be_needed(guarded):
    answer = guarded.client.delete("/api/v1/moat/bridges/x", headers=key("viewer"))
    assert answer.json()["error"] == {
        "code": "INSUFFICIENT_ROLE",
        "message": "DELETE /api/v1/moat/bridges/x needs the role operator or more; "
        "viewer has viewer.",
    }


def test_a_bearer_may_be_an_api_key(guarded):
    answer = guarded.client.get(
        "/api/v1/auth/me", headers={"authorization": "Bearer the-key-of-tenant"}
    )
    assert answer.json() == {
        "name": "tenant",
        "role": "operator",
        "how": "key",
        "namespaces": ["a"],
    }


def bridge(name, **changes):
    return json.dumps({"id": name, "priority": 5, **changes})


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        ("tenant", {"scope": {"namespace": "a"}}, 201),
        ("tenant", {"scope": {"namespace": "b"}}, 403),
        ("tenant", {}, 403),
        ("operator", {"scope": {"namespace": "a"}}, 403),
        ("operator", {}, 403),
        ("every", {}, 201),
        ("every", {"scope": {"namespace": "b"}}, 201),
        ("admin", {}, 201),
    ],
)
def test_operators_add_in_their_namespaces(guarded, who, body, status):
    name = f"{who}-{len(json.dumps(body))}-{status}"
    where = "/api/v1/moat/gates"
    answer = guarded.client.post(where, content=bridge(name, **body), headers=key(who) | JSON)
    assert answer.status_code == status, answer.text
    if status == 403:
        error = answer.json()["error"]
        assert error["code"] == "NAMESPACE_FORBIDDEN"
        assert "scope: {namespace: NAME}" in error["message"]
    else:
        gone = guarded.client.delete(f"{where}/{name}", headers=key(who))
        assert gone.status_code == 204


def test_operators_delete_in_their_namespaces(guarded):
    where = "/api/v1/moat/gates"
    for name, namespace in (("in-a", "a"), ("in-b", "b")):
        body = bridge(name, scope={"namespace": namespace})
        guarded.client.post(where, content=body, headers=key("admin") | JSON)
    assert guarded.client.delete(f"{where}/in-b", headers=key("tenant")).status_code == 403
    assert guarded.client.delete(f"{where}/in-a", headers=key("tenant")).status_code == 204
    assert guarded.client.delete(f"{where}/none", headers=key("tenant")).status_code == 404
    assert guarded.client.delete(f"{where}/in-b", headers=key("admin")).status_code == 204


def test_what_changes_the_whole_host_is_not_for_tenants(guarded):
    for who, status in (("tenant", 403), ("operator", 200), ("admin", 200)):
        answer = guarded.client.post("/api/v1/config/reload", headers=key(who))
        assert answer.status_code == status
    assert guarded.client.post("/api/v1/moat/drain", headers=key("tenant")).status_code == 403
    assert guarded.client.post("/api/v1/moat/drain", headers=key("operator")).status_code == 201


def test_the_actor_is_who_called(guarded):
    def last():
        entries = guarded.client.get("/api/v1/audit/logs", headers=key("viewer")).json()["entries"]
        return entries[0]["action"], entries[0]["actor"]

    guarded.client.post("/api/v1/moat/drain", headers=key("operator"))
    assert last() == ("drain", "operator")
    body = bridge("mine")
    guarded.client.post("/api/v1/moat/gates", content=body, headers=key("every") | JSON)
    history = guarded.client.get("/api/v1/audit/rules/mine/history", headers=key("viewer"))
    assert history.json()["entries"][0]["actor"] == "every"


def test_keys_are_made_shown_once_rotated_and_revoked(guarded):
    admin = key("admin") | JSON
    where = "/api/v1/auth/keys"
    wanted = {"name": "robot", "role": "analyst", "ttl": "90d"}
    made = guarded.client.post(where, content=json.dumps(wanted), headers=admin)
    assert made.status_code == 201
    body = made.json()
    mine = {"x-api-key": body["key"]}
    assert guarded.client.get("/api/v1/auth/me", headers=mine).json()["name"] == "robot"
    listed = guarded.client.get(where, headers=admin)
    assert body["key"] not in listed.text
    robot = next(each for each in listed.json()["keys"] if each["name"] == "robot")
    assert robot["prefix"] == body["key"][: len(robot["prefix"])]
    assert robot["last_used_ns"] > robot["made_ns"]
    again = guarded.client.post(where, content=json.dumps(wanted), headers=admin)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "DUPLICATE_KEY")
    other = guarded.client.post(f"{where}/{body['id']}/rotate", headers=admin).json()["key"]
    assert guarded.client.get("/api/v1/auth/me", headers=mine).status_code == 401
    mine = {"x-api-key": other}
    assert guarded.client.get("/api/v1/auth/me", headers=mine).status_code == 200
    assert guarded.client.delete(f"{where}/{body['id']}", headers=admin).status_code == 204
    assert guarded.client.get("/api/v1/auth/me", headers=mine).status_code == 401
    assert guarded.client.delete(f"{where}/{body['id']}", headers=admin).status_code == 404


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "key.name: is required"),
        ({"name": "a b"}, "key.name"),
        ({"name": "a", "role": "root"}, "key.role"),
        ({"name": "a", "colour": 1}, "key.colour"),
        ({"name": "a", "ttl": "soon"}, "key.ttl"),
        ({"name": "a", "expires_at": "2000-01-01T00:00:00Z"}, "key.expires_at: is in the past"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused_by_its_field(guarded, body, told):
    answer = guarded.client.post(
        "/api/v1/auth/keys", content=json.dumps(body), headers=key("admin") | JSON
    )
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert told in error["message"]
    assert error["pointer"] == "/" + error["field"].removeprefix("key.")


@pytest.mark.usefixtures("still")
def test_guessing_is_answered_by_429(serve):
    server = serve(auth=AUTH)
    statuses = []
    for number in range(8):
        answer = server.client.get("/api/v1/agent/status", headers=key(f"guess{number}"))
        statuses.append(answer.status_code)
    assert statuses[:6] == [401] * 6
    assert statuses[6] == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["code"] == "TOO_MANY_REQUESTS"


@pytest.mark.usefixtures("still")
def test_a_header_does_not_say_where_a_guess_comes_from(serve):
    server = serve(auth=AUTH)
    for number in range(7):
        away = {"x-forwarded-for": f"192.0.2.{number}"}
        answer = server.client.get("/api/v1/agent/status", headers=key(f"guess{number}") | away)
    assert answer.status_code == 429


def test_the_description_says_how_to_show_who_one_is(guarded, client):
    described = guarded.client.get("/api-docs/openapi.json").json()
    assert described["security"] == [{"key": []}, {"bearer": []}]
    assert described["components"]["securitySchemes"]["key"]["name"] == "X-API-Key"
    assert not client.get("/api-docs/openapi.json").json().get("security")


@pytest.mark.usefixtures("still")
def test_writes_are_limited_and_say_so(serve):
    limits = {"write_burst": 3, "exempt_loopback": False}
    server = serve(auth=AUTH, api_rate_limit=limits)
    for _ in range(3):
        assert server.client.post("/api/v1/moat/drain", headers=key("admin")).status_code != 429
    answer = server.client.post("/api/v1/moat/drain", headers=key("admin"))
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert "Too many changes by admin" in answer.json()["error"]["message"]
    assert server.client.post("/api/v1/moat/drain", headers=key("operator")).status_code != 429
    assert server.client.get("/api/v1/moat/status", headers=key("admin")).status_code == 200


@pytest.mark.parametrize("required", [True, False])
def test_metrics_are_guarded_where_that_is_wanted(serve, required):
    server = serve(auth=AUTH | {"metrics_auth_required": required})
    status = 401 if required else 200
    alone = f"http://127.0.0.1:{server.listeners.metrics_port}/metrics"
    assert server.client.get("/metrics").status_code == status
    assert httpx.get(alone, trust_env=False).status_code == status
    told = httpx.get(alone, trust_env=False, headers=key("viewer")).text
    assert 'ebpfsentinel_auth_attempts_total{how="key",result="accepted"}' in told or not required


def test_without_auth_nobody_is_asked(client):
    assert client.get("/api/v1/auth/me").json() == {
        "name": "api",
        "role": "admin",
        "how": "none",
        "namespaces": [],
    }
    assert client.get("/api/v1/auth/me", headers=key("guess")).status_code == 200


def test_a_refusal_can_be_read_by_a_local_page(guarded):
    answer = guarded.client.get("/api/v1/config", headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    answer = guarded.client.get("/api/v1/config", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
