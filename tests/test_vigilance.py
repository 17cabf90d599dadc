"""A blind or meddled-with agent says so itself: each fault is made for real, from outside."""

import asyncio
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ebpfsentinel import domains
from ebpfsentinel.agent import Agent
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.libbpf import lib
from ebpfsentinel.kernel.load import LinuxKernel
from tests.meddling import (
    LINK_DETACH,
    LINK_UPDATE,
    MAP_UPDATE,
    PROG_FD,
    bpf,
    held,
    link_on,
    map_called,
)
from tests.waiting import until

CARDS = discover(domains)
QUICK = {"canary": {"interval_secs": 1, "patience_secs": 4}, "tamper": {"interval_secs": 1}}
DENY = {"id": "no-udp", "priority": 10, "action": "deny", "protocol": "udp", "dst_port": 5353}
BLOCK = {"mode": "block", "rules": [DENY]}


def get(agent, path):
    with agent.lab.inside(agent.lab.guarded):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:8080{path}") as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refused:
            return json.load(refused)


def alarm(agent, rule_id):
    """The alert of this rule, once it is there."""
    return until(lambda: agent.alerts(rule_id))[0]


def proven(agent):
    return until(
        lambda: {e["state"] for e in get(agent, "/api/v1/agent/health")["proofs"]} == {"well"}
    )


def test_all_ways_are_proven_and_shown(lab):
    agent = lab.agent(agent=QUICK, conntrack={"enabled": True})
    proven(agent)
    until(lambda: get(agent, "/api/v1/agent/health")["state"] == "well")
    found = get(agent, "/api/v1/agent/health")
    names = {(each["kind"], each["name"]) for each in found["proofs"]}
    assert {("hook", "guard0"), ("ring", "fw_events"), ("engine", "process")} <= names
    assert {("hook", "execs"), ("hook", "connects"), ("pipeline", "alerts")} <= names
    assert all(0 < each["latency_ms"] < 5000 for each in found["proofs"])
    text = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:9090/metrics").stdout
    assert 'ebpfsentinel_canary_silent{kind="ring",name="execs"} ' in text
    assert "ebpfsentinel_agent_blind " in text
    told = lab.run(lab.guarded, str(Path(sys.executable).parent / "ebpfsentinel-agent"), "doctor")
    assert re.search(r"ok +canaries +\d+ of \d+ rings answer", told.stdout)


def test_deeds_are_heard_in_a_pid_namespace_too(lab):
    agent = lab.agent_within(["unshare", "--pid", "--fork", "--mount-proc"], agent=QUICK)
    try:
        proven(agent)
    finally:
        pid = agent.process.pid
        os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text()), signal.SIGTERM)
        agent.process.wait(60)


def test_a_detached_program_is_alarmed_and_put_back(lab):
    agent = lab.agent(agent=QUICK, firewall=BLOCK)
    assert lab.arrivals(5353) == 0
    link, _ = link_on(lab, agent.process.pid, "guard0")
    bpf(LINK_DETACH, "I", link)
    os.close(link)
    alert = alarm(agent, "watch.tamper.hook.guard0 xdp")
    assert alert["severity"] == "critical"
    assert "detached" in alert["message"]
    until(lambda: lab.arrivals(5353) == 0)
    alarm(agent, "watch.tamper.hook.guard0 xdp.over")
    until(lambda: get(agent, "/readyz") == {"status": "ok", "ebpf_loaded": True})


def test_another_program_in_our_link_is_alarmed_and_taken_out(lab):
    agent = lab.agent(agent=QUICK, firewall=BLOCK)
    link, ours = link_on(lab, agent.process.pid, "guard0")
    programs = [each for each in held(agent.process.pid, "prog_type") if each["prog_type"] == "6"]
    other = next(int(each["prog_id"]) for each in programs if int(each["prog_id"]) != ours)
    program = bpf(PROG_FD, "I", other)
    bpf(LINK_UPDATE, "II", link, program)
    alert = alarm(agent, "watch.tamper.hook.guard0 xdp")
    assert f"program {other}" in alert["message"]
    os.close(link)
    os.close(program)
    until(lambda: link_on(lab, agent.process.pid, "guard0")[1] == ours)
    assert lab.arrivals(5353) == 0


def test_packets_that_nobody_sees_are_alarmed(lab):
    quiet = {"canary": QUICK["canary"], "tamper": {"enabled": False}}
    agent = lab.agent(agent=quiet, firewall=BLOCK)
    lab.arrivals(5354, 50)
    until(lambda: get(agent, "/api/v1/agent/health")["proofs"])
    link, _ = link_on(lab, agent.process.pid, "guard0")
    bpf(LINK_DETACH, "I", link)
    os.close(link)

    def seen():
        lab.arrivals(5353, 100)
        return get(agent, "/readyz")["status"] == "not_ready"

    until(seen)
    alert = alarm(agent, "watch.unseen.guard0")
    assert "our programs saw none" in alert["message"]
    assert "blind" in get(agent, "/readyz")


def test_a_rule_map_that_somebody_else_writes_is_alarmed_and_written_anew(lab):
    agent = lab.agent(agent=QUICK)
    proven(agent)
    target = map_called(agent.process.pid, "process_wanted")
    key, zeros = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4096)
    bpf(MAP_UPDATE, "I4xQQQ", target, ctypes.addressof(key), ctypes.addressof(zeros), 0)
    os.close(target)
    alert = alarm(agent, "watch.tamper.map.process_wanted")
    assert "somebody else" in alert["message"]
    odd = lab.tmp / "try-me"
    shutil.copy("/bin/true", odd)

    def sees():
        subprocess.run([odd], check=True)
        return agent.alerts("suspicious_temp_execution")

    until(sees)


