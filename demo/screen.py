"""What you see: alerts as they come, verdicts as they change, and the sum at the end."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from demo.traffic import Act, Tally

_FEW = 5
_COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bold red"}


class Screen:
    """A terminal: alerts scroll, the table of verdicts stays below them."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, refresh_per_second=8, transient=True)
        self._shown: Counter[str] = Counter()

    def say(self, text: str) -> None:
        """One line of the story."""
        self.console.print(Text(text, style="bold"))

    def alert(self, alert: dict[str, Any]) -> None:
        """One alert; of many by one rule only the first few."""
        self._shown[alert["rule_id"]] += 1
        if self._shown[alert["rule_id"]] > _FEW:
            return
        if self._shown[alert["rule_id"]] == _FEW:
            self.console.print(f"  ... and more of {alert['rule_id']}", style="dim")
            return
        line = Text(time.strftime("  %H:%M:%S ", time.localtime(alert["timestamp_ns"] / 1e9)))
        line.append(f"{alert['severity']:8} ", _COLOURS.get(alert["severity"], ""))
        line.append(f"{alert['component']}/{alert['rule_id']} ", "bold")
        line.append(f"{alert['message']}", "dim")
        if alert["count"] > 1:
            line.append(f" (x{alert['count']})")
        self.console.print(line, overflow="ellipsis", no_wrap=True)

    def verdicts(self, rows: Iterable[tuple[Act, Tally, int, int]]) -> Table:
        """Per kind of traffic: sent, arrived at the server, and what the rule's counter says."""
        table = Table(title="Traffic", title_justify="left", title_style="bold")
        for heading in ("what", "rule", "sent", "answered", "rule hits", "verdict"):
            numeric = heading in {"sent", "answered", "rule hits"}
            table.add_column(heading, justify="right" if numeric else "left")
        for act, tally, hits, wrong in rows:
            table.add_row(
                act.title,
                act.rule_id,
                str(tally.sent),
                str(tally.answered),
                str(hits),
                _verdict(act, tally, wrong),
            )
        return table

    def execs(self, seen: Mapping[str, bool]) -> Table:
        """Which of the suspicious programs raised their alert."""
        table = Table(title="Suspicious programs", title_justify="left", title_style="bold")
        table.add_column("rule")
        table.add_column("alert")
        for rule_id, found in seen.items():
            table.add_row(rule_id, Text("seen", "green") if found else Text("MISSED", "bold red"))
        return table

    def ledgers(self, ledgers: Iterable[dict[str, Any]]) -> Table:
        """Every record of every ring: seen in the kernel, delivered, counted as lost."""
        table = Table(title="Loss ledger", title_justify="left", title_style="bold")
        for heading in ("ring", "seen", "delivered", "lost", "balance"):
            table.add_column(heading, justify="left" if heading in {"ring", "balance"} else "right")
        for ledger in ledgers:
            lost = sum(ledger["lost"].values())
            balanced = ledger["seen"] == ledger["delivered"] + lost
            table.add_row(
                ledger["ring"],
                str(ledger["seen"]),
                str(ledger["delivered"]),
                str(lost),
                Text("balances", "green") if balanced else Text("DOES NOT BALANCE", "bold red"),
            )
        return table

    def show(self, *parts: Any) -> None:
        """Replace what stands below the alerts."""
        self.live.update(Group(*parts))


def _verdict(act: Act, tally: Tally, wrong: int) -> Text:
    if not tally.sent:
        return Text("to come", "dim")
    if tally.sent < act.times and not wrong:
        return Text("running", "yellow")
    if wrong:
        return Text("WRONG", "bold red")
    return Text("dropped" if act.blocked else "passed", "green")
