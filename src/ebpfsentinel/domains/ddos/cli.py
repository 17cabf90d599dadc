"""The domain's own verbs: what the API says of attacks, as tables."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebpfsentinel.model.access import Desk

_SECOND_NS = 1_000_000_000
_ATTACK_HEADINGS = ("ID", "TYPE", "STATUS", "NOW PPS", "PEAK PPS", "SOURCES", "ACTION", "BEGAN")


def commands(group: click.Group) -> None:
    """Add the verbs to ``ddos``."""
    for verb in (status, attacks, history, sources, blocked, baseline):
        group.add_command(verb)


@click.command("status")
@click.pass_obj
def status(desk: Desk) -> None:
    """Mode, guards and packet rates, and whether there is an attack."""
    desk.show(desk.get("/api/v1/ddos/status"), lambda body: _status_text(body, desk))


def _status_text(body: Mapping[str, Any], desk: Desk) -> str:
    guards = ", ".join(name for name, on in body["guards"].items() if on) or "none"
    head = (
        f"{body['mode']} mode; guards: {guards}\n"
        f"{body['active_attacks']} attacks, {body['blocked']} sources or prefixes blocked, "
        f"{body['cookies']['sent']} SYN cookies sent"
    )
    rows = [(name, f"{pps:,.1f}") for name, pps in body["current_pps"].items()]
    return f"{head}\n\n{desk.table(('TYPE', 'NOW PPS'), rows)}"


@click.command("attacks")
@click.pass_obj
def attacks(desk: Desk) -> None:
    """Attacks that go on."""
    body = desk.get("/api/v1/ddos/attacks")
    desk.show(body, lambda found: _attacks_text(found, desk, "There is no attack."))


@click.command("history")
@click.option("--limit", type=click.IntRange(1, 100), default=50, show_default=True)
@click.pass_obj
def history(desk: Desk, limit: int) -> None:
    """Attacks that are over, the last first."""
    body = desk.get("/api/v1/ddos/attacks/history", limit=limit)
    desk.show(body, lambda found: _attacks_text(found, desk, "There was no attack."))


def _attacks_text(found: Sequence[Mapping[str, Any]], desk: Desk, none: str) -> str:
    rows = [
        (
            each["id"] or "-",
            each["attack_type"],
            each["status"],
            f"{each['current_pps']:,.0f}",
            f"{each['peak_pps']:,.0f}",
            each["source_count"],
            each["mitigation_action"],
            _when(each["start_time_ns"]),
        )
        for each in found
    ]
    return desk.table(_ATTACK_HEADINGS, rows, whole=("ID", "TYPE")) if rows else none


@click.command("sources")
@click.pass_obj
def sources(desk: Desk) -> None:
    """Who sends most in the attacks that go on."""
    desk.show(desk.get("/api/v1/ddos/sources"), lambda body: _sources_text(body, desk))


def _sources_text(body: Mapping[str, Any], desk: Desk) -> str:
    rows = [
        (name, each["ip"], f"{each['pps']:,.0f}") for name, found in body.items() for each in found
    ]
    return desk.table(("TYPE", "SOURCE", "PPS"), rows) if rows else "There is no attack."


@click.command("blocked")
@click.pass_obj
def blocked(desk: Desk) -> None:
    """Sources and prefixes that are blocked, and until when."""
    desk.show(desk.get("/api/v1/ddos/blocked"), lambda body: _blocked_text(body, desk))


def _blocked_text(body: Sequence[Mapping[str, Any]], desk: Desk) -> str:
    rows = [
        (
            each["source"],
            each["attack_type"],
            each["attack"],
            each["packets"],
            _when(each["until_ns"]),
        )
        for each in body
    ]
    headings = ("SOURCE", "TYPE", "ATTACK", "PACKETS", "UNTIL")
    return desk.table(headings, rows, whole=("SOURCE",)) if rows else "Nobody is blocked."


@click.command("baseline")
@click.pass_obj
def baseline(desk: Desk) -> None:
    """Packet rates that are normal here, and thresholds that follow from them."""
    desk.show(desk.get("/api/v1/ddos/baseline"), lambda body: _baseline_text(body, desk))


def _baseline_text(body: Mapping[str, Mapping[str, Any]], desk: Desk) -> str:
    rows = [
        (
            name,
            found["seconds"],
            found["median_pps"],
            found["p999_pps"],
            found["highest_pps"],
            found["proposed_threshold_pps"] or "in a while",
        )
        for name, found in body.items()
    ]
    headings = ("TYPE", "SECONDS", "MEDIAN PPS", "99.9 %", "HIGHEST", "PROPOSED THRESHOLD")
    return desk.table(headings, rows)


def _when(wall_ns: int) -> str:
    return dt.datetime.fromtimestamp(wall_ns // _SECOND_NS, dt.UTC).astimezone().isoformat(" ")
