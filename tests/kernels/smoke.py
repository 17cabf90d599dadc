"""Process 1 of the guest: load, attach, judge real packets, see a process; then switch off.

Every step is tried by itself, so that one table shows all that a kernel lacks. A step that fails
leaves the reason in the findings, as the kernel gave it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
import termios
import time
import traceback
import tty
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOUNTS = (
    ("tmpfs", "/run", "mode=755"),
    ("devpts", "/dev/pts", "mode=620"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", "rw"),
    ("bpf", "/sys/fs/bpf", "mode=700"),
    ("securityfs", "/sys/kernel/security", "rw"),
)
POWER_OFF = 0x4321FEDC
UDP, DENIED, ALLOWED = 17, 7001, 7002
SO_RCVBUFFORCE = 33
COUNT = 30  # where XDP copies them, each takes a page of the receive buffer


def set_up(modules: str) -> None:
    """What an init does: mounts, modules within reach, loopback; one CPU, so that order holds."""
    os.sched_setaffinity(0, {0})
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for kind, where, options in MOUNTS:
        Path(where).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, "-o", options, kind, where], check=False)
    release = os.uname().release
    Path("/lib/modules").mkdir(exist_ok=True)
    Path(f"/lib/modules/{release}").symlink_to(f"{modules}/{release}")
    subprocess.run(["modprobe", "-a", "veth", "sch_ingress", "cls_bpf"], check=False)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


class Smoke:
    """The steps, and what they found."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {
            "release": os.uname().release,
            "lsm": Path("/sys/kernel/security/lsm").read_text().strip(),
            "errors": {},
        }

    def step(self, name: str, run: Callable[[], Any]) -> Any:
        """One step; its answer or its error goes into the findings."""
        began = time.monotonic()
        try:
            self.found[name] = run()
        except BaseException as error:  # noqa: BLE001 (whatever it was belongs into the table)
            traceback.print_exc()
            self.found["errors"][name] = f"{type(error).__name__}: {error}"[:4000]
        sys.stdout.write(f"smoke: {name}: {time.monotonic() - began:.1f} s\n")
        return self.found.get(name)

    def run(self) -> None:
        """All steps."""
        self.step("programs", programs)
        for mode in ("auto", "generic", "tc"):
            self.step(f"packets {mode}", lambda mode=mode: packets(mode))
            self.step(f"copies {mode}", lambda mode=mode: copies(mode))
        self.step("routes", routes)
        self.step("exec", execs)


def programs() -> list[dict[str, Any]]:
    """What of all domains loads and attaches, on an interface of its own."""
    from ebpfsentinel import domains  # noqa: PLC0415
    from ebpfsentinel.config import discover  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.network import Network  # noqa: PLC0415
    from ebpfsentinel.kernel.load import LinuxKernel  # noqa: PLC0415
    from ebpfsentinel.model.kernel import KernelError  # noqa: PLC0415

    network = Network()
    kernel = LinuxKernel()
    loaded: list[Any] = []
    refused = []
    try:
        for card in discover(domains):
            try:
                kernel.load([*loaded, card])
                loaded.append(card)
            except KernelError as error:
                refused.append(
                    {"name": "all", "domain": card.name, "loaded": False, "needed": True,
                     "reason": str(error).splitlines()[0]}
                )  # fmt: skip
        network.agent.call(kernel.attach, [network.agent.device])
        return refused + [
            {"name": p.name, "domain": p.domain, "loaded": p.loaded, "attached": bool(p.attached),
             "hook": p.hook, "reason": p.reason}
            for p in kernel.programs()
        ]  # fmt: skip
    finally:
        network.agent.call(kernel.detach)
        network.close()


def packets(mode: str) -> dict[str, Any]:
    """A firewall between two namespaces: real datagrams, and one frame by ``BPF_PROG_RUN``."""
    import msgspec  # noqa: PLC0415

    from ebpfsentinel.domains.firewall import DOMAIN  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.settings import FirewallRule  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.judge import Judge  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.network import Network  # noqa: PLC0415
    from ebpfsentinel.kernel.load import LinuxKernel  # noqa: PLC0415
    from ebpfsentinel.model.kernel import XdpMode  # noqa: PLC0415

    network = Network()
    kernel = network.agent.call(LinuxKernel, xdp_mode=XdpMode(mode))
    try:
        network.agent.call(kernel.load, [DOMAIN])
        judge = Judge(kernel)
        written = {"id": "no", "priority": 1, "action": "deny", "protocol": "udp"}
        judge.rules(msgspec.convert(written | {"dst_port": DENIED}, FirewallRule))
        network.agent.call(kernel.attach, [network.agent.device])
        (place,) = kernel.attachments()
        found: dict[str, Any] = {"how": place.how, "reason": place.reason, "sent": COUNT}
        hooks = kernel._places[network.agent.device].hooks
        found["tc"] = "" if "tc" not in hooks else "tcx" if hooks["tc"].fd >= 0 else "clsact"
        for name, family in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
            arrived = arrivals(network, family)
            found[name] = [arrived[DENIED], arrived[ALLOWED]]
        found["run"] = {p: kernel.run("xdp_root", frame(p)).retval for p in (DENIED, ALLOWED)}
        found["events"] = len(kernel.drain("fw_events"))
        found["failures"] = {name: n for name, n in kernel.failures().items() if n}
        return found
    finally:
        network.agent.call(kernel.detach)
        network.close()


