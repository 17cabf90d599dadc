"""The pure half of the process domain: records to tree, tree and records to findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.process.columns import Events
from ebpfsentinel.domains.process.events import PROCESS_COUNTS, ProcessEvent, ProcessFlag
from ebpfsentinel.domains.process.findings import Guard, Match, alert, matches
from ebpfsentinel.domains.process.image import images, text
from ebpfsentinel.domains.process.rule_file import ProcessRule, RuleAction, RuleFile
from ebpfsentinel.domains.process.ruleset import RuleSet
from ebpfsentinel.domains.process.tree import UNKNOWN, Ended, Key, Node, Tree
from ebpfsentinel.domains.process.views import describe
from ebpfsentinel.domains.process.wanted import Patterns, check_ignored, collection
from ebpfsentinel.model.domain import Metric, Outcome, Plan
from ebpfsentinel.model.settings import Mode, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.domains.process.settings import ProcessSettings
    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Surroundings, Tools
    from ebpfsentinel.model.processes import Peek

EVENTS = ("exec", "exec_failed", "fork", "thread", "exit", "ptrace", "setuid", "filtered")
"""The labels of ``process_events_total``; the other counts are failures."""

JUDGED = ("exec", "exec_failed", "fork", "exit", "ptrace", "setuid")
"""The event types that rules can be about."""

FAILURES = tuple(name for name in PROCESS_COUNTS.names or () if name not in EVENTS)
"""The counts of helper calls that failed in the kernel."""


VERSION = 1
"""``PROCESS_VERSION``: of the records that this engine understands."""

_TYPES = {
    "execs": ProcessEvent.PROCESS_EXEC,
    "execs_large": ProcessEvent.PROCESS_EXEC,
    "exec_fails": ProcessEvent.PROCESS_EXEC_FAILED,
    "forks": ProcessEvent.PROCESS_FORK,
    "exits": ProcessEvent.PROCESS_EXIT,
    "ptraces": ProcessEvent.PROCESS_PTRACE,
    "setuids": ProcessEvent.PROCESS_SETUID,
    "process_tasks": ProcessEvent.PROCESS_TASK,
}


@dataclass(frozen=True, slots=True)
class State:
    """What a committed plan put in force."""

    settings: ProcessSettings
    rules: RuleSet
    judged: frozenset[str]
    ignored: Patterns
    guard: Guard
    mode: Mode
    boot_offset_ns: int


class ProcessEngine:
    """Keeps the process tree, judges events by rules.

    See :class:`~ebpfsentinel.model.domain.Engine`.
    """

    def __init__(self, tools: Tools) -> None:
        self._language = tools.rules
        self._state: State | None = None
        self._counts = dict.fromkeys(PROCESS_COUNTS.names or (), 0)
        self._strange: dict[str, int] = {}
        self.tree = Tree()
        self._feeds: dict[str, Callable[[NDArray[Any]], Events | None]] = {
            "execs": self._execs,
            "execs_large": self._execs,
            "exec_fails": self._exec_fails,
            "forks": self._forks,
            "exits": self._exits,
            "ptraces": self._ptraces,
            "setuids": self._setuids,
            "process_tasks": self._tasks,
            "process_counts": self._counted,
        }

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Nothing is kept: the tree is read from the kernel at every start."""

    def plan(
        self,
        settings: ProcessSettings,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Compile the rules and work out what the kernel is to collect.

        Raises:
            SettingsError: a rule file that is missing or wrong, a condition that is not valid.
        """
        check_ignored(settings.ignored)
        added = [rule for rule in runtime.get("rules", ()) if isinstance(rule, ProcessRule)]
        rules = RuleSet(self._language, _rule_file(settings, around), added)
        mode = settings.effective_mode
        state = State(
            settings=settings,
            rules=rules,
            judged=frozenset(each for each in JUDGED if rules.judges(each)),
            ignored=Patterns(settings.ignored),
            guard=Guard(_why_off(settings, mode), Patterns(settings.never_kill), around.own_pid),
            mode=mode,
            boot_offset_ns=around.boot_offset_ns,
        )
        return Plan(state, collection(settings, rules))

    def commit(self, plan: Plan) -> None:
        """From now on the plan is in force; who is ignored is worked out again."""
        state: State = plan.state
        if self._state is not None:
            state.rules.matched.update(self._state.rules.matched)
        self._state = state
        self.tree.history = state.settings.history
        for node in self.tree:
            path, comm = text(node.image.path), text(node.image.comm)
            node.ignored = bool(state.ignored.match(comm, path))

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Judge the rows of one of our rings, of the iterator or of the counts.

        Raises:
            KeyError: a source that is not ours.
        """
        events = self._feeds[source](self._known(source, rows))
        state = self._state
        if events is None or state is None or events.type not in state.judged:
            return Outcome()
        heeded = _heeded(events)
        found = list(state.rules.match(heeded)) if len(heeded) else []
        return self._judge(matches(heeded, found), state) if found else Outcome()

    def tick(self, now_ns: int) -> Outcome:
        """Forget the oldest exited processes."""
        self.tree.tick()
        return Outcome()

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """The rules of the file and those added at run time."""
        return list(self._state.rules.rules) if self._state and collection == "rules" else []

    def has(self, collection: str, key: str) -> bool:
        """See :class:`~ebpfsentinel.model.domain.Engine`."""
        return any(getattr(rule, "id", None) == key for rule in self.items(collection))

    def describe_process(self, pid: int, start_ns: int, peek: Peek) -> dict[str, Any] | None:
        """As the tree has it, live or lately exited."""
        node = self.tree.get((pid, start_ns))
        return describe(node, node.image) if node else None

    def status(self) -> dict[str, Any]:
        """Mode, rules, size of the tree, counts of events."""
        state = self._state
        return {
            "mode": state.mode.value if state else Mode.ALERT.value,
            "rule_count": len(state.rules.active) if state else 0,
            "rules_file": state.settings.rules_file or "built in" if state else "",
            "enable_kill": bool(state and state.settings.enable_kill),
            "judged": sorted(state.judged) if state else [],
            "processes": self.tree.live,
            "history": len(self.tree) - self.tree.live,
            "events": {name: self._counts[name] for name in EVENTS},
            "rule_errors": state.rules.errors() if state else {},
        }

    def metrics(self) -> Sequence[Metric]:
        """Events by type, failures, matches and failed evaluations by rule, sizes of the tree."""
        rules = self._state.rules if self._state else None
        tables = (
            ("process_events", "Process events, by type.", "event", self._pick(EVENTS)),
            ("process_failures", "Failed reads in the kernel.", "what", self._pick(FAILURES)),
            ("process_unknown_records", "Records of another version.", "source", self._strange),
            ("process_rule_matches", "Matches, by rule.", "rule", rules.matched if rules else {}),
            ("process_rule_errors", "Failed evaluations.", "rule", rules.errors() if rules else {}),
        )
        counters = [
            Metric(name, "counter", told, {label: word}, value)
            for name, told, label, values in tables
            for word, value in values.items()
        ]
        live, gone = self.tree.live, len(self.tree) - self.tree.live
        told = "Processes in the tree."
        return [
            *counters,
            Metric("process_tree", "gauge", told, {"state": "live"}, live),
            Metric("process_tree", "gauge", told, {"state": "exited"}, gone),
        ]

    def _pick(self, names: Sequence[str]) -> dict[str, int]:
        return {name: self._counts[name] for name in names}

    def _known(self, source: str, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of the version and type that this engine was written for; others are counted."""
        if source not in _TYPES:
            return rows
        known: NDArray[np.bool_] = (rows["version"] == VERSION) & (rows["type"] == _TYPES[source])
        if known.all():
            return rows
        self._strange[source] = self._strange.get(source, 0) + int((~known).sum())
        return rows[known]

    def _execs(self, rows: NDArray[Any]) -> Events:
        found = images(rows)
        nodes = self.tree.exec(_keys(rows), _parents(rows), found, rows["time_ns"].tolist())
        for index in (rows["flags"] & ProcessFlag.PROCESS_IGNORED).nonzero()[0].tolist():
            nodes[index].ignored = True
        return Events("exec", rows, nodes, found)

    def _forks(self, rows: NDArray[Any]) -> Events:
        ns_pids = zip(rows["pid_ns"].tolist(), rows["ns_pid"].tolist(), strict=True)
        return _with_images("fork", rows, self.tree.fork(_keys(rows), _parents(rows), ns_pids))

    def _exits(self, rows: NDArray[Any]) -> Events:
        columns = (rows[name].tolist() for name in ("time_ns", "code", "signal"))
        ends = map(Ended, *columns)
        return _with_images("exit", rows, self.tree.exit(_keys(rows), _parents(rows), ends))

    def _exec_fails(self, rows: NDArray[Any]) -> Events:
        return _with_images("exec_failed", rows, self.tree.find(_keys(rows)))

    def _setuids(self, rows: NDArray[Any]) -> Events:
        return _with_images("setuid", rows, self.tree.find(_keys(rows)))

    def _ptraces(self, rows: NDArray[Any]) -> Events:
        events = _with_images("ptrace", rows, self.tree.find(_keys(rows)))
        events.targets = [self._target(row) for row in rows]
        return events

    def _target(self, row: np.void) -> Node:
        """The traced process: as the kernel found it, else by the pid that the caller wrote."""
        if row["flags"] & ProcessFlag.PROCESS_TARGET_KNOWN:
            return self.tree.get((int(row["target_pid"]), int(row["target_start_ns"]))) or UNKNOWN
        return self.tree.in_namespace(int(row["pid_ns"]), int(row["asked_pid"])) or UNKNOWN

    def _tasks(self, rows: NDArray[Any]) -> None:
        nodes = self.tree.seed(
            list(_keys(rows)), list(_parents(rows)), images(rows), rows["time_ns"].tolist()
        )
        for index in (rows["flags"] & ProcessFlag.PROCESS_IGNORED).nonzero()[0].tolist():
            nodes[index].ignored = True

    def _counted(self, rows: NDArray[Any]) -> None:
        for name in self._counts:
            self._counts[name] = int(rows[name].sum())

    def _judge(self, found: list[Match], state: State) -> Outcome:
        """One alert for the matches that are alike, a kill for each process that is to die."""
        alike: dict[Any, list[Match]] = {}
        for match in found:
            alike.setdefault(match.likeness, []).append(match)
        alerts: list[Alert] = []
        actions: dict[Action, None] = {}
        for group in alike.values():
            first, refusal = group[0], ""
            if first.rule.action is RuleAction.KILL:
                refusals = [state.guard.refusal(m.node, m.image, self.tree) for m in group]
                allowed = [m for m, no in zip(group, refusals, strict=True) if not no]
                actions.update(dict.fromkeys(match.subject for match in allowed))
                refusal = "" if allowed else refusals[0]
            wall_ns = int(first.row["time_ns"]) + state.boot_offset_ns
            alerts.append(alert(first, wall_ns, refusal, len(group)))
        return Outcome(alerts, tuple(actions))


def _rule_file(settings: ProcessSettings, around: Surroundings) -> RuleFile:
    """The rules of the file that the settings name, else those that come with the product."""
    path = rules_path(settings)
    if path not in around.files:
        raise SettingsError(
            "process.rules_file",
            f"{path} cannot be read",
            "Write the path of a JSON file that the agent may read, or remove the key.",
        )
    return RuleFile(path, around.files[path])


def rules_path(settings: ProcessSettings) -> str:
    """The rule file in use."""
    return settings.rules_file or f"{__file__.rpartition('/')[0]}/rules.json"


def _why_off(settings: ProcessSettings, mode: Mode) -> str:
    """Why no kill is carried out; empty when kills are on."""
    if not settings.enable_kill:
        return "process.enable_kill is false"
    return "process.mode is alert" if mode is Mode.ALERT else ""


def _keys(rows: NDArray[Any]) -> zip[Key]:
    return zip(rows["pid"].tolist(), rows["start_ns"].tolist(), strict=True)


def _parents(rows: NDArray[Any]) -> zip[Key]:
    return zip(rows["ppid"].tolist(), rows["parent_start_ns"].tolist(), strict=True)


def _with_images(event_type: str, rows: NDArray[Any], nodes: list[Node]) -> Events:
    """Events of processes with what they run according to the tree."""
    return Events(event_type, rows, nodes, [node.image for node in nodes])


def _heeded(events: Events) -> Events:
    """The events that rules may judge: those of ignored processes are for the tree only."""
    ignored = events.rows["flags"] & ProcessFlag.PROCESS_IGNORED != 0
    if events.type != "exec":
        ignored |= np.array([node.ignored for node in events.nodes], np.bool_)
    return events.where(~ignored) if ignored.any() else events
