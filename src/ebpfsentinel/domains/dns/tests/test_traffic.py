"""A resolver on the wire, a whole agent, and the name in an alert about the address."""

import os
import socket
import threading

import pytest

from ebpfsentinel.domains.dns.tests.test_message import answer
from tests.lab import GUARDED, SENDER, Lab
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

RULE = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}
NAME = "printer.example.com"


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


def resolve(lab, address):
    """The guarded host asks a resolver in the other namespace, which says: it is there."""
    with lab.inside(lab.sender):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((SENDER, 53))
    with lab.inside(lab.guarded):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((SENDER, 53))
    with server, client:
        server.settimeout(60)
        client.settimeout(60)

        def serve():
            question, back = server.recvfrom(2048)
            told = bytearray(answer((NAME, "A", address, 300), name=NAME))
            told[:2] = question[:2]
            server.sendto(told, back)

        thread = threading.Thread(target=serve)
        thread.start()
        client.send(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x00\x00\x01\x00\x01")
        assert client.recv(2048)
        thread.join()


def test_an_alert_has_the_name_that_the_address_was_resolved_by(lab):
    agent = lab.agent(dns={"enabled": True}, firewall={"mode": "block", "rules": [RULE]})
    resolve(lab, SENDER)
    until(lambda: agent.cli("dns", "status")["names"] == 1)
    assert lab.arrivals(5353) == 0
    (alert, *_) = until(lambda: agent.alerts("no-udp"))
    assert (alert["src_ip"], alert["dst_ip"]) == (SENDER, GUARDED)
    assert alert["context"]["src_name"] == NAME
    assert "dst_name" not in alert["context"]


def test_a_forged_answer_names_nothing(lab):
    agent = lab.agent(dns={"enabled": True}, firewall={"mode": "block", "rules": [RULE]})
    with lab.inside(lab.sender):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((SENDER, 53))
    with server:
        server.sendto(answer((NAME, "A", SENDER, 300), name=NAME), (GUARDED, 40_000))
    until(lambda: agent.cli("dns", "status")["unasked"] == 1)
    assert lab.arrivals(5353) == 0
    (alert, *_) = until(lambda: agent.alerts("no-udp"))
    assert "src_name" not in alert["context"]
