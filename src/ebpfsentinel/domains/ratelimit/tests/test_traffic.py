"""Limits of a whole agent between two namespaces: live frames, real clients, its API and CLI."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import threading

import pytest

from ebpfsentinel.domains.ratelimit.tests.packets import TCP, frame
from tests.flood import Flood
from tests.lab import AGENT, GUARDED, GUARDED6, SENDER, SENDER6, Lab
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

FORGED = {4: "198.18.0.0", 6: "2001:db8:5::a000:0"}
OF = {4: (SENDER, GUARDED), 6: (SENDER6, GUARDED6)}


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def flood(lab, tmp_path):
    made = Flood(lab, tmp_path)
    yield made
    made.close()


RULE = {"id": "r", "rate": 1, "burst": 2, "dst_port": 5353}


def agent(lab, *rules, xdp_mode="auto", on_exit="detach", **settings):
    """An agent that limits, and does nothing else."""
    limits = {"enabled": True, "mode": "block", "default_rate": 0, "rules": list(rules)}
    return lab.agent(
        agent={"xdp_mode": xdp_mode, "on_exit": on_exit},
        ratelimit=limits | settings,
        process={"enabled": False},
        firewall={"enabled": False},
    )


def to_guard(lab, family=4, **fields):
    """A frame from the sender's own address to the guarded host."""
    told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
    mac = bytes.fromhex(json.loads(told)[0]["address"].replace(":", ""))
    src, dst = OF[family]
    return mac + frame(src, dst, **fields)[6:]


def ask(lab, path):
    """GET of the agent's API; faster than its command line."""
    with lab.inside(lab.guarded):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
        connection.connect()
    with contextlib.closing(connection):
        connection.request("GET", f"/api/v1/ratelimit/{path}")
        return json.load(connection.getresponse())


def limit(lab, rule_id):
    return next(each for each in ask(lab, "rules") if each["id"] == rule_id)


def send(lab, count):
    """Datagrams, and nobody waits for them."""
    with lab.inside(lab.sender):
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sender:
        for _ in range(count):
            sender.sendto(b"x", (GUARDED, 5353))


@pytest.mark.parametrize("xdp_mode", ["native", "generic", "tc"])
@pytest.mark.parametrize("ipv6", [False, True])
def test_what_is_over_the_limit_does_not_arrive(lab, xdp_mode, ipv6):
    agent(
        lab,
        {"id": "dns", "rate": 1, "burst": 7, "protocol": "udp", "dst_port": 5353},
        xdp_mode=xdp_mode,
    )
    assert lab.arrivals(5353, 40, ipv6=ipv6) == 7
    assert lab.arrivals(5354, 40, ipv6=ipv6) == 40
    found = limit(lab, "dns")
    assert (found["passed"], found["over"], found["dropped"]) == (7, 33, 33)


def test_the_seeds_verbs_work_and_the_alert_names_rule_and_source(lab):
    running = agent(lab)
    body = json.dumps({"id": "rl-global", "rate": 1, "burst": 90, "scope": "per_ip"})
    assert running.cli("ratelimit", "add", "--json", body)["id"] == "rl-global"
    again = lab.run(lab.guarded, str(AGENT), "ratelimit", "add", "--json", body)
    assert (again.returncode, "rl-global" in again.stderr) == (1, True)
    send(lab, 120)
    until(lambda: limit(lab, "rl-global")["dropped"] >= 25)
    (alert,) = until(lambda: running.alerts("rl-global"))
    assert (alert["component"], alert["action"], alert["src_ip"]) == ("ratelimit", "drop", SENDER)
    (top,) = running.cli("ratelimit", "top")
    assert (top["source"], top["rule_id"]) == (SENDER, "rl-global")
    status = running.cli("ratelimit", "status")
    assert (status["mode"], status["rule_count"], status["evictions"]) == ("block", 1, 0)
    buckets = running.cli("ratelimit", "buckets")
    assert (buckets["by_rule"]["rl-global"], buckets["places"]) == (buckets["in_use"], 524_288)
    assert "rl-global" in lab.run(lab.guarded, str(AGENT), "ratelimit", "list").stdout
    running.cli("ratelimit", "delete", "rl-global")
    assert lab.arrivals(5353, 30) == 30


