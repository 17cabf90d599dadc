"""The real agent behind TLS and roles: the command line talks to it, reloads change who gets in."""

import datetime as dt
import json
import os
import shutil
import time

import pytest

from ebpfsentinel.auth import pki
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

KEY = "a-static-key-of-the-test"
DOMAIN = "firewall"


@pytest.fixture
def certificates(tmp_path):
    folder, now = tmp_path / "tls", dt.datetime.now(dt.UTC)
    folder.mkdir()
    ca = pki.authority("CA", now)
    pki.write(folder, "ca", ca)
    pki.write(folder, "alice", pki.client("alice", ca, now))
    serve(folder, ca)
    return folder, ca


def serve(folder, ca):
    """A new certificate, put in place as Kubernetes does: by another target of a link."""
    pair = folder / f"pair-{time.monotonic_ns()}"
    pair.mkdir()
    pki.write(
        pair, "server", pki.server("agent", ["localhost", "127.0.0.1"], ca, dt.datetime.now(dt.UTC))
    )
    link = folder / "new"
    link.symlink_to(pair.name)
    link.rename(folder / "current")


def sections(folder, **auth):
    return {
        "tls": {
            "enabled": True,
            "cert_path": str(folder / "current" / "server.pem"),
            "key_path": str(folder / "current" / "server.key"),
            "client_ca_path": str(folder / "ca.pem"),
            "client_auth": "optional",
        },
        "auth": {
            "enabled": True,
            "api_keys": [{"name": "root", "key": KEY, "role": "admin"}],
            "certificates": [{"subject_cn": "alice", "role": "viewer"}],
            **auth,
        },
    }


def test_the_command_line_speaks_tls_and_shows_who_it_is(lab, certificates):
    folder, _ = certificates
    agent = lab.agent(**sections(folder))
    assert "https://127.0.0.1:8080" in agent.screen
    secret = folder / "key"
    secret.write_text(KEY)
    secured = ("--ca", str(folder / "ca.pem"))
    root = (*secured, "--token-file", str(secret))
    alice = (*secured, "--cert", str(folder / "alice.pem"), "--key", str(folder / "alice.key"))
    assert agent.cli(*root, "whoami")["name"] == "root"
    assert agent.cli(*alice, "whoami")["how"] == "certificate"
    assert agent.cli(*secured, "health")["ready"] is True
    agent.cli(*secured, "status", code=1)
    agent.cli("--tls", "status", code=1)
    agent.cli("status", code=3)
    agent.cli(*alice, "config", "reload", code=1)
    made = agent.cli(*root, "keys", "create", "robot", "--role", "operator", "--expires", "1d")
    secret.write_text(made["key"])
    assert agent.cli(*root, "whoami")["role"] == "operator"
    agent.cli(*root, "keys", "list", code=1)


def test_reloads_change_who_gets_in_and_restarts_keep_made_keys(lab, certificates):
    folder, _ = certificates
    agent = lab.agent(**sections(folder))
    secret = folder / "key"
    secret.write_text(KEY)
    root = ("--ca", str(folder / "ca.pem"), "--token-file", str(secret))
    made = agent.cli(*root, "keys", "create", "robot", "--role", "admin")
    other = [{"name": "root", "key": "another-key-of-the-test", "role": "viewer"}]
    agent.write(**sections(folder, api_keys=other))
    secret.write_text("another-key-of-the-test")
    asked = (str(_command()), *root, "whoami")
    until(lambda: not lab.run(lab.guarded, *asked).returncode)  # the file is followed
    assert agent.cli(*root, "whoami")["role"] == "viewer"
    secret.write_text(KEY)
    agent.cli(*root, "status", code=1)
    agent.end()
    agent.start()
    secret.write_text(made["key"])
    assert agent.cli(*root, "whoami")["name"] == "robot"
    entries = agent.cli(*root, "audit", "logs", "--component", "auth")["entries"]
    created = next(entry for entry in entries if entry["action"] == "key_created")
    assert created["actor"] == "root"
    assert created["after"]["role"] == "admin"
    assert "digest" not in created["after"]


def test_a_certificate_behind_a_link_is_followed(lab, certificates):
    folder, ca = certificates
    agent = lab.agent(**sections(folder))
    secret = folder / "key"
    secret.write_text(KEY)
    root = ("--ca", str(folder / "ca.pem"), "--token-file", str(secret))

    def serial():
        return agent.cli(*root, "tls", "status")["certificate"]["serial"]

    before = serial()
    serve(folder, ca)
    until(lambda: serial() != before)
    shutil.rmtree((folder / "current").resolve())
    until(lambda: agent.cli(*root, "tls", "status")["trouble"])
    assert json.dumps(agent.cli(*root, "whoami"))
    serve(folder, ca)
    until(lambda: not agent.cli(*root, "tls", "status")["trouble"])


def test_a_tenant_writes_and_confirms_its_own(lab):
    keys = [
        {"name": "root", "key": KEY, "role": "admin"},
        {"name": "tenant", "key": "the-key-of-a-tenant", "role": "operator",
         "namespaces": [lab.sender]},
    ]  # fmt: skip
    agent = lab.agent(auth={"enabled": True, "api_keys": keys})
    root, tenant = ("--token", KEY), ("--token", "the-key-of-a-tenant")

    def add(who, name, code=0, **more):
        rule = {"id": name, "priority": 9, "action": "log", **more}
        found = ("--json", json.dumps(rule), "--confirm", "60")
        return agent.cli(*who, DOMAIN, "add", *found, code=code)

    theirs = add(root, "of-all")["change_id"]
    own = add(tenant, "of-one", scope={"namespace": lab.sender})["change_id"]
    for scope in ("global", "guard0", {"namespace": lab.guarded}):
        add(tenant, "too-much", code=1, scope=scope)
    agent.cli(*tenant, "confirm", theirs, code=1)
    agent.cli(*tenant, "confirm", own)
    agent.cli(*root, "confirm", theirs)
    agent.cli(*tenant, DOMAIN, "delete", "of-all", code=1)
    agent.cli(*tenant, DOMAIN, "delete", "of-one")
    agent.cli(*tenant, "config", "reload", code=1)
    entries = agent.cli(*root, "audit", "logs", "--action", "rule_added")["entries"]
    assert {(entry["rule_id"], entry["actor"]) for entry in entries} == {
        ("of-all", "root"),
        ("of-one", "tenant"),
    }


def test_beyond_loopback_somebody_must_be_asked(lab, certificates):
    folder, _ = certificates
    found = lab.run(
        lab.guarded, "env", "EBPFSENTINEL_AGENT__BIND_ADDRESS=0.0.0.0",
        *(str(part) for part in (_command(), "config", "check", _open(lab))),
    )  # fmt: skip
    assert found.returncode == 1
    assert "nobody is asked who they are" in found.stderr
    agent = lab.agent(agent={"bind_address": "0.0.0.0"}, **sections(folder))
    secret = folder / "header"
    secret.write_text(f"X-API-Key: {KEY}")
    for port, path in ((8080, "api/v1/auth/me"), (9090, "metrics")):
        asked = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}"]
        url = f"https://10.77.0.2:{port}/{path}"
        assert lab.run(lab.sender, *asked, url).stdout == "401"
        assert lab.run(lab.sender, *asked, "-H", f"@{secret}", url).stdout == "200"
    assert "TLS is off" not in agent.log()


def _command():
    import sys  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    return Path(sys.executable).parent / "ebpfsentinel-agent"


def _open(lab):
    path = lab.tmp / "open.yaml"
    path.write_text("agent: {interfaces: [guard0]}")
    return path
