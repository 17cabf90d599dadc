"""Two halves: what code in the unprivileged one can do, and that each survives the other's end.

The code of an intruder runs in a process that has gone through exactly what the agent goes through
(:func:`ebpfsentinel.privileges.enter`). Each attempt is made twice: without the separation it
succeeds, so that its failing behind the door says something.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.meddling import LINK_DETACH, bpf, link_on
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "64321"
PORT = 4433
DENY = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}
BLOCK = {"mode": "block", "rules": [DENY]}
NOTHING_PASSES = {"mode": "block", "rules": [{"id": "all", "priority": 1, "action": "deny"}]}
COMMAND = Path(sys.executable).parent / "ebpfsentinel-agent"

INSIDE = """
import ctypes, json, os, socket, sys
from pathlib import Path
from ebpfsentinel import domains
from ebpfsentinel.changes import is_enabled
from ebpfsentinel.config import discover, load
from ebpfsentinel.guardian import Guardian
from ebpfsentinel.model.action import *
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.privileges import enter
from ebpfsentinel.rules import Cel
import numpy as np

path = Path(sys.argv[1])
cards = discover(domains)
settings = load(path, {}, {}, cards).settings
kernel = enter(settings, path, {})
libc = ctypes.CDLL(None, use_errno=True)

def call(name, result):
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def syscall(number, *arguments):
    return call(str(number), libc.syscall(number, *arguments))

def load_a_program():
    code = (ctypes.c_uint64 * 2)(0xB7, 0x95)  # r0 = 0; exit
    text = ctypes.create_string_buffer(b"GPL")
    fields = [1, 2, ctypes.addressof(code), ctypes.addressof(text)]
    attributes = ctypes.create_string_buffer(128)
    for at, (value, size) in zip((0, 4, 8, 16), zip(fields, (4, 4, 8, 8))):
        attributes[at:at + size] = value.to_bytes(size, "little")
    os.close(syscall(321, 5, attributes, 128))

def attached():
    kernel.claim(["guard0"])
    kernel.reserve(["guard0"])
    kernel.load([card for card in cards if is_enabled(getattr(settings, card.name))])
    card = next(card for card in cards if card.name == "firewall")
    around = Surroundings(interfaces=kernel.interface_slots(), cpus=os.cpu_count())
    kernel.apply(card.engine(Tools(rules=Cel())).plan(settings.firewall, {}, around).actions)
    Guardian(kernel).refresh(settings)
    kernel.attach(["guard0"])

def emptied(name):
    keys, _ = kernel.read(name)
    kernel.apply([MapDelete(name, keys)])

def zeroed(name):
    keys, values = kernel.read(name)
    kernel.apply([MapWrite(name, keys, np.zeros_like(values))])

print("ready", flush=True)
for line in sys.stdin:
    try:
        exec(json.loads(line))
        said = "done"
    except BaseException as error:
        said = f"{type(error).__name__}: {error}"
    print(json.dumps(said), flush=True)
kernel.detach()
"""
"""An intruder: what it reads, it runs."""


class Intruder:
    """Code in a process that has the agent's place, with or without the separation."""

    def __init__(self, lab: Any, *, separated: bool, **sections: Any) -> None:
        folder = lab.tmp / f"separated-{separated}".lower()
        folder.mkdir()
        agent = {
            "interfaces": ["guard0"],
            "state_dir": str(folder / "state"),
            "privilege_separation": separated,
            "user": USER,
            "keeper_socket": str(folder / "kernel.sock"),
        }
        self.config = folder / "config.json"
        agent |= sections.pop("agent", {})
        self.config.write_text(json.dumps({"agent": agent, **sections}))
        command = [sys.executable, "-c", INSIDE, str(self.config)]
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{lab.guarded}", *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def do(self, code: str) -> str:
        """``done``, or what stood in the way."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        said: str = json.loads(self.process.stdout.readline())
        return said

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture
def place(lab: Any) -> Iterator[Any]:
    """A lab whose folder an unprivileged user reaches."""
    lab.tmp = Path(tempfile.mkdtemp(prefix="ebs-separation-"))
    lab.tmp.chmod(0o755)
    yield lab
    for agent in lab.agents:
        agent.end()
    shutil.rmtree(lab.tmp)


@contextlib.contextmanager
def intruder(lab: Any, *, separated: bool, **sections: Any) -> Iterator[Intruder]:
    made = Intruder(lab, separated=separated, **sections)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    """A process of root's."""
    child = subprocess.Popen(["sleep", "1000"])
    yield child
    child.kill()
    child.wait()


