"""Floods of real frames against a whole agent, and real clients beside them."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time

import pytest

from ebpfsentinel.domains.ddos.tests.defended import echo, tcp, udp
from tests.flood import Flood
from tests.lab import GUARDED, GUARDED6, SENDER, SENDER6, Lab
from tests.waiting import until

FORGED = {4: "198.18.0.0", 6: "2001:db8:5::a000:0"}
OF = {4: (SENDER, GUARDED), 6: (SENDER6, GUARDED6)}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
HPING3 = ["hping3", "-i", "u50", "-q", "-S", "-p", "80", "--rand-source", "-c", "400000"]
GREETING = b"at your service" * 100


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    # so that the stack could answer those that it is to be kept from
    lab_route(made, "default", "via", SENDER)
    lab_route(made, "-6", "default", "via", SENDER6)
    yield made
    made.close()


def lab_route(lab, *route):
    family = ["-6"] if route[0] == "-6" else []
    words = route[1:] if family else route
    lab.run(lab.guarded, "ip", *family, "route", "add", *words)


@pytest.fixture
def flood(lab, tmp_path):
    made = Flood(lab, tmp_path)
    yield made
    made.close()


def agent(lab, mode="block", **sections):
    """An agent with nothing else to do."""
    return lab.agent(
        ddos={"enabled": True, "mode": mode} | sections,
        process={"enabled": False},
        firewall={"anti_lockout": {"enabled": False}},
    )


def to_guard(lab, frame):
    told = lab.run(lab.guarded, "ip", "-j", "link", "show", "guard0").stdout
    return bytes.fromhex(json.loads(told)[0]["address"].replace(":", "")) + frame[6:]


@contextlib.contextmanager
def greeter(lab, family=4, port=80):
    """A real server: it greets everybody who connects."""
    with lab.inside(lab.guarded):
        server = socket.create_server((OF[family][1], port), family=FAMILY[family], backlog=16)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(GREETING)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def greeted(lab, family=4, port=80, source=None):
    """Does a real client get the whole greeting?"""
    with lab.inside(lab.sender):
        client = socket.socket(FAMILY[family])
    with client:
        client.settimeout(60)
        if source:
            client.bind((source, 0))
        client.connect((OF[family][1], port))
        found = b""
        while part := client.recv(4096):
            found += part
    return found == GREETING


def active(running, kind):
    found = running.cli("ddos", "attacks")
    return [each for each in found if each["attack_type"] == kind and each["status"] == "active"]


@pytest.mark.parametrize("family", [4, 6])
def test_under_a_syn_flood_a_real_client_gets_in_by_a_cookie(lab, flood, family):
    running = agent(lab, syn_protection={"enabled": True, "threshold_pps": 10})
    flood.aim(to_guard(lab, tcp(*OF[family], "S")), FORGED[family], 1 << 16)
    with greeter(lab, family), flood.flowing(20_000):
        until(lambda: running.cli("ddos", "status")["cookies"]["sent"] > 1000)
        for _ in range(10):
            assert greeted(lab, family)
        until(lambda: active(running, "syn_flood"))
    cookies = running.cli("ddos", "status")["cookies"]
    assert cookies["valid"] >= 1
    (alert, *_) = running.alerts("default-syn_flood")
    assert alert["context"]["attack"]["targets"][0]["ip"] == OF[family][1]
    assert running.alerts("guard-syn_flood")[0]["action"] == "cookie"


@pytest.mark.usefixtures("flood")  # for the sake of its end of the veth, which takes XDP_TX
def test_curl_is_served_while_hping3_floods(lab):
    """Tools that others made, on both sides."""
    running = agent(lab, syn_protection={"enabled": True, "threshold_pps": 10})
    flooding = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.sender}", *HPING3, GUARDED],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with greeter(lab):
            until(lambda: running.cli("ddos", "status")["cookies"]["sent"] > 500)
            for _ in range(5):
                got = lab.run(lab.sender, "curl", "-sS", "-m9", "--http0.9", f"http://{GUARDED}/")
                assert got.stdout.encode() == GREETING, got.stderr
    finally:
        flooding.kill()
        flooding.wait()


def test_without_a_listener_here_syns_go_their_way(lab):
    """What is forwarded has no socket here: it must not be lost to cookies that cannot be made."""
    running = agent(lab, syn_protection={"enabled": True, "threshold_mode": False})
    with lab.inside(lab.sender), socket.socket() as client:
        client.settimeout(60)
        with pytest.raises(ConnectionRefusedError):
            client.connect((GUARDED, 4444))
    assert running.cli("ddos", "status")["cookies"]["none"] == 1


@pytest.mark.parametrize("family", [4, 6])
def test_a_throttle_leaves_forged_sources_what_is_left_and_lets_real_users_in(lab, flood, family):
    policy = {
        "id": "udp",
        "attack_type": "volumetric",
        "detection_threshold_pps": 2000,
        "mitigation_action": "throttle",
    }
    running = agent(lab, policies=[policy])
    with greeter(lab, family):
        assert greeted(lab, family)
        flood.aim(to_guard(lab, udp(*OF[family], 1234)), FORGED[family], 1 << 16)
        with flood.flowing(30_000):
            until(lambda: refused(running, "throttle") > 1000)
            began, before = time.monotonic(), arrived(running)
            for _ in range(20):
                assert greeted(lab, family)
            until(lambda: time.monotonic() - began > 2)
            passed, took = arrived(running) - before, time.monotonic() - began
    assert passed / took < 2000 * 1.2


def metric(running, name):
    """Samples of all metrics whose names begin so, of one moment, by their labels."""
    asked = ("curl", "-s", "http://127.0.0.1:9090/metrics")
    text = running.lab.run(running.lab.guarded, *asked).stdout
    wanted = [line for line in text.splitlines() if line.startswith(f"ebpfsentinel_{name}")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in wanted}


def refused(running, reason):
    found = metric(running, "ddos_refused_by_total")
    return next((value for key, value in found.items() if f'"{reason}"' in key), 0)


def arrived(running):
    """Packets of the flood that were not refused."""
    found = metric(running, "ddos_")
    labels = '{attack_type="volumetric"}'
    came = found[f"ebpfsentinel_ddos_packets_total{labels}"]
    return came - found[f"ebpfsentinel_ddos_refused_total{labels}"]


def test_the_source_of_a_flood_is_blocked_until_the_block_lapses(lab, flood):
    policy = {
        "id": "icmp",
        "attack_type": "icmp_flood",
        "detection_threshold_pps": 1000,
        "mitigation_action": "block",
        "auto_block_duration_secs": 5,
    }
    running = agent(lab, policies=[policy], detection={"calm_secs": 1})
    flood.aim(to_guard(lab, echo(*OF[4])), SENDER, 1)
    with flood.flowing(10_000):
        until(lambda: refused(running, "block") > 100)
        assert running.cli("ddos", "blocked")[0]["source"] == SENDER
        assert not pings(lab)
    until(lambda: not running.cli("ddos", "blocked"))
    assert pings(lab)


def pings(lab):
    return lab.run(lab.sender, "ping", "-c", "1", "-W", "1", GUARDED).returncode == 0


def test_in_alert_mode_a_flood_is_told_of_and_nothing_is_dropped(lab, flood):
    policy = {
        "id": "icmp",
        "attack_type": "icmp_flood",
        "detection_threshold_pps": 1000,
        "mitigation_action": "block",
    }
    running = agent(lab, "alert", policies=[policy], icmp_protection={"enabled": True})
    flood.aim(to_guard(lab, echo(*OF[4])), SENDER, 1)
    with flood.flowing(10_000):
        until(lambda: refused(running, "block") > 100)
        until(lambda: pings(lab))
    assert running.alerts("icmp")[0]["action"] == "would_block"
    frames = metric(running, "packets_total").items()
    assert {count for labels, count in frames if '"dropped"' in labels} == {0}


def test_policies_come_and_go_by_api(lab):
    running = agent(lab)
    body = {"id": "mine", "attack_type": "rst_flood", "detection_threshold_pps": 77}
    running.cli("ddos", "policies", "add", "--json", json.dumps(body))
    found = {each["id"]: each for each in running.cli("ddos", "policies", "list")}
    assert found["mine"]["detection_threshold_pps"] == 77
    assert "default-rst_flood" not in found
    running.cli("ddos", "policies", "delete", "mine")
    assert "default-rst_flood" in {each["id"] for each in running.cli("ddos", "policies", "list")}
