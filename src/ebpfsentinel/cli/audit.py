"""The verbs about who changed what."""

from __future__ import annotations

import json
from typing import Any, TextIO

import click
import msgspec

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import Failure, Session, path
from ebpfsentinel.store import verify_export


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
    names = ("component", "action", "rule_id", "actor", "result", "detail")
    rows = [
        [tables.time_of(each["timestamp_ns"]), *(each.get(name) for name in names)]
        for each in page["entries"]
    ]
    headings = ["TIME", "COMPONENT", "ACTION", "RULE", "ACTOR", "RESULT", "DETAIL"]
    shown = tables.table(headings, rows, whole=("TIME", "ACTION", "RESULT"))
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


@audit.command("verify")
@click.option("--file", "export_", type=click.File(encoding="utf-8"), help="An export instead.")
@click.option("--head", metavar="SEQ:HASH", help="A head noted earlier, that must be in the trail.")
@click.pass_obj
def verify(session: Session, export_: TextIO | None, head: str | None) -> None:
    """Follow the hash chain; exit code 1 names the first entry that does not fit."""
    try:
        found = msgspec.to_builtins(verify_export(export_)) if export_ else None
    except ValueError as error:
        raise Failure(f"{error}. Make one with: ebpfsentinel-agent audit export") from None
    body = found or session.get(path("audit", "verify"))
    if not body["intact"]:
        raise Failure(body["broken"]["problem"])
    if head is not None:
        _check_head(session, head)
    session.show(body, _verified)


def _verified(body: dict[str, Any]) -> str:
    head = body["head"]
    told = tables.total(body["entries"], "entry")
    return f"{told}\nhead: {head['seq']}:{head['hash']}"


def _check_head(session: Session, text: str) -> None:
    seq, _, wanted = text.partition(":")
    with session.stream(path("audit", "export")) as lines:
        for line in lines:
            row = json.loads(line)
            if str(row.get("seq", row.get("anchor", {}).get("seq"))) == seq:
                found = row.get("hash", row.get("anchor", {}).get("hash"))
                if found == wanted.lower():
                    return
                raise Failure(f"entry {seq} has another hash now: the trail was made anew")
    raise Failure(f"entry {seq} is not in the trail: it is too old, or the trail was made anew")


@audit.command("export")
@click.option("--file", "to", type=click.File("w", encoding="utf-8"), default="-", help="Where to.")
@click.pass_obj
def export(session: Session, to: TextIO) -> None:
    """The whole trail as JSON lines, for `audit verify --file` or for archives."""
    with session.stream(path("audit", "export")) as lines:
        to.writelines(f"{line}\n" for line in lines)
