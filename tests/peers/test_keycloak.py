"""Tokens of a real OpenID provider: Keycloak."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import zipfile
from pathlib import Path

import artefacts
import httpx
import programs
import pytest

KEYCLOAK = "org.keycloak:keycloak-quarkus-dist:26.1.4:zip"
ROOT = Path(__file__).resolve().parents[2]
ROLES = ("viewer", "analyst", "operator", "admin")
AUDIENCE, CLIENT = "ebpfsentinel", "ebpfsentinel-cli"
ADMIN, PASSWORD = "root", "a-password-of-this-test"


def mapper(name, kind, **config):
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": f"oidc-{kind}-mapper",
        "config": {"access.token.claim": "true"} | config,
    }


def client(name, audience):
    return {
        "clientId": name,
        "publicClient": True,
        "directAccessGrantsEnabled": True,
        "standardFlowEnabled": False,
        "protocolMappers": [
            mapper("audience", "audience", **{"included.custom.audience": audience}),
            mapper("namespaces", "hardcoded-claim", **{
                "claim.name": "namespaces", "claim.value": '["team-a"]', "jsonType.label": "JSON",
            }),
        ],
    }  # fmt: skip


def realm(name):
    """A realm with a user of each role, and one whose role nobody here knows."""
    users = [
        {
            "username": f"{role}-user",
            "enabled": True,
            "email": f"{role}@example.org",
            "emailVerified": True,
            "firstName": role,
            "lastName": "User",
            "credentials": [{"type": "password", "value": PASSWORD}],
            "realmRoles": [role],
        }
        for role in (*ROLES, "gardener")
    ]
    return {
        "id": name,
        "realm": name,
        "enabled": True,
        "sslRequired": "none",
        "roles": {"realm": [{"name": role} for role in (*ROLES, "gardener")]},
        "clients": [client(CLIENT, AUDIENCE), client("other-cli", "something-else")],
        "users": users,
    }


class Keycloak:
    """A running provider."""

    def __init__(self, url):
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def token(self, user, realm="guard", client=CLIENT):
        form = {"grant_type": "password", "client_id": client, "username": user,
                "password": PASSWORD}  # fmt: skip
        answer = self.http.post(f"/realms/{realm}/protocol/openid-connect/token", data=form)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def rotate(self, name):
        """From now on the realm signs with a new key; the old ones stay published."""
        admin = {"authorization": f"Bearer {self.token(ADMIN, 'master', 'admin-cli')}"}
        config = {"priority": ["500"], "enabled": ["true"], "active": ["true"], "keySize": ["2048"]}
        key = {
            "name": name, "parentId": "guard", "providerId": "rsa-generated",
            "providerType": "org.keycloak.keys.KeyProvider", "config": config,
        }  # fmt: skip
        answer = self.http.post("/admin/realms/guard/components", json=key, headers=admin)
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="module")
def keycloak():
    archive = artefacts.artefact(KEYCLOAK)
    home = artefacts.CACHE / archive.stem.replace("-quarkus-dist", "")
    if not home.exists():
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(artefacts.CACHE)
    shutil.rmtree(home / "data", ignore_errors=True)
    (home / "data" / "import").mkdir(parents=True)
    for name in ("guard", "elsewhere"):
        (home / "data" / "import" / f"{name}.json").write_text(json.dumps(realm(name)))
    port = programs.free_port()
    command = [
        "env", f"KC_BOOTSTRAP_ADMIN_USERNAME={ADMIN}", f"KC_BOOTSTRAP_ADMIN_PASSWORD={PASSWORD}",
        "JAVA_OPTS_KC_HEAP=-Xms64m -Xmx512m", "bash", str(home / "bin" / "kc.sh"), "start-dev",
        "--import-realm", "--cache=local", "--http-host=127.0.0.1", f"--http-port={port}",
    ]  # fmt: skip
    with programs.running(command, until="Listening on:", within_s=300, cwd=home):
        made = Keycloak(f"http://127.0.0.1:{port}")
        yield made
        made.http.close()


def small_api():
    """The agent of the API's own tests: the real listeners, store and gatekeeper."""
    path = ROOT / "src" / "ebpfsentinel" / "api" / "tests" / "conftest.py"
    spec = importlib.util.spec_from_file_location("peers_small_api", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def agent(keycloak, tmp_path_factory):
    module = small_api()
    oidc = {
        "issuer": f"{keycloak.url}/realms/guard",
        "audience": AUDIENCE,
        "roles_claim": "realm_access.roles",
        "jwks_cooldown_seconds": 1,
    }
    folder = tmp_path_factory.mktemp("state")
    made = module.Served(module.small_agent(folder, auth={"enabled": True, "oidc": oidc}))
    yield made
    made.close()


def me(agent, token):
    return agent.client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})


@pytest.mark.parametrize("role", ROLES)
def test_users_come_in_with_their_role(keycloak, agent, role):
    assert me(agent, keycloak.token(f"{role}-user")).json() == {
        "name": f"{role}-user",
        "role": role,
        "how": "oidc",
        "namespaces": ["team-a"],
    }


def test_a_role_that_is_not_known_only_looks_on(keycloak, agent):
    token = keycloak.token("gardener-user")
    assert me(agent, token).json()["role"] == "viewer"
    shown = {"authorization": f"Bearer {token}"}
    answer = agent.client.post("/api/v1/config/reload", headers=shown)
    assert answer.json()["error"]["code"] == "INSUFFICIENT_ROLE"


def test_a_token_of_another_realm_or_audience_is_refused(keycloak, agent):
    elsewhere = me(agent, keycloak.token("admin-user", realm="elsewhere"))
    assert elsewhere.status_code == 401
    other = me(agent, keycloak.token("admin-user", client="other-cli"))
    assert other.status_code == 401
    assert "another audience" in other.json()["error"]["message"]


def test_a_changed_token_is_refused(keycloak, agent):
    head, payload, signature = keycloak.token("viewer-user").split(".")
    admin = keycloak.token("admin-user").split(".")[1]
    assert me(agent, f"{head}.{admin}.{signature}").status_code == 401
    assert me(agent, f"{head}.{payload}.{signature}").status_code == 200


def test_new_keys_are_found_and_old_tokens_stay_good(keycloak, agent):
    before = keycloak.token("operator-user")
    assert me(agent, before).status_code == 200
    source = agent.agent.gatekeeper._in_force.tokens.source
    fetched = source.fetches["success"]
    keycloak.rotate("fresh")
    after = keycloak.token("operator-user")
    assert before.split(".")[0] != after.split(".")[0]  # another kid
    source._tried_s -= 1  # the cooldown is over
    assert me(agent, after).json()["role"] == "operator"
    assert me(agent, before).status_code == 200
    assert source.fetches["success"] == fetched + 1