ATTEMPTS = {
    "load a program": "load_a_program()",
    "read root's secrets": "open('/etc/shadow').read()",
    "signal a process": "os.kill({victim}, 10)",
    "trace a process": "syscall(101, 16, {victim}, 0, 0); os.waitpid({victim}, 0x40000000)",
    "enter a namespace": "call('setns', libc.setns(os.open('/proc/{victim}/ns/net', 0), 0))",
    "make a namespace": "call('unshare', libc.unshare(0x04000000))",
    "be root": "os.setresuid(0, 0, 0)",
    "write where root does": "open('/etc/ebs-test', 'w').close(); os.unlink('/etc/ebs-test')",
    "make a ring of system calls": "os.close(syscall(425, 4, ctypes.create_string_buffer(120)))",
    "kill by the kernel": "kernel.apply([Kill({victim}, {start_ns})])",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_unprivileged_half_can_do_nothing_that_root_can(
    place: Any, victim: subprocess.Popen[bytes], attempt: str
) -> None:
    after_name = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2]
    start_ns = int(after_name.split()[19]) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    code = ATTEMPTS[attempt].format(victim=victim.pid, start_ns=start_ns)
    with intruder(place, separated=True) as inside:
        said = inside.do(code)
        assert said != "done"
        assert any(word in said for word in ("ermitted", "ermission", "nothing may be killed"))
    assert victim.poll() is None
    with intruder(place, separated=False) as inside:
        assert inside.do(code) == "done"


LIFTING = (
    "kernel.protect(Floor())",
    "kernel.apply([MapReplace('floor_net', *(part[:0] for part in kernel.read('floor_net')))])",
    "emptied('floor_tcp')",
    "emptied('floor_net')",
    "zeroed('floor_head')",
    "zeroed('interfaces')",
    "emptied('xdp_chain')",
    "kernel.apply([MapWrite('xdp_chain', np.zeros(1, np.uint32), np.array([7], np.uint32))])",
    "kernel.apply([MapWrite('fw_xdp_calls', np.zeros(1, np.uint32), np.array([7], np.uint32))])",
    "kernel.apply([Swap('floor_head', 0, np.zeros(8))])",
    "kernel.apply([Lend('tr_tables', 0, 'floor_head')])",
    "kernel.protect(Floor(loopback=True))",
)
"""Whatever an intruder might do to the floor; some of it is refused, some does not take it away."""


@contextlib.contextmanager
def session(lab: Any) -> Iterator[Any]:
    """An administrator's connection from the other host: gives a function that says if it lives."""
    with lab.inside(lab.guarded):
        listener = socket.create_server(("10.77.0.2", PORT))
    with lab.inside(lab.sender):
        client = socket.create_connection(("10.77.0.2", PORT), 60)
    server, _ = listener.accept()

    def lives() -> bool:
        client.send(b"x")
        came, _, _ = select.select([server], [], [], 0.6)
        return bool(came) and bool(server.recv(1 << 16))

    with listener, client, server:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield lives


OWNER = {
    "bind_address": "10.77.0.2",
    "http_port": PORT,
    "allow_unauthenticated_api": True,
    "never_block": {"ports": []},
}


def test_no_attempt_over_the_door_lifts_the_never_block_floor(place: Any) -> None:
    sections = {"agent": OWNER, "firewall": NOTHING_PASSES, "process": {"enabled": False}}
    with session(place) as lives, intruder(place, separated=True, **sections) as inside:
        assert inside.do("attached()") == "done"
        assert not place.connects(PORT + 1, 0.5), "all else is denied"
        assert lives()
        for code in LIFTING:
            inside.do(code)
            assert lives(), code
        refused = [code for code in LIFTING if inside.do(code) != "done"]
        assert len(refused) >= 9
    with session(place) as lives, intruder(place, separated=False, **sections) as inside:
        assert inside.do("attached()") == "done"
        assert lives()
        assert inside.do(LIFTING[0]) == "done"
        assert not lives(), "where nobody holds it, the floor is lifted"


GOOD = "well", "degraded"
PINS_OF_ITS_OWN = "mount -t bpf bpf /sys/fs/bpf && echo ready && read end"


