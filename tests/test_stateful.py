"""Rules on flows, where they are really tracked: a whole agent, real connections."""

import contextlib
import json
import os
import socket

import pytest

from tests.lab import AGENT, GUARDED, GUARDED6, SENDER, SENDER6, Lab, inside

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

CLOSED = {"mode": "block", "default_policy": "drop", "anti_lockout": {"enabled": False}}
TRACK = {"enabled": True}


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()


def server(namespace, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(namespace):
        return socket.create_server((address, port), family=family)


def client(namespace, address, port, timeout=60.0):
    with inside(namespace):
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.settimeout(timeout)
    try:
        made.connect((address, port))
    except BaseException:
        made.close()
        raise
    return made


def talks(opener, namespace, address, port):
    """Does a connection to a server there carry words both ways?"""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server(namespace, address, port))
        mine = stack.enter_context(client(opener, address, port))
        theirs = stack.enter_context(listener.accept()[0])
        theirs.settimeout(60)
        mine.sendall(b"question")
        asked = theirs.recv(64)
        theirs.sendall(b"answer")
        return (asked, mine.recv(64)) == (b"question", b"answer")


def asks(opener, namespace, address, port):
    """Does a datagram come back from there?"""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(namespace):
        there = socket.socket(family, socket.SOCK_DGRAM)
        there.bind((address, port))
    with inside(opener):
        here = socket.socket(family, socket.SOCK_DGRAM)
    with there, here:
        there.settimeout(60)
        here.settimeout(60)
        here.sendto(b"question", (address, port))
        asked, whom = there.recvfrom(64)
        there.sendto(b"answer", whom)
        return (asked, here.recv(64)) == (b"question", b"answer")


def test_a_default_drop_lets_the_answers_to_this_host_in_and_nothing_else(lab):
    lab.agent(firewall=CLOSED, conntrack=TRACK)
    for address in (SENDER, SENDER6):
        assert talks(lab.guarded, lab.sender, address, 8080)
        assert asks(lab.guarded, lab.sender, address, 5353)
        assert lab.run(lab.guarded, "ping", "-c", "1", "-W", "5", address).returncode == 0
    assert not lab.connects(8080)
    assert lab.run(lab.sender, "ping", "-c", "1", "-W", "1", GUARDED).returncode == 1
    assert lab.run(lab.sender, "ping", "-c", "1", "-W", "1", GUARDED6).returncode == 1
    refused = lab.run(lab.guarded, "ncat", "-w", "5", SENDER, "9999")
    assert "refused" in refused.stderr, "a reset is an answer"


WEB = {"id": "web", "priority": 10, "action": "allow", "protocol": "tcp", "dst_port": 8080}
HELD = {"id": "held", "priority": 1, "action": "allow", "state": ["established", "related"]}


def test_a_source_has_no_more_flows_than_its_rule_lets_in(lab):
    agent = lab.agent(firewall=CLOSED | {"rules": [WEB | {"max_src_states": 2}]}, conntrack=TRACK)
    with server(lab.guarded, GUARDED, 8080), contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(client(lab.sender, GUARDED, 8080))
        with pytest.raises(TimeoutError):
            client(lab.sender, GUARDED, 8080, timeout=0.5)
        assert agent.rule("web")["over"] >= 1
        assert any("more than it lets" in alert["message"] for alert in agent.alerts("web"))


def test_a_new_deny_ends_what_established_would_let_in_and_its_end_gives_it_back(lab):
    agent = lab.agent(firewall=CLOSED | {"rules": [HELD, WEB]}, conntrack=TRACK)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server(lab.guarded, GUARDED, 8080))
        mine = stack.enter_context(client(lab.sender, GUARDED, 8080, timeout=30))
        theirs = stack.enter_context(listener.accept()[0])
        mine.sendall(b"before")
        assert theirs.recv(64) == b"before"
        deny = {"id": "no-more", "priority": 5, "action": "deny", "src_ip": SENDER}
        agent.cli("firewall", "add", "--json", json.dumps(deny))
        mine.sendall(b"behind")
        theirs.sendall(b"from here")
        theirs.settimeout(0.5)
        with pytest.raises(TimeoutError):
            theirs.recv(64)
        assert agent.rule("no-more")["packets"] >= 1
        agent.cli("firewall", "delete", "no-more")
        theirs.settimeout(30)
        assert theirs.recv(64) == b"behind"
        assert mine.recv(64) == b"from here"


def test_what_takes_connection_tracking_is_refused_without_it(lab):
    agent = lab.agent(firewall=CLOSED)
    agent.write(firewall=CLOSED | {"rules": [HELD]})
    result = lab.run(lab.guarded, str(AGENT), "config", "reload")
    assert result.returncode != 0
    assert "firewall.rules[0].state" in result.stderr
    assert "Switch connection tracking on" in result.stderr
