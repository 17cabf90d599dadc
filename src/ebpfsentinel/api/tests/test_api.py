import contextlib
import json
import re
import socket
import subprocess
import sys

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ebpfsentinel.model.settings import SettingsError
from ebpfsentinel.store import StoreError

RULES = "/api/v1/moat/bridges"
FUZZ = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def error(answer, status, code):
    body = answer.json()
    assert answer.status_code == status, body
    assert set(body) == {"error"}
    assert set(body["error"]) - {"field", "pointer"} == {"code", "message"}
    assert body["error"]["code"] == code
    return body["error"]["message"]


def test_health_and_readiness(served, client):
    assert client.get("/healthz").json() == {"status": "ok"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "ebpf_loaded": True})
    served.agent.ready, served.agent.not_ready_reason = False, "eth0: attaching"
    try:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "status": "not_ready",
            "ebpf_loaded": False,
            "reason": "eth0: attaching",
        }
    finally:
        served.agent.ready = True


def test_status_and_identity(client):
    body = client.get("/api/v1/agent/status").json()
    assert body["status"] == "running"
    assert body["version"] == "9.9.9"
    assert (body["rule_count"], body["moat_enabled"], body["moat_mode"]) == (1, True, "alert")
    assert body["uptime_seconds"] >= 0
    body = client.get("/api/v1/agent/identity").json()
    assert body["hostname"]
    assert body["operator_managed"] is False


