"""What callers feel: reads under load, writes one by one, alerts on their way to a stream, memory.

A real agent in a network namespace, asked by one client over one connection that stays open.

**Reads** come at 200 a second, each at its own moment whether or not the one before was answered
(so that a stall costs all that wait behind it), while a flood of live frames, a million a second on
average, is judged by the firewall on one core, which denies it; the agent has the other. Three
paths in turn: the status, 64 rules, 50 alerts.

**Writes** add 500 rules one by one, each after the answer to the one before. The rate is what the
median write allows: the machine is not ours alone.

**Alerts**: a datagram that is denied, or a program in /tmp that is run, until the gRPC client and
the WebSocket client, which are processes of their own, have it in hand. Each kind one by one, 100
times, a tenth of a second apart.

**Memory**: the agent with TLS, keys, tokens' library, gRPC with reflection, the audit trail and a
webhook with its spool, five seconds after it was ready.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.bench_agent import _rss_mb
from bench.flood import Flood
from ebpfsentinel.auth import pki
from tests.lab import GUARDED, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

READS, READS_A_SECOND, FLOOD_PPS = 2000, 200, 1_000_000
WRITES, PRESENT = 500, 4000
ALERTS, APART_S = 100, 0.1
ROUNDS = 5
PATHS = ("/api/v1/agent/status", "/api/v1/firewall/rules", "/api/v1/alerts?limit=50")


class Client:
    """One connection to the agent of a lab."""

    def __init__(self, lab: Lab) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        with lab.inside(lab.guarded):
            self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method: str, path: str, body: Any = None) -> float:
        """Seconds until the whole answer is there."""
        data = json.dumps(body) if body is not None else None
        began = time.perf_counter()
        self._connection.request(method, path, data, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        answer.read()
        took = time.perf_counter() - began
        assert answer.status < 300, (answer.status, path)
        return took


@contextlib.contextmanager
def laboratory(core: str = "", **sections: Any) -> Iterator[Lab]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder))
        try:
            lab.agent_within(["taskset", "-c", core] if core else [], **sections)
            yield lab
        finally:
            lab.close()


def rule(number: int, prefix: str = "r") -> dict[str, Any]:
    address = f"172.{16 + number // 65536}.{number // 256 % 256}.{number % 256}"
    return {
        "id": f"{prefix}{number}", "priority": 10 + number, "action": "deny", "protocol": "tcp",
        "src_ip": f"{address}/32", "dst_port": 1024 + number % 60000,
    }  # fmt: skip


@contextlib.contextmanager
def flooded(lab: Lab) -> Iterator[None]:
    """A million packets a second, on average, from one core."""
    with contextlib.closing(Flood(lab, 5000)) as flood, flood.flowing(FLOOD_PPS):
        yield


def judged(lab: Lab) -> int:
    text = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:9090/metrics").stdout
    found = re.findall(r'packets_total\{interface="guard0",verdict="\w+"\} ([\d.e+]+)', text)
    return int(sum(map(float, found)))


def reads() -> list[dict[str, Any]]:
    deny = {"id": "flood", "priority": 5, "action": "deny", "protocol": "udp", "dst_port": 5000}
    rules = [deny, *(rule(number) for number in range(64))]
    core = str(min(os.sched_getaffinity(0)))
    with laboratory(core, firewall={"mode": "block", "rules": rules}) as lab, flooded(lab):
        client, taken = Client(lab), []
        time.sleep(1)
        before, began = judged(lab), time.perf_counter()
        for number in range(READS):
            due = began + number / READS_A_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            client.ask("GET", PATHS[number % len(PATHS)])
            taken.append(time.perf_counter() - due)
        pps = (judged(lab) - before) / (time.perf_counter() - began)
    assert pps > 0.9 * FLOOD_PPS, f"only {pps:.0f} packets/s were judged"
    told = "REST read, 200/s while 1 M packets/s are judged"
    return [row(f"{told}, p{p}", "ms", *goal, at(taken, p)) for p, goal in
            ((50, (5, 2)), (99, (30, 10)))]  # fmt: skip


def writes() -> list[dict[str, Any]]:
    rules = [rule(number) for number in range(PRESENT)]
    with laboratory(firewall={"mode": "block", "rules": rules}) as lab:
        client = Client(lab)
        taken = [
            client.ask("POST", "/api/v1/firewall/rules", rule(PRESENT + number, "w"))
            for number in range(WRITES)
        ]
    with laboratory(firewall={"mode": "block"}) as lab:
        client = Client(lab)
        client.ask("POST", "/api/v1/firewall/rules", rule(WRITES))
        few = [
            client.ask("POST", "/api/v1/firewall/rules", rule(number, "w"))
            for number in range(WRITES)
        ]
    return [
        row(f"REST write, {PRESENT} rules present, p50", "ms", 5, 1, at(taken, 50)),
        row("REST writes into an empty table, by p50", "1/s", 400, 1500, 1000 / at(few, 50)),
    ]


_FOLLOW = """
import asyncio, json, sys, time
kind = sys.argv[1]
def tell(text):
    print(time.time_ns(), text, flush=True)
async def grpc():
    from grpclib.client import Channel
    from ebpfsentinel.api.grpc.alerts_grpc import AlertStreamServiceStub
    from ebpfsentinel.api.grpc.alerts_pb2 import StreamAlertsRequest
    async with Channel("127.0.0.1", 50051) as channel:
        async with AlertStreamServiceStub(channel).StreamAlerts.open() as stream:
            await stream.send_message(StreamAlertsRequest(), end=True)
            await stream.recv_initial_metadata()
            tell("ready")
            async for event in stream:
                tell(f"{event.dst_port} {event.message}")