@pytest.fixture
def apart() -> Iterator[list[str]]:
    """A mount namespace with a bpffs that no other test sees."""
    command = ["unshare", "--mount", "sh", "-c", PINS_OF_ITS_OWN]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]


class Halves:
    """An agent that finds a keeper listening, as they are in service."""

    def __init__(self, lab: Any, apart: list[str], on_exit: str = "keep", **sections: Any) -> None:
        self.lab, self.apart = lab, apart
        agent = {
            "privilege_separation": True,
            "user": USER,
            "keeper_socket": str(lab.tmp / "kernel.sock"),
            "on_exit": on_exit,
        }
        self.settings = agent
        self.agent = lab.running({"agent": agent, **sections})
        self.agent.mode = 0o644
        self.agent.write(agent=agent, **sections)
        self.keeper = self.keep()
        self.agent.start()

    def keep(self) -> subprocess.Popen[bytes]:
        """A keeper that listens."""
        told = self.lab.tmp / "told"
        told.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(told))
            manager.settimeout(30)
            keeper = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.lab.guarded}", *self.apart,
                 COMMAND, "keeper", "--config", self.agent.config],
                env=os.environ | {"NOTIFY_SOCKET": str(told)},
            )  # fmt: skip
            assert manager.recv(64) == b"READY=1"
        return keeper

    def state(self) -> dict[str, Any]:
        """What ``doctor`` says, well or not."""
        done = self.lab.run(self.lab.guarded, str(COMMAND), "-o", "json", "doctor")
        assert done.stdout, done.stderr + self.agent.log()
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def until(self, *states: str) -> dict[str, Any]:
        """What ``doctor`` says once it is so; a machine may lack what is no fault here."""
        return until(lambda: (found := self.state())["state"] in states and found)

    def end(self) -> None:
        self.agent.end()
        self.keeper.terminate()
        self.keeper.wait(60)


@pytest.fixture
def halves(place: Any, apart: list[str]) -> Iterator[Halves]:
    made = Halves(place, apart, firewall=BLOCK)
    yield made
    made.end()


def test_the_agent_survives_its_keeper_and_nothing_is_unjudged(place: Any, halves: Halves) -> None:
    assert place.arrivals(5353) == 0
    (privileges,) = [
        each for each in halves.until(*GOOD)["findings"] if each["about"] == "privileges"
    ]
    assert privileges["what"] == f"separation on asked, on in effect, as user {USER}"
    halves.keeper.kill()
    halves.keeper.wait(60)
    found = halves.until("broken")
    assert any("the keeper cannot be reached" in each["why"] for each in found["findings"])
    assert place.arrivals(5353) == 0, "what is pinned judges on"
    assert halves.agent.process.poll() is None
    halves.keeper = halves.keep()
    assert halves.until(*GOOD)
    assert place.arrivals(5353) == 0
    assert halves.agent.rule("no-udp")["packets"] == 60
    assert {alert["action"] for alert in halves.agent.alerts("no-udp")} == {"deny"}


def test_the_keeper_survives_its_agent_and_serves_the_next(place: Any, halves: Halves) -> None:
    assert place.arrivals(5353) == 0
    halves.agent.process.kill()
    halves.agent.process.wait()
    assert place.arrivals(5353) == 0
    halves.agent.end()
    assert halves.keeper.poll() is None
    halves.agent.start()
    assert halves.keeper.poll() is None, "the same process as before"
    assert place.arrivals(5353) == 0
    assert halves.agent.rule("no-udp")["packets"] == 60
    halves.agent.signal(signal.SIGTERM)
    assert halves.agent.wait() == 0


def test_both_halves_follow_the_configuration(halves: Halves) -> None:
    def about(domain: str) -> list[str]:
        return [each["what"] for each in halves.state()["findings"] if each["about"] == domain]

    assert about("ratelimit") == ["off"]
    halves.agent.write(agent=halves.settings, firewall=BLOCK, ratelimit={"enabled": True})
    until(lambda: about("ratelimit") != ["off"])
    assert halves.until(*GOOD)
    halves.agent.write(agent=halves.settings, firewall=BLOCK)
    until(lambda: about("ratelimit") == ["off"])
    assert halves.until(*GOOD)


