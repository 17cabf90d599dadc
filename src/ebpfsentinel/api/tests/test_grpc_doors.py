"""Who may have the stream: keys in the metadata, certificates in TLS 1.3, as with REST."""

import asyncio
import datetime as dt
import ssl
from contextlib import suppress

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from h2.exceptions import StreamClosedError

from ebpfsentinel.api.grpc import service
from ebpfsentinel.api.grpc.alerts_grpc import AlertStreamServiceStub
from ebpfsentinel.api.grpc.alerts_pb2 import StreamAlertsRequest
from ebpfsentinel.auth import pki
from ebpfsentinel.auth.tls import TlsFiles
from ebpfsentinel.model.security import ApiKey, ApiRateLimit, Auth, CertificateRole, ClientAuth, Tls

KEY = "a-long-key-of-a-viewer"


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """An authority, a server's and a client's certificate, as files."""
    folder, now = tmp_path_factory.mktemp("pki"), dt.datetime.now(dt.UTC)
    ca = pki.authority("Test CA", now)
    pki.write(folder, "ca", ca)
    pki.write(folder, "server", pki.server("agent", ["127.0.0.1"], ca, now))
    pki.write(folder, "client", pki.client("watcher", ca, now))
    return folder


@pytest.fixture
def guarded(serve):
    """Serves an agent that asks who calls."""

    def start(tls=None):
        def before(agent):
            auth = Auth(
                enabled=True,
                api_keys=[ApiKey(name="viewer", key=KEY)],
                certificates=[CertificateRole(subject_cn="watcher")],
            )
            limits = agent.settings.agent.api_rate_limit
            agent.gatekeeper.adopt(agent.gatekeeper.prepare(auth, limits))
            agent.tls = TlsFiles()  # on or off is decided once
            agent.tls.adopt(agent.tls.prepare(tls or Tls(), "tls"))

        return serve(before)

    return start


def stream(served, alert, metadata=None, tls=None):
    """One alert of the stream."""

    async def ask():
        channel = Channel("127.0.0.1", served.listeners.grpc_port, ssl=tls)
        try:
            alerts = AlertStreamServiceStub(channel).StreamAlerts
            async with alerts.open(metadata=metadata, timeout=60) as found:
                await found.send_message(StreamAlertsRequest(), end=True)
                await found.recv_initial_metadata()
                served.call(served.agent.alerts.publish, alert)
                told = await found.recv_message()
                with suppress(ProtocolError, StreamClosedError):
                    await found.cancel()
                return told.id
        finally:
            await closed(channel)

    return asyncio.run(ask())


async def closed(channel):
    """Close it, and wait for TLS to say goodbye."""
    lost, protocol = asyncio.Event(), channel._protocol
    if protocol is not None:
        protocol.connection_lost = lambda _: lost.set()
        channel.close()
        await lost.wait()


@pytest.mark.parametrize("metadata", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}])
def test_a_key_in_the_metadata_opens_the_stream(guarded, alert, metadata):
    assert stream(guarded(), alert(1), metadata) == "1-r-1"


def test_without_a_key_or_with_a_wrong_one_there_is_no_stream_but_health(guarded, alert):
    made = guarded()
    for metadata in ({}, {"x-api-key": "wrong"}):
        with pytest.raises(GRPCError) as caught:
            stream(made, alert(1), metadata)
        assert caught.value.status is Status.UNAUTHENTICATED
        assert KEY not in str(caught.value)
        assert "key" in caught.value.message

    async def ask():
        channel = Channel("127.0.0.1", made.listeners.grpc_port)
        try:
            return (await HealthStub(channel).Check(HealthCheckRequest())).status
        finally:
            channel.close()

    assert asyncio.run(ask()) == HealthCheckResponse.SERVING


def client_context(papers, **versions):
    context = ssl.create_default_context(cafile=str(papers / "ca.pem"))
    context.set_alpn_protocols(["h2"])
    for name, version in versions.items():
        setattr(context, name, version)
    return context


def server_tls(papers, client_auth=ClientAuth.NONE):
    return Tls(
        enabled=True,
        cert_path=str(papers / "server.pem"),
        key_path=str(papers / "server.key"),
        client_ca_path=str(papers / "ca.pem") if client_auth != ClientAuth.NONE else "",
        client_auth=client_auth,
    )


def test_the_stream_is_served_over_tls_1_3_and_nothing_older(guarded, alert, papers):
    made, key = guarded(server_tls(papers)), {"x-api-key": KEY}
    assert stream(made, alert(1), key, client_context(papers)) == "1-r-1"
    older = client_context(papers, maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        stream(made, alert(1), key, older)


def test_a_client_certificate_opens_the_stream(guarded, alert, papers):
    made = guarded(server_tls(papers, ClientAuth.OPTIONAL))
    context = client_context(papers)
    context.load_cert_chain(papers / "client.pem", papers / "client.key")
    assert stream(made, alert(1), tls=context) == "1-r-1"
    with pytest.raises(GRPCError, match="UNAUTHENTICATED"):
        stream(made, alert(1), tls=client_context(papers))


def test_a_stream_ends_when_its_key_is_good_no_more(guarded, monkeypatch):
    monkeypatch.setattr(service, "LOOK_S", 0.02)
    made = guarded()
    gate, limits = made.agent.gatekeeper, made.agent.settings.agent.api_rate_limit

    async def watch():
        channel = Channel("127.0.0.1", made.listeners.grpc_port)
        try:
            opened = AlertStreamServiceStub(channel).StreamAlerts.open(metadata={"x-api-key": KEY})
            async with opened as found:
                await found.send_message(StreamAlertsRequest(), end=True)
                await found.recv_initial_metadata()
                made.call(gate.adopt, gate.prepare(Auth(enabled=True), limits))
                assert await found.recv_message() is None
                await found.recv_trailing_metadata()
        finally:
            await closed(channel)

    with pytest.raises(GRPCError, match="good no more") as caught:
        asyncio.run(watch())
    assert caught.value.status is Status.UNAUTHENTICATED
    assert made.agent.alerts.listeners == 0


@pytest.mark.usefixtures("still")
def test_calls_are_limited_by_identity(guarded, alert):
    made = guarded()
    gate = made.agent.gatekeeper
    limits = ApiRateLimit(read_burst=1, read_per_second=1, exempt_loopback=False)
    auth = Auth(enabled=True, api_keys=[ApiKey(name="viewer", key=KEY)])
    made.call(gate.adopt, gate.prepare(auth, limits))
    assert stream(made, alert(1), {"x-api-key": KEY}) == "1-r-1"
    with pytest.raises(GRPCError, match="Too many calls by viewer") as caught:
        stream(made, alert(2), {"x-api-key": KEY})
    assert caught.value.status is Status.RESOURCE_EXHAUSTED
