"""A whole agent: packets and connections name their process, and processes their connections."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ebpfsentinel.kernel.owners import cgroup_root
from tests.lab import GUARDED, GUARDED6, SENDER, SENDER6
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")

PORT, DENIED = 8443, 5353
PYTHON = os.path.realpath(sys.executable)
ASKS = (
    "import socket, sys\n"
    "with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as client:\n"
    "    client.recv(1)\n"
)
LISTENS = (
    "import socket, sys\n"
    "family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n"
    "receiver = socket.socket(family, socket.SOCK_DGRAM)\n"
    "receiver.bind((sys.argv[1], int(sys.argv[2])))\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
)


def within(namespace: str, *command: str, **pipes: Any) -> subprocess.Popen[str]:
    """The program itself, its pid included: nsenter becomes it."""
    return subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{namespace}", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **pipes,
    )


@contextlib.contextmanager
def running(namespace: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = within(namespace, *command)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("host", [SENDER, SENDER6])
def test_a_row_of_connections_names_who_opened_it_dead_or_alive(lab, host):
    agent = lab.agent(conntrack={"enabled": True})
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with lab.inside(lab.sender):
        server = socket.create_server((host, PORT), family=family)
    with server:
        with running(lab.guarded, PYTHON, "-c", ASKS, host, str(PORT)) as client:
            far, _ = server.accept()
            far.sendall(b"x")
            far.close()
            assert client.wait(60) == 0
        found = agent.cli("conntrack", "list", "--dst-port", str(PORT))["connections"]
    (row,) = found
    assert (row["pid"], row["exe"]) == (client.pid, PYTHON)
    assert row["cgroup"] == Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()
    assert row["container"] == ""
    assert row["peer"]["pid"] == os.getpid(), "the server is this test, in another namespace"


def test_a_process_in_a_container_is_named_as_the_host_sees_it(lab):
    agent = lab.agent(conntrack={"enabled": True})
    container = "0123456789abcdef" * 4
    group = cgroup_root() / f"docker-{container}.scope"
    group.mkdir()
    enter = f"echo $$ > {group}/cgroup.procs; exec unshare --pid --fork --kill-child {PYTHON} -c "
    with lab.inside(lab.sender):
        server = socket.create_server((SENDER, PORT))
    try:
        with (
            server,
            running(lab.guarded, "bash", "-c", f'{enter} "$0" {SENDER} {PORT}', ASKS) as it,
        ):
            far, _ = server.accept()
            with far:
                (row,) = agent.cli("conntrack", "list", "--dst-port", str(PORT))["connections"]
                status = Path(f"/proc/{row['pid']}/status").read_text()
                assert f"NSpid:\t{row['pid']}\t1\n" in status, "it is the first one in there"
                assert f"PPid:\t{it.pid}\n" in status
        assert (row["container"], row["exe"]) == (container, PYTHON)
        assert row["cgroup"] == f"/{group.name}"
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


@pytest.mark.parametrize("host", [GUARDED, GUARDED6])
def test_a_packet_that_was_dropped_names_who_would_have_got_it(lab, host):
    rule = {"id": "no", "priority": 1, "action": "deny", "protocol": "udp", "dst_port": DENIED}
    agent = lab.agent(firewall={"mode": "block", "rules": [rule]})
    with running(lab.guarded, PYTHON, "-c", LISTENS, host, str(DENIED)) as server:
        assert server.stdout.readline() == "ready\n"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with lab.inside(lab.sender):
            sender = socket.socket(family, socket.SOCK_DGRAM)
        with sender:
            sender.sendto(b"x", (host, DENIED))
        (alert,) = until(lambda: agent.alerts("no"))
    assert alert["pid"] == server.pid
    assert alert["context"]["process"]["path"] == PYTHON
    assert alert["context"]["process"]["argv"][1:3] == ["-c", LISTENS]
    assert alert["context"]["sockets"]["pid"] == server.pid


def test_a_packet_of_a_flow_names_who_opened_it(lab):
    rule = {"id": "seen", "priority": 1, "action": "log", "protocol": "tcp", "src_port": PORT}
    agent = lab.agent(firewall={"rules": [rule]}, conntrack={"enabled": True})
    with lab.inside(lab.sender):
        server = socket.create_server((SENDER, PORT))
    with server, running(lab.guarded, PYTHON, "-c", ASKS, SENDER, str(PORT)) as client:
        far, _ = server.accept()
        with far:
            alert = until(lambda: agent.alerts("seen"))[0]
    named = {alert["pid"], alert["context"].get("peer", {}).get("pid")}
    assert client.pid in named
    assert os.getpid() in named, "both ends are here"


def test_an_alert_of_a_process_carries_its_connections(lab, tmp_path):
    program = tmp_path / "suspicious"
    shutil.copy("/bin/sleep", program)
    program.chmod(0o700)
    agent = lab.agent(conntrack={"enabled": True})
    with lab.inside(lab.sender):
        server = socket.create_server((SENDER, PORT))
    script = f"exec 3<>/dev/tcp/{SENDER}/{PORT}; read -r _ <&3; exec {program} 30"
    with server, running(lab.guarded, "bash", "-c", script) as shell:
        far, (_, port) = server.accept()
        with far:
            far.sendall(b"go\n")
            (alert,) = until(lambda: [a for a in executed(agent) if a["pid"] == shell.pid])
    (flow,) = alert["context"]["flows"]
    assert (flow["remote_ip"], flow["remote_port"], flow["local_port"]) == (SENDER, PORT, port)
    assert flow["opened_by"] == "local"
    assert flow["bytes_in"] > 0


def executed(agent):
    """Other programs below /tmp are executed meanwhile."""
    return agent.alerts("suspicious_temp_execution")
