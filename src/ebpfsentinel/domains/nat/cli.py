"""The translator's own verbs: the live translations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.access import Desk

_HEADINGS = ("TYPE", "RULE", "PROTOCOL", "FROM", "TO", "BECOMES", "STATE", "PACKETS", "EXPIRES")


def commands(_: click.Group) -> Sequence[click.Command]:
    """The verbs, for the card."""
    return [translations]


@click.command("translations")
@click.option("--most", type=click.IntRange(1, 10000), default=100, help="How many.")
@click.pass_obj
def translations(desk: Desk, most: int) -> None:
    """The live translations, those seen last first."""
    found = desk.get("/api/v1/nat/translations", most=most)
    desk.show(found, lambda body: _as_text(desk, body))


def _as_text(desk: Desk, body: Any) -> str:
    rows = [_row(each) for each in body["listed"]]
    text = (
        f"{body['translations']} translations, {body['untouched_flows']} flows left as they are: "
        f"{body['in_use']} of {body['places']} places in use"
    )
    return f"{desk.table(_HEADINGS, rows, ['FROM', 'TO', 'BECOMES'])}\n{text}" if rows else text


def _row(each: dict[str, Any]) -> list[Any]:
    sides = [side for side in ("src", "dst") if each[f"translated_{side}"] != each[side]]
    becomes = ", ".join(f"{side} {each[f'translated_{side}']}" for side in sides)
    named = [each[key] for key in ("type", "rule_id", "protocol", "src", "dst")]
    packets = each["packets"] + each["reply_packets"]
    return [*named, becomes, each["state"], packets, f"{each['expires_seconds']} s"]
