"""The verbs about who changed what."""

from __future__ import annotations

import json
from typing import Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Session, path


@click.group("audit")
def audit() -> None:
    """Who changed what."""


@audit.command("logs")
@click.option("--component", metavar="NAME", help="Only entries of this part.")
@click.option("--action", metavar="NAME", help="Only this action, such as rule_added.")
@click.option("--rule-id", metavar="ID", help="Only entries about this rule.")
@click.option("--from", "start", metavar="TIME", help="From this time, RFC 3339.")
@click.option("--to", "end", metavar="TIME", help="Up to this time.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip so many.")
@click.pass_obj
def logs(session: Session, /, start: str | None, end: str | None, **query: Any) -> None:
    """Entries, newest first."""
    body = session.get(path("audit", "logs"), **query, **{"from": start, "to": end})
    session.show(body, _page)


def _page(page: dict[str, Any]) -> str:
    if not page["entries"]:
        return "No audit entries found."
    names = ("component", "action", "rule_id", "actor", "detail")
    rows = [
        [tables.time_of(each["timestamp_ns"]), *(each.get(name) for name in names)]
        for each in page["entries"]
    ]
    headings = ["TIME", "COMPONENT", "ACTION", "RULE", "ACTOR", "DETAIL"]
    shown = tables.table(headings, rows, whole=("TIME",))
    return f"{shown}\n{tables.total(page['total'], 'entry')}"


@audit.command("history")
@click.argument("rule_id")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.pass_obj
def history(session: Session, rule_id: str, limit: int) -> None:
    """The versions of one rule."""
    body = session.get(path("audit", "rules", rule_id, "history"), limit=limit)
    session.show(body, _versions)


def _versions(body: dict[str, Any]) -> str:
    entries = body["entries"]
    if not entries:
        return f"No history of {tables.printable(body['rule_id'])} is kept."
    rows = [
        [
            each.get("version"),
            tables.time_of(each["timestamp_ns"]),
            each.get("action"),
            each.get("actor"),
            json.dumps(each.get("after")),
        ]
        for each in entries
    ]
    shown = tables.table(["VERSION", "TIME", "ACTION", "ACTOR", "AFTER"], rows, whole=("TIME",))
    return f"{shown}\n{tables.total(len(entries), 'version')}"
