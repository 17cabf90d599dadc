"""Rules that name processes: what these send and receive really dies, and nothing else."""

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ebpfsentinel.kernel.owners import cgroup_root
from tests.lab import GUARDED, SENDER, SENDER6, Lab, inside
from tests.test_stateful import CLOSED, TRACK, client, server
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

OPEN = {"mode": "block", "anti_lockout": {"enabled": False}}
PORT = 8080


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def tool(tmp_path):
    """An executable of our own."""
    return shutil.copy2(Path(shutil.which("ncat")).resolve(), tmp_path / "tool")


def reaches(lab, executable, address, *wrapper):
    """Can this program, on the guarded host, connect to a server outside?"""
    with server(lab.sender, address, PORT):
        done = lab.run(lab.guarded, *wrapper, str(executable), "-z", "-w", "1", address, str(PORT))
    return done.returncode == 0


def test_what_an_executable_sends_dies_and_that_of_others_does_not(lab, tool):
    rule = {"id": "no-tool", "priority": 1, "action": "deny", "process": {"path": str(tool)}}
    agent = lab.agent(firewall=OPEN | {"rules": [rule]}, conntrack=TRACK)
    for address in (SENDER, SENDER6):
        assert not reaches(lab, tool, address)
        assert reaches(lab, "ncat", address)
    assert agent.rule("no-tool")["packets"] >= 2
    alert = until(lambda: agent.alerts("no-tool"))[0]
    assert alert["action"] == "deny"
    assert agent.rule("no-tool")["process"] == {"path": str(tool)}


def test_only_to_where_the_rule_says(lab, tool):
    rule = {"id": "some", "priority": 1, "action": "deny", "process": {"path": str(tool)}}
    lab.agent(firewall=OPEN | {"rules": [rule | {"dst_ip": SENDER, "protocol": "tcp"}]})
    assert not reaches(lab, tool, SENDER)
    assert reaches(lab, tool, SENDER6)


def test_an_allow_that_comes_first_lets_it_through(lab, tool):
    named = {"process": {"path": str(tool)}}
    rules = [
        {"id": "but", "priority": 1, "action": "allow", "dst_ip": SENDER, **named},
        {"id": "none", "priority": 2, "action": "deny", **named},
    ]
    lab.agent(firewall=OPEN | {"rules": rules})
    assert reaches(lab, tool, SENDER)
    assert not reaches(lab, tool, SENDER6)


def test_in_alert_mode_it_is_said_and_passes(lab, tool):
    rule = {"id": "no-tool", "priority": 1, "action": "deny", "process": {"path": str(tool)}}
    agent = lab.agent(firewall=OPEN | {"mode": "alert", "rules": [rule]})
    assert reaches(lab, tool, SENDER)
    assert until(lambda: agent.alerts("no-tool"))[0]["action"] == "would_deny"


@pytest.mark.parametrize("tracked", [True, False], ids=["flows", "no flows"])
def test_a_closed_host_opens_for_who_listens_by_the_named_executable(lab, tracked):
    here = str(Path(sys.executable).resolve())
    rule = {"id": "ours", "priority": 1, "action": "allow", "process": {"path": here}}
    sections = {"conntrack": TRACK} if tracked else {}
    lab.agent(firewall=CLOSED | {"rules": [rule]}, **sections)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(server(lab.guarded, GUARDED, PORT))
        mine = stack.enter_context(client(lab.sender, GUARDED, PORT))
        theirs = stack.enter_context(listener.accept()[0])
        theirs.settimeout(60)
        mine.sendall(b"in")
        assert theirs.recv(16) == b"in"
    with inside(lab.guarded):
        other = subprocess.Popen(["ncat", "-l", "-k", GUARDED, "8081"])
    try:
        until(lambda: ":8081" in lab.run(lab.guarded, "ss", "-ltn").stdout)
        with pytest.raises(TimeoutError):
            client(lab.sender, GUARDED, 8081, timeout=0.5)
    finally:
        other.kill()
        other.wait()


@pytest.fixture
def cgroup():
    """A control group of our own."""
    path = cgroup_root() / f"of-a-test-{uuid.uuid4().hex}"
    path.mkdir()
    yield path
    path.rmdir()


@pytest.mark.parametrize("how", ["cgroup", "container"])
def test_a_control_group_is_meant_with_all_that_runs_in_it(lab, cgroup, how):
    word = f"/{cgroup.name}" if how == "cgroup" else cgroup.name.rpartition("-")[2][:12]
    rule = {"id": "group", "priority": 1, "action": "deny", how: word}
    agent = lab.agent(firewall=OPEN | {"rules": [rule]})
    within = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh"]
    assert not reaches(lab, "ncat", SENDER, *within)
    assert reaches(lab, "ncat", SENDER)
    assert agent.rule("group")[how] == word


def test_rules_come_and_go_while_the_agent_runs(lab, tool):
    agent = lab.agent(firewall=OPEN)
    assert reaches(lab, tool, SENDER)
    rule = {"id": "no-tool", "priority": 1, "action": "deny", "process": {"path": str(tool)}}
    agent.write(firewall=OPEN | {"rules": [rule]})
    agent.cli("config", "reload")
    assert not reaches(lab, tool, SENDER)
    agent.write(firewall=OPEN)
    agent.cli("config", "reload")
    assert reaches(lab, tool, SENDER)


def test_an_executable_that_is_not_there_yet_is_said_and_found_when_it_comes(lab, tool, tmp_path):
    late = tmp_path / "late"
    rule = {"id": "late", "priority": 1, "action": "deny", "process": {"path": str(late)}}
    agent = lab.agent(firewall=OPEN | {"rules": [rule]})
    assert str(late) in agent.cli("firewall", "status")["unresolved"]
    shutil.copy2(tool, late)
    until(lambda: not agent.cli("firewall", "status")["unresolved"])
    assert not reaches(lab, late, SENDER)