def copies(mode: str) -> dict[str, Any]:
    """Rules with a mirror: what leaves by it of packets that are denied, and of others."""
    import msgspec  # noqa: PLC0415

    from ebpfsentinel.domains.firewall.settings import FirewallRule  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.guard import Guard  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.network import Network  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.tests.wire import raw  # noqa: PLC0415
    from ebpfsentinel.model.kernel import XdpMode  # noqa: PLC0415

    network = Network()
    agent = network.agent
    guard = Guard(network, XdpMode(mode))
    try:
        agent.ip("link", "add", "mon0", "type", "veth", "peer", "tap0")
        for device in ("mon0", "tap0"):
            agent.ip("link", "set", device, "up")
        gro = ["ethtool", "-K", "tap0", "gro", "on"]  # which gives a veth its NAPI, Linux 5.13
        agent.call(subprocess.run, gro, check=False)
        guard.attach()
        links = agent.call(lambda: {name: index for index, name in socket.if_nameindex()})
        rules = [
            {"id": f"r{port}", "priority": 1, "action": action, "dst_port": port, "mirror": "mon0"}
            | ({"cpu": 0} if action == "allow" else {})
            for port, action in ((DENIED, "deny"), (ALLOWED, "allow"))
        ]
        made = [msgspec.convert(rule, FirewallRule) for rule in rules]
        agent.call(guard.judge.rules, *made, around={"links": links, "cpus": 2})
        tap = agent.call(raw, "tap0")
        tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        arrived = arrivals(network, socket.AF_INET)
        seen = dict.fromkeys((DENIED, ALLOWED), 0)
        tap.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while min(seen.values()) < COUNT:
                port = int.from_bytes(tap.recv(2048)[36:38], "big")
                if port in seen:
                    seen[port] += 1
        tap.close()
        counted = guard.kernel.total("fw_copies")[0]
        steered = not guard.kernel.failures()["cpu"]
        told = {name: int(counted[name]) for name in counted.dtype.names}
        return {"seen": seen, "arrived": arrived, "counted": told, "steered": steered}
    finally:
        guard.close()
        network.close()


def routes() -> list[str]:
    """Where the host's routing leads a packet to itself, and one to nowhere."""
    from ebpfsentinel.domains.firewall.tests.network import Network  # noqa: PLC0415
    from ebpfsentinel.kernel.routes import routes as ask  # noqa: PLC0415
    from ebpfsentinel.model.kernel import Way  # noqa: PLC0415

    network = Network()
    agent, peer = network.agent, network.peer
    try:
        index = agent.call(socket.if_nametoindex, agent.device)
        ways = [Way(peer.ipv4, to, index) for to in (agent.ipv4, "192.0.2.1")]
        return [found.route for found in agent.call(ask, ways)]
    finally:
        network.close()


def arrivals(network: Any, family: int) -> dict[int, int]:
    """How many of ``COUNT`` datagrams arrive at the denied and at the allowed port."""
    agent, peer = network.agent, network.peer
    to = agent.ipv4 if family == socket.AF_INET else agent.ipv6
    sender = peer.socket(socket.SOCK_DGRAM, 0, family)
    receivers = {port: agent.socket(socket.SOCK_DGRAM, port, family) for port in (DENIED, ALLOWED)}
    for _ in range(COUNT):
        for port in receivers:
            sender.sendto(b"x", (to, port))
    arrived = dict.fromkeys(receivers, 0)
    for port in (ALLOWED, DENIED):  # behind the last allowed one no denied one comes
        with contextlib.suppress(TimeoutError, BlockingIOError):
            while arrived[port] < COUNT and receivers[port].recv(16):
                arrived[port] += 1
        receivers[DENIED].setblocking(False)
    for each in (sender, *receivers.values()):
        each.close()
    return arrived


def frame(port: int) -> bytes:
    """A UDP datagram to ``port``."""
    from ebpfsentinel.domains.firewall.tests.packets import Packet, frame  # noqa: PLC0415

    return frame(Packet(4, 0x0A4D0002, 0x0A4D0001, UDP, (4000, port)))


def execs() -> dict[str, Any]:
    """A process is executed: its event must come, with the right pid."""
    from ebpfsentinel.domains.process import DOMAIN  # noqa: PLC0415
    from ebpfsentinel.kernel.load import LinuxKernel  # noqa: PLC0415

    kernel = LinuxKernel()
    try:
        kernel.load([DOMAIN])
        kernel.attach([])
        child = subprocess.Popen(["/bin/true", "smoke"])
        child.wait()
        seen = {ring: kernel.drain(ring) for ring in kernel.rings()}
        return {
            ring: int((rows["pid"] == child.pid).sum())
            for ring, rows in seen.items()
            if "pid" in (rows.dtype.names or ())
        } | {"seeds": {program: len(kernel.seed(program)) for program in kernel.seeds()}}
    finally:
        kernel.detach()


def tell(found: dict[str, Any]) -> None:
    """To the second serial port, as it is."""
    with Path("/dev/ttyS1").open("wb", buffering=0) as port:
        tty.setraw(port.fileno())
        port.write(json.dumps(found).encode())
        termios.tcdrain(port.fileno())


def main() -> None:
    """Never returns: the machine is switched off."""
    console = os.open("/dev/console", os.O_WRONLY)
    os.dup2(console, 1)
    os.dup2(console, 2)
    sys.stdout.reconfigure(line_buffering=True)
    try:
        set_up(sys.argv[1])
        smoke = Smoke()
        smoke.run()
        tell(smoke.found)
    except BaseException:  # noqa: BLE001 (process 1 must not end)
        traceback.print_exc()
    finally:
        os.sync()
        ctypes.CDLL(None).reboot(POWER_OFF)


if __name__ == "__main__":
    main()
