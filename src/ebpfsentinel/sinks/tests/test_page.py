"""Every example of the page is sent through, to a receiver of ours in place of the one it names."""

import asyncio
import contextlib
import re
import socket
from pathlib import Path

import msgspec
import pytest
import yaml
from grpclib.server import Server

from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.sinks import Router
from ebpfsentinel.sinks.tests.receivers import HttpReceiver
from ebpfsentinel.sinks.tests.test_mail import MailServer
from ebpfsentinel.sinks.tests.test_senders import Collector, SyslogReceiver

PAGE = (Path(__file__).parents[4] / "docs" / "alerting.md").read_text()
EXAMPLES = [
    tree["alerting"]
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    if "alerting" in (tree := yaml.safe_load(block))
]
ROUTES = [(whole, route) for whole in EXAMPLES for route in whole["routes"]]


@contextlib.asynccontextmanager
async def collector():
    served, listening = Server([Collector()]), socket.create_server(("127.0.0.1", 0))
    await served.start(sock=listening)
    yield listening.getsockname()[1]
    served.close()
    await served.wait_closed()


async def redirected(stack, whole, route, tls, folder):
    """The example with our receivers in place of its own."""
    context, ca = tls
    route = route | {"ca_path": ca}
    kind = route["destination"]
    if kind == "file":
        route["file"] = route["file"] | {"path": str(folder / "alerts.json")}
    elif kind == "email":
        mail = await stack.enter_async_context(MailServer(context, password="..."))
        there = {"host": "127.0.0.1", "port": mail.port, "ca_path": ca}
        whole = whole | {"smtp": whole["smtp"] | there}
    elif kind == "syslog":
        receiver = await stack.enter_async_context(SyslogReceiver(context))
        route["syslog"] = route["syslog"] | {"host": "127.0.0.1", "port": receiver.port}
    elif kind == "otlp":
        port = await stack.enter_async_context(collector())
        whole = whole | {"otlp": whole["otlp"] | {"endpoint": f"http://127.0.0.1:{port}"}}
    elif kind != "log":
        receiver = await stack.enter_async_context(HttpReceiver(tls=context))
        receiver.body = b'{"items": [{"create": {"status": 201}}]}'
        block = {"splunk": "splunk", "opensearch": "elasticsearch"}.get(kind)
        if block:
            route[block] = route[block] | {"url": receiver.url}
        else:
            route["webhook_url"] = receiver.url
    return whole | {"routes": [route], "allow_private": True}


@pytest.mark.parametrize(("whole", "route"), ROUTES, ids=[route["name"] for _, route in ROUTES])
def test_an_example_of_the_page_arrives(whole, route, tls, tmp_path):
    async def body():
        async with contextlib.AsyncExitStack() as stack:
            settings = await redirected(stack, whole, route, tls, tmp_path)
            router = Router(tmp_path / "spool", "9.9")
            router.configure(msgspec.convert(settings, Alerting))
            assert await router.test(route["name"]) == ""
            await router.stop()

    asyncio.run(body())


def test_the_page_has_an_example_of_every_kind_and_format_of_webhooks():
    kinds = {route["destination"] for _, route in ROUTES}
    assert kinds == {
        "log",
        "file",
        "email",
        "webhook",
        "syslog",
        "otlp",
        "splunk",
        "opensearch",
    }
    assert {"slack", "teams", "pagerduty"} <= {route.get("format") for _, route in ROUTES}
