"""The limiter's own verbs: who is over the limits, and how full the table of buckets is."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.access import Desk


def commands(_: click.Group) -> Sequence[click.Command]:
    """The verbs, for the card."""
    return [top, buckets]


@click.command("top")
@click.option("--most", type=click.IntRange(1, 1000), default=20, help="How many.")
@click.pass_obj
def top(desk: Desk, most: int) -> None:
    """The sources that were most over their limits, of those reported last."""
    found = desk.get("/api/v1/ratelimit/top", most=most)

    def as_text(body: Any) -> str:
        if not body:
            return "No source was over its limit."
        rows = [
            [each["source"], each["rule_id"], each["over"], _clock(each["last_ns"])]
            for each in body
        ]
        return desk.table(["SOURCE", "RULE", "PACKETS OVER", "LAST"], rows, ["SOURCE"])

    desk.show(found, as_text)


@click.command("buckets")
@click.pass_obj
def buckets(desk: Desk) -> None:
    """How full the table of buckets is."""
    found = desk.get("/api/v1/ratelimit/buckets")

    def as_text(body: Any) -> str:
        rows = [[name, count] for name, count in body["by_rule"].items()]
        text = f"{body['in_use']} of {body['places']} places in use, {body['idle']} idle"
        return f"{desk.table(['RULE', 'BUCKETS'], rows)}\n{text}" if rows else text

    desk.show(found, as_text)


def _clock(timestamp_ns: int) -> str:
    when = dt.datetime.fromtimestamp(timestamp_ns / 1e9, dt.UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}"
