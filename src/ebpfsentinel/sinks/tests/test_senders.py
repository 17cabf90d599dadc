"""Every sender against a real server: what arrives, and what it makes of a refusal."""

import asyncio
import gzip
import json
import re
import socket
import ssl

import msgspec
import pytest
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Server
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from ebpfsentinel.model.alert import as_json
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.sinks.backlog import Item
from ebpfsentinel.sinks.formats.origin import Origin
from ebpfsentinel.sinks.sender import Rejected, SendError
from ebpfsentinel.sinks.senders import sender_of
from ebpfsentinel.sinks.tests.receivers import HttpReceiver, alert

ORIGIN = Origin("host-1", "9.9")


def items(*numbers, **rest):
    return [Item(number, as_json(alert(number, **rest))) for number in numbers]


def sender(destination, *, smtp=None, otlp=None, **route):
    given = {"name": "x", "destination": destination, **route}
    whole = {"routes": [given], "smtp": smtp, "otlp": otlp, "allow_private": True}
    alerting = msgspec.convert(whole, Alerting)
    return sender_of(alerting.routes[0], alerting, ORIGIN)


def test_a_webhook_over_tls_is_checked_against_the_ca(tls):
    context, ca = tls

    async def body():
        async with HttpReceiver(tls=context) as receiver:
            good = sender("webhook", webhook_url=receiver.url, ca_path=ca)
            await good.send(items(1))
            await good.aclose()
            named = sender("webhook", webhook_url=f"https://localhost:{receiver.port}/", ca_path=ca)
            await named.send(items(2))
            await named.aclose()
            with pytest.raises(SendError, match="unable to get local issuer"):
                await sender("webhook", webhook_url=receiver.url).send(items(3))
            assert len(receiver.taken) == 2

    asyncio.run(body())


@pytest.mark.parametrize(
    ("form", "look"),
    [
        ("slack", lambda got: got["attachments"][0]["text"] == "number &lt;7&gt;"),
        ("teams", lambda got: got["attachments"][0]["content"]["type"] == "AdaptiveCard"),
        ("pagerduty", lambda got: got["payload"]["severity"] == "error"),
        ("ocsf", lambda got: got[0]["class_uid"] == 2004),
        ("ecs", lambda got: got[0]["event"]["kind"] == "alert"),
    ],
)
def test_webhooks_in_every_format(form, look):
    async def body():
        async with HttpReceiver() as receiver:
            key = {"routing_key": "k"} if form == "pagerduty" else {}
            made = sender("webhook", webhook_url=receiver.url, format=form, batch=10, **key)
            await made.send(items(7, message="number <7>"))
            assert look(json.loads(receiver.taken[0][2]))
            await made.aclose()

    asyncio.run(body())


def test_files_are_rotated_compressed_and_only_so_many_kept(tmp_path):
    path = tmp_path / "alerts.json"
    settings = {"path": str(path), "max_bytes": 4096, "keep": 2}
    made = sender("file", file=settings)

    async def body():
        for number in range(60):
            await made.send(items(number))

    asyncio.run(body())
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "alerts.json",
        "alerts.json.1.gz",
        "alerts.json.2.gz",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    lines = []
    for each in ("alerts.json.2.gz", "alerts.json.1.gz"):
        lines += gzip.decompress((tmp_path / each).read_bytes()).splitlines()
    lines += path.read_bytes().splitlines()
    found = [int(json.loads(line)["id"].partition("-")[0]) for line in lines]
    assert found == list(range(found[0], 60))
    assert path.stat().st_size <= 4096


def test_a_file_that_cannot_be_written_is_an_error_to_try_again(tmp_path):
    made = sender("file", file={"path": str(tmp_path / "no" / "such")})
    with pytest.raises(OSError, match="No such file"):
        asyncio.run(made.send(items(1)))


class SyslogReceiver:
    """Takes octet-counted messages."""

    def __init__(self, context=None):
        self.messages, self._context = [], context
        self.got = asyncio.Event()
        self.writers = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.writers:
            if not writer.is_closing():
                writer.transport.abort()
        await self.server.wait_closed()

    async def serve(self, reader, writer):
        self.writers.append(writer)
        try:
            while True:
                length = int(await reader.readuntil(b" "))
                self.messages.append(await reader.readexactly(length))
                self.got.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


SYSLOG = re.compile(
    rb"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z host-1 "
    rb"ebpfsentinel - moat - \xef\xbb\xbf(.*)",
    re.DOTALL,
)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("form", ["ocsf", "ecs", "cef"])
def test_syslog_over_tls_and_tcp(tls, secure, form):
    context, ca = tls

    async def body():
        async with SyslogReceiver(context if secure else None) as receiver:
            settings = {
                "host": "127.0.0.1",
                "port": receiver.port,
                "transport": "tls" if secure else "tcp",
            }
            made = sender("syslog", syslog=settings, ca_path=ca, format=form)
            await made.send(items(1, 2))
            await made.send(items(3))
            while len(receiver.messages) < 3:
                receiver.got.clear()
                await receiver.got.wait()
            for number, message in enumerate(receiver.messages, 1):
                priority, text = SYSLOG.fullmatch(message).groups()
                assert int(priority) == 13 * 8 + 3
                assert f"number {number}".encode() in text
            await made.aclose()

    asyncio.run(body())


