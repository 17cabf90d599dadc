"""The domain's own verb: what was done to packets, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.model.access import Desk


def commands(_: click.Group) -> tuple[click.Command, ...]:
    """The verbs, for the card."""
    return (status,)


@click.command("status")
@click.pass_obj
def status(desk: Desk) -> None:
    """What is scrubbed, and how many packets were changed or dropped."""
    desk.show(desk.get("/api/v1/scrub/status"), lambda body: _as_text(body, desk))


def _as_text(body: Mapping[str, Any], desk: Desk) -> str:
    places = ", ".join(body["interfaces"]) or "all interfaces"
    changes = ", ".join(body["changes"]) or "nothing"
    head = f"{body['mode']} mode, {body['direction']}, on {places}: {changes}"
    if body["mode"] == "alert":
        head += "\nNothing is changed: these are the packets that would have been."
    rows = [
        (name, count, body["egress"][name], body[name]) for name, count in body["ingress"].items()
    ]
    return f"{head}\n\n{desk.table(('CHANGE', 'INGRESS', 'EGRESS', 'BOTH'), rows)}"
