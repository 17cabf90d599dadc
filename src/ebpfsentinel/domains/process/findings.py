"""Matches to alerts and kills."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.process.calls import call_name, error_name, request_name
from ebpfsentinel.domains.process.events import ProcessFlag
from ebpfsentinel.domains.process.image import name_of, text
from ebpfsentinel.domains.process.rule_file import RuleAction
from ebpfsentinel.domains.process.tree import UNKNOWN
from ebpfsentinel.domains.process.views import describe
from ebpfsentinel.model.action import Kill
from ebpfsentinel.model.alert import Alert, Finding, Severity

if TYPE_CHECKING:
    import numpy as np

    from ebpfsentinel.domains.process.columns import Events
    from ebpfsentinel.domains.process.image import Image
    from ebpfsentinel.domains.process.rule_file import ProcessRule
    from ebpfsentinel.domains.process.tree import Key, Node, Tree
    from ebpfsentinel.domains.process.wanted import Patterns

WOULD_KILL = "would_kill"
"""The action of an alert whose rule says kill, where nothing was killed; its context says why."""

_RECOMMENDATIONS = {
    RuleAction.ALERT: "monitor_process",
    RuleAction.LOG: "none",
    RuleAction.KILL: "terminate_process",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """Who is never killed, and whether anybody is.

    ``off`` says why no kill is carried out at all; empty when kills are on.
    """

    off: str
    never: Patterns
    own_pid: int

    def refusal(self, node: Node, image: Image, tree: Tree) -> str:
        """Why this process is not killed; empty when it may be. The never-kill list comes first."""
        if node is UNKNOWN or node.key[0] <= 1:
            return "never-kill list: process 1"
        if image.numbers()["flags"] & ProcessFlag.PROCESS_KERNEL:
            return "never-kill list: kernel thread"
        if node.key in self._own(tree):
            return "never-kill list: the agent or an ancestor of it"
        listed = self.never.match("", text(image.path)) if self._our_files(image, tree) else ""
        if listed:
            return f"never-kill list: {listed}"
        return "it has exited" if node.ended else self.off

    def _own(self, tree: Tree) -> set[Key]:
        """The agent and its ancestors."""
        agent = tree.at_pid(self.own_pid)
        if agent is None:
            return set()
        return {agent.key, *((link.key for link in agent.up.chain()) if agent.up else ())}

    def _our_files(self, image: Image, tree: Tree) -> bool:
        """Does its path mean the file that we know by that path?

        Within a container anybody may have a file called /usr/sbin/sshd. Not known counts as ours.
        """
        agent = tree.at_pid(self.own_pid)
        ours = int(agent.image.numbers()["mnt_ns"]) if agent else 0
        theirs = int(image.numbers()["mnt_ns"])
        return not ours or not theirs or ours == theirs


@dataclass(frozen=True, slots=True)
class Match:
    """One rule matched one event."""

    rule: ProcessRule
    type: str
    row: np.void
    node: Node
    image: Image
    target: Node | None

    @property
    def likeness(self) -> tuple[Any, ...]:
        """Matches of one batch that are alike make one alert: a loop must not flood."""
        detail = self.row["filename"] if self.type == "exec_failed" else self.image.argv
        return (self.rule.name, self.type, self.image.path, detail, self.node.parent)

    @property
    def subject(self) -> Kill:
        """What would end the process."""
        return Kill(int(self.row["pid"]), int(self.row["start_ns"]))


def matches(events: Events, found: list[tuple[int, ProcessRule]]) -> list[Match]:
    """The matches of a batch, by row."""
    return [
        Match(
            rule,
            events.type,
            events.rows[row],
            events.nodes[row],
            events.images[row],
            events.targets[row] if events.targets else None,
        )
        for row, rule in found
    ]


def alert(match: Match, timestamp_ns: int, refusal: str, count: int) -> Alert:
    """What the operator is told of ``count`` matches that are alike."""
    rule = match.rule
    killing = rule.action is RuleAction.KILL
    label = rule.label or rule.name.replace("_", " ").replace("-", " ").title()
    context: dict[str, Any] = {"process": _subject(match), "event": _event(match)}
    if killing and refusal:
        context["event"]["not_killed"] = refusal
    return Alert(
        timestamp_ns=timestamp_ns,
        component="process",
        severity=rule.severity or Severity.of_risk(rule.risk_score),
        rule_id=rule.name,
        action=WOULD_KILL if killing and refusal else rule.action.value,
        message=f"{label}: {_told(match)}",
        count=count,
        pid=int(match.row["pid"]),
        finding=Finding(
            label=label,
            risk_score=rule.risk_score,
            detection_method="rule_based",
            recommendation=rule.recommendation or _RECOMMENDATIONS[rule.action],
            confidence=rule.confidence,
        ),
        technique=rule.technique,
        context=context,
    )


def _subject(match: Match) -> dict[str, Any]:
    """The process of the event; ids are those after the event."""
    now = {
        name: int(match.row[name])
        for name in ("pid", "ppid", "start_ns", "uid", "gid", "euid", "egid")
    }
    return {**describe(match.node, match.image), **now, "comm": text(bytes(match.row["comm"]))}


def _event(match: Match) -> dict[str, Any]:
    """What only this type of event has."""
    row, build = match.row, _DETAILS.get(match.type)
    return {"type": match.type, "time_ns": int(row["time_ns"]), **(build(match) if build else {})}


def _failed(match: Match) -> dict[str, Any]:
    number = int(match.row["error"])
    return {
        "filename": text(bytes(match.row["filename"])),
        "errno": number,
        "error": error_name(number),
        "dirfd": int(match.row["dirfd"]),
    }


def _exit(match: Match) -> dict[str, Any]:
    return {"code": int(match.row["code"]), "signal": int(match.row["signal"])}


def _ptrace(match: Match) -> dict[str, Any]:
    row, target = match.row, match.target or UNKNOWN
    known = bool(row["flags"] & ProcessFlag.PROCESS_TARGET_KNOWN)
    return {
        "request": request_name(int(row["request"])),
        "result": int(row["result"]),
        "target": {
            "pid": int(row["target_pid"]) or target.key[0] or int(row["asked_pid"]),
            "tid": int(row["target_tid"]) or int(row["asked_pid"]),
            "uid": int(row["target_uid"]) if known else None,
            "path": text(target.image.path),
            "name": name_of(target.image),
        },
    }


def _setuid(match: Match) -> dict[str, Any]:
    row = match.row
    ids = [f"{when}_{which}" for when in ("old", "new") for which in ("uid", "euid", "gid", "egid")]
    return {
        "call": call_name(int(row["call"])),
        "result": int(row["result"]),
        "asked": [int(row[f"asked_{each}"]) for each in (1, 2, 3)],
        **{name: int(row[name]) for name in ids},
    }


_DETAILS = {"exec_failed": _failed, "exit": _exit, "ptrace": _ptrace, "setuid": _setuid}


def _told(match: Match) -> str:
    """The event in a few words."""
    who = f"pid {int(match.row['pid'])}, uid {int(match.row['uid'])}"
    what = text(match.image.path) or text(match.image.comm)
    detail = _event(match)
    if match.type == "exec":
        args = " ".join(describe(match.node, match.image)["argv"])
        return f"{what} executed ({who}): {args}" if args else f"{what} executed ({who})"
    if match.type == "exec_failed":
        return f"{what} ({who}) failed to execute {detail['filename']}: {detail['error']}"
    if match.type == "ptrace":
        target = detail["target"]
        return f"{what} ({who}) {detail['request']} on pid {target['pid']} {target['path']}".strip()
    if match.type == "setuid":
        return f"{what} ({who}) {detail['call']}: uid {detail['old_uid']} to {detail['new_uid']}"
    return f"{what} ({who}) {match.type}"