def test_syslog_that_ends_the_connection_is_noticed_and_connected_to_again():
    async def body():
        async with SyslogReceiver() as receiver:
            settings = {"host": "127.0.0.1", "port": receiver.port, "transport": "tcp"}
            made = sender("syslog", syslog=settings)
            await made.send(items(1))
            await receiver.got.wait()
            receiver.writers[0].transport.abort()
            await asyncio.sleep(0.05)
            for _ in range(3):
                try:
                    await made.send(items(2))
                    break
                except (OSError, SendError):
                    continue
            while len(receiver.messages) < 2:
                receiver.got.clear()
                await receiver.got.wait()
            await made.aclose()

    asyncio.run(body())


def test_syslog_trusts_no_unknown_certificate(tls):
    async def body():
        async with SyslogReceiver(tls[0]) as receiver:
            made = sender("syslog", syslog={"host": "127.0.0.1", "port": receiver.port})
            with pytest.raises(ssl.SSLError):
                await made.send(items(1))

    asyncio.run(body())


def test_splunk_gets_events_with_time_host_and_token():
    async def body():
        async with HttpReceiver([503]) as receiver:
            receiver.body = b'{"text":"Success","code":0}'
            settings = {"url": receiver.url, "token": "t-1", "index": "main"}
            made = sender("splunk", splunk=settings)
            with pytest.raises(SendError, match="answered 503"):
                await made.send(items(1))
            await made.send(items(1, 2))
            path, headers, content = receiver.taken[0]
            assert path == "/services/collector/event"
            assert headers["authorization"] == "Splunk t-1"
            events = [json.loads(line) for line in content.splitlines()]
            assert [event["event"]["message"] for event in events] == ["number 1", "number 2"]
            assert events[0]["time"] == "1700000000.000000"
            assert (events[0]["index"], events[0]["host"]) == ("main", "host-1")
            await made.aclose()

    asyncio.run(body())


def answer(*statuses):
    rows = [
        {"create": {"status": each, "error": {"type": "why"}} if each > 299 else {"status": each}}
        for each in statuses
    ]
    return json.dumps({"errors": max(statuses) > 299, "items": rows}).encode()


def test_bulk_creates_documents_by_alert_id_and_takes_what_is_there_for_arrived():
    async def body():
        async with HttpReceiver() as receiver:
            settings = {"url": receiver.url, "username": "u", "password": "p"}
            made = sender("opensearch", elasticsearch=settings)
            receiver.body = answer(201, 409)
            await made.send(items(1, 2))
            path, headers, content = receiver.taken[0]
            lines = [json.loads(line) for line in content.splitlines()]
            assert path == "/_bulk"
            assert headers["content-type"] == "application/x-ndjson"
            assert headers["authorization"] == "Basic dTpw"
            assert lines[0] == {"create": {"_index": "ebpfsentinel-alerts", "_id": "1-r-1-1"}}
            assert lines[1]["ecs"]["version"] == "8.11.0"
            receiver.body = answer(201, 429)
            with pytest.raises(SendError, match="1 documents failed, 429 why"):
                await made.send(items(1, 2))
            receiver.body = answer(201, 400)
            with pytest.raises(Rejected, match="400 why") as caught:
                await made.send(items(1, 2))
            assert caught.value.items == [1]
            receiver.body = b"<html>"
            with pytest.raises(SendError, match="no answer to a bulk"):
                await made.send(items(1))
            await made.aclose()

    asyncio.run(body())


def records(request):
    return request.resource_logs[0].scope_logs[0].log_records


def test_otlp_over_http():
    async def body():
        async with HttpReceiver() as receiver:
            receiver.body = b""
            otlp = {"endpoint": receiver.url, "protocol": "http", "headers": {"X-Key": "k"}}
            made = sender("otlp", otlp=otlp)
            await made.send(items(1, 2, technique="T1046"))
            path, headers, content = receiver.taken[0]
            assert (path, headers["x-key"]) == ("/v1/logs", "k")
            found = records(ExportLogsServiceRequest.FromString(content))
            attributes = {each.key: each.value.string_value for each in found[0].attributes}
            assert attributes["mitre.technique.id"] == "T1046"
            assert attributes["alert.rule_id"] == "r-1"
            assert found[0].severity_text == "HIGH"
            assert json.loads(found[1].body.string_value)["message"] == "number 2"
            await made.aclose()

    asyncio.run(body())


class Collector:
    """The service of a collector, as grpclib has it."""

    def __init__(self):
        self.requests, self.fault = [], None

    async def export(self, stream):
        request = await stream.recv_message()
        if self.fault:
            raise GRPCError(self.fault)
        self.requests.append(request)
        await stream.send_message(ExportLogsServiceResponse())

    def __mapping__(self):
        return {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export": Handler(
                self.export,
                Cardinality.UNARY_UNARY,
                ExportLogsServiceRequest,
                ExportLogsServiceResponse,
            )
        }


def test_otlp_over_grpc():
    async def body():
        collector = Collector()
        served = Server([collector])
        listening = socket.create_server(("127.0.0.1", 0))
        await served.start(sock=listening)
        port = listening.getsockname()[1]
        made = sender("otlp", otlp={"endpoint": f"http://127.0.0.1:{port}"})
        await made.send(items(1, 2))
        assert len(records(collector.requests[0])) == 2
        collector.fault = Status.UNAVAILABLE
        with pytest.raises(SendError, match="UNAVAILABLE"):
            await made.send(items(3))
        collector.fault = Status.INVALID_ARGUMENT
        with pytest.raises(Rejected, match="INVALID_ARGUMENT"):
            await made.send(items(3))
        await made.aclose()
        served.close()
        await served.wait_closed()
        with pytest.raises((SendError, OSError)):
            await made.send(items(4))
        await made.aclose()

    asyncio.run(body())