def test_a_collection_is_listed_added_to_and_removed_from(served, client):
    rule = {"id": "a", "priority": 10, "mode": "BLOCK"}
    answer = client.post(RULES, json=rule)
    assert (answer.status_code, answer.json()["mode"]) == (201, "block")
    assert [item["id"] for item in client.get(RULES).json()] == ["system", "a"]
    message = error(client.post(RULES, json=rule), 409, "DUPLICATE_BRIDGE")
    assert "'a'" in message
    assert client.delete(f"{RULES}/a").status_code == 204
    error(client.delete(f"{RULES}/a"), 404, "BRIDGE_NOT_FOUND")
    assert "stays" in error(client.delete(f"{RULES}/system"), 403, "PERMISSION_DENIED")
    assert served.agent.refreshed
    assert client.get("/api/v1/moat/status").json()["rule_count"] == 1


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"id": "a", "priority": 1, "prioriti": 2}, "unknown key. Did you mean 'priority'?"),
        ({"id": "a"}, "bridge.priority: is required"),
        ({"id": "a", "priority": 0}, "bridge.priority: found 0. Write a whole number from 1"),
        ({"id": "a", "priority": "1"}, 'bridge.priority: found "1"'),
        ({"id": "", "priority": 1}, "bridge.id"),
        ({"id": "x" * 257, "priority": 1}, "bridge.id"),
        ({"id": "a", "priority": 1, "mode": "blok"}, "Did you mean 'block'?"),
        ({"id": "a", "priority": 1, "src_ip": "bad"}, "'bad' is no address. Write an address."),
        ([], "body: holds a list"),
    ],
)
def test_a_body_that_is_not_sound_is_refused_with_place_and_remedy(client, body, wanted):
    assert wanted in error(client.post(RULES, json=body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("body", [b"", b"{", b'{"id": "a", "id": "b"}', b"\xff", b"[" * 9999])
def test_a_body_that_is_no_json_is_refused(client, body):
    error(client.post(RULES, content=body), 400, "VALIDATION_ERROR")


def test_a_refusal_of_the_kernel(client):
    body = {"id": "k", "priority": 1, "src_ip": "kernel"}
    assert error(client.post(RULES, json=body), 400, "ENFORCEMENT_FAILED") == "map is full"


def test_a_body_over_64_kib_is_refused(client):
    body = {"id": "a", "priority": 1, "src_ip": "x" * (64 << 10)}
    error(client.post(RULES, json=body), 413, "PAYLOAD_TOO_LARGE")

    def pieces():
        for _ in range(70):
            yield b" " * 1024

    error(client.post(RULES, content=pieces()), 413, "PAYLOAD_TOO_LARGE")


def test_every_error_has_the_envelope(client):
    message = error(client.get("/nothing"), 404, "NOT_FOUND")
    assert message == "GET /nothing: not found. See /swagger-ui/."
    error(client.get("/api/v1/moat/nothing"), 404, "NOT_FOUND")
    answer = client.put(RULES, json={})
    error(answer, 405, "METHOD_NOT_ALLOWED")
    error(client.get("/api/v1/alerts?limit=x"), 400, "VALIDATION_ERROR")
    error(client.get("/api/v1/alerts?offset=-1"), 400, "VALIDATION_ERROR")


def test_what_fails_unexpectedly_is_logged_and_not_told(client, caplog):
    message = error(client.get("/api/v1/moat/broken"), 500, "INTERNAL_ERROR")
    assert "secret reason" not in message
    assert any("/api/v1/moat/broken" in record.getMessage() for record in caplog.records)


def test_extra_routes_of_a_card_stand_below_its_name(client):
    assert client.get("/api/v1/moat/depth").json() == {"depth": 1}
    assert client.get("/api/v1/moat/width").json() == {"width": 3}


def test_ebpf_status(client):
    body = client.get("/api/v1/ebpf/status").json()
    assert body["programs"][0] == {
        "name": "moat_xdp",
        "domain": "moat",
        "hook": "xdp",
        "loaded": True,
        "attached": ["eth0"],
        "run_ns": 900,
        "run_count": 9,
        "reason": "",
    }
    assert body["programs"][1]["reason"] == "BPF LSM is off"
    assert body["interfaces"][0]["how"] == "generic"
    assert body["ledgers"][0]["lost"] == {"full": 2}
    assert body["failures"] == {"map_update": 3}


def test_config_is_masked_and_reload_reports_by_section(served, client):
    body = client.get("/api/v1/config").json()
    assert body["moat"]["password"] == "***"
    assert body["agent"]["interfaces"] == ["lo"]
    answer = client.post("/api/v1/config/reload")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "message": "moat changed",
        "sections": {"moat": "ok", "agent": "unchanged"},
    }
    before = served.agent.reload_answer
    served.agent.reload_answer = SettingsError("moat.mod", "unknown key", "Did you mean 'mode'?")
    try:
        message = error(client.post("/api/v1/config/reload"), 400, "INVALID_CONFIG")
        assert message == "moat.mod: unknown key. Did you mean 'mode'?"
    finally:
        served.agent.reload_answer = before


def test_audit_logs_and_history(client):
    client.post(RULES, json={"id": "audited", "priority": 7})
    body = client.get("/api/v1/audit/logs", params={"rule_id": "audited"}).json()
    assert (body["total"], body["limit"], body["offset"]) == (1, 100, 0)
    assert body["entries"][0]["action"] == "rule_added"
    body = client.get("/api/v1/audit/rules/audited/history").json()
    assert body["rule_id"] == "audited"
    assert body["entries"][0]["version"] == 1
    assert body["entries"][0]["actor"] == "api"
    assert body["entries"][0]["after"]["priority"] == 7
    assert client.get("/api/v1/audit/rules/none/history").json()["entries"] == []


def test_a_store_that_cannot_answer_is_503(served, client, monkeypatch):
    def fail(_wanted):
        raise StoreError("disk gone")

    monkeypatch.setattr(served.agent.store.alerts, "query", fail)
    assert "disk gone" in error(client.get("/api/v1/alerts"), 503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize("path", ["/healthz", "/nothing", RULES])
def test_security_headers_on_every_answer(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "server" not in headers


def test_a_rebound_name_is_refused_and_local_names_are_served(served, client):
    assert "not ours" in error(
        client.get("/healthz", headers={"Host": "evil.example"}), 403, "PERMISSION_DENIED"
    )
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:80"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    metrics = f"http://127.0.0.1:{served.listeners.metrics_port}/metrics"
    assert httpx.get(metrics, headers={"Host": "evil.example"}).status_code == 403


def test_another_sites_page_cannot_write(client):
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        answer = client.post(RULES, content=b'{"id":"x","priority":1}', headers={"Origin": origin})
        error(answer, 403, "PERMISSION_DENIED")
        assert (
            "access-control-allow-origin"
            not in client.get("/healthz", headers={"Origin": origin}).headers
        )
    assert [item["id"] for item in client.get(RULES).json()] == ["system"]


def test_local_origins_have_cors(client):
    origin = "http://localhost:5173"
    answer = client.get("/healthz", headers={"Origin": origin})
    assert answer.headers["access-control-allow-origin"] == origin
    answer = client.options(
        RULES, headers={"Origin": origin, "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code in (200, 204)
    assert answer.headers["access-control-allow-origin"] == origin


def test_beyond_loopback_any_host_is_served(serve):
    served = serve(bind_address="0.0.0.0", allow_unauthenticated_api=True)
    answer = served.client.get("/healthz", headers={"Host": "guard.example"})
    assert answer.status_code == 200


def test_a_port_in_use_is_told_by_its_key(served, serve):
    with pytest.raises(SettingsError, match=r"agent.http_port: cannot listen on 127.0.0.1 port"):
        serve(http_port=served.listeners.http_port)


METRICS = (
    'packets_total{interface="eth0",verdict="drop"} 5.0',
    'bytes_processed_total{direction="ingress",interface="eth0"} 1200.0',
    'rules_loaded{domain="moat"} 1.0',
    'alerts_total{component="moat",severity="low"} 4.0',
    'alerts_dropped_total{reason="dedup"} 1.0',
    'ebpf_program_status{program="moat_xdp"} 1.0',
    'ebpf_program_status{program="moat_lsm"} 0.0',
    'ebpf_program_run_seconds_total{program="moat_xdp"} 9e-07',
    'ebpf_program_runs_total{program="moat_xdp"} 9.0',
    'config_reloads_total{status="ok"} 2.0',
    'events_dropped_total{reason="full",ring="moat_events"} 2.0',
    'ringbuf_events_total{ring="moat_events"} 8.0',
    'kernel_helper_failures_total{helper="map_update"} 3.0',
    'processing_duration_seconds_bucket{domain="moat",le="5e-05"} 1.0',
    'processing_duration_seconds_bucket{domain="moat",le="+Inf"} 1.0',
    'processing_duration_seconds_count{domain="moat"} 1.0',
)


def test_metrics_have_the_seeds_names_on_both_listeners(served, client):
    other = f"http://127.0.0.1:{served.listeners.metrics_port}/metrics"
    for answer in (client.get("/metrics"), httpx.get(other)):
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        lines = answer.text.splitlines()
        for line in METRICS:
            assert f"ebpfsentinel_{line}" in lines
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert float(values["ebpfsentinel_memory_usage_bytes"]) > 1e6
        assert float(values["ebpfsentinel_open_fds"]) > 3
        assert float(values["ebpfsentinel_threads"]) >= 2
        assert float(values["ebpfsentinel_cpu_usage_percent"]) >= 0
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert openmetrics.text.endswith("# EOF\n")
    assert httpx.get(other.replace("/metrics", "/")).json()["error"]["code"] == "NOT_FOUND"


def test_openapi_describes_every_route_and_item(client):
    tree = client.get("/api-docs/openapi.json").json()
    assert tree["openapi"].startswith("3.1")
    assert set(tree["paths"]) >= {
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/agent/status",
        "/api/v1/alerts",
        "/api/v1/alerts/stream",
        "/api/v1/alerts/{alert_id}/false-positive",
        "/api/v1/audit/logs",
        "/api/v1/audit/rules/{rule_id}/history",
        "/api/v1/config",
        "/api/v1/config/reload",
        "/api/v1/ebpf/status",
        RULES,
        RULES + "/{key}",
        "/api/v1/moat/status",
        "/api/v1/moat/depth",
    }
    item = tree["components"]["schemas"]["Drawbridge"]
    assert item["properties"]["priority"]["description"] == "Lower first."
    body = tree["paths"][RULES]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["$ref"].endswith("/Drawbridge")


def test_the_docs_page_needs_no_network(client):
    page = client.get("/swagger-ui/")
    assert page.status_code == 200
    assert "http:" not in page.text
    assert "https:" not in page.text
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(parts) == 3
    for part in parts:
        answer = client.get(f"/swagger-ui/{part}")
        assert answer.status_code == 200
        assert len(answer.content) > 100
    assert "script-src 'self'" in page.headers["content-security-policy"]
    error(client.get("/swagger-ui/..%2fapp.py"), 404, "NOT_FOUND")


def test_docs_can_be_switched_off(serve):
    served = serve(swagger_ui=False)
    error(served.client.get("/swagger-ui/"), 404, "NOT_FOUND")
    error(served.client.get("/api-docs/openapi.json"), 404, "NOT_FOUND")


@FUZZ
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["id", "priority", "mode", "src_ip"]) | st.text(max_size=4),
        st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.floats(),
    ).map(lambda tree: json.dumps(tree).encode())
)
def test_any_rule_body_is_taken_or_refused(client, body):
    assert client.post(RULES, content=body).status_code in (201, 400, 409)


@FUZZ
@given(
    st.sampled_from(["/api/v1/alerts", "/api/v1/audit/logs"]),
    st.dictionaries(
        st.sampled_from(
            ["component", "min_severity", "from", "to", "limit", "offset", "false_positive"]
        )
        | st.text(max_size=5),
        st.text(max_size=12) | st.integers().map(str),
        max_size=4,
    ),
)
@example("/api/v1/alerts", {"from": "9" * 30})
@example("/api/v1/alerts", {"from": "9999-12-31T23:59:59+00:00"})
@example("/api/v1/audit/logs", {"from": "0001-01-01"})
@example("/api/v1/alerts", {"offset": str(2**63)})
def test_any_query_is_answered_or_refused(client, path, query):
    assert client.get(path, params=query).status_code in (200, 400)


@FUZZ
@given(st.text(max_size=30))
def test_any_key_is_answered_or_refused(client, key):
    quoted = httpx.QueryParams({"k": key}).__str__()[2:].replace("+", "%20")
    for method, path in (
        ("DELETE", f"{RULES}/{quoted}"),
        ("POST", f"/api/v1/alerts/{quoted}/false-positive"),
        ("GET", f"/api/v1/audit/rules/{quoted}/history"),
    ):
        assert client.request(method, path).status_code in (200, 400, 403, 404, 405)


def test_importing_the_api_is_quick_and_small():
    code = (
        "import time; before = time.process_time();"
        "import ebpfsentinel.api;"
        "from ebpfsentinel.api.metrics import resident_bytes;"
        "print(time.process_time() - before, resident_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, size = map(float, done.stdout.split())
    assert seconds < 2
    assert size < 75 << 20


@pytest.mark.parametrize(
    ("body", "field", "pointer"),
    [
        ({"id": "a", "priority": 0}, "bridge.priority", "/priority"),
        ({"id": "a", "priority": 5, "colour": 1}, "bridge.colour", "/colour"),
        ({"id": "a", "priority": 5, "src_ip": "bad"}, "bridge.src_ip", "/src_ip"),
        ({"id": "a"}, "bridge.priority", "/priority"),
        ([], "body", ""),
    ],
)
def test_a_bad_body_is_answered_with_a_pointer_to_the_field(client, body, field, pointer):
    answer = client.post("/api/v1/moat/bridges", json=body)
    assert answer.status_code == 400
    told = answer.json()["error"]
    assert (told["field"], told["pointer"]) == (field, pointer)


def test_a_key_that_is_taken_and_a_bad_parameter_are_pointed_at(client):
    taken = client.post("/api/v1/moat/bridges", json={"id": "system", "priority": 5}).json()
    assert (taken["error"]["field"], taken["error"]["pointer"]) == ("id", "/id")
    bad = client.get("/api/v1/alerts?limit=x").json()["error"]
    assert (bad["field"], "pointer" in bad) == ("limit", False)


def test_the_description_says_what_errors_look_like(client):
    paths = client.get("/api-docs/openapi.json").json()["paths"]
    for item in paths.values():
        for operation in item.values():
            told = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert set(told["properties"]["error"]["properties"]) == {
                "code", "message", "field", "pointer",
            }  # fmt: skip


def test_a_head_without_end_is_not_kept(served):
    with socket.create_connection(("127.0.0.1", served.listeners.http_port), timeout=60) as line:
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                line.sendall(b"X-More: " + b"x" * 4000 + b"\r\n")
        with contextlib.suppress(ConnectionError):
            answer = line.recv(4096)
        assert not answer or b"400" in answer.splitlines()[0]
        with contextlib.suppress(ConnectionError):
            while line.recv(4096):
                pass  # ends: the connection is closed


def test_bodies_and_requests_on_one_connection_are_not_taken_for_a_head(client):
    body = {"id": "x" * 60_000, "priority": 1}
    for _ in range(4):
        assert client.post(RULES, json=body).status_code == 400
    assert client.get("/healthz").status_code == 200