def test_a_stopped_agent_says_so_when_it_goes_on(lab):
    agent = lab.agent(agent=QUICK)
    proven(agent)
    agent.signal(signal.SIGSTOP)
    time.sleep(5)  # what is tested
    agent.signal(signal.SIGCONT)
    alert = alarm(agent, "watch.tamper.stopped")
    assert "did not run for" in alert["message"]
    silent = agent.cli("alerts", "list", "--component", "agent")["alerts"]
    assert not [each for each in silent if "silent" in each["rule_id"]]


def test_a_tracer_is_alarmed(lab):
    """Of one that lets it run; one that stops it is the service manager's affair."""
    agent = lab.agent(agent=QUICK | {"canary": {"enabled": False}})
    script = (
        "import ctypes, sys, time\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.ptrace.argtypes = [ctypes.c_long] * 4\n"
        f"assert not libc.ptrace(0x4206, {agent.process.pid}, 0, 0)\n"
        "print(flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tracer:
        tracer.stdout.readline()
        alert = alarm(agent, "watch.tamper.traced")
        assert f"process {tracer.pid}" in alert["message"]
        tracer.stdin.close()
    alarm(agent, "watch.tamper.traced.over")


def test_replaced_files_are_alarmed(lab, tmp_path):
    source = Path(domains.__file__).parents[2]
    copy = tmp_path / "src"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("tests", "__pycache__", "static"))
    agent = lab.agent_within(["env", f"PYTHONPATH={copy}"], agent=QUICK)
    (copy / "ebpfsentinel" / "flow.py").write_text("# nothing to see here\n")
    alert = alarm(agent, "watch.tamper.file.flow.py")
    assert "SHA-256" in alert["message"]
    (copy / "ebpfsentinel" / "kernel" / "dispatch.bpf.o").unlink()
    alert = alarm(agent, "watch.tamper.file.kernel/dispatch.bpf.o")
    assert "was removed" in alert["message"]


@pytest.fixture
def hanging(lab):
    """A webhook that never answers; the agent's port for it."""
    port = lab.tmp / "port"
    command = [sys.executable, "-m", "bench.receiver", str(port), "hangs"]
    within = ["nsenter", f"--net=/run/netns/{lab.guarded}"]
    with subprocess.Popen([*within, *command], cwd=Path(__file__).parents[1]) as process:
        until(port.exists)
        yield int(port.read_text())
        process.terminate()


def test_a_hung_sink_is_alarmed_before_there_is_anything_to_tell(lab, hanging):
    route = {
        "name": "pager",
        "destination": "webhook",
        "webhook_url": f"http://127.0.0.1:{hanging}/",
        "timeout_ms": 500,
        "canary": True,
        "event_types": ["nothing"],
    }
    agent = lab.agent(agent=QUICK, alerting={"allow_private": True, "routes": [route]})
    alert = alarm(agent, "watch.silent.sink.pager")
    assert alert["severity"] == "high"
    until(lambda: get(agent, "/readyz")["status"] == "ok")
    url = f"http://127.0.0.1:{hanging}/recover"
    with lab.inside(lab.guarded), urllib.request.urlopen(url) as answer:
        answer.read()
    alarm(agent, "watch.silent.sink.pager.over")


def raised_within(lab, tmp_path, hurt):
    """Alerts that an agent in this process raises about itself, once ``hurt`` was done to it."""
    config = tmp_path / "within.json"
    section = {"interfaces": ["guard0"], "state_dir": str(tmp_path / "within"), **QUICK}
    config.write_text(json.dumps({"agent": section}))
    config.chmod(0o600)

    async def run():
        agent = Agent(config, {}, CARDS, LinuxKernel())
        await agent.prepare()
        await agent.start()
        over = asyncio.Event()
        running = asyncio.create_task(agent.run(over))
        try:
            await asyncio.sleep(2)
            assert not agent.blind
            hurt(agent)
            while not agent.blind:  # noqa: ASYNC110 (it is a look)
                await asyncio.sleep(0.1)
            return agent.blind
        finally:
            over.set()
            await running
            await agent.stop()

    with lab.inside(lab.guarded):
        return asyncio.run(run())


def test_a_ring_that_nobody_reads_is_alarmed(lab, tmp_path):
    def hurt(agent):
        drain = agent.kernel.drain
        agent.kernel.drain = lambda ring: drain(ring)[:0] if ring == "execs" else drain(ring)

    found = raised_within(lab, tmp_path, hurt)
    assert "ring execs: no canary came back" in found


def test_an_engine_that_fails_is_alarmed(lab, tmp_path):
    def hurt(agent):
        def fails(*_):
            raise ValueError("hurt")

        agent.engines["firewall"].feed = fails

    found = raised_within(lab, tmp_path, hurt)
    assert "engine firewall: no canary came back" in found
    assert "failed" in found


def test_an_exec_hook_that_is_gone_is_alarmed(lab, tmp_path):
    def hurt(agent):
        lib().bpf_link__destroy(agent.kernel._tracing.pop("process_exec"))

    found = raised_within(lab, tmp_path, hurt)
    assert "hook execs: no canary came back" in found
