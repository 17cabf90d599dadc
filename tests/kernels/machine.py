"""A virtual machine on one of the kernels, whose root is this machine's own, read-only.

QEMU emulates (TCG), so that it runs anywhere; **one** thread, since with several the guest hangs
when programs come and go under load. The guest sees ``/`` by virtiofs under an overlay in memory:
what it writes is lost. It has no network but what it makes itself. Process 1 is ``smoke.py``,
which writes its findings, JSON, to the second serial port and switches the machine off.
"""

from __future__ import annotations

import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kernels.packages import Kernel

_VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
_MODULES = ("virtio_pci", "virtiofs", "overlay")
_PROJECT = Path(__file__).resolve().parents[2]
_MEMORY = "2G"
TIMEOUT_S = 600
# bpf must be named: without it LSM programs load and attach without error, and never run.
_PARAMETERS = (
    "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off lsm=lockdown,capability,yama,bpf"
)
_INIT = """#!/bin/busybox sh
bb=/bin/busybox
fail() { echo "guest: $*" >/dev/console; $bb poweroff -f; }
$bb mkdir -p /proc /sys /dev /low /up /new
$bb mount -t devtmpfs dev /dev; $bb mount -t proc proc /proc; $bb mount -t sysfs sysfs /sys
while read -r module; do $bb insmod "$module" || echo "no $module" >/dev/console; done </modules
$bb mount -t virtiofs -o ro host /low || fail "cannot mount the host's root"
$bb mount -t tmpfs -o mode=755 tmpfs /up; $bb mkdir /up/upper /up/work
layers=lowerdir=/low,upperdir=/up/upper,workdir=/up/work
$bb mount -t overlay -o $layers overlay /new || fail "no overlay"
for each in dev sys proc; do $bb mount --move /$each /new/$each; done
exec $bb switch_root /new @PYTHON@ @SMOKE@ @MODULES@
"""


class GuestError(Exception):
    """The guest did not start or ended without findings; the text has its last words."""


def boot(kernel: Kernel) -> dict[str, Any]:
    """Run ``smoke.py`` on the kernel and return what it found.

    Raises:
        GuestError: it found nothing within :data:`TIMEOUT_S` seconds.
    """
    if not _VIRTIOFSD.exists():
        raise GuestError(f"{_VIRTIOFSD} is missing: 'make test-kernels' installs it on Debian 12")
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        return _boot(kernel, Path(folder))


def _boot(kernel: Kernel, folder: Path) -> dict[str, Any]:
    share = subprocess.Popen(
        [_VIRTIOFSD, f"--socket-path={folder}/host.sock", "-o", "source=/",
         "-o", "cache=always", "-o", "sandbox=chroot", "-o", "log_level=err"],
        stdout=subprocess.DEVNULL,
        stderr=(folder / "share.log").open("w"),
    )  # fmt: skip
    try:
        _await_socket(folder, share)
        with (folder / "qemu.log").open("w") as log:
            code = subprocess.run(
                _command(kernel, folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                timeout=TIMEOUT_S,
            ).returncode
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        share.kill()
        share.wait()
    return _findings(kernel, folder, code)


def _await_socket(folder: Path, share: subprocess.Popen[bytes]) -> None:
    while not (folder / "host.sock").exists():
        if share.poll() is not None:
            raise GuestError(f"virtiofsd: {(folder / 'share.log').read_text()}")
        time.sleep(0.02)


def _command(kernel: Kernel, folder: Path) -> list[str]:
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-machine", "q35",
        "-smp", "2", "-m", _MEMORY, "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot",
        "-object", f"memory-backend-memfd,id=mem,size={_MEMORY},share=on",
        "-numa", "node,memdev=mem",
        "-chardev", f"socket,id=host,path={folder}/host.sock",
        "-device", "vhost-user-fs-pci,chardev=host,tag=host,queue-size=1024",
        "-serial", f"file:{folder}/console", "-serial", f"file:{folder}/findings",
        "-kernel", str(kernel.root / "vmlinuz"), "-initrd", str(_initrd(kernel, folder)),
        "-append", _PARAMETERS,
    ]  # fmt: skip


def _initrd(kernel: Kernel, folder: Path) -> Path:
    """What is needed to reach the shared root: busybox and a few modules."""
    tree = folder / "initrd"
    (tree / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise GuestError("busybox is missing: 'make test-kernels' installs it")
    shutil.copy(busybox, tree / "bin/busybox")
    (tree / "modules").write_text("".join(f"/{name}\n" for name in _modules(kernel, tree)))
    init = tree / "init"
    text = _INIT.replace("@PYTHON@", sys.executable)
    text = text.replace("@SMOKE@", str(Path(__file__).with_name("smoke.py")))
    init.write_text(text.replace("@MODULES@", str(kernel.root / "lib/modules")))
    init.chmod(0o755)
    made = folder / "initrd.cpio"
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    with made.open("wb") as out:
        subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"],
            input=names.encode(), stdout=out, cwd=tree, check=True,
        )  # fmt: skip
    return made


def _modules(kernel: Kernel, tree: Path) -> list[str]:
    """Unpack the modules with all they depend on; file names in the order of loading."""
    names: dict[str, None] = {}
    for module in _MODULES:
        listed = subprocess.run(
            ["modprobe", "-d", str(kernel.root), "-S", kernel.release, "--show-depends", module],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for line in listed.splitlines():
            if not line.startswith("insmod "):
                continue  # built in
            path = Path(line.split()[1])
            name = path.name.removesuffix(".xz")
            raw = path.read_bytes()
            (tree / name).write_bytes(lzma.decompress(raw) if path.suffix == ".xz" else raw)
            names[name] = None
    return list(names)


def _findings(kernel: Kernel, folder: Path, code: int) -> dict[str, Any]:
    console, findings = folder / "console", folder / "findings"
    text = console.read_text(errors="replace") if console.exists() else ""
    try:
        found: dict[str, Any] = json.loads(findings.read_text())
    except (OSError, ValueError):
        said = (folder / "qemu.log").read_text() if (folder / "qemu.log").exists() else ""
        raise GuestError(
            f"{kernel.release}: no findings (qemu ended with {code}); last words:\n"
            f"{said}{text[-3000:]}"
        ) from None
    found["complaints"] = [
        line for line in text.splitlines() if "WARNING:" in line or "BUG:" in line
    ]
    return found
