"""TLS over real sockets: versions, client certificates, and files that are replaced."""

import asyncio
import datetime as dt
import json
import socket
import ssl

import httpx
import pytest
from websockets.asyncio.client import connect

from ebpfsentinel.auth import pki
from ebpfsentinel.model.settings import SettingsError

NOW = dt.datetime.now(dt.UTC)
ROLES = [
    {"subject_cn": "alice", "role": "admin"},
    {"subject_cn": "bob", "role": "operator", "namespaces": ["a"]},
]


class Files:
    """An authority, a server and clients, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = pki.authority("test CA", NOW)
        pki.write(folder, "ca", self.ca)
        self.server()
        for name in ("alice", "bob", "mallory"):
            pki.write(folder, name, pki.client(name, self.ca, NOW))

    def replace(self, name, pair):
        for path in (self.folder / f"{name}.pem", self.folder / f"{name}.key"):
            path.unlink(missing_ok=True)
        pki.write(self.folder, name, pair)

    def server(self):
        names = ["localhost", "127.0.0.1", "guard.example"]
        self.replace("server", pki.server("agent", names, self.ca, NOW))

    def settings(self, **more):
        paths = {
            "cert_path": str(self.folder / "server.pem"),
            "key_path": str(self.folder / "server.key"),
            "client_ca_path": str(self.folder / "ca.pem"),
        }
        return {"enabled": True, **paths, **more}

    def context(self, client="", **limits):
        made = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if client:
            made.load_cert_chain(self.folder / f"{client}.pem", self.folder / f"{client}.key")
        for name, value in limits.items():
            setattr(made, name, value)
        return made


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "tls"
    folder.mkdir()
    return Files(folder)


@pytest.fixture
def tls(serve, files):
    """An agent behind TLS."""

    def start(auth=None, **settings):
        return serve(tls=files.settings(**settings), auth=auth or {})

    return start


def get(server, context, path="/api/v1/auth/me", **options):
    url = f"https://localhost:{server.listeners.http_port}{path}"
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(url, **options)


def hello(server, context):
    """The protocol version and the serial number of the certificate that the agent shows."""
    with (
        socket.create_connection(("127.0.0.1", server.listeners.http_port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.version(), int(secured.getpeercert()["serialNumber"], 16)


def test_everything_is_behind_tls_13(tls, files):
    server = tls()
    assert hello(server, files.context())[0] == "TLSv1.3"
    answer = get(server, files.context())
    assert answer.status_code == 200
    assert answer.headers["strict-transport-security"] == "max-age=63072000"
    metrics = f"https://localhost:{server.listeners.metrics_port}/metrics"
    told = httpx.get(metrics, verify=files.context(), trust_env=False).text
    assert "ebpfsentinel_tls_certificate_expires_seconds" in told
    for port in (server.listeners.http_port, server.listeners.metrics_port):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)


@pytest.mark.parametrize("allowed", [False, True])
def test_tls_12_is_refused_unless_allowed(tls, files, allowed):
    server = tls(allow_tls12=allowed)
    old = files.context(maximum_version=ssl.TLSVersion.TLSv1_2)
    if allowed:
        assert hello(server, old)[0] == "TLSv1.2"
    else:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            hello(server, old)


def test_without_tls_there_is_no_strict_transport(client):
    assert "strict-transport-security" not in client.get("/healthz").headers
    assert client.get("/api/v1/tls/status").json() == {"enabled": False}


def test_a_client_without_a_certificate_is_refused(tls, files):
    server = tls(auth={"enabled": True, "certificates": ROLES}, client_auth="required")
    with pytest.raises(httpx.TransportError):
        get(server, files.context())
    stranger = pki.authority("other CA", NOW)
    files.replace("eve", pki.client("alice", stranger, NOW))
    with pytest.raises(httpx.TransportError):
        get(server, files.context("eve"))


def test_roles_come_by_certificate(tls, files):
    server = tls(auth={"enabled": True, "certificates": ROLES}, client_auth="required")
    assert get(server, files.context("alice")).json() == {
        "name": "alice",
        "role": "admin",
        "how": "certificate",
        "namespaces": [],
    }
    assert get(server, files.context("bob")).json()["namespaces"] == ["a"]
    answer = get(server, files.context("mallory"))
    assert answer.status_code == 401
    assert "your client certificate has no role here" in answer.json()["error"]["message"]


def test_an_optional_certificate_and_a_key_do_as_well(tls, files):
    keys = [{"name": "robot", "key": "the-key-of-a-robot", "role": "analyst"}]
    auth = {"enabled": True, "certificates": ROLES, "api_keys": keys}
    server = tls(auth=auth, client_auth="optional")
    shown = {"x-api-key": "the-key-of-a-robot"}
    assert get(server, files.context(), headers=shown).json()["name"] == "robot"
    assert get(server, files.context("alice"), headers=shown).json()["name"] == "robot"
    assert get(server, files.context("alice")).json()["name"] == "alice"
    assert get(server, files.context()).status_code == 401


def test_new_connections_get_the_new_certificate_and_old_ones_live_on(tls, files, alert):
    server = tls(client_auth="optional")
    url = f"wss://localhost:{server.listeners.http_port}/api/v1/alerts/ws"

    async def rotate():
        async with connect(url, ssl=files.context("bob")) as live:
            before = (await asyncio.to_thread(hello, server, files.context()))[1]
            files.server()
            assert server.agent.tls.changed()
            await asyncio.to_thread(server.call, server.agent.let_in)
            assert not server.agent.tls.changed()
            after = (await asyncio.to_thread(hello, server, files.context()))[1]
            await asyncio.to_thread(server.call, server.agent.alerts.publish, alert(7))
            told = json.loads(await live.recv())
            return before, after, told["id"]

    before, after, told = asyncio.run(rotate())
    assert before != after
    assert told == alert(7).id
    status = get(server, files.context(), "/api/v1/tls/status").json()
    assert int(status["certificate"]["serial"], 16) == after
    assert status["trouble"] == ""


def test_bad_new_files_leave_the_old_in_force(tls, files):
    server = tls()
    before = hello(server, files.context())
    path = files.folder / "server.key"
    for text, told in (
        ((files.folder / "bob.key").read_text(), "certificate and key cannot be used"),
        ("hello", "certificate and key cannot be used"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=told):
            server.call(server.agent.let_in)
        assert hello(server, files.context()) == before
        trouble = get(server, files.context(), "/api/v1/tls/status").json()["trouble"]
        assert told in trouble
        assert not server.agent.tls.changed()
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="everybody may read it"):
        server.call(server.agent.let_in)


def test_an_authority_that_is_taken_away_is_believed_no_more(tls, files):
    server = tls(auth={"enabled": True, "certificates": ROLES}, client_auth="required")
    alice, other = files.context("alice"), pki.authority("other CA", NOW)
    with httpx.Client(verify=alice, trust_env=False) as kept:
        url = f"https://localhost:{server.listeners.http_port}/api/v1/auth/me"
        assert kept.get(url).status_code == 200
        (files.folder / "ca.pem").write_bytes(other.certificate_pem())
        server.call(server.agent.let_in)
        assert kept.get(url).status_code == 200  # the connection that it had
    with pytest.raises(httpx.TransportError):
        get(server, alice)
    alice.load_cert_chain(*pki.write(files.folder, "new", pki.client("alice", other, NOW)))
    assert get(server, alice).json()["name"] == "alice"


def test_a_bundle_with_remarks_is_taken_and_one_without_certificates_is_not(tls, files):
    path = files.folder / "ca.pem"
    path.write_bytes("# Türkei\n".encode() + path.read_bytes())
    server = tls(auth={"enabled": True, "certificates": ROLES}, client_auth="required")
    path.write_text("# nothing")
    with pytest.raises(SettingsError, match=r"tls.client_ca_path: holds no usable certificate"):
        server.call(server.agent.let_in)


def test_a_name_on_the_certificate_is_a_host_of_ours(tls, files):
    server = tls()
    for host, status in (("guard.example", 200), ("guard.example:99", 200), ("evil.example", 403)):
        answer = get(server, files.context(), headers={"host": host})
        assert answer.status_code == status


def test_grpc_is_offered_http_2(tls, files):
    context = tls().agent.tls.grpc_context

    async def talk():
        server = await asyncio.start_server(
            lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
        )
        client = files.context()
        client.set_alpn_protocols(["h2"])
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname="localhost"
        )
        spoken = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert await reader.read() == b""
        writer.close()
        server.close()
        return spoken

    assert asyncio.run(talk()) == "h2"


@pytest.mark.parametrize("mode", ["require", "disable"])
def test_what_is_said_of_post_quantum_keys_is_true(tls, files, mode):
    can = ssl.OPENSSL_VERSION_INFO >= (3, 5)
    if mode == "disable" and not can:
        told = get(tls(pq_mode=mode), files.context(), "/api/v1/tls/status").json()
        assert told["post_quantum"] == {"asked": "disable", "in_effect": "none", "reason": ""}
    else:
        with pytest.raises(SettingsError, match=r"tls.pq_mode: \w+ cannot be had"):
            tls(pq_mode=mode)


def test_the_key_is_for_its_owner_alone(files):
    for path in files.folder.glob("*.key"):
        assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        pki.write(files.folder, "ca", files.ca)
