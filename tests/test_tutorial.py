"""CONTRIBUTING's "Add a domain in an afternoon": built from its very text, on the real kernel."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.btf import Btf
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.gen import source
from ebpfsentinel.kernel.libbpf import raw_btf

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`(ping/[\w./]+)`\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WRAPPER = """\
#!{python}
import ebpfsentinel.domains
ebpfsentinel.domains.__path__.append({folder!r})
from ebpfsentinel.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The domain as the tutorial has it, compiled, with its generated ``events.py``."""
    top = tmp_path_factory.mktemp("domains")
    for name, text in BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    made = compile_object(top / "ping" / "ping.bpf.c")
    (top / "ping" / "events.py").write_text(source("ping", Btf(raw_btf(str(made)))))
    return top


@pytest.fixture
def installed(folder, monkeypatch):
    """The folder as one more place where domains are found."""
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(folder)])
    yield
    for name in [name for name in sys.modules if name.startswith("ebpfsentinel.domains.ping")]:
        del sys.modules[name]
    vars(domains).pop("ping", None)
    importlib.invalidate_caches()


def test_the_tutorial_has_every_file_of_a_domain(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "ping/README.md",
        "ping/__init__.py",
        "ping/engine.py",
        "ping/events.py",
        "ping/ping.bpf.c",
        "ping/ping.bpf.o",
        "ping/ping.h",
        "ping/settings.py",
        "ping/tests/test_engine.py",
        "ping/tests/test_kernel.py",
    }


def test_it_is_written_in_the_house_style(folder):
    ruff = Path(sys.executable).with_name("ruff")
    config = ["--config", ROOT / "pyproject.toml", "--no-cache"]
    modules = [path for path in folder.glob("ping/*.py") if path.name != "events.py"]
    subprocess.run([ruff, "check", *config, *modules], check=True)
    tests = folder.glob("ping/tests/*.py")
    subprocess.run([ruff, "format", "--check", *config, *modules, *tests], check=True)
    style = f"--style=file:{ROOT / '.clang-format'}"
    sources = [*folder.glob("ping/*.c"), *folder.glob("ping/*.h")]
    subprocess.run(["clang-format", "--dry-run", "-Werror", style, *sources], check=True)


@pytest.mark.usefixtures("installed")
def test_the_card_is_found():
    assert "ping" in [card.name for card in discover(domains)]


def test_its_own_tests_pass(folder, tmp_path):
    conftest = folder / "conftest.py"
    conftest.write_text(
        f"import ebpfsentinel.domains\nebpfsentinel.domains.__path__.append({str(folder)!r})\n"
    )
    try:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "-p",
             "no:cacheprovider", "-W", "error", "--rootdir", folder, folder],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )  # fmt: skip
    finally:
        conftest.unlink()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "6 passed" in result.stdout


def test_the_agent_carries_it_beside_the_others(folder, lab, tmp_path, monkeypatch):
    program = tmp_path / "agent-with-tutorial"
    program.write_text(WRAPPER.format(python=sys.executable, folder=str(folder)))
    program.chmod(0o755)
    monkeypatch.setattr(sys.modules["lab"], "AGENT", program)
    agent = lab.agent(ping={"max_bytes": 600}, alerting={"dedup_window_secs": 0})
    names = {found["name"] for found in agent.cli("ebpf", "status")["programs"] if found["loaded"]}
    assert {"xdp_ping", "xdp_firewall"} <= names
    pings = ["ping", "-i", "0.2", "-s", "1000", "10.77.0.2"]
    pinging = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.sender}", *pings], stdout=subprocess.DEVNULL
    )
    try:
        found = agent.cli("alerts", "watch", "--component", "ping", "--count", "1")
    finally:
        pinging.kill()
        pinging.wait()
    assert (found["rule_id"], found["src_ip"]) == ("large-ping", "10.77.0.1")
    status = agent.cli("ping", "status")
    assert status["max_bytes"] == 600
    assert status["reported"] > 0