def test_what_others_change_is_noticed_through_the_keeper(place: Any, halves: Halves) -> None:
    assert place.arrivals(5353) == 0
    link, _ = link_on(place, halves.keeper.pid, "guard0")
    bpf(LINK_DETACH, "I", link)
    os.close(link)
    until(lambda: halves.agent.alerts("watch.tamper.hook.guard0 xdp"))
    until(lambda: place.arrivals(5353) == 0)
    assert halves.until(*GOOD)


def test_a_second_agent_is_told_that_there_is_one(place: Any, halves: Halves) -> None:
    assert halves.agent.process is not None
    second = place.tmp / "second.json"
    settings = (
        {"interfaces": ["guard0"]}
        | halves.settings
        | {"state_dir": str(place.tmp / "other"), "http_port": 8081}
    )
    settings |= {"metrics_port": 9091, "grpc_port": 50052}
    second.write_text(json.dumps({"agent": settings}))
    done = place.run(place.guarded, str(COMMAND), "-c", str(second))
    assert done.returncode == 1
    assert f"it serves process {halves.agent.process.pid} already" in done.stderr
    assert halves.until(*GOOD)


CALLS = """
import socket
caller = socket.socket(socket.AF_UNIX)
caller.connect({path!r})
caller.settimeout(60)
print(caller.recv(9))
"""


def test_who_is_neither_root_nor_the_agent_is_sent_away(place: Any, halves: Halves) -> None:
    halves.agent.signal(signal.SIGTERM)
    assert halves.agent.wait() == 0
    code = CALLS.format(path=str(place.tmp / "kernel.sock"))
    who = ["setpriv", "--reuid=65000", f"--regid={USER}", "--clear-groups"]
    command = [*who, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "b''\n", done.stderr
    assert halves.keeper.poll() is None


def test_both_halves_are_replaced_and_nothing_is_unjudged(place: Any, apart: list[str]) -> None:
    """As an upgrade does it, where enforcement would end with the agent."""
    halves = Halves(place, apart, "detach", firewall=BLOCK)
    try:
        assert place.arrivals(5353) == 0
        agent = halves.agent
        agent.cli("hand-over", "--state-dir", str(agent.state))
        agent.end()
        halves.keeper.terminate()
        halves.keeper.wait(60)
        assert place.arrivals(5353) == 0
        halves.keeper = halves.keep()
        agent.start()
        assert place.arrivals(5353) == 0
        assert agent.rule("no-udp")["packets"] == 60
        agent.end()
        assert place.arrivals(5353) == 20
    finally:
        halves.end()


def test_a_state_folder_that_the_user_cannot_reach_is_named(lab: Any) -> None:
    lab.tmp.chmod(0o700)
    agent = lab.running({"agent": {"privilege_separation": True, "user": USER}})
    command = [str(COMMAND), "-c", str(agent.config)]
    done = lab.run(lab.guarded, *command)
    assert done.returncode == 1
    assert f"agent.state_dir: user {USER} cannot reach {agent.state}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_user_that_is_not_there_is_an_error_with_a_remedy(lab: Any) -> None:
    agent = lab.running({"agent": {"privilege_separation": True, "user": "no-such-user"}})
    done = lab.run(lab.guarded, str(COMMAND), "-c", str(agent.config))
    assert done.returncode == 1
    assert "there is no user no-such-user. useradd --system" in done.stderr


@pytest.mark.parametrize("enabled", [True, False])
def test_a_rule_kills_through_the_door_where_the_configuration_lets_it(
    place: Any, *, enabled: bool
) -> None:
    tool, rules = place.tmp / "unwanted", place.tmp / "rules.json"
    shutil.copy("/bin/sleep", tool)
    rule = {"name": "no-tool", "condition": f"process.path == '{tool}'", "risk_score": 0.9}
    rules.write_text(json.dumps({"rules": [rule | {"action": "kill"}]}))
    agent = {"privilege_separation": True, "user": USER}
    agent["keeper_socket"] = str(place.tmp / "kernel.sock")
    section = {"rules_file": str(rules), "enable_kill": enabled}
    running = place.agent(agent=agent, process=section)
    with subprocess.Popen([tool, "20" if enabled else "1"]) as unwanted:
        assert unwanted.wait() == (-signal.SIGKILL if enabled else 0)
    (alert,) = until(lambda: running.alerts("no-tool"))
    assert alert["action"] == ("kill" if enabled else "would_kill")
