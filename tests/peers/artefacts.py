"""What peers are made of, fetched once by the clients of their registries and kept in ``.peers/``.

Nothing here names a registry: Maven, Go and apt go where the machine says. What a machine lacks
fails by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".peers"
GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.8.9"
HELM = "helm.sh/helm/v3/cmd/helm@v3.14.4"
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.1.3"
KUBECTL = "k8s.io/kubectl@v0.29.0"
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


def artefact(coordinates: str) -> Path:
    """One Maven artefact, ``group:name:version:packaging``, as a file."""
    _, name, version, packaging = coordinates.split(":")
    kept = CACHE / "maven" / f"{name}-{version}.{packaging}"
    if not kept.exists():
        _maven(f"{_PLUGIN}:copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={kept.parent}")
    return kept


def libraries(pom: Path) -> Path:
    """The folder of all jars that a Maven project depends on."""
    kept = CACHE / pom.parent.name
    stamp = kept / "complete"
    if not stamp.exists() or stamp.read_bytes() != pom.read_bytes():
        shutil.rmtree(kept, ignore_errors=True)
        _maven("-f", str(pom), f"{_PLUGIN}:copy-dependencies", f"-DoutputDirectory={kept}")
        stamp.write_bytes(pom.read_bytes())
    return kept


def go_program(module: str) -> Path:
    """A program of a Go module, ``path@version``, built."""
    path, version = module.split("@")
    kept = CACHE / "go" / version / path.rsplit("/", 1)[-1]
    if not kept.exists():
        _run([tool("go"), "install", module], GOBIN=str(kept.parent))
    return kept


def go_module(module: str) -> Path:
    """The folder of a Go module, ``path@version``; the module itself is not built."""
    done = _run([tool("go"), "mod", "download", "-json", module], cwd=Path("/"))
    return Path(json.loads(done)["Dir"])


def debian_package(name: str) -> Path:
    """A Debian package, unpacked and not installed: its service does not start."""
    kept = CACHE / "debian" / name
    if not kept.exists():
        scratch = CACHE / "debian" / f"{name}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        scratch.chmod(0o777)  # apt fetches as a user of its own
        _run([tool("apt-get"), "download", "-qq", name], cwd=scratch)
        (package,) = scratch.glob("*.deb")
        _run([tool("dpkg-deb"), "-x", str(package), str(scratch)])
        package.unlink()
        scratch.rename(kept)
    return kept


def debian_root(*packages: str) -> Path:
    """A Debian 12 with no more than these packages and what they need."""
    kept = CACHE / "debian-root"
    if not kept.exists():
        scratch = CACHE / "debian-root.part"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        chosen = f"--include={','.join(packages)}"
        _run([tool("debootstrap"), "--variant=minbase", chosen, "bookworm", str(scratch)])
        scratch.rename(kept)
    return kept


def tool(name: str) -> str:
    """Where a program of this machine is."""
    found = shutil.which(name)
    assert found, f"{name} is missing: `make test-peers` installs it"
    return found


def _maven(*arguments: str) -> None:
    CACHE.mkdir(exist_ok=True)
    _run([tool("mvn"), "-q", "-B", "-ntp", *arguments])


def _run(command: list[str], cwd: Path = CACHE.parent, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False,
        env=os.environ | environment, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"
    return done.stdout