async def socket():
    from websockets.asyncio.client import connect
    async with connect("ws://127.0.0.1:8080/api/v1/alerts/ws") as stream:
        tell("ready")
        async for text in stream:
            alert = json.loads(text)
            tell(f"{alert['dst_port']} {alert['message']}")
asyncio.run({"grpc": grpc, "socket": socket}[kind]())
"""


class Follower:
    """A client in a process of its own."""

    def __init__(self, lab: Lab, kind: str) -> None:
        command = ["nsenter", f"--net=/run/netns/{lab.guarded}", sys.executable, "-c", _FOLLOW]
        self._process = subprocess.Popen([*command, kind], stdout=subprocess.PIPE, text=True)
        self._next()

    def _next(self) -> tuple[int, str]:
        at_ns, text = self._process.stdout.readline().split(" ", 1)
        return int(at_ns), text

    def sees(self, word: str) -> int:
        """When (wall nanoseconds) the alert with this word was in hand."""
        while True:
            at_ns, text = self._next()
            if word in text:
                return at_ns

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


def latencies(followers: list[Follower], cause: Any) -> list[list[float]]:
    """Seconds from each cause to each follower."""
    taken: list[list[float]] = [[] for _ in followers]
    for number in range(ALERTS):
        began, word = cause(number)
        for follower, found in zip(followers, taken, strict=True):
            found.append((follower.sees(word) - began) / 1e9)
        time.sleep(APART_S)
    return taken


def alerts() -> list[dict[str, Any]]:
    deny = {
        "id": "no",
        "priority": 10,
        "action": "deny",
        "protocol": "udp",
        "dst_port": "6000-7000",
    }
    with laboratory(
        firewall={"mode": "block", "rules": [deny]},
        alerting={"dedup_window_secs": 0, "throttle_max": 0},
    ) as lab:
        followers = [Follower(lab, "grpc"), Follower(lab, "socket")]
        with lab.inside(lab.sender):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        def packet(number: int) -> tuple[int, str]:
            began = time.time_ns()
            sender.sendto(b"x", (GUARDED, 6000 + number))
            return began, f"{6000 + number} "

        program = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))

        def execute(number: int) -> tuple[int, str]:
            path = program / f"probe{number}-"
            shutil.copy("/bin/true", path)
            began = time.time_ns()
            subprocess.run([path], check=True)
            return began, path.name

        try:
            found = {"packet": latencies(followers, packet), "exec": latencies(followers, execute)}
        finally:
            shutil.rmtree(program)
            sender.close()
            for follower in followers:
                follower.close()
    return [
        row(f"alert, {cause} to {kind} client, p{p}", "ms", *goal, at(taken, p))
        for cause, kinds in found.items()
        for kind, taken in zip(("gRPC", "WebSocket"), kinds, strict=True)
        for p, goal in ((50, (50, 10)), (99, (200, 50)))
    ]


def everything(folder: Path) -> dict[str, Any]:
    """All of the API and the pipeline on; ``folder`` gets the certificates and keys."""
    now = dt.datetime.now(dt.UTC)
    ca = pki.authority("bench", now)
    pki.write(folder, "ca", ca)
    pki.write(folder, "server", pki.server("bench", ["127.0.0.1"], ca, now))
    tls = {"enabled": True, "client_auth": "optional", "client_ca_path": f"{folder}/ca.pem"}
    tls |= {"cert_path": f"{folder}/server.pem", "key_path": f"{folder}/server.key"}
    jwt = {"jwks_path": f"{folder}/keys.json", "algorithm": "EdDSA"}
    (folder / "keys.json").write_text(json.dumps({"keys": [_KEY]}))
    auth = {"enabled": True, "jwt": jwt, "api_keys": [{"name": "a", "key": "k" * 40}]}
    hook = {"name": "hook", "destination": "webhook", "webhook_url": "http://127.0.0.1:9/"}
    alerting = {"allow_private": True, "routes": [hook]}
    return {"agent": {"grpc_reflection": True}, "tls": tls, "auth": auth, "alerting": alerting}


def memory() -> list[dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        laboratory(**everything(Path(folder)), firewall={"mode": "block"}) as lab,
    ):
        time.sleep(5)
        found = _rss_mb(lab.agents[0].process.pid)
    return [row("resident memory, all of the API and the pipeline on, idle", "MB", 150, 110, found)]


_KEY = {
    "kty": "OKP", "crv": "Ed25519", "kid": "1", "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}  # fmt: skip


def at(taken: list[float], percent: int) -> float:
    """A percentile in milliseconds."""
    return round(statistics.quantiles(taken, n=100, method="inclusive")[percent - 1] * 1000, 2)


def row(name: str, unit: str, must: float, aim: float, value: float) -> dict[str, Any]:
    found = round(value, 2)
    return {"name": name, "unit": unit, "must": must, "aim": aim, "median": found,
            "spread": [found, found], "runs": 1}  # fmt: skip


def rounds(part: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A part several times over, the median of each of its rows: the machine is not ours alone."""
    made = [part() for _ in range(ROUNDS)]
    for nth, first in enumerate(made[0]):
        values = [each[nth]["median"] for each in made]
        first |= {
            "median": statistics.median(values),
            "spread": [min(values), max(values)],
            "runs": ROUNDS,
        }
    return made[0]


def run() -> list[dict[str, Any]]:
    """All figures."""
    return [*rounds(reads), *rounds(writes), *alerts(), *memory()]


if __name__ == "__main__":
    parts = {"reads": reads, "writes": writes, "alerts": alerts, "memory": memory}
    for part in sys.argv[1:] or parts:
        for each in parts[part]():
            print(json.dumps(each))
