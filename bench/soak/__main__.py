"""The hostile demo's kind of load with faults: ``python -m bench.soak SECONDS [FOLDER]``.

It lives in network and mount namespaces of its own: pins, ports and state are nobody else's. Four
webhooks get every alert, neither dedupe nor throttle holds any back: one works, one flaps, one
answers 500 and one never answers. The faults are those of :mod:`bench.soak.faults`. When the time
is over all recover, and what waited for them on disk has to arrive, in order.

Writes ``soak.json`` and ``soak.svg`` (into ``bench/results`` and ``docs/images``, or both into
FOLDER). The exit code is 1 where anything was lost without being counted and told, a webhook got
less than all, a fault was not survived, or memory grew by more than :data:`MOST_GROWTH` percent.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.__main__ import HERE, machine
from bench.soak.faults import ROUNDS, Faults, mount_disk
from bench.soak.load import RULES, Load
from bench.soak.plot import plot
from bench.soak.samples import Sampler, growth, spread
from bench.soak.sinks import MODES, Webhooks
from bench.soak.supervised import Listener, Supervised
from tests.lab import Lab, RunningAgent

SAMPLE_S = 60
DRAIN_S = 600
MOST_GROWTH, MOST_GROWTH_SHORT, LONG_S = 2.0, 15.0, 3600
"""In a short run memory is not warm yet."""
_INSIDE = "--inside"


def run(seconds: float) -> dict[str, Any]:
    """The load, the faults, and what became of everything."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        mount_disk(Path(folder) / "disk")
        lab = Lab(Path(folder))
        webhooks = Webhooks(lab, Path(folder))
        try:
            return _within(lab, webhooks, seconds)
        finally:
            webhooks.close()
            lab.close()
            subprocess.run(["umount", "-l", str(Path(folder) / "disk")], check=True)


def _sections(lab: Lab, webhooks: Webhooks) -> dict[str, Any]:
    return {
        "agent": {"on_exit": "keep", "state_dir": str(lab.tmp / "disk" / "state")},
        "firewall": RULES,
        "conntrack": {"enabled": True},
        "ddos": {"enabled": True},
        "ratelimit": {"enabled": True},
        "alerting": {
            "dedup_window_secs": 0,
            "throttle_max": 0,
            "allow_private": True,
            "routes": webhooks.routes(),
        },
    }


def _within(lab: Lab, webhooks: Webhooks, seconds: float) -> dict[str, Any]:
    sections = _sections(lab, webhooks)
    agent = Supervised(lab, RunningAgent(lab, dict(sections)))
    lab.agents.append(agent.agent)
    agent.start()
    listener = Listener(lab)
    load = Load(lab, lab.tmp)
    try:
        faults = Faults(lab, agent, webhooks, load, sections, seconds)
        sampler = Sampler(agent, webhooks, load, listener)
        since = _carry(agent, faults, sampler, load, seconds)
    finally:
        load.close()
        listener.close()
    return {
        "machine": machine(),
        "seconds": round(seconds),
        "rounds": load.rounds,
        "rounds_broken": load.broken,
        **growth(sampler.samples, seconds, ROUNDS),
        "exec_to_stream_ms": spread([ms for s in sampler.samples for ms in s["exec_to_stream_ms"]]),
        "rest_read_ms": spread([ms for s in sampler.samples for ms in s["rest_read_ms"]]),
        "down_after_kill_s": agent.downs_s,
        "faults": faults.done,
        **_settle(agent, webhooks, since),
        "samples": sampler.samples,
    }


def _carry(
    agent: Supervised, faults: Faults, sampler: Sampler, load: Load, seconds: float
) -> dict[str, Any]:
    """Until the time is over; returns the counts of when the last life began."""
    began, every_s = time.monotonic(), min(SAMPLE_S, seconds / 60)
    due, life, since = 0.0, 0, _counts(agent)
    while (past := time.monotonic() - began) < seconds:
        if agent.lives != life and not faults.will_kill:
            with load.road:
                life, since = agent.lives, _counts(agent)
        faults.step(began, seconds)
        if past >= due:
            due = past + every_s
            sampler.sample()
        time.sleep(0.2)
    for fault in faults.plan:
        print(f"not carried out in time: {fault.name}", file=sys.stderr)
    sampler.sample()
    return since


def _counts(agent: Supervised) -> dict[str, Any]:
    """How many alerts were raised in this life, and how many numbers destinations gave, at rest."""
    while True:
        raised = agent.count("ebpfsentinel_alerts_total")
        found = agent.get("/api/v1/alerts/destinations")["destinations"]
        if raised == agent.count("ebpfsentinel_alerts_total"):
            return {"raised": raised, **{each["name"]: each for each in found}}


