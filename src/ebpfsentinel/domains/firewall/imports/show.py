"""An imported rule set for the eye, and as a section of a configuration."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ebpfsentinel.model.access import Desk

_FEW = 3
_WIDTH = 80
_SHOWN = ("src_ip", "src_port", "dst_ip", "dst_port")
_COLUMNS = ("id", "priority", "action", "protocol", *_SHOWN)


def yaml_of(body: Mapping[str, Any]) -> str:
    """The section, in alert mode: to be looked at before it blocks. JSON scalars are YAML."""
    return "\n".join(_yaml(body))


def _yaml(body: Mapping[str, Any]) -> Iterator[str]:
    if body["interfaces"]:
        yield f"# agent.interfaces must have: {', '.join(body['interfaces'])}"
    yield "firewall:"
    yield "  mode: alert"
    yield f"  default_policy: {body['default_policy']}"
    yield "  rules:" if body["rules"] else "  rules: []"
    for rule in body["rules"]:
        comment = " ".join(body["comments"].get(rule["id"], "").split())
        yield f"    - {json.dumps(rule)}" + (
            f"  # {comment}" if comment.isprintable() and comment else ""
        )


def text_of(body: Mapping[str, Any], desk: Desk) -> str:
    """The rules as a table, and the report."""
    rows = [
        [rule["id"], rule["action"], rule.get("protocol", "any")]
        + [rule.get(key) for key in _SHOWN]
        + [_rarer(rule)]
        for rule in body["rules"]
    ]
    headings = ["ID", "ACTION", "PROTO", "SRC IP", "PORT", "DST IP", "PORT", "ALSO"]
    return f"{desk.table(headings, rows)}\n\n{report(body, desk)}"


def _rarer(rule: Mapping[str, Any]) -> str | None:
    """Conditions that have no column: states by their names, others as ``scope lo``."""
    rest = {key: value for key, value in rule.items() if key not in _COLUMNS}
    states = ",".join(rest.pop("state", ()))
    return "; ".join([states] * bool(states) + [f"{key} {rest[key]}" for key in rest]) or None


def report(body: Mapping[str, Any], desk: Desk) -> str:
    """What was carried over, what was not, and what that changes."""
    return "\n".join(_report(body, desk))


def _report(body: Mapping[str, Any], desk: Desk) -> Iterator[str]:
    yield f"{len(body['rules'])} rules, default policy {body['default_policy']}."
    for key, title in (("left_out", "left out"), ("degraded", "carried over as less")):
        if body[key]:
            yield f"{len(body[key])} {title}:"
            rows = [[row["line"], row["text"], row["reason"]] for row in body[key]]
            yield desk.table(["LINE", "RULE", "REASON"], rows)
    for row in body["left_out"]:
        if names := row["changes"]:
            more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
            told = ", ".join(names[:_FEW]) + more
            text = f"Without line {row['line']} its packets are judged by {told}."
            yield textwrap.fill(text, _WIDTH)
    if body["interfaces"]:
        yield f"agent.interfaces must have: {', '.join(body['interfaces'])}."
    for note in body["notes"]:
        yield textwrap.fill(note, _WIDTH)
