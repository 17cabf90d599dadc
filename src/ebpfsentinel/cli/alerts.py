"""The verbs about alerts."""

from __future__ import annotations

import itertools
import json
from typing import Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Session, path

_SEVERITY = click.Choice(["low", "medium", "high", "critical"], case_sensitive=False)


@click.group("alerts")
def alerts() -> None:
    """What the agent found."""


@alerts.command("list")
@click.option("--component", metavar="NAME", help="Only those of this domain.")
@click.option("--severity", type=_SEVERITY, help="This severity at least.")
@click.option("--rule-id", metavar="ID", help="Only those of this rule.")
@click.option("--technique", metavar="ID", help="Only those of this MITRE ATT&CK technique.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip so many.")
@click.option("--ids", is_flag=True, help="Show whole ids, as mark-fp takes them.")
@click.pass_obj
def list_(session: Session, /, severity: str | None, ids: bool, **query: Any) -> None:
    """Alerts, newest first."""
    body = session.get(path("alerts"), min_severity=severity, **query)
    session.show(body, lambda page: _page(page, ids=ids))


def _page(page: dict[str, Any], *, ids: bool) -> str:
    found = page["alerts"]
    if not found:
        return "No alerts found."
    last = "id" if ids else "message"
    names = ["severity", "component", *([] if ids else ["rule_id"]), last]
    rows = [
        [tables.time_of(each["timestamp_ns"]), *(each.get(name) for name in names)]
        for each in found
    ]
    headings = ["TIME", *(name.replace("_id", "").upper() for name in names)]
    shown = tables.table(headings, rows, whole=("TIME", "SEVERITY", "ID"))
    return f"{shown}\n{tables.total(page['total'], 'alert')}"


@alerts.command("mark-fp")
@click.argument("alert_id")
@click.pass_obj
def mark(session: Session, alert_id: str) -> None:
    """Mark an alert as a false positive."""
    body = session.call("POST", path("alerts", alert_id, "false-positive"))
    session.show(body, lambda _: f"alert {tables.printable(alert_id)} marked as false positive.")


@alerts.command("watch")
@click.option("--component", metavar="NAME", help="Only those of this domain.")
@click.option("--severity", type=_SEVERITY, help="This severity at least.")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@click.pass_obj
def watch(session: Session, component: str | None, severity: str | None, count: int | None) -> None:
    """Alerts as they happen, until Ctrl-C; with -o json one object a line."""
    wanted = {"component": component, "severity_min": severity}
    with session.follow(path("alerts", "stream"), **wanted) as shown:
        for _, alert in zip(range(count) if count else itertools.count(), shown, strict=False):
            click.echo(json.dumps(alert) if session.json else _live_line(alert))


def _live_line(alert: dict[str, Any]) -> str:
    if "missed" in alert:
        return f"({alert['missed']} alerts are not shown here: they came too fast)"
    told = [alert.get(name) for name in ("component", "rule_id", "action", "message")]
    severity = tables.cell(alert.get("severity"))
    return "  ".join(
        [tables.time_of(alert["timestamp_ns"]), f"{severity:8}", *map(tables.cell, told)]
    )