def test_the_agents_metrics_have_the_limits(lab):
    agent(lab, RULE)
    lab.arrivals(5353, 12)
    with lab.inside(lab.guarded):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=60)
        connection.connect()
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        told = connection.getresponse().read().decode()
    for result, count in (("passed", 2), ("over", 10), ("dropped", 10)):
        wanted = f'ebpfsentinel_ratelimit_packets_total{{result="{result}",rule_id="r"}} {count}.0'
        assert wanted in told
    assert "ebpfsentinel_ratelimit_evictions_total 0.0" in told


def test_alert_mode_drops_nothing_and_says_what_it_would(lab):
    running = agent(lab, RULE, mode="alert")
    assert lab.arrivals(5353, 30) == 30
    (alert,) = until(lambda: running.alerts("r"))
    assert alert["action"] == "would_drop"


def test_what_the_floor_spares_passes_and_is_told(lab):
    running = lab.agent(
        agent={"never_block": {"addresses": [SENDER]}},
        ratelimit={"enabled": True, "mode": "block", "rules": [RULE]},
        process={"enabled": False},
        firewall={"enabled": False},
    )
    assert lab.arrivals(5353, 30) == 30
    (alert,) = until(lambda: running.alerts("r"))
    assert alert["action"] == "spared"


def test_buckets_outlive_the_agent_that_made_them(lab):
    """One by number, one in the table, which needs the secret of the agent before."""
    limits = [
        {"id": "host", "rate": 1, "burst": 60, "src_ip": SENDER6, "dst_port": 5353},
        {"id": "net", "rate": 1, "burst": 60, "src_ip": "10.77.0.0/24", "dst_port": 5353},
    ]
    running = agent(lab, *limits, on_exit="keep")
    try:
        assert [lab.arrivals(5353, 80, ipv6=six) for six in (False, True)] == [60, 60]
        running.signal(signal.SIGKILL)
        running.wait()
        assert lab.arrivals(5353, 80) < 20
        running.end()
        running.start()
        assert all(lab.arrivals(5353, 80, ipv6=six) < 30 for six in (False, True))
        assert limit(lab, "net")["passed"] >= 60
    finally:
        running.end()
        running.cli("detach", "--all")


@contextlib.contextmanager
def server(lab, family=4, port=8080):
    """A real server that takes connections, in a namespace where every SYN may get a cookie."""
    lab.run(lab.guarded, "sysctl", "-w", "net.ipv4.tcp_syncookies=2")
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with lab.inside(lab.guarded):
        made = socket.create_server((OF[family][1], port), family=kind, backlog=64)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = made.accept()
                with connection:
                    connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        made.shutdown(socket.SHUT_RDWR)
        made.close()
        thread.join()


def greeted(lab, family=4, port=8080):
    with lab.inside(lab.sender):
        client = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
    with client:
        client.settimeout(60)
        client.connect((OF[family][1], port))
        return client.recv(16) == b"hello"


@pytest.mark.parametrize("family", [4, 6])
def test_syn_cookie_answers_what_is_over_the_limit_and_a_real_client_gets_in(lab, flood, family):
    running = agent(
        lab,
        {"id": "web", "rate": 10, "burst": 10, "scope": "per_rule", "algorithm": "syn_cookie",
         "dst_port": 8080},
    )  # fmt: skip
    flood.aim(to_guard(lab, family, protocol=TCP, dport=8080), FORGED[family], 1 << 16)
    with server(lab, family), flood.flowing(20_000):
        until(lambda: ask(lab, "status")["syn_cookies"] > 1000)
        for _ in range(10):
            assert greeted(lab, family)
    found = limit(lab, "web")
    assert found["dropped"] == 0
    (alert, *_) = until(lambda: running.alerts("web"))
    assert alert["action"] == "syn_cookie"


def test_syn_cookie_limits_nothing_but_syns(lab, flood):
    agent(lab, {"id": "web", "rate": 1, "burst": 1, "algorithm": "syn_cookie"})
    assert lab.arrivals(5353, 50) == 50
    flood.aim(to_guard(lab, protocol=TCP, dport=8080, flags=0x10), SENDER, 1)
    flood.send(64)
    assert limit(lab, "web")["over"] == 0
