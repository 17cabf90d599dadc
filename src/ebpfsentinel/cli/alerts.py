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


@alerts.command("destinations")
@click.pass_obj
def destinations(session: Session) -> None:
    """Where alerts go: what waits, what arrived, what is wrong."""
    session.show(session.get(path("alerts", "destinations")), _destinations)


def _destinations(body: dict[str, Any]) -> str:
    names = ("name", "kind", "state", "waiting", "exported", "last_error")
    rows = [[each.get(name) for name in names] for each in body["destinations"]]
    headings = ["NAME", "KIND", "STATE", "WAITING", "EXPORTED", "LAST ERROR"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in body["dropped"].items())
    shown = tables.table(headings, rows, whole=("STATE", "WAITING", "EXPORTED"))
    return f"{shown}\n\nDropped: {dropped}" if dropped else shown


@alerts.command("test")
@click.argument("destination")
@click.pass_obj
def test(session: Session, destination: str) -> None:
    """Send one alert to DESTINATION, at once."""
    body = session.call("POST", path("alerts", "destinations", destination, "test"))
    session.show(body, _tested)
    if not body["delivered"]:
        raise SystemExit(1)


def _tested(body: dict[str, Any]) -> str:
    name = tables.printable(body["destination"])
    if body["delivered"]:
        return f"a test alert has arrived at {name}."
    return f"{name} does not work: {tables.printable(body['error'])}"


_SCOPES = click.Choice(
    ["rule", "source", "destination", "port", "executable", "parent", "user", "container"],
    case_sensitive=False,
)


@alerts.command("except")
@click.argument("alert_id")
@click.option(
    "--scope",
    type=_SCOPES,
    multiple=True,
    default=("rule",),
    show_default=True,
    help="What has to be the same, beside the rule; may be given more than once.",
)
@click.option("--expires", default="7d", show_default=True, help="Such as 12h or 7d; or never.")
@click.option("--reason", default="", help="Why, for those who come after.")
@click.pass_obj
def except_(
    session: Session, alert_id: str, scope: tuple[str, ...], expires: str, reason: str
) -> None:
    """Make an exception from an alert: no more of its kind are raised."""
    wanted = {
        "alert_id": alert_id,
        "scope": list(scope),
        "expires": None if expires == "never" else expires,
        "reason": reason,
    }
    body = session.call("POST", path("alerts", "exceptions"), body=json.dumps(wanted))
    session.show(body, lambda made: f"exception {made['id']}: {_about(made)}.")


def _about(made: dict[str, Any]) -> str:
    scopes = [f"{scope} {value}" for scope, value in made["wanted"].items()]
    ends = tables.time_of(made["expires_ns"]) if made["expires_ns"] else "for ever"
    rule = f"{made['component']} {made['rule_id']}"
    return tables.printable(f"{rule} {' and '.join(scopes)}".strip() + f", until {ends}")


@alerts.command("exceptions")
@click.pass_obj
def exceptions(session: Session) -> None:
    """The exceptions in force, and how often each was met."""
    session.show(session.get(path("alerts", "exceptions")), _exceptions)


def _exceptions(body: dict[str, Any]) -> str:
    if not body["exceptions"]:
        return "No exceptions."
    rows = [[each["id"], each["hits"], each["actor"], _about(each)] for each in body["exceptions"]]
    return tables.table(["ID", "HITS", "ACTOR", "ABOUT"], rows, whole=("ID", "HITS"))


@alerts.command("unexcept")
@click.argument("exception_id")
@click.pass_obj
def unexcept(session: Session, exception_id: str) -> None:
    """End an exception."""
    body = session.call("DELETE", path("alerts", "exceptions", exception_id))
    session.show(body, lambda gone: f"exception {gone['id']} has ended.")
