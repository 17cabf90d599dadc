"""Processes as JSON-able dictionaries: for alerts, the API and the command line."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.process.events import ProcessFlag
from ebpfsentinel.domains.process.image import (
    arguments,
    container_of,
    joined,
    name_of,
    script_of,
    signed,
    text,
)

if TYPE_CHECKING:
    from ebpfsentinel.domains.process.image import Image
    from ebpfsentinel.domains.process.tree import Link, Node, Tree

_NAMESPACES = ("pid_ns", "mnt_ns", "net_ns", "user_ns", "uts_ns", "ipc_ns")
_FLAGS = {
    "path_truncated": ProcessFlag.PROCESS_PATH_TRUNCATED,
    "cwd_truncated": ProcessFlag.PROCESS_CWD_TRUNCATED,
    "args_truncated": ProcessFlag.PROCESS_ARGV_TRUNCATED,
    "args_unreadable": ProcessFlag.PROCESS_ARGV_UNREADABLE,
    "deleted": ProcessFlag.PROCESS_DELETED,
    "memfd": ProcessFlag.PROCESS_MEMFD,
    "tty": ProcessFlag.PROCESS_TTY,
    "kernel_thread": ProcessFlag.PROCESS_KERNEL,
}


def describe(node: Node, image: Image) -> dict[str, Any]:
    """A process while it ran ``image``."""
    head = image.numbers()
    return {
        "pid": node.key[0],
        "start_ns": node.key[1],
        "ppid": node.parent[0],
        "name": name_of(image),
        "comm": text(image.comm),
        "path": text(image.path),
        "argv": list(arguments(image.argv)),
        "args": joined(image.argv),
        "argc": int(head["argc"]),
        "script": script_of(image),
        "cwd": text(image.cwd),
        **{name: int(head[name]) for name in ("uid", "gid", "euid", "egid")},
        "loginuid": signed(int(head["loginuid"])),
        "sessionid": signed(int(head["sessionid"])),
        "cgroup": text(image.cgroup),
        "cgroup_id": int(head["cgroup_id"]),
        "container_id": container_of(image.cgroup),
        "inode": int(head["inode"]),
        "device": int(head["device"]),
        "namespaces": {name.removesuffix("_ns"): int(head[name]) for name in _NAMESPACES},
        "flags": [word for word, flag in _FLAGS.items() if head["flags"] & flag],
        "ancestors": [ancestor(link) for link in node.up.chain()] if node.up else [],
    }


def ancestor(link: Link) -> dict[str, Any]:
    """An ancestor as it was when it forked."""
    pid, start_ns = link.key
    return {
        "pid": pid,
        "start_ns": start_ns,
        "name": name_of(link.image),
        "path": text(link.image.path),
    }


def entry(node: Node) -> dict[str, Any]:
    """A process as the tree has it now, its end included."""
    ended = node.ended
    end = {"time_ns": ended.time_ns, "code": ended.code, "signal": ended.signal} if ended else None
    return {**describe(node, node.image), "ignored": node.ignored, "exit": end}


def flat(tree: Tree, limit: int) -> list[dict[str, Any]]:
    """Live processes in the order of their pids, at most ``limit``."""
    live = sorted((node for node in tree if node.ended is None), key=lambda node: node.key)
    return [entry(node) for node in live[:limit]]


def nested(tree: Tree, root: int | None, limit: int) -> list[dict[str, Any]]:
    """Live processes under their parents (``children``), at most ``limit`` in all.

    ``root`` keeps to one process and what descends from it. A process whose parent is not alive
    stands at the top.
    """
    live = {node.key: node for node in tree if node.ended is None}
    below: dict[Any, list[Node]] = {}
    for node in sorted(live.values(), key=lambda node: node.key):
        below.setdefault(node.parent if node.parent in live else None, []).append(node)
    top = below.get(None, []) if root is None else [n for n in live.values() if n.key[0] == root]
    return _grow(top, below, limit)


def _grow(top: list[Node], below: dict[Any, list[Node]], limit: int) -> list[dict[str, Any]]:
    """Breadth first, so that a limit cuts the depths and not the breadth."""
    roots: list[dict[str, Any]] = []
    queue = deque((node, roots) for node in top)
    for _ in range(limit):
        if not queue:
            break
        node, siblings = queue.popleft()
        shown = {**entry(node), "children": []}
        siblings.append(shown)
        queue.extend((child, shown["children"]) for child in below.get(node.key, []))
    return roots
