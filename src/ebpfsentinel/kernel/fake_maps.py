"""Maps in memory that take, keep, refuse and sum up as the kernel's do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.maps import (
    ARRAY,
    ARRAY_OF_MAPS,
    HASH_OF_MAPS,
    LRU_PERCPU_HASH,
    PERCPU_ARRAY,
    PERCPU_HASH,
)
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.kernel.declared import DeclaredMap

LRU_HASH, LPM_TRIE = 9, 11
_ARRAYS = {ARRAY, PERCPU_ARRAY}
_PER_CPU = {PERCPU_ARRAY, PERCPU_HASH, LRU_PERCPU_HASH}
_EVICTING = {LRU_HASH, LRU_PERCPU_HASH}


def fake_map(declared: DeclaredMap, cpus: int) -> FakeMap:
    """The twin of a map, by its type."""
    if declared.type in (ARRAY_OF_MAPS, HASH_OF_MAPS):
        return FakeMapOfMaps(declared, cpus)
    return FakeArray(declared, cpus) if declared.type in _ARRAYS else FakeMap(declared, cpus)


class FakeMap:
    """A hash, LRU hash, LPM trie or per-CPU hash, and the base of the others.

    Entries are per-CPU rows by the bytes of their key; other maps have one CPU. An LRU hash that is
    full evicts the entry that was written longest ago.
    """

    def __init__(self, declared: DeclaredMap, cpus: int) -> None:
        self.declared = declared
        self.name = declared.name
        self.per_cpu = declared.type in _PER_CPU
        self.cpus = cpus if self.per_cpu else 1
        self._entries: dict[bytes, tuple[bytes, NDArray[Any]]] = {}

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Keys ``(n,)`` and values ``(n,)``, per CPU ``(n, cpus)``; both owned by the caller."""
        keys = b"".join(key for key, _ in self._entries.values())
        values = np.zeros((len(self._entries), self.cpus), self.declared.value)
        for row, (_, value) in enumerate(self._entries.values()):
            values[row] = value
        found = np.frombuffer(keys, self.declared.key).copy()
        return found, values if self.per_cpu else values[:, 0]

    def get(self, key: NDArray[Any]) -> NDArray[Any] | None:
        """The value of one key, shape ``(1,)`` both; None: it is not there."""
        found = self._entries.get(self._checked(key, self.declared.key, "keys").tobytes())
        return None if found is None else np.array(found[1][:1], self.declared.value)

    def write(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write pairs, to all CPUs; those before a refused one stay.

        Raises:
            KernelError: wrong dtype or count, or the map is full.
        """
        keys = self._checked(keys, self.declared.key, "keys")
        values = self._checked(values, self.declared.value, "values")
        if len(keys) != len(values):
            raise KernelError(f"map {self.name}: {len(keys)} keys for {len(values)} values")
        for row in range(len(keys)):
            spread = np.zeros(self.cpus, self.declared.value)
            spread[:] = values[row]
            self._put(keys[row : row + 1], spread, f"writing entry {row} of {len(keys)}")

    def _put(self, key: NDArray[Any], value: NDArray[Any], doing: str) -> None:
        identity = self._identity(key, doing)
        if identity not in self._entries and len(self._entries) >= self.declared.max_entries:
            if self.declared.type not in _EVICTING:
                raise KernelError(f"map {self.name}: {doing}: the map is full")
            del self._entries[next(iter(self._entries))]
        if self.declared.type in _EVICTING:
            self._entries.pop(identity, None)
        self._entries[identity] = (key.tobytes(), value)

    def _identity(self, key: NDArray[Any], doing: str) -> bytes:
        """What makes two keys the same entry: of a trie, only the bits of the prefix."""
        raw = key.tobytes()
        if self.declared.type != LPM_TRIE:
            return raw
        bits, width = int.from_bytes(raw[:4], "little"), len(raw) * 8 - 32
        if bits > width:
            raise KernelError(f"map {self.name}: {doing}: a prefix of {bits} bits, at most {width}")
        kept = int.from_bytes(raw[4:], "big") >> (width - bits)
        return raw[:4] + kept.to_bytes(len(raw) - 4, "big")

    def delete(self, keys: NDArray[Any]) -> None:
        """Delete entries; one that is not there is no error."""
        keys = self._checked(keys, self.declared.key, "keys")
        for row in range(len(keys)):
            self._entries.pop(self._identity(keys[row : row + 1], f"deleting entry {row}"), None)

    def replace(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write the pairs, then delete what else is there."""
        self.write(keys, values)
        wanted = {self._identity(keys[row : row + 1], "replacing") for row in range(len(keys))}
        present, _ = self.read()
        for row in range(len(present)):
            key = present[row : row + 1]
            if self._identity(key, "replacing") not in wanted:
                self.delete(key)

    def lend(self, slot: int, inner: Any) -> None:
        """Only a map-in-map can."""
        raise KernelError(f"map {self.name} is no map of maps (slot {slot}, {inner.name})")

    def swap(self, slot: int, value: NDArray[Any]) -> None:
        """Refused: only a map of maps has generations."""
        raise KernelError(f"map {self.name} is no map of maps")

    def fill(self, values: Mapping[int, NDArray[Any]]) -> None:
        """As :meth:`swap`: there are no programs here that might use them."""
        for slot, value in values.items():
            self.swap(slot, value)

    def behind(self, slot: int, value: np.dtype[Any]) -> NDArray[Any] | None:
        """Refused, as :meth:`swap`."""
        raise KernelError(f"map {self.name} is no map of maps: nothing of {value} at {slot}")

    def table(
        self, slot: int, element: np.dtype[Any], part: tuple[int, int] | None = None
    ) -> NDArray[Any] | None:
        """Refused, as :meth:`swap`."""
        raise KernelError(f"map {self.name} is no map of maps: no {element} at {slot}")

    def link(self, slot: int, other: int) -> None:
        """Refused, as :meth:`swap`."""
        raise KernelError(f"map {self.name} is no map of maps: no {slot} for {other}")

    def patch(self, slot: int, writes: Sequence[tuple[int, bytes]]) -> None:
        """Refused, as :meth:`swap`."""
        raise KernelError(f"map {self.name} is no map of maps: {len(writes)} writes to {slot}")

    def empty(self, slot: int) -> None:
        """Refused, as :meth:`swap`."""
        raise KernelError(f"map {self.name} is no map of maps: it has no slot {slot}")

    def total(self) -> NDArray[Any]:
        """Values summed over CPUs, shape ``(entries,)``; fields ``last_*`` take the maximum."""
        _, values = self.read()
        if not self.per_cpu:
            return values
        if self.declared.value.names is None:
            return np.asarray(values.sum(axis=1, dtype=self.declared.value))
        summed = np.zeros(len(values), self.declared.value)
        for name in self.declared.value.names:
            fold = values[name].max if name.startswith("last_") else values[name].sum
            summed[name] = fold(axis=1)
        return summed

    def _checked(self, array: NDArray[Any], wanted: np.dtype[Any], what: str) -> NDArray[Any]:
        if array.dtype != wanted and (array.dtype.itemsize != wanted.itemsize or wanted.names):
            raise KernelError(f"map {self.name} wants {what} of {wanted}, got {array.dtype}")
        return np.ascontiguousarray(array).view(wanted)


class FakeArray(FakeMap):
    """An array or per-CPU array: all entries exist from the start, deleting makes them zero.

    ``cells`` is the memory itself, shape ``(entries, cpus)``.
    """

    def __init__(self, declared: DeclaredMap, cpus: int) -> None:
        super().__init__(declared, cpus)
        self.cells = np.zeros((declared.max_entries, self.cpus), declared.value)

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """All entries, whether written or not."""
        keys = np.arange(len(self.cells), dtype=np.uint32).view(self.declared.key)
        return keys, self.cells.copy() if self.per_cpu else self.cells[:, 0].copy()

    def _put(self, key: NDArray[Any], value: NDArray[Any], doing: str) -> None:
        self.cells[self._index(key, doing)] = value

    def delete(self, keys: NDArray[Any]) -> None:
        """Set entries to zero."""
        keys = self._checked(keys, self.declared.key, "keys")
        self.write(keys, np.zeros(len(keys), self.declared.value))

    def replace(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write the pairs, and set all other entries to zero."""
        self.write(keys, values)
        left = np.ones(len(self.cells), np.bool_)
        left[keys.view(np.uint32)] = False
        self.cells[left] = np.zeros((), self.declared.value)

    def _index(self, key: NDArray[Any], doing: str) -> int:
        index = int.from_bytes(key.tobytes(), "little")
        if index >= len(self.cells):
            raise KernelError(f"map {self.name}: {doing}: {index} of {len(self.cells)} entries")
        return index


class FakeMapOfMaps(FakeMap):
    """A map-in-map: ``generations`` holds the value in force by slot, ``swaps`` counts them.

    ``lent`` are maps that stand behind a slot as they are.
    """

    def __init__(self, declared: DeclaredMap, cpus: int) -> None:
        super().__init__(declared, cpus)
        self.generations: dict[int, NDArray[Any]] = {}
        self.lent: dict[int, FakeMap] = {}
        self.swaps = 0

    def lend(self, slot: int, inner: FakeMap) -> None:
        """Put another map, as it is, behind ``slot``.

        Raises:
            KernelError: it is not such a map, or there is no such slot.
        """
        wanted, found = self.declared.inner, inner.declared
        if wanted is None or (wanted.value.itemsize, wanted.max_entries) != (
            found.value.itemsize,
            found.max_entries,
        ):
            raise KernelError(f"map {self.name} takes no map such as {inner.name}")
        if not 0 <= slot < self.declared.max_entries:
            raise KernelError(f"map {self.name} has no slot {slot}")
        self.lent[slot] = inner
        self.generations.pop(slot, None)

    def swap(self, slot: int, value: NDArray[Any]) -> None:
        """Put a copy of ``value`` behind ``slot``.

        Raises:
            KernelError: the value has another size, or there is no such slot.
        """
        inner = self.declared.inner
        wanted = inner.value if inner else np.dtype("V4")
        size = wanted.itemsize * (inner.max_entries if inner else 1)
        any_size = inner is not None and inner.any_size and not value.nbytes % wanted.itemsize
        if value.nbytes != size and not any_size:
            raise KernelError(f"map {self.name} wants {size} bytes, got {value.nbytes}")
        if not 0 <= slot < self.declared.max_entries:
            raise KernelError(
                f"map {self.name}: swapping slot {slot} of {self.declared.max_entries}"
            )
        self.generations[slot] = np.frombuffer(value.tobytes(), wanted)
        self.lent.pop(slot, None)
        self.swaps += 1

    def behind(self, slot: int, value: np.dtype[Any]) -> NDArray[Any] | None:
        """What was put behind the slot; None: nothing."""
        lent = self.lent.get(slot)
        found = lent.read()[1] if lent else self.generations.get(slot)
        return None if found is None else found.view(value).copy()

    def patch(self, slot: int, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write bytes at offsets of the value behind a slot, in order.

        Raises:
            KernelError: there is nothing behind it.
        """
        found = self.generations.get(slot)
        if found is None:
            raise KernelError(f"map {self.name}: there is nothing behind slot {slot}")
        whole = bytearray(found.tobytes())
        for offset, content in writes:
            whole[offset : offset + len(content)] = content
        self.generations[slot] = np.frombuffer(bytes(whole), found.dtype)

    def table(
        self, slot: int, element: np.dtype[Any], part: tuple[int, int] | None = None
    ) -> NDArray[Any] | None:
        """The memory behind the slot, or of so many elements from one on; None: nothing."""
        found = self.generations.get(slot)
        if found is not None and not found.flags.writeable:
            found = self.generations[slot] = found.copy()
        if found is None:
            return None
        first, count = part or (0, None)
        return found.view(element)[first : None if count is None else first + count]

    def link(self, slot: int, other: int) -> None:
        """Put behind a slot what is behind another."""
        self.generations[slot] = self.generations[other]

    def empty(self, slot: int) -> None:
        """Leave nothing behind the slot."""
        self.generations.pop(slot, None)

    def write(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Refused: what is behind a slot changes by :meth:`swap` only."""
        raise KernelError(f"map {self.name} is a map of maps: swap its slots")
