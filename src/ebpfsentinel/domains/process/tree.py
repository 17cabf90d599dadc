"""The live process tree.

The problem: records of forks, execs and exits come from rings of their own, so an exec may arrive
before its fork, and an exit before both; the exec of an orphan names the parent that adopted it;
pids are used again within seconds on a busy machine; and a long-lived process must still show who
started it when all of those are long gone.

The chosen way: a process is named by (pid, start_ns), which is never used twice, so records may
arrive in any order: whichever comes first makes the node, an exit marks it for good, and what
arrives later never revives it. Exited nodes stay, first for at least two ticks (longer than any
record can lag behind), then as a bounded history. Ancestry is a chain of immutable links taken at
the fork: a link holds what the parent ran *then*, is shared by all children, and outlives the node.
Which image that was is decided by time, not by arrival: a parent remembers the image before its
last exec, for forks that arrive late, and the children of the last seconds, for its own execs that
do.

Rejected: parents looked up when asked for (gone by then, or by now running something else), and one
ordered ring for all records (fixed-size records then all have the size of the largest).

A lost exit record would leave a ghost. Every seeding therefore also reconciles: what the iterator
did not show and was there before it ran, has exited.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.domains.process.image import NO_IMAGE, Image, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Key = tuple[int, int]
"""``(pid, start_ns)``: a process for ever."""

MAX_ANCESTORS = 32
_TICKS_KEPT = 2
_YOUNG_NS = 2_000_000_000


class Link:
    """One ancestor as it was when it forked; ``up`` is its own parent."""

    __slots__ = ("_names", "depth", "image", "key", "up")

    def __init__(self, key: Key, image: Image, up: Link | None) -> None:
        self.key, self.image = key, image
        self.up = _shortened(up) if up and up.depth >= 2 * MAX_ANCESTORS else up
        self.depth: int = self.up.depth + 1 if self.up else 1
        self._names: tuple[str, ...] | None = None

    def chain(self) -> Iterator[Link]:
        """This ancestor and those above it, nearest first, at most :data:`MAX_ANCESTORS`."""
        link: Link | None = self
        for _ in range(MAX_ANCESTORS):
            if link is None:
                return
            yield link
            link = link.up

    @property
    def names(self) -> tuple[str, ...]:
        """The names along the chain."""
        if self._names is None:
            self._names = tuple(name_of(link.image) for link in self.chain())
        return self._names


def _shortened(link: Link) -> Link:
    """The nearest ancestors only: a process that forks and exits for ever stays bounded."""
    up: Link | None = None
    for each in reversed(list(link.chain())):
        up = Link(each.key, each.image, up)
    return up or link


@dataclass(frozen=True, slots=True)
class Ended:
    """How and when (boot clock) a process ended; ``code`` is -1 when its exit was not seen."""

    time_ns: int
    code: int
    signal: int


class Node:
    """One process. ``image_ns`` is when it began to run ``image`` (boot clock)."""

    __slots__ = (
        "_link",
        "earlier",
        "earlier_ns",
        "ended",
        "ignored",
        "image",
        "image_ns",
        "key",
        "ns_pid",
        "parent",
        "up",
        "young",
    )

    def __init__(self, key: Key, parent: Key, up: Link | None) -> None:
        self.key, self.parent, self.up = key, parent, up
        self.image, self.image_ns = NO_IMAGE, 0
        self.earlier, self.earlier_ns = NO_IMAGE, 0
        self.young: list[Node] | None = None
        self.ended: Ended | None = None
        self.ignored = False
        self.ns_pid: Key = (0, 0)
        self._link: Link | None = None

    def run(self, image: Image, time_ns: int) -> None:
        """It runs, or before its last exec ran, ``image`` from ``time_ns`` on."""
        if time_ns >= self.image_ns:
            self.earlier, self.earlier_ns = self.image, self.image_ns
            self.image, self.image_ns, self._link = image, time_ns, None
        elif time_ns >= self.earlier_ns:
            self.earlier, self.earlier_ns = image, time_ns
        if self.young:
            self._pass_on()

    def show(self, image: Image) -> None:
        """It was seen to run ``image``; a record of the exec, which tells more, still wins."""
        self.image, self._link = image, None

    def own_pid(self) -> Key:
        """Its innermost pid namespace, and its pid in there."""
        if self.ns_pid == (0, 0):
            numbers = self.image.numbers()
            self.ns_pid = (int(numbers["pid_ns"]), int(numbers["ns_pid"]))
        return self.ns_pid

    def link(self, time_ns: int) -> Link:
        """This process as an ancestor of what it forked at ``time_ns``."""
        if time_ns < self.image_ns:
            return Link(self.key, self.earlier, self.up)
        if self._link is None:
            self._link = Link(self.key, self.image, self.up)
        return self._link

    def inherit(self, above: Node) -> None:
        """It was forked by ``above``, and runs what that ran then unless it has executed since."""
        self.up, self._link = above.link(self.key[1]), None
        if self.image_ns == 0:
            self.image, self.ignored = self.up.image, above.ignored
        if self.young:
            self._pass_on()

    def _pass_on(self) -> None:
        """What changed about it changed for those whom it forked lately."""
        for child in self.young or ():
            if child.key[1] >= self.earlier_ns:
                child.inherit(self)


UNKNOWN = Node((0, 0), (0, 0), None)
"""Stands in for a process that nothing is known of."""


class Tree:
    """All live processes, and the last ``history`` that exited."""

    def __init__(self, history: int = 4096) -> None:
        self.history = history
        self.live = 0
        self._nodes: dict[Key, Node] = {}
        self._pids: dict[int, Node] = {}
        self._ended: deque[Node] = deque()
        self._marks: deque[int] = deque([0] * _TICKS_KEPT, _TICKS_KEPT)
        self._dropped = 0
        self._breeding: list[Node] = []
        self._orphans: dict[Key, list[Node]] = {}
        self._last_start_ns = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def get(self, key: Key) -> Node | None:
        """The process, live or exited."""
        return self._nodes.get(key)

    def at_pid(self, pid: int) -> Node | None:
        """The live process that has the pid, else the last one that had it."""
        return self._pids.get(pid)

    def in_namespace(self, pid_ns: int, pid: int) -> Node | None:
        """The live process that has ``pid`` in the pid namespace ``pid_ns`` (inode number)."""
        wanted = (pid_ns, pid)
        found = (n for n in self._nodes.values() if n.ended is None and n.own_pid() == wanted)
        return next(found, None)

    def find(self, keys: Iterable[Key]) -> list[Node]:
        """The nodes of the keys, :data:`UNKNOWN` where there is none."""
        get = self._nodes.get
        return [get(key, UNKNOWN) for key in keys]

    def exec(
        self,
        keys: Iterable[Key],
        parents: Iterable[Key],
        images: Iterable[Image],
        times: Iterable[int],
    ) -> list[Node]:
        """Processes run other images; returns their nodes."""
        get, nodes = self._nodes.get, []
        for key, parent, image, time_ns in zip(keys, parents, images, times, strict=True):
            node = get(key) or self._add(key, parent)
            node.run(image, time_ns)
            nodes.append(node)
        return nodes

    def fork(
        self, keys: Iterable[Key], parents: Iterable[Key], ns_pids: Iterable[Key]
    ) -> list[Node]:
        """New processes; returns their nodes."""
        get, nodes = self._nodes.get, []
        for key, parent, ns_pid in zip(keys, parents, ns_pids, strict=True):
            node = get(key) or self._add(key, parent)
            node.ns_pid = ns_pid
            if node.parent != parent or node.up is None:
                self._adopt(node, parent)
            nodes.append(node)
        return nodes

    def exit(
        self, keys: Iterable[Key], parents: Iterable[Key], ends: Iterable[Ended]
    ) -> list[Node]:
        """Processes are gone; returns their nodes."""
        get, nodes = self._nodes.get, []
        for key, parent, end in zip(keys, parents, ends, strict=True):
            node = get(key) or self._add(key, parent)
            self._end(node, end)
            nodes.append(node)
        return nodes

    def seed(
        self,
        keys: Sequence[Key],
        parents: Sequence[Key],
        images: Sequence[Image],
        times: Sequence[int],
    ) -> list[Node]:
        """What the iterator saw: all processes that were there; the rest have exited.

        A parent starts before its children, so in the order of their starts each finds its parent.
        """
        order = sorted(range(len(keys)), key=lambda index: keys[index][1])
        nodes = [UNKNOWN] * len(keys)
        for index in order:
            node = self._nodes.get(keys[index]) or self._add(keys[index], parents[index])
            if node.image is NO_IMAGE or node.image.path != images[index].path:
                node.show(images[index])
            nodes[index] = node
        self._reconcile(set(keys), min(times, default=0))
        return nodes

    def tick(self) -> None:
        """Forget the oldest of the exited beyond the history, but none of the last two ticks."""
        self._wean()
        settled = self._marks[0] - self._dropped
        surplus = min(len(self._ended) - self.history, settled)
        for _ in range(max(surplus, 0)):
            self._forget(self._ended.popleft())
        self._marks.append(self._dropped + len(self._ended))

    def _add(self, key: Key, parent: Key) -> Node:
        node = Node(key, parent, None)
        self._adopt(node, parent)
        self._nodes[key] = node
        for child in self._orphans.pop(key, ()):
            self._adopt(child, key)
        self._last_start_ns = max(self._last_start_ns, key[1])
        self.live += 1
        holder = self._pids.get(key[0])
        if holder is None or holder.key[1] < key[1]:
            self._pids[key[0]] = node
        return node

    def _adopt(self, node: Node, parent: Key) -> None:
        """``parent`` forked ``node``, unless it started later: so there are no cycles."""
        node.parent = parent
        if parent[1] >= node.key[1]:
            return
        above = self._nodes.get(parent)
        if above is None:
            self._orphans.setdefault(parent, []).append(node)
            return
        node.inherit(above)
        if above.young is None:
            above.young = []
            self._breeding.append(above)
        above.young.append(node)

    def _wean(self) -> None:
        """Forget what was kept for records that are late, after two seconds: none is so late."""
        since = self._last_start_ns - _YOUNG_NS
        breeding, self._breeding = self._breeding, []
        for node in breeding:
            node.young = [child for child in node.young or () if child.key[1] >= since] or None
            if node.young:
                self._breeding.append(node)
        self._orphans = {
            parent: children
            for parent, children in self._orphans.items()
            if children[-1].key[1] >= since
        }

    def _end(self, node: Node, end: Ended) -> None:
        if node.ended is None:
            node.ended = end
            self.live -= 1
            self._ended.append(node)

    def _forget(self, node: Node) -> None:
        self._dropped += 1
        del self._nodes[node.key]
        if self._pids.get(node.key[0]) is node:
            del self._pids[node.key[0]]

    def _reconcile(self, seen: set[Key], since_ns: int) -> None:
        """End what was there before ``since_ns`` and was not seen."""
        ghosts = [
            node
            for key, node in self._nodes.items()
            if node.ended is None and key not in seen and max(key[1], node.image_ns) < since_ns
        ]
        for node in ghosts:
            self._end(node, Ended(since_ns, -1, 0))
