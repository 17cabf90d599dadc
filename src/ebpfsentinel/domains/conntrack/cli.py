"""Connection tracking's own verbs: list, flush, watch and top."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebpfsentinel.model.access import Desk

_HEADINGS = ("PROTO", "STATE", "SOURCE", "DESTINATION", "PACKETS", "BYTES", "PROCESS")
_WHOLE = ("STATE", "SOURCE", "DESTINATION")


def commands(_: click.Group) -> Sequence[click.Command]:
    """The verbs, for the card."""
    return [listed, flush, watch, top]


def _filters(verb: Callable[..., None]) -> Callable[..., None]:
    for name, about in (
        ("state", "established, syn_sent, time_wait, unreplied, replied, stream ..."),
        ("protocol", "tcp, udp, icmp, icmpv6, or a number."),
        ("dst-port", "Port or range of who answers."),
        ("src-port", "Port or range of who opened it."),
        ("port", "Port of either end."),
        ("destination", "Address or network of who answers."),
        ("source", "Address or network of who opened it."),
        ("address", "Address or network of either end."),
    ):
        kind: Any = click.IntRange(0, 65_535) if name == "port" else str
        verb = click.option(f"--{name}", type=kind, help=about)(verb)
    return verb


@click.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.pass_obj
def listed(desk: Desk, /, limit: int, **filters: Any) -> None:
    """Flows there are, those seen last first."""
    body = desk.get("/api/v1/conntrack/connections", limit=limit, **filters)
    desk.show(body, lambda found: _text(desk, found))


@click.command("top")
@_filters
@click.option("--by", type=click.Choice(["bytes", "packets"]), default="bytes", show_default=True)
@click.option("--most", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.pass_obj
def top(desk: Desk, /, by: str, most: int, **filters: Any) -> None:
    """Flows that carried most."""
    body = desk.get("/api/v1/conntrack/connections", limit=most, sort=by, **filters)
    desk.show(body, lambda found: _text(desk, found))


@click.command("flush")
@_filters
@click.option("--all", "every", is_flag=True, help="All flows.")
@click.pass_obj
def flush(desk: Desk, /, every: bool, **filters: Any) -> None:
    """End flows: those that match, or all."""
    given = {name: value for name, value in filters.items() if value is not None}
    if not given and not every:
        raise click.UsageError("Say which flows, or --all.")
    body = desk.call("POST", "/api/v1/conntrack/flush", body=json.dumps(given))
    desk.show(body, lambda found: f"{found['flushed']} flows ended.")


@click.command("watch")
@click.option("--count", type=click.IntRange(1), help="End after so many.")
@click.pass_obj
def watch(desk: Desk, count: int | None) -> None:
    """Flows as they begin, are established, close and go, until Ctrl-C; -o json: one a line."""
    numbers = range(count) if count else itertools.count()
    with desk.follow("/api/v1/conntrack/events") as found:
        for _, each in zip(numbers, found, strict=False):
            click.echo(json.dumps(each) if desk.json else _line(each))


def _text(desk: Desk, body: Mapping[str, Any]) -> str:
    rows = [_row(each) for each in body["connections"]]
    if not rows:
        return "There is no such flow."
    return f"{desk.table(_HEADINGS, rows, _WHOLE)}\n{len(rows)} of {body['total']} flows"


def _row(flow: Mapping[str, Any]) -> Sequence[Any]:
    return (
        flow["protocol"],
        flow["state"],
        _end(flow, "src"),
        _end(flow, "dst"),
        f"{flow['packets_fwd']}/{flow['packets_rev']}",
        f"{flow['bytes_fwd']}/{flow['bytes_rev']}",
        _process(flow),
    )


def _process(flow: Mapping[str, Any]) -> str:
    """The pid, and what it runs."""
    if flow["pid"] is None:
        return "-"
    name = flow.get("exe", "").rpartition("/")[2] or flow.get("comm", "")
    return f"{flow['pid']} {name}".rstrip()


def _end(flow: Mapping[str, Any], side: str) -> str:
    address = flow[f"{side}_ip"]
    return (
        f"[{address}]:{flow[f'{side}_port']}"
        if ":" in address
        else (f"{address}:{flow[f'{side}_port']}")
    )


def _line(event: Mapping[str, Any]) -> str:
    what = event["why"] or event["event"]
    return "  ".join(
        [
            _clock(event["timestamp_ns"]),
            f"{what:18}",
            f"{event['protocol']:6}",
            f"{_end(event, 'src')} -> {_end(event, 'dst')}",
            f"{event['bytes_fwd']}/{event['bytes_rev']} bytes",
        ]
    )


def _clock(timestamp_ns: int) -> str:
    when = dt.datetime.fromtimestamp(timestamp_ns / 1e9, dt.UTC).astimezone()
    return f"{when:%H:%M:%S}"
