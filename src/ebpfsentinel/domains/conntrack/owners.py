"""The processes at the ends of a flow, as rows show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Describe = Callable[[int, int], Mapping[str, Any]]

_SHOWN = {"comm": "comm", "exe": "path", "cgroup": "cgroup", "container": "container_id"}
"""What a row has, by what domains that know processes call it."""


def owners(owner: Any, first: int) -> dict[str, Any]:
    """Who opened the flow, else who answers; with ``peer`` where both are known, who answers.

    ``owner`` is of one row, shape ``(2,)``; ``first`` the end that opened it.
    """
    found = [_owner(owner, end) for end in (first, 1 - first) if int(owner["start_ns"][end])]
    if not found:
        return {"pid": None}
    return found[0] | ({"peer": found[1]} if len(found) > 1 else {})


def _owner(owner: Any, end: int) -> dict[str, Any]:
    return {
        "pid": int(owner["pid"][end]),
        "pid_start_ns": int(owner["start_ns"][end]),
        "uid": int(owner["uid"][end]),
        "cgroup_id": int(owner["cgroup_id"][end]),
    }


def describe(rows: Iterable[dict[str, Any]], ask: Describe) -> None:
    """Add ``comm``, ``exe``, ``cgroup`` and ``container`` to rows; each process is asked for once.

    Empty is what nobody knows: a process that has gone, or with no domain that watches processes.
    """
    known: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows:
        for each in (row, row.get("peer")):
            if not each or each["pid"] is None:
                continue
            key = each["pid"], each["pid_start_ns"]
            if key not in known:
                said = ask(*key)
                known[key] = {name: said.get(word) or "" for name, word in _SHOWN.items()}
            each.update(known[key])
