"""The story, and the judgement at its end: exit code 0 only when all went as the rules say."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from demo import execs
from demo.agent import READY_S, Agent, running
from demo.network import SERVER, DemoError, cabled, enter
from demo.screen import Screen
from demo.traffic import Act, Server, Tally, acts, perform

_SETTLE_S = 8.0


def main() -> int:
    """Run the whole demonstration; returns the exit code."""
    if os.geteuid() != 0:
        sys.stderr.write("The demo makes network namespaces and loads BPF programs: run as root.\n")
        return 2
    screen = Screen()
    try:
        with TemporaryDirectory(prefix="ebpfsentinel-demo-") as folder, cabled():
            enter(SERVER)
            with Server() as server, running(Path(folder)) as agent:
                return Story(screen, server, agent).tell()
    except DemoError as error:
        sys.stderr.write(f"{error}\n")
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; the namespaces and the agent are gone.\n")
    return 1


class Story:
    """One run: the acts, what came of them, and what the agent says of it."""

    def __init__(self, screen: Screen, server: Server, agent: Agent) -> None:
        self.screen, self.server, self.agent = screen, server, agent
        self.tallies: list[tuple[Act, Tally]] = [(act, Tally()) for act in acts()]
        self.began = time.monotonic()

    def tell(self) -> int:
        """Everything, in order; returns the exit code."""
        self.screen.say("Two hosts, client and server, joined by a cable. The agent guards server.")
        took = self.agent.wait_ready()
        self.screen.say(f"The agent is ready after {took:.1f} s. What it attached:")
        self._attached()
        listener = threading.Thread(
            target=self.agent.listen, args=(self.screen.alert,), daemon=True
        )
        listener.start()
        if not self.agent.listening.wait(READY_S):
            raise DemoError("the live stream of alerts stays silent")
        with self.screen.live:
            for act, tally in self.tallies:
                self._act(act, tally)
            self.screen.say("Suspicious programs (harmless copies of `true`):")
            execs.perform()
            self._settle()
        return self._judge()

    def _attached(self) -> None:
        for found in self.agent.get("/api/v1/ebpf/status")["interfaces"]:
            self.screen.console.print(f"  {found['interface']}: {found['how']}")

    def _act(self, act: Act, tally: Tally) -> None:
        kind = "Hostile" if act.blocked else "Friendly"
        self.screen.say(f"{kind}: {act.title} ({act.times} times)")
        sender = threading.Thread(target=perform, args=(act, tally))
        sender.start()
        while sender.is_alive():
            sender.join(0.2)
            self.screen.show(self._verdicts())

    def _hits(self) -> dict[str, int]:
        rules = self.agent.get("/api/v1/firewall/rules")
        return {rule["id"]: rule["packets"] for rule in rules}

    def _verdicts(self) -> Any:
        hits = self._hits()
        return self.screen.verdicts(
            (act, tally, hits.get(act.rule_id, 0), self._wrong(act, tally, hits))
            for act, tally in self.tallies
        )

    def _wrong(self, act: Act, tally: Tally, hits: dict[str, int]) -> int:
        """How many packets met another fate than the rule says; of a running act, so far."""
        if act.blocked:
            uncounted = tally.sent - hits.get(act.rule_id, 0) if tally.sent == act.times else 0
            return tally.answered + max(0, uncounted)
        return tally.sent - tally.answered if tally.sent == act.times else 0

    def _arrived(self) -> int:
        """What reached a listener of the server that should have reached none."""
        served = sum(tally.answered for act, tally in self.tallies if act.rule_id == "allow-web")
        return sum(self.server.arrived.values()) - served

    def _seen(self) -> dict[str, bool]:
        found = {alert["rule_id"] for alert in self.agent.alerts}
        return {each.rule_id: each.rule_id in found for each in execs.EXECS}

    def _denied(self) -> set[str]:
        """Deny rules that raised no alert."""
        found = {alert["rule_id"] for alert in self.agent.alerts}
        return {act.rule_id for act, _ in self.tallies if act.blocked} - found

    def _settle(self) -> None:
        """Wait for the last alerts, and for the readers to catch up with the kernel."""
        until = time.monotonic() + _SETTLE_S
        while time.monotonic() < until:
            if all(self._seen().values()) and not self._denied() and not self._unbalanced():
                return
            time.sleep(0.2)

    def _ledgers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.agent.get("/api/v1/ebpf/status")["ledgers"]
        return found

    def _unbalanced(self) -> list[str]:
        return [
            ledger["ring"]
            for ledger in self._ledgers()
            if ledger["seen"] != ledger["delivered"] + sum(ledger["lost"].values())
        ]

    def _judge(self) -> int:
        hits, seen, ledgers = self._hits(), self._seen(), self._ledgers()
        console = self.screen.console
        for part in (self._verdicts(), self.screen.execs(seen), self.screen.ledgers(ledgers)):
            console.print(part)
        faults = [
            f"{act.title}: {tally.sent} sent, {tally.answered} answered, {hits.get(act.rule_id, 0)}"
            f" hits of {act.rule_id}"
            for act, tally in self.tallies
            if self._wrong(act, tally, hits)
        ]
        if arrived := self._arrived():
            faults.append(f"{arrived} packets reached a port that is closed to them")
        faults += [f"no alert of {rule_id}" for rule_id, found in seen.items() if not found]
        faults += [f"no alert of {rule_id}" for rule_id in sorted(self._denied())]
        faults += [f"the ledger of {ring} does not balance" for ring in self._unbalanced()]
        tree = self.agent.get("/api/v1/process/tree?limit=1")
        console.print(f"{len(self.agent.alerts)} alerts; {tree['total']} processes in the tree.")
        console.print(f"Done in {time.monotonic() - self.began:.0f} s.")
        for fault in faults:
            console.print(f"WRONG: {fault}", style="bold red")
        if not faults:
            console.print("All as the rules say.", style="bold green")
        return 1 if faults else 0


if __name__ == "__main__":
    try:
        code = main()
    except httpx.HTTPError as error:
        sys.stderr.write(f"The agent does not answer as it should: {error}\n")
        code = 1
    sys.exit(code)
