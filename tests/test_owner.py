"""The owner locks himself out in earnest, over a real network, and gets in again."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ebpfsentinel.kernel.sessions import Sessions
from tests.waiting import until

AGENT = Path(sys.executable).parent / "ebpfsentinel-agent"
GUARDED, PORT = "10.77.0.2", 8080
OPEN = {"bind_address": "0.0.0.0", "allow_unauthenticated_api": True}
NO_FLOOR = {"never_block": {"ports": [], "sessions": False}}
CLOSED = {"mode": "block", "anti_lockout": {"enabled": False}}
DENY_ALL = {"id": "deny-all", "priority": 1, "action": "deny"}
RULES = "/api/v1/firewall/rules"
SECONDS = 6
"""In which a change must be confirmed: looking whether it is in force takes two or three."""


class Admin:
    """One keep-alive connection to the API from the other host."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.connection = http.client.HTTPConnection(GUARDED, PORT, timeout=60)
        with lab.inside(lab.sender):
            self.connection.connect()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, str]:
        text = None if body is None else json.dumps(body)
        self.connection.request(method, path, text, {"content-type": "application/json"})
        answer = self.connection.getresponse()
        found = answer.read()
        change = answer.headers.get("x-change-id", "")
        return answer.status, json.loads(found) if found else None, change

    def close(self) -> None:
        self.connection.close()


def locked_out(lab: Any) -> bool:
    with lab.inside(lab.sender):
        client = socket.socket()
    with client:
        client.settimeout(0.5)
        try:
            client.connect((GUARDED, PORT))
        except TimeoutError:
            return True
        return False


def gets_in(lab: Any, began: float) -> None:
    """A new connection is accepted again."""
    until(lambda: not locked_out(lab))
    undone_in_time(began)


def undone_in_time(began: float) -> None:
    """Not before a change of ``began`` was to be confirmed, and soon after."""
    assert SECONDS - 0.1 < time.monotonic() - began < SECONDS + 20  # clocks differ, and machines


def undone(agent: Any) -> None:
    """Nothing waits any more: the kernel lets in at the deadline, the agent tidies up after it."""
    until(lambda: not agent.cli("changes")["changes"])


def rules_of(agent: Any) -> list[str]:
    return [rule["id"] for rule in agent.cli("firewall", "list")]


def audited(agent: Any, action: str) -> list[str]:
    entries = agent.cli("audit", "logs", "--action", action)["entries"]
    return [entry["rule_id"] for entry in entries]


def test_who_locks_himself_out_gets_in_again(lab: Any) -> None:
    agent = lab.agent(agent=OPEN | NO_FLOOR, firewall=CLOSED)
    admin = Admin(lab)
    began = time.monotonic()
    status, _, change = admin.ask("POST", f"{RULES}?confirm={SECONDS}", DENY_ALL)
    assert (status, bool(change)) == (201, True)
    admin.connection.sock.settimeout(1)
    with pytest.raises(TimeoutError):
        admin.ask("GET", "/api/v1/changes")
    assert locked_out(lab)
    (waiting,) = agent.cli("changes")["changes"]
    assert (waiting["id"], waiting["seconds"]) == (change, SECONDS)
    gets_in(lab, began)
    admin.close()
    undone(agent)
    admin = Admin(lab)
    assert admin.ask("GET", "/api/v1/changes")[1] == {"changes": []}
    assert "deny-all" not in rules_of(agent)
    assert audited(agent, "change_undone") == ["deny-all"]
    admin.close()


@pytest.mark.parametrize("xdp_mode", ["auto", "tc"])
def test_the_floor_alone_keeps_the_session_alive(lab: Any, xdp_mode: str) -> None:
    settings = OPEN | {"never_block": {"ports": []}, "xdp_mode": xdp_mode}
    agent = lab.agent(agent=settings, firewall=CLOSED)
    admin = Admin(lab)
    assert admin.ask("POST", RULES, DENY_ALL)[0] == 201
    assert locked_out(lab)
    assert admin.ask("GET", "/api/v1/agent/status")[0] == 200
    text = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:9090/metrics").stdout
    spared = next(
        line for line in text.splitlines() if line.startswith("ebpf") and 'verdict="spared"' in line
    )
    assert float(spared.split()[-1]) > 0
    assert admin.ask("DELETE", f"{RULES}/deny-all")[0] == 204
    assert not locked_out(lab)
    assert "spared" in {alert["action"] for alert in agent.alerts("deny-all")}
    admin.close()


def test_the_api_is_on_the_floor_where_it_listens(lab: Any) -> None:
    lab.agent(agent=OPEN | {"never_block": {"sessions": False}}, firewall=CLOSED)
    admin = Admin(lab)
    assert admin.ask("POST", RULES, DENY_ALL)[0] == 201
    assert not locked_out(lab)
    admin.close()


def test_only_a_fresh_connection_confirms(lab: Any) -> None:
    agent = lab.agent(agent=OPEN, firewall=CLOSED)
    admin = Admin(lab)
    _, _, change = admin.ask("POST", f"{RULES}?confirm=60", DENY_ALL)
    where = f"/api/v1/changes/{change}/confirm"
    status, refused, _ = admin.ask("POST", where)
    assert (status, refused["error"]["code"]) == (409, "OLD_CONNECTION")
    fresh = Admin(lab)
    assert fresh.ask("POST", where)[0] == 200
    assert fresh.ask("POST", where)[0] == 404
    assert agent.cli("changes") == {"changes": []}
    assert audited(agent, "change_confirmed") == ["deny-all"]
    agent.end()
    agent.start()
    assert "deny-all" in rules_of(agent)
    admin.close()
    fresh.close()


