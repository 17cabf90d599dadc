"""No secret leaves the agent: not in logs, answers, metrics, the audit trail or addresses."""

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from ebpfsentinel.auth import pki

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

KEY, SALT, GUESS = "HUSH-static-key-7f3a", "HUSH-salt-91cd", "HUSH-guessed-key-55"
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJIVVNIIn0.HUSH-signature"
MARK = "HUSH"

NOBODY = "http://127.0.0.1:9"
ROUTES = [
    {
        "name": "hook",
        "destination": "webhook",
        "webhook_url": f"{NOBODY}/HUSH-path?k=HUSH-query",
        "webhook_headers": {"Authorization": "Bearer HUSH-header"},
        "webhook_secret": "HUSH-hmac",
    },
    {"name": "splunk", "destination": "splunk", "splunk": {"url": NOBODY, "token": "HUSH-token"}},
    {
        "name": "search",
        "destination": "opensearch",
        "elasticsearch": {"url": NOBODY, "username": "u", "password": "HUSH-password"},
    },
    {"name": "mail", "destination": "email", "email_to": "a@example.org"},
    {"name": "otel", "destination": "otlp"},
]
ALERTING = {
    "allow_private": True,
    "routes": ROUTES,
    "smtp": {
        "host": "127.0.0.1",
        "port": 9,
        "username": "u",
        "password": "HUSH-smtp",
        "from_address": "a@example.org",
    },
    "otlp": {"endpoint": NOBODY, "headers": {"x-key": "HUSH-otlp"}},
}


def certificates(folder):
    folder.mkdir()
    now = dt.datetime.now(dt.UTC)
    ca = pki.authority("CA", now)
    pki.write(folder, "ca", ca)
    pki.write(folder, "server", pki.server("agent", ["localhost", "127.0.0.1"], ca, now))
    return {
        "enabled": True,
        "cert_path": str(folder / "server.pem"),
        "key_path": str(folder / "server.key"),
    }


@pytest.fixture
def agent(lab, tmp_path):
    tls = certificates(tmp_path / "tls")
    keys = [{"name": "root", "key": KEY, "role": "admin"}]
    auth = {"enabled": True, "api_key_salt": SALT, "api_keys": keys}
    jwt = {"jwks_url": "http://127.0.0.1:9/keys"}
    sections = {
        "tls": tls,
        "auth": auth | {"jwt": jwt},
        "agent": {"log_level": "trace"},
        "alerting": ALERTING,
    }
    made = lab.agent(**sections)
    made.sections = sections
    return made


def ask(agent, *arguments, key=KEY, data=None):
    """What the agent answers, headers too; the credential goes by a file, as it should."""
    secret = agent.lab.tmp / "header"
    secret.write_text(
        f"X-API-Key: {key}\n" if key.count(".") != 2 else f"Authorization: Bearer {key}"
    )
    body = ["-d", json.dumps(data), "-H", "content-type: application/json"] if data else []
    got = agent.lab.run(
        agent.lab.guarded, "curl", "-sSi", "--cacert", str(agent.lab.tmp / "tls" / "ca.pem"),
        "-H", f"@{secret}", *body, *arguments,
    )  # fmt: skip
    return got.stdout + got.stderr


def test_secrets_stay_inside(agent, lab):
    url = "https://localhost:8080"
    told = [
        ask(agent, f"{url}/api/v1/config"),
        ask(agent, f"{url}/api/v1/auth/keys"),
        ask(agent, f"{url}/api/v1/tls/status"),
        ask(agent, f"{url}/api/v1/agent/status", key=GUESS),
        ask(agent, f"{url}/api/v1/agent/status", key=TOKEN),
        ask(agent, f"{url}/api/v1/auth/keys", data={"name": {"a": MARK}}),
    ]
    assert '"name":"root"' in told[1]
    assert "401" in told[3]
    assert "401" in told[4]
    assert MARK not in "".join(told[:5])
    for route in ROUTES:
        path = f"{url}/api/v1/alerts/destinations/{route['name']}/test"
        told.append(ask(agent, "-X", "POST", path))
        assert '"delivered":false' in told[-1]
    told.append(ask(agent, f"{url}/api/v1/alerts/destinations"))
    robot = ask(agent, f"{url}/api/v1/auth/keys", data={"name": "robot"})
    made = json.loads(robot.splitlines()[-1])
    for fault in (
        {"api_keys": [{"name": "root", "key": [KEY], "role": "admin"}]},
        {"api_keys": [{"name": "root", "key": KEY, "role": "wizard"}]},
        {"api_key_salt": {"x": SALT}},
    ):
        agent.write(**agent.sections | {"auth": agent.sections["auth"] | fault})
        answer = ask(agent, "-X", "POST", f"{url}/api/v1/config/reload")
        assert "INVALID_CONFIG" in answer
        told.append(answer)
    told.append(ask(agent, "https://localhost:9090/metrics"))
    told.append(ask(agent, f"{url}/api/v1/audit/logs"))
    assert "key_created" in told[-1]
    agent.end()
    told.append(lab_log(lab))
    assert "configuration refused" in told[-1]
    seen = "".join([*told[:5], *told[6:]])
    secret = made["key"].split("_", 2)[2]
    for hidden in (MARK, secret):
        assert hidden not in seen
    assert secret.encode() not in b"".join(
        path.read_bytes() for path in (lab.tmp / "state").rglob("*") if path.is_file()
    )


def lab_log(lab):
    return Path(lab.tmp / "log").read_text()
