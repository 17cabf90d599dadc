"""Two hosts on one machine: network namespaces with a veth pair, and an agent inside one of them.

Both ends are in namespaces, so the machine's own network is never in the path; checksum offload is
off at the sender, so that a packet that does not arrive has died of a verdict.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = Path(sys.executable).parent / "ebpfsentinel-agent"
SENDER, GUARDED = "10.77.0.1", "10.77.0.2"
SENDER6, GUARDED6 = "fd77::1", "fd77::2"
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, in another network namespace; sockets made in there stay in there."""
    with Path("/proc/thread-self/ns/net").open() as home:
        with Path(f"/run/netns/{namespace}").open() as there:
            assert not _libc.setns(there.fileno(), _CLONE_NEWNET)
        try:
            yield
        finally:
            assert not _libc.setns(home.fileno(), _CLONE_NEWNET)


class Lab:
    """A sender and a guarded host, ``veth`` between them; the guarded end is called ``guard0``."""

    inside = staticmethod(inside)

    def __init__(self, tmp: Path) -> None:
        tag = uuid.uuid4().hex[:6]
        self.tmp = tmp
        self.sender, self.guarded = f"lab-{tag}-a", f"lab-{tag}-b"
        self.agents: list[RunningAgent] = []
        for name in (self.sender, self.guarded):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        self.connect()

    def connect(self) -> None:
        """Make the veth pair (again)."""
        ip("-n", self.sender, "link", "add", "send0", "type", "veth", "peer", "guard0",
           "netns", self.guarded)  # fmt: skip
        for name, device, v4, v6 in (
            (self.sender, "send0", SENDER, SENDER6),
            (self.guarded, "guard0", GUARDED, GUARDED6),
        ):
            ip("-n", name, "addr", "add", f"{v4}/24", "dev", device)
            ip("-n", name, "addr", "add", f"{v6}/64", "dev", device, "nodad")
            ip("-n", name, "link", "set", device, "up")
            self.run(name, "ethtool", "-K", device, "tx", "off", "rx", "off")

    @staticmethod
    def run(namespace: str, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{namespace}", *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )

    def arrivals(self, port: int, count: int = 20, *, ipv6: bool = False) -> int:
        """Send ``count`` UDP datagrams to ``port``, then one to an open port; how many arrived.

        The last one goes the same way behind the others: once it is there, all are that will be.
        """
        family, to = (socket.AF_INET6, GUARDED6) if ipv6 else (socket.AF_INET, GUARDED)
        with inside(self.guarded):
            receiver = socket.socket(family, socket.SOCK_DGRAM)
            end = socket.socket(family, socket.SOCK_DGRAM)
        with inside(self.sender):
            sender = socket.socket(family, socket.SOCK_DGRAM)
        with receiver, end, sender:
            receiver.bind((to, port))
            end.bind((to, 9))
            end.settimeout(60)
            for number in range(count):
                sender.sendto(b"%d" % number, (to, port))
            sender.sendto(b"end", (to, 9))
            end.recv(16)
            receiver.setblocking(False)
            arrived = 0
            with contextlib.suppress(BlockingIOError):
                while receiver.recv(64):
                    arrived += 1
        return arrived

    def connects(self, port: int, timeout: float = 1.0) -> bool:
        """Does a real TCP client complete a handshake with a real listener?"""
        with inside(self.guarded):
            listener = socket.create_server((GUARDED, port))
        with inside(self.sender):
            client = socket.socket()
        with listener, client:
            client.settimeout(timeout)
            try:
                client.connect((GUARDED, port))
            except TimeoutError:
                return False
            return True

    def agent(self, **sections: Any) -> RunningAgent:
        """A started agent in the guarded namespace, ready."""
        agent = RunningAgent(self, sections)
        self.agents.append(agent)
        agent.start()
        return agent

    def running(self, sections: dict[str, Any]) -> RunningAgent:
        """An agent that is not started yet."""
        agent = RunningAgent(self, sections)
        self.agents.append(agent)
        return agent

    def agent_within(self, wrapper: list[str], **sections: Any) -> RunningAgent:
        """A started agent behind a command that ends in exec."""
        agent = RunningAgent(self, sections)
        agent.wrapper = wrapper
        self.agents.append(agent)
        agent.start()
        return agent

    def agent_of(self, config: Path) -> RunningAgent:
        """A started agent with this configuration; where its state lies is the caller's affair."""
        agent = RunningAgent(self, {})
        agent.config = config
        self.agents.append(agent)
        agent.start()
        return agent

    def close(self) -> None:
        for agent in self.agents:
            agent.end()
        for name in (self.sender, self.guarded):
            ip("netns", "del", name)


class RunningAgent:
    """The real command, with its configuration and state below the lab's folder."""

    def __init__(self, lab: Lab, sections: dict[str, Any]) -> None:
        self.lab = lab
        self.config = lab.tmp / "config.json"
        self.state = lab.tmp / "state"
        self.process: subprocess.Popen[str] | None = None
        self.wrapper: list[str] = []
        self.mode = 0o600
        self.write(**sections)

    def write(self, **sections: Any) -> None:
        agent = {"interfaces": ["guard0"], "state_dir": str(self.state)} | sections.pop("agent", {})
        text = json.dumps({"agent": agent, **sections})
        fresh = self.config.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(self.mode)
        fresh.rename(self.config)

    def start(self) -> None:
        """Returns once the agent says that it guards the host."""
        with (self.lab.tmp / "log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    "nsenter",
                    f"--net=/run/netns/{self.lab.guarded}",
                    *self.wrapper,
                    AGENT,
                    "-c",
                    self.config,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self.screen = self.wait_for("Ctrl-C")

    def wait_for(self, text: str) -> str:
        """The screen up to the line with ``text``; the test's own timeout ends the wait."""
        assert self.process is not None
        assert self.process.stdout is not None
        lines = []
        while True:
            line = self.process.stdout.readline()
            assert line, f"the agent said no {text!r}: {lines}\n{self.log()}"
            lines.append(line)
            if text in line:
                return "".join(lines)

    def log(self) -> str:
        return (self.lab.tmp / "log").read_text()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(60)

    def cli(self, *arguments: str, code: int = 0) -> Any:
        """The command's JSON answer."""
        result = self.lab.run(self.lab.guarded, str(AGENT), "-o", "json", *arguments)
        assert result.returncode == code, f"{arguments}: {result.stdout}{result.stderr}"
        return json.loads(result.stdout) if result.stdout.strip() else None

    def rule(self, rule_id: str) -> dict[str, Any]:
        rules = self.cli("firewall", "list")
        return next(found for found in rules if found["id"] == rule_id)

    def alerts(self, rule_id: str) -> list[dict[str, Any]]:
        found = self.cli("alerts", "list", "--limit", "1000")["alerts"]
        return [alert for alert in found if alert["rule_id"] == rule_id]

    def end(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
