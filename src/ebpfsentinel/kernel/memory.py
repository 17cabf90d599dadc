"""How much memory maps will take, worked out before anything is loaded.

From what the objects declare, by how the kernel allocates each type (``kernel/bpf``: arraymap.c,
hashtab.c, ringbuf.c, lpm_trie.c), with every table counted full; what rules are compiled into is
known from their plans (:func:`behind`). What the kernel itself says of a map that is there is its
``memlock`` (/proc/PID/fdinfo): the same to a few per cent where the kernel allocates at once.

And how much there may be: the limit of our control group, of which the rest is not ours to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.declared import DeclaredMap, read_object
from ebpfsentinel.kernel.maps import (
    ARRAY,
    ARRAY_OF_MAPS,
    CPUMAP,
    DEVMAP_HASH,
    HASH_OF_MAPS,
    LRU_PERCPU_HASH,
    PERCPU_ARRAY,
    PERCPU_HASH,
    PROG_ARRAY,
    RINGBUF,
)
from ebpfsentinel.model.action import FlowTable, Swap, Switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebpfsentinel.model.action import Action

MB = 1 << 20
LRU_HASH, LPM_TRIE, SK_STORAGE = 9, 11, 24
_HASHES = frozenset({1, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH})
_NO_PREALLOC, _MMAPABLE = 1, 1 << 10
_PAGE = 4096
_ELEMENT = 48
"""``struct htab_elem`` before the key."""
_BUCKET, _TRIE_NODE, _MAP, _HASH_MAP = 16, 40, 320, 768
_RESERVE = 112 << 20
"""Kept for what the process itself takes once all of it is there, and for compiled rules."""
_NO_LIMIT = 1 << 60
_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """What one map takes at most, in bytes."""

    domain: str
    map: str
    bytes: int


def needs(objects: Iterable[tuple[str, Path]], cpus: int | None = None) -> Iterator[Need]:
    """Of every map of the objects, each named with its domain; shared ones count once.

    Raises:
        ElfError, BtfError, OSError: an object cannot be read.
    """
    width = cpus or possible_cpus()
    seen: set[str] = set()
    for domain, path in objects:
        for name, declared in read_object(path).maps.items():
            if name not in seen:
                seen.add(name)
                yield Need(domain, name, predicted(declared, width))


def predicted(declared: DeclaredMap, cpus: int) -> int:
    """Bytes of a map with all that it can hold; of a map of maps, without what is behind it."""
    entries, kind = declared.max_entries, declared.type
    if kind in _HASHES:
        return _hash_bytes(declared, cpus)
    key, value = declared.key.itemsize, _aligned(declared.value.itemsize)
    array = value * entries
    if declared.flags & _MMAPABLE:
        array = (-(-array // _PAGE) + 1) * _PAGE
    pages = entries // _PAGE
    found = {
        RINGBUF: entries + 3 * _PAGE + (3 + 2 * pages) * 8,
        ARRAY: array,
        PERCPU_ARRAY: entries * (8 + value * cpus),
        PROG_ARRAY: 8 * entries,
        ARRAY_OF_MAPS: 8 * entries,
        HASH_OF_MAPS: 8 * entries,
        LPM_TRIE: entries * _aligned(_TRIE_NODE + key + declared.value.itemsize),
        SK_STORAGE: 160,
        CPUMAP: 8 * cpus,
        DEVMAP_HASH: 8 * entries,
    }
    return _MAP + found.get(kind, array)


def _hash_bytes(declared: DeclaredMap, cpus: int) -> int:
    key, value = _aligned(declared.key.itemsize), _aligned(declared.value.itemsize)
    per_cpu = declared.type in (PERCPU_HASH, LRU_PERCPU_HASH)
    least_recently = declared.type in (LRU_HASH, LRU_PERCPU_HASH)
    entries = declared.max_entries
    element = _ELEMENT + key + (8 if per_cpu else value)
    extra = 0 if least_recently or declared.flags & _NO_PREALLOC else cpus  # for updates in place
    buckets = 1 << max(entries - 1, 0).bit_length()
    values = value * cpus * entries if per_cpu else 0
    return _HASH_MAP + (entries + extra) * element + values + buckets * _BUCKET


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def behind(actions: Iterable[Action], flow_set: int) -> int:
    """Bytes that a plan puts behind maps of maps; ``flow_set``: of a set of the flow table."""
    found = 0
    for action in actions:
        if isinstance(action, Swap):
            found += action.value.nbytes
        elif isinstance(action, Switch):
            found += sum(place.nbytes for place in action.places.values()) + action.head.nbytes
        elif isinstance(action, FlowTable) and action.head is not None:
            found += (1 + int(np.ravel(action.head["sets"])[0])) * flow_set
    return found


def room_bytes() -> int | None:
    """What maps may take: what is left of the limit but for a reserve; None: there is no limit.

    Files that the kernel may forget do not count as used.
    """
    found = [limit - _used(folder, name) - _RESERVE for folder, name, limit in _all_limits()]
    return min(found, default=None)


def limit_bytes() -> int | None:
    """What our control group, and those above it, allow; None: no limit.

    Of the unified hierarchy ``memory.max``, of the old one ``memory.limit_in_bytes``.
    """
    return min((limit for _, _, limit in _all_limits()), default=None)


def _all_limits() -> Iterator[tuple[Path, str, int]]:
    for folder, name in _groups():
        yield from _limits(folder, name)


def _used(folder: Path, name: str) -> int:
    usage = {"memory.max": "memory.current"}.get(name, "memory.usage_in_bytes")
    forgotten = {"memory.max": "inactive_file"}.get(name, "total_inactive_file")
    try:
        used = int((folder / usage).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return 0
    cached = next((int(line.split()[1]) for line in lines if line.split()[0] == forgotten), 0)
    return max(used - cached, 0)


def _groups() -> Iterator[tuple[Path, str]]:
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    places = {}
    for words in mounts:
        kind, options = words[words.index("-") + 1], words[-1].split(",")
        if kind == "cgroup2":
            places[""] = Path(words[4])
        elif kind == "cgroup" and "memory" in options:
            places["memory"] = Path(words[4])
    for line in _CGROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers and "" in places:
            yield places[""] / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(",") and "memory" in places:
            yield places["memory"] / path.lstrip("/"), "memory.limit_in_bytes"


def _limits(folder: Path, name: str) -> Iterator[tuple[Path, str, int]]:
    for place in (folder, *folder.parents):
        try:
            text = (place / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT:
            yield place, name, int(text)
