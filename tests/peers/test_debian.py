"""The Debian package in a clean Debian, under traffic: installed, upgraded, rolled back, purged.

First without systemd, as in many a container: the package's scripts must do without, and the test
starts the agent. Then in a container that systemd has booted, with the units as they are. From the
first start to the removal every packet is judged: the deny rule counts exactly what was sent,
nothing of it arrives, and one TCP connection lives all along.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import artefacts
import pytest

from tests.lab import GUARDED, Lab, inside
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DENIED, OPEN, ECHO = 5353, 5354, 7777
CONFIG = """\
agent:
  interfaces: [guard0]
  privilege_separation: true
firewall:
  mode: block
  rules:
    - {id: no-udp, priority: 10, action: deny, protocol: udp, dst_port: 5353}
"""
NEEDED = ("python3", "adduser", "libbpf1", "libseccomp2", "libstdc++6", "zlib1g",
          "systemd", "systemd-sysv")  # fmt: skip
OLD, NEW, BAD = "1.0.0", "1.0.1", "1.0.2"


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two versions, built from this tree."""
    out = tmp_path_factory.mktemp("packages")
    quick = {"DPKG_DEB_COMPRESSOR_TYPE": "zstd", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
    found = {}
    for version in (OLD, NEW):
        command = [sys.executable, "-m", "deploy.debian", "--version", version, "--out", str(out)]
        done = subprocess.run(
            command, cwd=artefacts.CACHE.parent, env=os.environ | quick,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found[version] = Path(done.stdout.strip())
    return found


class Host:
    """A Debian of its own below a folder, in the network namespace of the lab's guarded host."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab, self.root = lab, root
        self.agent: subprocess.Popen[str] | None = None

    def run(self, *command: str, code: int = 0) -> str:
        done = self.lab.run(self.lab.guarded, "chroot", str(self.root), *command)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *verb: str) -> Any:
        return json.loads(self.run("ebpfsentinel-agent", "-o", "json", *verb))

    def install(self, package: Path) -> None:
        (self.root / "tmp" / package.name).write_bytes(package.read_bytes())
        self.run("dpkg", "--install", f"/tmp/{package.name}")

    def start(self) -> None:
        """Returns once the agent guards."""
        with (self.root / "tmp/log").open("a") as log:
            self.agent = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.lab.guarded}", "chroot", str(self.root),
                 "/usr/bin/ebpfsentinel-agent"],
                stdout=subprocess.PIPE, stderr=log, text=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        lines: list[str] = []
        while "Ctrl-C" not in (line := self.agent.stdout.readline()):
            lines.append(line)
            assert line, f"{lines}\n{(self.root / 'tmp/log').read_text()}"

    def ended(self) -> int:
        assert self.agent is not None
        code = self.agent.wait(60)
        self.agent.stdout.close()
        self.agent = None
        return code

    @contextlib.contextmanager
    def supervised(self) -> Iterator[None]:
        """Whenever the agent ends, something starts it again; from when it is ready."""
        over = self.root / "tmp/over"
        loop = "while [ ! -e /tmp/over ]; do ebpfsentinel-agent >>/tmp/log 2>&1; sleep 0.2; done"
        command = ["nsenter", f"--net=/run/netns/{self.lab.guarded}", "chroot", str(self.root),
                   "sh", "-c", loop]  # fmt: skip
        with subprocess.Popen(command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}):
            try:
                until(self.is_ready)
                yield
            finally:
                over.touch()
                self.run("ebpfsentinel-agent", "hand-over")

    def is_ready(self) -> bool:
        command = ["chroot", str(self.root), "ebpfsentinel-agent", "health"]
        return self.lab.run(self.lab.guarded, *command).returncode == 0

    def said(self, *command: str) -> str:
        done = self.lab.run(self.lab.guarded, "chroot", str(self.root), *command)
        return done.stdout + done.stderr

    def files(self) -> set[str]:
        """What has the product's name, but for the kernel's and ours."""
        command = ["find", "/", "("]
        for place in ("/proc", "/sys", "/dev", "/tmp", "/opt"):
            command += ["-path", place, "-o"]
        command += ["-false", ")", "-prune", "-o", "-iname", "*ebpfsentinel*", "-print"]
        return set(self.run(*command).split())


@contextlib.contextmanager
def layered(tmp_path: Path) -> Iterator[tuple[Path, Callable[..., None]]]:
    """The cached root, every change in a layer of its own; and mount(8), undone at the end."""
    base = artefacts.debian_root(*NEEDED)
    top = tmp_path / "root"
    top.mkdir()

    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", *arguments], check=True)

    mount("-t", "tmpfs", "none", top)
    try:
        upper, work, root = (top / name for name in ("upper", "work", "merged"))
        for folder in (upper, work, root):
            folder.mkdir()
        layers = f"lowerdir={base},upperdir={upper},workdir={work}"
        mount("-t", "overlay", "overlay", "-o", layers, root)
        yield root, mount
    finally:
        subprocess.run(["umount", "-R", "-l", top], check=True)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Without systemd. The pins are its own too."""
    with contextlib.closing(Lab(tmp_path)) as lab, layered(tmp_path) as (root, mount):
        mount("-t", "proc", "proc", root / "proc")
        mount("--bind", "/dev", root / "dev")
        mount("-t", "sysfs", "sysfs", root / "sys")
        mount("-t", "bpf", "bpf", root / "sys/fs/bpf")
        mount("-t", "tracefs", "tracefs", root / "sys/kernel/tracing")
        mount("--rbind", "/sys/fs/cgroup", root / "sys/fs/cgroup")
        made = Host(lab, root)
        try:
            yield made
        finally:
            if made.agent is not None:
                made.agent.terminate()
                made.ended()


class Booted(Host):
    """A Debian of its own that systemd has booted (systemd-nspawn(1))."""

    def __init__(self, lab: Lab, root: Path, leader: int) -> None:
        super().__init__(lab, root)
        self.leader = leader

    def said(self, *command: str) -> str:
        return "".join(self._call(*command)[1:])

    def run(self, *command: str, code: int = 0) -> str:
        found, out, problem = self._call(*command)
        assert found == code, f"{command}: {out}{problem}\n{self.journal()}"
        return out

    def _call(self, *command: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["nsenter", "--all", f"--target={self.leader}", *command],
            capture_output=True, text=True, check=False, timeout=120,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def install(self, package: Path) -> None:
        (self.root / "opt" / package.name).write_bytes(package.read_bytes())
        self.run("dpkg", "--install", f"/opt/{package.name}")

    def journal(self) -> str:
        return self._call("journalctl", "--no-pager", "-n", "40", "-u", "ebpfsentinel*")[1]

    def mounts(self, unit: str) -> str:
        """The mount namespace of a unit's process."""
        pid = self.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
        return self.run("readlink", f"/proc/{pid}/ns/mnt")

    def active(self) -> list[str]:
        """What systemd says of keeper and agent."""
        units = ("ebpfsentinel-keeper.service", "ebpfsentinel.service")
        return self._call("systemctl", "is-active", *units)[1].split()


def up(container: subprocess.Popen[bytes]) -> int:
    """The container's first process, once systemd is up in there."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")

    def leader() -> int:
        for pid in children.read_text().split():
            command = ["nsenter", "--all", f"--target={pid}", "systemctl", "is-system-running"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.stdout.strip() in ("running", "degraded"):
                return int(pid)
        return 0

    return until(leader, every_s=0.2)


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Booted]:
    """With systemd, up and running."""
    groups = set(Path("/sys/fs/cgroup").glob("*/*"))
    with contextlib.closing(Lab(tmp_path)) as lab, layered(tmp_path) as (root, _):
        command = [
            artefacts.tool("systemd-nspawn"), "--quiet", "--boot", f"--directory={root}",
            f"--machine={lab.guarded}", "--register=no", "--keep-unit", "--console=pipe",
            f"--network-namespace-path=/run/netns/{lab.guarded}", "--capability=all",
            "--system-call-filter=bpf perf_event_open @mount",
        ]  # fmt: skip
        container = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
        )
        try:
            yield Booted(lab, root, up(container))
        finally:
            container.terminate()
            container.wait(60)
    for group in sorted(set(Path("/sys/fs/cgroup").glob("*/*")) - groups):
        for folder in sorted((path for path in [group, *group.rglob("*")] if path.is_dir()),
                             reverse=True):  # fmt: skip
            folder.rmdir()


class Traffic:
    """Numbered datagrams to a denied port and to an open one, and one TCP connection, all along."""

    def __init__(self, lab: Lab) -> None:
        with inside(lab.guarded):
            self.denied = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.open = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.listener = socket.create_server((GUARDED, ECHO))
        for door, port in ((self.denied, DENIED), (self.open, OPEN)):
            door.bind((GUARDED, port))
            door.setblocking(False)
        with inside(lab.sender):
            self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.client = socket.create_connection((GUARDED, ECHO))
        self.client.settimeout(60)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.served, _ = self.listener.accept()
        self.sent = self.echoed = self.passed = self.leaked = 0
        self.slowest_s = 0.0
        self.over = threading.Event()
        self.broken = ""
        self.threads = [threading.Thread(target=each) for each in (self.serve, self.carry)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def stop(self) -> None:
        """No more is sent; what was sent has come to its end."""
        self.over.set()
        self.threads[1].join()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.shutdown(socket.SHUT_WR)
        self.threads[0].join()
        for door in (self.denied, self.open, self.listener, self.sender, self.client, self.served):
            door.close()

    def serve(self) -> None:
        while data := self.served.recv(4096):
            self.served.sendall(data)

    def carry(self) -> None:
        """Every two milliseconds one of each; what comes back is what was sent."""
        while not self.over.wait(0.002):
            self.sender.sendto(b"%d" % self.sent, (GUARDED, DENIED))
            self.sender.sendto(b"%d" % self.sent, (GUARDED, OPEN))
            self.sent += 1
            self.leaked += self.taken(self.denied)
            self.passed += self.taken(self.open)
            self.echo(b"%08d" % self.sent)

    def echo(self, word: bytes) -> None:
        began = time.monotonic()
        try:
            self.client.sendall(word)
            back = self.client.recv(64)
        except OSError as error:
            self.broken = str(error)
            self.over.set()
            return
        if back != word:
            self.broken = f"{word!r} came back as {back!r}"
        self.echoed += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    @staticmethod
    def taken(door: socket.socket) -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while door.recv(64):
                count += 1
        return count


def rule(host: Host) -> int:
    found = {each["id"]: each for each in host.ask("firewall", "list")}
    return int(found["no-udp"]["packets"])


@pytest.mark.timeout(600)
def test_installed_upgraded_rolled_back_and_purged_under_traffic(
    host: Host, packages: dict[str, Path]
) -> None:
    before = host.files()
    host.install(packages[OLD])
    assert "ebpfsentinel" in host.run("getent", "passwd", "ebpfsentinel")
    assert host.run("stat", "-c", "%U:%G %a", "/etc/ebpfsentinel/config.yaml") == (
        "root:ebpfsentinel 640\n"
    )
    host.run("ebpfsentinel-agent", "config", "check")
    (host.root / "etc/ebpfsentinel/config.yaml").write_text(CONFIG)
    host.start()
    with Traffic(host.lab) as traffic:
        for package, version in ((packages[NEW], NEW), (packages[OLD], OLD)):
            host.install(package)  # the running agent hands over
            assert host.ended() == 0
            host.start()
            assert host.ask("status")["version"] == version
            assert (host.root / "etc/ebpfsentinel/config.yaml").read_text() == CONFIG
        assert traffic.broken == ""
    assert (traffic.leaked, traffic.passed) == (0, traffic.sent)
    assert traffic.sent == rule(host) > 100
    host.run("dpkg", "--remove", "ebpfsentinel")
    assert host.ended() == 0
    assert host.lab.arrivals(DENIED) == 20
    assert (host.root / "var/lib/ebpfsentinel/ebpfsentinel.db").exists()
    host.run("dpkg", "--purge", "ebpfsentinel")
    assert host.files() == before
    assert host.run("getent", "passwd", "ebpfsentinel", code=2) == ""
    assert not [path for path in (host.root / "sys/fs/bpf").iterdir() if path.is_dir()]
    print(f"{traffic.sent} of each, slowest echo {traffic.slowest_s * 1000:.0f} ms")


BRINGS_UP = """
import sqlite3
with sqlite3.connect("/var/lib/ebpfsentinel/ebpfsentinel.db") as database:
    database.execute("PRAGMA user_version = 999")
"""
"""What a newer version might do to the database before it fails."""


def spoilt(package: Path, folder: Path, first: str = "") -> Path:
    """The package, with an agent that takes every configuration and never starts."""
    target = folder / "spoilt.deb"
    subprocess.run(["dpkg-deb", "-R", package, folder / "spoilt"], check=True)
    run = folder / "spoilt/usr/lib/ebpfsentinel/packages/ebpfsentinel/cli/run.py"
    run.write_text(f"{first}\nraise SystemExit('this version does not run')\n")
    for path in (run.parent / "__pycache__").glob("run.*.pyc"):
        path.unlink()
    control = folder / "spoilt/DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {NEW}", f"Version: {BAD}"))
    command = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "-b", folder / "spoilt", target]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.mark.timeout(600)
def test_the_upgrade_verb_goes_back_by_itself_and_nothing_is_unjudged(
    host: Host, packages: dict[str, Path], tmp_path: Path
) -> None:
    host.install(packages[OLD])
    (host.root / "etc/ebpfsentinel/config.yaml").write_text(CONFIG)
    bad = spoilt(packages[NEW], tmp_path)
    for path in (packages[NEW], bad):
        (host.root / "tmp" / path.name).write_bytes(path.read_bytes())
    with host.supervised(), Traffic(host.lab) as traffic:
        told = host.ask("upgrade", f"/tmp/{packages[NEW].name}")
        assert (told["version"], told["before"]) == (NEW, OLD)
        assert host.ask("status")["version"] == NEW
        words = ("ebpfsentinel-agent", "upgrade", "--within", "5", "/tmp/spoilt.deb")
        said = host.said(*words)
        assert f"Version {BAD} is not in use" in said
        assert f"Version {NEW} runs again" in said
        assert host.ask("status")["version"] == NEW
        assert host.run("dpkg-query", "-W", "-f", "${Version}", "ebpfsentinel") == NEW
        assert traffic.broken == ""
        traffic.stop()
        assert (traffic.leaked, traffic.passed) == (0, traffic.sent)
        assert traffic.sent == rule(host) > 100
    print(f"{traffic.sent} of each, slowest echo {traffic.slowest_s * 1000:.0f} ms")


@pytest.mark.timeout(600)
def test_systemd_runs_both_halves_and_upgrades_leave_no_gap(
    booted: Booted, packages: dict[str, Path], tmp_path: Path
) -> None:
    before = booted.files()
    booted.install(packages[OLD])
    assert booted.active() == ["active", "active"]
    assert "guard0" in json.dumps(booted.ask("ebpf", "status")["interfaces"])
    host_mounts = booted.run("readlink", "/proc/1/ns/mnt")
    assert booted.mounts("ebpfsentinel-keeper") == host_mounts
    assert booted.mounts("ebpfsentinel") != host_mounts
    (booted.root / "etc/ebpfsentinel/config.yaml").write_text(CONFIG)
    booted.run("systemctl", "restart", "ebpfsentinel")
    bad = spoilt(packages[NEW], tmp_path, BRINGS_UP)
    (booted.root / "opt/spoilt.deb").write_bytes(bad.read_bytes())
    with Traffic(booted.lab) as traffic:
        booted.install(packages[NEW])
        assert booted.active() == ["active", "active"]
        assert booted.ask("status")["version"] == NEW
        said = booted.said("ebpfsentinel-agent", "upgrade", "--within", "10", "/opt/spoilt.deb")
        assert f"Version {NEW} runs again" in said, said + booted.journal()
        assert booted.active() == ["active", "active"]
        assert booted.ask("status")["version"] == NEW
        assert booted.ask("audit", "logs", "--action", "restored")["total"] == 1
        assert traffic.broken == ""
        traffic.stop()
        assert (traffic.leaked, traffic.passed) == (0, traffic.sent)
        assert traffic.sent == rule(booted) > 100
    booted.run("systemctl", "stop", "ebpfsentinel")
    assert booted.lab.arrivals(DENIED) == 20
    booted.install(packages[OLD])
    assert booted.active() == ["active", "inactive"]  # who stopped it meant it
    booted.run("dpkg", "--purge", "ebpfsentinel")
    assert booted.files() == before
    assert not [path for path in booted.run("ls", "/sys/fs/bpf").split() if "debug" not in path]
    print(f"{traffic.sent} of each, slowest echo {traffic.slowest_s * 1000:.0f} ms")