def test_a_killed_agent_undoes_too(lab: Any) -> None:
    agent = lab.agent(agent=OPEN | NO_FLOOR | {"on_exit": "keep"}, firewall=CLOSED)
    try:
        admin = Admin(lab)
        began = time.monotonic()
        admin.ask("POST", f"{RULES}?confirm={SECONDS}", DENY_ALL)
        agent.signal(signal.SIGKILL)
        agent.wait()
        admin.close()
        assert locked_out(lab), "what was pinned must still drop"
        # No agent is there to answer: that the kernel lets a packet in shows in the refusal.
        with pytest.raises(ConnectionRefusedError):
            until(lambda: not locked_out(lab))
        undone_in_time(began)
        agent.end()
        agent.start()
        assert not locked_out(lab)
        assert "deny-all" not in rules_of(agent)
        assert audited(agent, "change_undone") == ["deny-all"]
    finally:
        agent.end()
        agent.cli("detach", "--all")


def test_what_nobody_confirmed_before_a_reboot_is_undone(lab: Any) -> None:
    """Of a reboot is left what is on disk: the process is gone, and all that was pinned."""
    settings = {"agent": OPEN | NO_FLOOR | {"on_exit": "keep"}, "firewall": CLOSED}
    agent = lab.agent(**settings)
    try:
        admin = Admin(lab)
        assert admin.ask("POST", f"{RULES}?confirm=600", DENY_ALL)[0] == 201
        agent.signal(signal.SIGKILL)
        agent.wait()
        admin.close()
        assert agent.cli("detach", "--all")
        agent.end()
        agent.start()
        assert not locked_out(lab)
        assert "deny-all" not in rules_of(agent)
        assert agent.cli("changes") == {"changes": []}
        assert audited(agent, "change_undone") == ["deny-all"]
        agent.write(**settings | {"firewall": CLOSED | {"default_policy": "drop"}})
        assert agent.cli("config", "reload", "--confirm", "600")["change_id"]
        assert locked_out(lab)
        agent.signal(signal.SIGKILL)
        agent.wait()
        assert agent.cli("detach", "--all")
        agent.end()
        agent.start()
        assert not locked_out(lab)
        assert agent.cli("config", "show")["firewall"]["default_policy"] == "pass"
    finally:
        agent.end()
        agent.cli("detach", "--all")


def test_an_unconfirmed_configuration_is_undone_and_stays_so(lab: Any) -> None:
    agent = lab.agent(agent=OPEN | NO_FLOOR, firewall=CLOSED)
    agent.write(agent=OPEN | NO_FLOOR, firewall=CLOSED | {"default_policy": "drop"})
    began = time.monotonic()
    body = agent.cli("config", "reload", "--confirm", str(SECONDS))
    assert body["change_id"]
    assert locked_out(lab)
    gets_in(lab, began)
    undone(agent)
    agent.signal(signal.SIGKILL)
    agent.wait()
    agent.end()
    agent.start()
    assert not locked_out(lab)
    agent.cli("config", "reload", "--confirm", "60")
    assert locked_out(lab)
    agent.cli("confirm")
    assert agent.cli("changes") == {"changes": []}
    assert locked_out(lab)
    agent.end()
    agent.start()
    assert locked_out(lab)


def test_a_second_agent_is_refused_with_the_pid_of_the_first(lab: Any) -> None:
    first = lab.agent(firewall=CLOSED)
    result = lab.run(lab.guarded, str(AGENT), "-c", str(first.config))
    assert result.returncode == 1
    assert "guard0 is guarded by another agent: pid" in result.stderr


def test_a_deleted_allow_rule_comes_back(lab: Any) -> None:
    agent = lab.agent(agent=OPEN | NO_FLOOR, firewall=CLOSED | {"default_policy": "drop"})
    allow = {"id": "let-me-in", "priority": 5, "action": "allow", "protocol": "tcp"}
    agent.cli("firewall", "add", "--json", json.dumps(allow))
    assert not locked_out(lab)
    began = time.monotonic()
    agent.cli("firewall", "delete", "let-me-in", "--confirm", str(SECONDS))
    assert locked_out(lab)
    gets_in(lab, began)
    undone(agent)
    assert "let-me-in" in rules_of(agent)
    history = agent.cli("audit", "history", "let-me-in")["entries"]
    assert [entry["actor"] for entry in history] == ["undo", "api", "api"]


def test_sessions_with_sshd_are_found_on_both_families_and_any_port(lab: Any) -> None:
    name = Path("/proc/self/comm")
    before = name.read_text().strip()
    with lab.inside(lab.guarded):
        server = socket.create_server(("::", 2222), family=socket.AF_INET6, dualstack_ipv6=True)
        other = socket.create_server((GUARDED, 2223))
    with lab.inside(lab.sender):
        clients = [socket.create_connection((to, 2222)) for to in (GUARDED, "fd77::2")]
        stranger = socket.create_connection((GUARDED, 2223))
    try:
        name.write_text("sshd")
        with lab.inside(lab.guarded):
            found = Sessions().look()
    finally:
        name.write_text(before)
    wanted = {(client.getsockname()[0], client.getsockname()[1], 2222) for client in clients}
    ours = {(str(one.remote), one.remote_port, one.local_port) for one in found}
    assert wanted <= ours
    assert ours - wanted <= {("10.77.0.1", stranger.getsockname()[1], 2223)}
    for one in (server, other, stranger, *clients):
        one.close()
