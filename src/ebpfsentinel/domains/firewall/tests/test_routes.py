"""`firewall.fib`: where the routing tables lead what alerts are about."""

import asyncio
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from ebpfsentinel.alerts import Fold
from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.tests.guard import Guard
from ebpfsentinel.domains.firewall.tests.network import Network
from ebpfsentinel.domains.firewall.tests.test_traffic import DENIED, FAMILIES, arrivals, rule
from ebpfsentinel.flow import Flow
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.kernel.routes import routes
from ebpfsentinel.model.kernel import Route, Way, XdpMode

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
NO_ROUTE = Route("none", anomaly="no_route")
DENY = rule(protocol="udp", dst_port=DENIED)


def sysctl(name, value):
    Path("/proc/sys/net", name).write_text(value)


@pytest.fixture(scope="module")
def network():
    """The agent's side forwards: behind ``out0`` are networks, and a gateway to more."""
    made = Network()
    agent = made.agent
    agent.ip("link", "add", "out0", "type", "veth", "peer", "name", "out1")
    agent.ip("link", "set", "out0", "up")
    agent.ip("link", "set", "out1", "up")
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/va0/rp_filter"):
        agent.call(sysctl, name, "1")
    agent.ip("addr", "add", "10.78.0.1/24", "dev", "out0")
    agent.ip("addr", "add", "fd00:78::1/64", "dev", "out0", "nodad")
    agent.ip("route", "add", "10.79.0.0/24", "via", "10.78.0.9")
    agent.ip("route", "add", "fd00:79::/64", "via", "fd00:78::9")
    agent.ip("route", "add", "10.79.1.0/24", "via", "inet6", "fd00:78::9", "dev", "out0")
    agent.ip("route", "add", "blackhole", "10.80.0.0/24")
    agent.ip("route", "add", "prohibit", "fd00:80::/64")
    yield made
    made.close()


def led(network, dst, src=None):
    agent = network.agent
    src = src or (network.peer.ipv6 if ":" in dst else network.peer.ipv4)
    index = agent.call(socket.if_nametoindex, agent.device)
    (found,) = agent.call(routes, [Way(src, dst, index)])
    return found


@needs_root
@pytest.mark.parametrize(
    ("dst", "route"),
    [
        ("10.77.0.1", Route("local")),
        ("fd00:77::1", Route("local")),
        ("10.77.0.255", Route("broadcast")),
        ("10.78.0.5", Route("unicast", None, "out0")),
        ("fd00:78::5", Route("unicast", None, "out0")),
        ("10.79.0.5", Route("unicast", "10.78.0.9", "out0")),
        ("fd00:79::5", Route("unicast", "fd00:78::9", "out0")),
        ("10.79.1.5", Route("unicast", "fd00:78::9", "out0")),
        ("10.80.0.5", NO_ROUTE),
        ("fd00:80::5", NO_ROUTE),
        ("192.0.2.1", NO_ROUTE),
        ("2001:db8::1", NO_ROUTE),
    ],
)
def test_the_routing_tables_are_asked(network, dst, route):
    assert led(network, dst) == route


@needs_root
def test_addresses_that_cannot_come_in_there(network):
    martian = Route("none", anomaly="martian")
    assert led(network, "10.77.0.1", "127.0.0.5") == martian
    assert led(network, "127.0.0.1") == martian
    assert led(network, "10.77.0.1", "10.78.0.77") == martian


@needs_root
def test_an_interface_that_is_gone_is_unknown(network):
    (found,) = network.agent.call(routes, [Way("10.77.0.2", "10.77.0.1", 9999)])
    assert found == Route("unknown")


async def carried(guard):
    """Alerts of what is in the ring, as the agent hands them on."""
    told = []

    async def deliver(alerts):
        told.extend(alerts)

    store = SimpleNamespace(alerts=SimpleNamespace(append=[].append))
    sink = SimpleNamespace(name="test", deliver=deliver)
    engines = {DOMAIN.name: guard.judge.engine}
    flow = Flow(guard.kernel, engines, Fold(), store, [sink])
    await flow.step()
    return told


@needs_root
@pytest.mark.parametrize("family", FAMILIES)
def test_alerts_say_where_the_packet_was_led(network, family):
    guard = Guard(network, XdpMode.NATIVE)
    try:
        guard.attach()
        for asked in (True, False):
            guard.judge.rules(DENY, fib=asked)
            arrivals(network, family, count=3)
            (alert,) = network.agent.call(asyncio.run, carried(guard))
            assert alert.context.get("route") == ("local" if asked else None)
            assert "anomaly" not in alert.context
        guard.judge.rules(DENY, fib=True)
        away = "10.79.0.5" if family == socket.AF_INET else "fd00:79::5"
        nowhere = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
        send_by(network, family, away, nowhere)
        told = network.agent.call(asyncio.run, carried(guard))
        led, lost = (next(a for a in told if a.dst_ip == dst) for dst in (away, nowhere))
        assert (led.context["route"], led.context["egress"]) == ("unicast", "out0")
        assert led.context["next_hop"] == (
            "10.78.0.9" if family == socket.AF_INET else "fd00:78::9"
        )
        assert (lost.context["route"], lost.context["anomaly"]) == ("none", "no_route")
    finally:
        guard.close()


def send_by(network, family, *targets):
    """From the peer, by way of the agent's side; each is denied there."""
    agent, peer = network.agent, network.peer
    via, flag = (agent.ipv4, "-4") if family == socket.AF_INET else (agent.ipv6, "-6")
    with peer.socket(socket.SOCK_DGRAM, 0, family) as sender:
        for target in targets:
            peer.ip(flag, "route", "replace", target, "via", via)
            sender.sendto(b"x", (target, DENIED))
    arrivals(network, family, count=1)  # what came before it is in the ring


def test_the_kernel_in_memory_leads_where_a_test_says():
    kernel = FakeKernel()
    kernel.led["10.0.0.1"] = Route("local")
    asked = [Way("10.0.0.2", "10.0.0.1", 1), Way("10.0.0.2", "10.0.0.3", 1)]
    assert kernel.routes(asked) == [Route("local"), NO_ROUTE]