def _settle(agent: Supervised, webhooks: Webhooks, since: dict[str, Any]) -> dict[str, Any]:
    """All recover; returns what arrived where, and what did not."""
    waited = {name: found["waiting"] for name, found in _destinations(agent).items()}
    for name in MODES:
        webhooks.ask(name, "/recover")
    agent.until(lambda: not any(d["waiting"] for d in _destinations(agent).values()), DRAIN_S)
    time.sleep(2)
    ledgers = agent.get("/api/v1/ebpf/status")["ledgers"]
    counts, found = _counts(agent), webhooks.all()
    raised = counts["raised"] - since["raised"]
    losses = {name: _lost(name, raised, counts, since, found[name]) for name in MODES}
    return {
        "alerts_raised_in_last_life": raised,
        "waited_on_disk": waited,
        "webhooks": found,
        "losses": losses,
        "ledgers": ledgers,
        "records_lost_silently": sum(
            abs(each["seen"] - each["sent"] - sum(each["lost"].values())) for each in ledgers
        ),
        "records_lost_counted": sum(sum(each["lost"].values()) for each in ledgers),
        "restarts": agent.lives - 1,
        "undelivered": agent.count("ebpfsentinel_alerts_undelivered_total"),
        "unjudged": agent.count("ebpfsentinel_events_unjudged_total"),
        "doctor": agent.get("/api/v1/agent/doctor"),
    }


def _lost(
    name: str, raised: int, counts: dict[str, Any], since: dict[str, Any], arrived: dict[str, int]
) -> dict[str, int]:
    """Of one destination: what was dropped and counted, what it was told, and what nobody knows of.

    Alerts that tell of drops have a number, but are nobody's finding.
    """
    now, then = counts[name], since[name]
    counted = sum(now["dropped"].values()) - sum(then["dropped"].values())
    numbered = now["sequence"] - then["sequence"] - arrived["notices"]
    return {
        "dropped_counted": counted,
        "told": arrived["told_dropped"],
        "silent": max(raised - counted - numbered, 0),
        "never_arrived": max(now["acknowledged"] - arrived["last"] + arrived["missing"], 0),
        "disorder": arrived["disorder"],
    }


def _destinations(agent: Supervised) -> dict[str, Any]:
    found = agent.get("/api/v1/alerts/destinations")["destinations"]
    return {each["name"]: each for each in found}


def faults_of(found: dict[str, Any]) -> list[str]:
    """Why the run is not good; nothing: it is."""
    most = MOST_GROWTH if found["seconds"] >= LONG_S else MOST_GROWTH_SHORT
    wrong = []
    if found["growth_percent"] > most:
        wrong.append(f"memory grew by {found['growth_percent']} %, {most} % is the most")
    for name, each in found["losses"].items():
        words = ("silent", "never_arrived", "disorder")
        wrong += [f"{name}: {word} {each[word]}" for word in words if each[word]]
        if each["told"] != each["dropped_counted"]:
            wrong.append(f"{name}: told of {each['told']} of {each['dropped_counted']} drops")
    words = ("records_lost_silently", "undelivered", "unjudged", "rounds_broken")
    wrong += [f"{word}: {found[word]}" for word in words if found[word]]
    wrong += [f"{each['fault']}: {each['failed']}" for each in found["faults"] if "failed" in each]
    return wrong


def main(seconds: float, folder: str = "") -> int:
    found = run(seconds)
    wrong = found["wrong"] = faults_of(found)
    results = Path(folder) if folder else HERE / "results"
    images = Path(folder) if folder else HERE.parent / "docs" / "images"
    results.mkdir(parents=True, exist_ok=True)
    (results / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    (images / "soak.svg").write_text(plot(found))
    hidden = ("samples", "faults", "ledgers", "machine")
    print(json.dumps({n: v for n, v in found.items() if n not in hidden}, indent=1))
    return int(bool(wrong))


def _go_inside(arguments: list[str]) -> None:
    """Start again in a mount namespace with a bpffs and names of network namespaces of its own."""
    mounts = (
        "mount -t bpf bpf /sys/fs/bpf && mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns"
    )
    again = [sys.executable, "-m", "bench.soak", _INSIDE, *arguments]
    shell = ["sh", "-c", f'{mounts} && exec "$@"', "sh", *again]
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *shell])


if __name__ == "__main__":
    if sys.argv[1] != _INSIDE:
        _go_inside(sys.argv[1:])
    sys.exit(main(float(sys.argv[2]), *sys.argv[3:]))
