"""What the agent does without: programs, memory, permissions; it says so, and goes on."""

import asyncio
import contextlib
import ctypes
import json
import os
import queue
import re
import shutil
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from ebpfsentinel import domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.kernel import DomainRefused
from tests.waiting import until

CARDS = discover(domains)
COMMAND = Path(sys.executable).parent / "ebpfsentinel-agent"
WITH_OBJECTS = [card for card in CARDS if card.object]
DENY = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}


def get(agent, path):
    with agent.lab.inside(agent.lab.guarded):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:8080{path}") as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            return json.load(refused)


@pytest.fixture(scope="module")
def kernel():
    made = LinuxKernel()
    yield made
    made.detach()


@pytest.mark.parametrize("card", WITH_OBJECTS, ids=lambda card: card.name)
def test_a_domain_whose_object_does_not_load_is_named_and_the_others_are_there(
    kernel, card, tmp_path
):
    broken = tmp_path / "broken.bpf.o"
    whole = (Path(sys.modules[card.engine.__module__].__file__).parent / card.object).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    others = [each for each in WITH_OBJECTS if each is not card]
    fresh = replace(card, name=f"{card.name}-broken", object=str(broken))
    with pytest.raises(DomainRefused) as refused:
        kernel.load([*others, fresh])
    assert refused.value.domain == fresh.name
    kernel.load(others)
    assert {each.name for each in others} <= {each.domain for each in kernel.programs()}


@pytest.fixture
def copied(tmp_path):
    """The agent's own files, to be hurt; what to start it with."""
    source = Path(domains.__file__).parents[2]
    copy = tmp_path / "src"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("tests", "__pycache__", "static"))
    return copy / "ebpfsentinel", ["env", f"PYTHONPATH={copy}"]


def test_an_agent_goes_on_without_what_the_kernel_refuses_and_says_so(lab, copied):
    package, wrapper = copied
    (package / "domains" / "process" / "process.bpf.o").write_bytes(b"\x7fELF no object")
    agent = lab.agent_within(wrapper, firewall={"mode": "block", "rules": [DENY]})
    assert "NOT READY  without process" in agent.screen
    assert lab.arrivals(5353) == 0
    assert get(agent, "/readyz")["status"] == "not_ready"
    assert "process" in get(agent, "/api/v1/agent/status")["missing"]
    doctor = lab.run(lab.guarded, str(Path(sys.executable).parent / "ebpfsentinel-agent"), "doctor")
    assert doctor.returncode == 1
    assert re.search(r"BROKEN +process +enabled asked, off in effect", doctor.stdout)
    until(lambda: agent.alerts("watch.missing.process"))
    agent.write(firewall={"mode": "alert", "rules": [DENY]})  # a reload does without it, too
    until(lambda: lab.arrivals(5353))
    assert "process" in get(agent, "/api/v1/agent/status")["missing"]


def test_an_agent_that_must_have_all_does_not_start_without(lab, copied):
    package, wrapper = copied
    (package / "domains" / "process" / "process.bpf.o").write_bytes(b"\x7fELF no object")
    with pytest.raises(AssertionError, match="domain process"):
        lab.agent_within(wrapper, agent={"on_missing": "fail"})
    assert lab.agents[-1].wait() == 1


def memory_folder():
    """Where a control group with a limit of memory can be made, and the names of its files."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists() and "memory" in unified.read_text().split():
        (unified.parent / "cgroup.subtree_control").write_text("+memory")
        return unified.parent, "memory.max"
    return Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"


@pytest.fixture
def group():
    """Makes a group with a limit; what to start an agent with, so that it is in there."""
    parent, limit = memory_folder()
    made = parent / f"ebpfsentinel-{os.getpid()}"
    made.mkdir()

    def limited(megabytes):
        (made / limit).write_text(str(megabytes << 20))
        return ["sh", "-c", f'echo $$ > {made}/cgroup.procs; exec "$@"', "sh"]

    yield limited

    def gone():
        with contextlib.suppress(OSError):  # a process has not left it yet
            made.rmdir()
        return not made.exists()

    until(gone)


def test_maps_that_do_not_fit_into_the_control_group_are_not_loaded(lab, group, request):
    sections = {name: {"enabled": True} for name in ("ddos", "nat", "ratelimit")}
    request.addfinalizer(lambda: [each.end() for each in lab.agents])
    agent = lab.agent_within(group(270), firewall={"mode": "block", "rules": [DENY]}, **sections)
    missing = get(agent, "/api/v1/agent/status")["missing"]
    assert missing
    assert all("MemoryMax" in reason for reason in missing.values())
    assert lab.arrivals(5353) == 0
    told = lab.run(
        lab.guarded, *group(270), str(COMMAND), "-o", "json", "memory", str(agent.config)
    )
    body = json.loads(told.stdout)
    assert (told.returncode, body["fits"], body["limit_bytes"]) == (1, False, 270 << 20)


def test_memory_is_shown_before_anything_is_loaded(lab, tmp_path):
    config = tmp_path / "big.json"
    section = {"enabled": True}
    config.write_text(json.dumps({"agent": {"interfaces": ["auto"]}, "conntrack": section}))
    told = lab.run(lab.guarded, str(COMMAND), "memory", str(config))
    assert re.search(r"conntrack +\d+\.\d", told.stdout), told.stderr
    assert "In the kernel" in told.stdout


def drop_capabilities():
    """Of this thread alone (capset(2), version 3)."""
    header = struct.pack("<Ii", 0x20080522, 0)
    assert not ctypes.CDLL(None, use_errno=True).capset(header, bytes(24))


def test_permissions_that_are_taken_away_are_told_and_stop_nothing(lab, tmp_path):
    config = tmp_path / "within.json"
    section = {"interfaces": ["guard0"], "state_dir": str(tmp_path / "within")}
    config.write_text(
        json.dumps({"agent": section, "firewall": {"mode": "block", "rules": [DENY]}})
    )
    config.chmod(0o600)
    told, over, ended = queue.Queue(), threading.Event(), asyncio.Event()

    async def live():
        agent = Agent(config, {}, CARDS)
        await agent.prepare()
        await agent.start()
        running = asyncio.create_task(agent.run(ended))
        await asyncio.sleep(0.5)
        drop_capabilities()
        told.put(agent)
        await asyncio.to_thread(over.wait)
        ended.set()
        await running
        await agent.stop()

    def within():
        with contextlib.suppress(AssertionError), lab.inside(lab.guarded):
            asyncio.run(live())
            told.put("ended well")  # who has no capability cannot go home, so the thread ends here

    thread = threading.Thread(target=within)
    thread.start()
    try:
        agent = told.get()
        assert lab.arrivals(5353) == 0
        assert agent.ready
        lab.run(lab.sender, "ip", "link", "del", "send0")
        until(lambda: not agent.ready)
        lab.connect()
        until(lambda: lab.arrivals(5353) == 0 or not agent.ready)  # what it says of itself is so
        assert thread.is_alive()
    finally:
        over.set()
        thread.join(60)
    assert told.get_nowait() == "ended well"


def test_times_are_right_under_another_boot_clock(lab, tmp_path):
    wrapper = ["unshare", "--time", "--boottime", "7200", "--monotonic", "7200"]
    agent = lab.agent_within(wrapper)
    odd = tmp_path / "try-me"
    shutil.copy("/bin/true", odd)
    began = time.time_ns()
    subprocess.run([odd], check=True)
    found = until(lambda: agent.alerts("suspicious_temp_execution"))
    assert abs(found[-1]["timestamp_ns"] - began) < 60e9
