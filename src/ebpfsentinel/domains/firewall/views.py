"""What the firewall's verbs show: bodies for JSON, and the same as tables within 80 columns."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.domains.firewall.replay import Difference, Judge
    from ebpfsentinel.domains.firewall.rulesets import RuleSource
    from ebpfsentinel.model.access import Desk

_TIMES = ("last_hit_ns", "counting_since_ns")


def replayed(
    sources: Sequence[RuleSource],
    judges: Sequence[Judge],
    found: tuple[Difference, int, int],
) -> dict[str, Any]:
    """The body of a replay."""
    difference, frames, cut = found
    tables = [
        source.head() | {"rules": judge.table()}
        for source, judge in zip(sources, judges, strict=True)
    ]
    body: dict[str, Any] = {"frames": frames, "cut_short": cut, "in_force": tables[0]}
    if len(tables) > 1:
        body["candidate"] = tables[1]
        body["difference"] = differing(difference)
    return body


def differing(difference: Difference) -> dict[str, Any]:
    """What two rule sets judge differently."""
    return {
        "frames": difference.total,
        "verdicts": difference.verdicts,
        "kinds": difference.summary(),
        "listed": difference.frames,
    }


def replay_text(body: Mapping[str, Any], desk: Desk) -> str:
    """A replay as text."""
    lines = [f"{body['frames']} frames in {body['seconds']} s"]
    if body["cut_short"]:
        lines.append(f"{body['cut_short']} are cut short in the file: judged by what is there")
    for side in ("in_force", "candidate"):
        if side in body:
            lines += ["", *_side_text(body[side], desk)]
    if "difference" in body:
        lines += ["", *difference_text(body["difference"], desk)]
    return "\n".join(lines)


def _side_text(side: Mapping[str, Any], desk: Desk) -> Iterator[str]:
    yield f"Rules of {side['from']}:"
    yield f"{side['rule_count']}, mode {side['mode']}, default policy {side['default_policy']}"
    rows = [[row["rule"], row["verdict"], row["frames"], row["bytes"]] for row in side["rules"]]
    yield desk.table(["RULE", "VERDICT", "FRAMES", "BYTES"], rows)
    if side["mode"] == "alert":
        yield "Mode alert: what is denied here passes, and is reported as would_deny."


def difference_text(found: Mapping[str, Any], desk: Desk) -> Iterator[str]:
    """What differs, as text."""
    if not found["frames"]:
        yield "Both judge every frame alike."
        return
    count, verdicts = found["frames"], found["verdicts"]
    yield f"{count} frames are judged differently, {verdicts} with another verdict"
    rows = [[row["frames"], _arrow(row, "verdict"), _arrow(row, "rule")] for row in found["kinds"]]
    yield desk.table(["FRAMES", "VERDICT", "RULE"], rows)
    yield ""
    rows = [
        [row["frame"], row["packet"], _arrow(row, "verdict"), _arrow(row, "rule")]
        for row in found["listed"]
    ]
    yield desk.table(["FRAME", "PACKET", "VERDICT", "RULE"], rows)
    if count > len(found["listed"]):
        yield f"{len(found['listed'])} of {count} listed; --most lists more."


def explained(body: Mapping[str, Any], desk: Desk) -> str:
    """An answer of ``why`` or ``would`` as text."""
    return "\n".join(_explained(body, desk))


def _explained(body: Mapping[str, Any], desk: Desk) -> Iterator[str]:
    rule = body["rule"]
    if alert := body.get("alert"):
        yield f"Then:    {alert['action']} by {alert['rule_id']}, {alert['count']} packet(s)"
    yield f"Packet:  {body['packet']}"
    yield f"Verdict: {body['verdict']} by {rule['id']} (mode {body['mode']})"
    yield f"Stage:   {body['stage']}"
    if body["behind"]:
        yield f"Behind:  {body['behind']}"
    if "origin" in rule:
        yield f"Rule:    {rule['origin']}, priority {rule['priority']}, {_hits(rule)}"
    if body["would_follow"]:
        yield "Without it would decide, in this order:"
        rows = [[each["id"], each["action"], each["origin"]] for each in body["would_follow"]]
        yield desk.table(["RULE", "ACTION", "ORIGIN"], rows)
    yield body["note"]


def _hits(rule: Mapping[str, Any]) -> str:
    last = rule["last_hit_ns"]
    when = f", last {_time_of(last)}" if last else ""
    return f"{rule['packets']} packets, {rule['bytes']} bytes{when}"


def shadowed_text(body: Mapping[str, Any], desk: Desk) -> str:
    """What can never match, as text."""
    lines = []
    if body["shadowed"]:
        rows = [
            [each["id"], each["action"], each["origin"], ", ".join(each["by"])]
            for each in body["shadowed"]
        ]
        lines.append(desk.table(["RULE", "ACTION", "ORIGIN", "COVERED BY"], rows, ["RULE"]))
    lines.append(f"{len(body['shadowed'])} of {body['rules']} rules can never match.")
    if body["undecided"]:
        names = ", ".join(body["undecided"][:5])
        lines.append(f"Of {len(body['undecided'])} it would take too long to tell: {names}...")
    return "\n".join(lines)


def unused_text(body: Mapping[str, Any], desk: Desk) -> str:
    """What was not hit, as text."""
    lines = []
    if body["unused"]:
        rows = [
            [each["id"], each["action"], each["origin"]]
            + [_time_of(each[key]) if each[key] else "never" for key in _TIMES]
            for each in body["unused"]
        ]
        lines.append(desk.table(["RULE", "ACTION", "ORIGIN", "LAST HIT", "COUNTED SINCE"], rows))
    lines.append(f"{len(body['unused'])} rule(s) not hit for {body['days']:g} days.")
    if young := body["too_young"]:
        lines.append(f"{len(young)} more had no hit either, but are counted for less than that.")
    return "\n".join(lines)


def _time_of(timestamp_ns: int) -> str:
    when = dt.datetime.fromtimestamp(timestamp_ns / 1e9, dt.UTC).astimezone()
    return f"{when:%Y-%m-%d %H:%M:%S}"


def planned(body: Mapping[str, Any], desk: Desk) -> str:
    """A plan as text."""
    return "\n".join(_planned(body, desk))


def _planned(body: Mapping[str, Any], desk: Desk) -> Iterator[str]:
    changes = body["changes"]
    yield f"{body['candidate']['from']}, against the rules of {body['in_force']['from']}:"
    rows: list[list[Any]] = []
    for what in ("added", "removed", "moved"):
        rows += [[what, name, ""] for name in changes[what]]
    for what, found in (("changed", changes["changed"]), ("setting", {"": changes["settings"]})):
        for name, fields in found.items():
            rows += [
                [what, name, f"{field}: {_plain(a)} -> {_plain(b)}"]
                for field, (a, b) in fields.items()
            ]
    yield desk.table(["CHANGE", "RULE", "WHAT"], rows) if rows else "No rule or setting changes."
    yield ""
    if not body["samples"]:
        yield "No packets were sampled: is an agent running, and firewall.sample_every not 0?"
        return
    times = f"{_time_of(body['from_ns'])} to {_time_of(body['to_ns'])}"
    yield f"{body['samples']} sampled packets, one in {body['sample_every']}, {times}:"
    yield from difference_text(body["difference"], desk)


def _plain(value: Any) -> str:
    return "-" if value is None else json.dumps(value)


def _arrow(row: Mapping[str, Any], key: str) -> str:
    before, after = row["before"][key], row["after"][key]
    return before if before == after else f"{before} -> {after}"
