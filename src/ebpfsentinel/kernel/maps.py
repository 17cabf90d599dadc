"""BPF maps as numpy arrays: batched reads and writes, per-CPU sums, map-in-map swaps."""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.mapped import mapped
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

ARRAY, PROG_ARRAY, PERCPU_HASH, PERCPU_ARRAY = 2, 3, 5, 6
LRU_PERCPU_HASH, ARRAY_OF_MAPS, HASH_OF_MAPS, CPUMAP, RINGBUF = 10, 12, 13, 16, 27
DEVMAP_HASH = 25
_PER_CPU = {PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH}
_ARRAYS = {ARRAY, PERCPU_ARRAY}
_MMAPABLE, _ANY_SIZE = 1 << 10, 1 << 12
_PAGE = mmap.PAGESIZE
_WORD = np.dtype("<u4")


def pointer(array: NDArray[Any]) -> Any:
    """The address of an array's bytes; the array must outlive the call."""
    return ffi.cast("void *", array.ctypes.data)


@dataclass(frozen=True, slots=True)
class Inner:
    """What an inner map of a map-in-map must look like.

    Up to Linux 6.2 the types (``btf_fd`` and numbers in it) are part of that: the kernel does not
    take a map without them for the equal of one with them.
    """

    type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int
    btf_fd: int = 0
    key_type: int = 0
    value_type: int = 0

    @property
    def any_size(self) -> bool:
        """May the inner maps of one outer map have different numbers of elements?"""
        return bool(self.flags & _ANY_SIZE)


@dataclass(frozen=True, slots=True)
class Map:
    """One loaded map: ``value`` is the dtype of one CPU's value, ``inner`` set for map-in-maps."""

    name: str
    fd: int
    type: int
    key: np.dtype[Any]
    value: np.dtype[Any]
    max_entries: int
    inner: Inner | None = None

    @property
    def per_cpu(self) -> bool:
        """Has every CPU a value of its own?"""
        return self.type in _PER_CPU

    def _values(self, count: int) -> NDArray[Any]:
        """Room for ``count`` values as the kernel writes them, viewed with the value's dtype."""
        if not self.per_cpu:
            return np.zeros(count, self.value)
        width = -(-self.value.itemsize // 8) * 8
        padded = np.dtype(
            {"names": ["value"], "formats": [self.value], "offsets": [0], "itemsize": width}
        )
        return np.zeros((count, possible_cpus()), padded)

    def read(self, most: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
        """All pairs: keys ``(n,)``, values ``(n,)`` or, per CPU, ``(n, cpus)``.

        ``most``: of an array, no more than the first so many need be there.
        """
        size = self.max_entries if most is None else min(most, self.max_entries)
        keys, values = self._read_batch(size) or self._read_singly()
        return keys, values["value"] if self.per_cpu else values

    def _read_batch(self, size: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Batched lookup; None where this kernel has none for the map's type."""
        keys, values = np.zeros(size, self.key), self._values(size)
        cursor = ffi.new("char[]", max(self.key.itemsize, 8))
        done = 0
        stride = values.strides[0] if len(values) else 0
        count = ffi.new("uint32_t *")
        while done < size:
            count[0] = size - done
            result = lib().bpf_map_lookup_batch(
                self.fd,
                cursor if done else ffi.NULL,
                cursor,
                ffi.cast("void *", keys.ctypes.data + done * self.key.itemsize),
                ffi.cast("void *", values.ctypes.data + done * stride),
                count,
                ffi.NULL,
            )
            if result not in (0, -errno.ENOENT):
                return None
            done += count[0]
            if result:
                break
        return keys[:done], values[:done]

    def _read_singly(self) -> tuple[NDArray[Any], NDArray[Any]]:
        keys, values = np.zeros(self.max_entries + 1, self.key), self._values(self.max_entries)
        done, previous = 0, ffi.NULL
        while done < self.max_entries:
            key = pointer(keys[done:])
            if lib().bpf_map_get_next_key(self.fd, previous, key):
                break
            if not lib().bpf_map_lookup_elem(self.fd, key, pointer(values[done:])):
                done += 1
            previous = key
        return keys[:done], values[:done]

    def write(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write pairs in one batch.

        Raises:
            KernelError: a dtype does not fit, or the kernel refused (map full).
        """
        keys, values = (
            self._checked(keys, self.key, "keys"),
            self._checked(values, self.value, "values"),
        )
        if len(keys) != len(values):
            raise KernelError(f"map {self.name}: {len(keys)} keys for {len(values)} values")
        if self.per_cpu:
            spread = self._values(len(keys))
            spread["value"][:] = values[:, None]
            values = spread
        count = ffi.new("uint32_t *", len(keys))
        if not len(keys):
            return
        result = lib().bpf_map_update_batch(
            self.fd, pointer(keys), pointer(values), count, ffi.NULL
        )
        if result:
            self._write_singly(keys, values)

    def _write_singly(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Where there is no batch, or to find the pair that a batch was refused for."""
        for row in range(len(keys)):
            result = lib().bpf_map_update_elem(
                self.fd, pointer(keys[row:]), pointer(values[row:]), 0
            )
            check(result, f"map {self.name}: writing entry {row} of {len(keys)}")

    def _checked(self, array: NDArray[Any], wanted: np.dtype[Any], what: str) -> NDArray[Any]:
        if array.dtype != wanted and (array.dtype.itemsize != wanted.itemsize or wanted.names):
            raise KernelError(f"map {self.name} wants {what} of {wanted}, got {array.dtype}")
        return np.ascontiguousarray(array)

    def delete(self, keys: NDArray[Any]) -> None:
        """Delete entries; of an array, whose entries always exist, set them to zero."""
        keys = self._checked(keys, self.key, "keys")
        if self.type in _ARRAYS:
            self.write(keys, np.zeros(len(keys), self.value))
            return
        for row in range(len(keys)):
            result = lib().bpf_map_delete_elem(self.fd, pointer(keys[row:]))
            if result not in (0, -errno.ENOENT):
                check(result, f"map {self.name}: deleting entry {row}")

    def replace(self, keys: NDArray[Any], values: NDArray[Any]) -> None:
        """Write the pairs, then delete what else is there: nothing wanted is ever missing."""
        self.write(keys, values)
        present, _ = self.read()
        self.delete(present[~np.isin(_as_void(present), _as_void(keys.astype(self.key)))])

    def total(self, most: int | None = None) -> NDArray[Any]:
        """Per-CPU values summed, shape ``(entries,)``; fields ``last_*`` take the maximum.

        Of an array only the first ``most`` are read, where that is said; the others are 0.
        """
        _, values = self.read(most)
        if not self.per_cpu:
            return values
        summed = np.zeros(len(values) if most is None else self.max_entries, self.value)
        if self.value.names is None:
            summed[: len(values)] = values.sum(axis=1, dtype=self.value)
        for name in self.value.names or ():
            fold = values[name].max if name.startswith("last_") else values[name].sum
            summed[name][: len(values)] = fold(axis=1)
        return summed

    def swap(self, slot: int, value: NDArray[Any]) -> None:
        """Make a new inner map of ``value`` and put it behind ``slot``, by one pointer."""
        self._link({slot: value})

    def lend(self, slot: int, inner: Map) -> None:
        """Put another map, as it is, behind ``slot``; where it stands already, nothing is done."""
        if self.inner is None:
            raise KernelError(f"map {self.name} is no map of maps")
        if self._inner_id(slot) != facts(inner.fd)[1]:
            self._write_singly(np.array([slot], np.uint32), np.array([inner.fd], np.uint32))

    def _link(self, values: Mapping[int, NDArray[Any]]) -> None:
        """New inner maps behind slots; in one batch, since each update waits for all programs."""
        for value in values.values():
            self._check_size(value)
        links: list[int] = []
        try:
            for value in values.values():
                links.append(self._new_inner(value.nbytes))
                self._fill(links[-1], np.ascontiguousarray(value))
            keys, fds = np.array(list(values), np.uint32), np.array(links, np.uint32)
            count = ffi.new("uint32_t *", len(keys))
            if len(keys) == 1 or lib().bpf_map_update_batch(
                self.fd, pointer(keys), pointer(fds), count, ffi.NULL
            ):
                self._write_singly(keys, fds)
        finally:
            for fd in links:
                os.close(fd)

    def _check_size(self, value: NDArray[Any]) -> None:
        if self.inner is None:
            raise KernelError(f"map {self.name} is no map of maps")
        size = self.inner.value_bytes * self.inner.max_entries
        if value.nbytes % size if self.inner.any_size else value.nbytes != size:
            raise KernelError(f"map {self.name} wants {size} bytes, got {value.nbytes}")

    def _fill(self, fd: int, content: NDArray[Any]) -> None:
        """Write a new inner map's only value; of one that can be mapped, only what is not zero."""
        assert self.inner is not None  # noqa: S101 (checked by swap)
        if not self.inner.flags & _MMAPABLE:
            zero = np.zeros(1, np.uint32)
            result = lib().bpf_map_update_elem(fd, pointer(zero), pointer(content), 0)
            check(result, f"map {self.name}: filling a new generation")
            return
        self._write_mapped(fd, content.view(np.uint8).reshape(-1), clean=True)

    def _write_mapped(self, fd: int, content: NDArray[np.uint8], *, clean: bool) -> None:
        """Through mmap(2): without the two copies of a system call. ``clean``: it holds zeros."""
        size = -(-len(content) // _PAGE) * _PAGE
        with mmap.mmap(fd, size) as memory:
            target = np.frombuffer(memory, np.uint8)
            start = 0
            if clean:
                start = len(content) // _PAGE * _PAGE
                pages = content[:start].reshape(-1, _PAGE)
                used = np.flatnonzero(pages.view(np.uint64).any(axis=1))
                target[:start].reshape(-1, _PAGE)[used] = pages[used]
            target[start : len(content)] = content[start:]
            del target

    def fill(self, values: Mapping[int, NDArray[Any]]) -> None:
        """Put values behind slots that no program uses: in place where there is something."""
        fresh = {slot: value for slot, value in values.items() if not self._refill(slot, value)}
        if fresh:
            self._link(fresh)

    def _refill(self, slot: int, value: NDArray[Any]) -> bool:
        mapped = self.inner is not None and self.inner.flags & _MMAPABLE
        fd = self.inner_fd(slot) if mapped else None
        if fd is None:
            return False
        try:
            self._write_mapped(fd, np.ascontiguousarray(value).view(np.uint8), clean=False)
        finally:
            os.close(fd)
        return True

    def patch(self, slot: int, writes: Sequence[tuple[int, bytes]]) -> None:
        """Write bytes at offsets of the value behind a slot, in order, as programs read it.

        Four or eight bytes that are aligned are one store. Between two writes stands a system call:
        no CPU sees the later one first.
        """
        if (fd := self.inner_fd(slot)) is None:
            raise KernelError(f"map {self.name}: there is nothing behind slot {slot}")
        try:
            for offset, content in writes:
                self._write_at(fd, offset, content)
        finally:
            os.close(fd)

    @staticmethod
    def _write_at(fd: int, offset: int, content: bytes) -> None:
        start = offset // _PAGE * _PAGE
        with mmap.mmap(fd, offset - start + len(content), offset=start) as memory:
            kind = np.uint32 if len(content) % 8 else np.uint64
            words = np.frombuffer(memory, kind, offset=offset - start)
            words[:] = np.frombuffer(content, kind)
            del words

    def inner_fd(self, slot: int) -> int | None:
        """A descriptor of the map behind the slot; None: there is none."""
        identity = self._inner_id(slot)
        if identity is None:
            return None
        return check(lib().bpf_map_get_fd_by_id(identity), f"map {self.name}: slot {slot}")

    def _inner_id(self, slot: int) -> int | None:
        """The kernel's id of the map behind the slot; None: there is none."""
        key, identity = np.array([slot], np.uint32), np.zeros(1, np.uint32)
        if lib().bpf_map_lookup_elem(self.fd, pointer(key), pointer(identity)):
            return None
        return int(identity[0])

    def behind(self, slot: int, value: np.dtype[Any]) -> NDArray[Any] | None:
        """What the last swap put behind the slot of a map-in-map, shape ``(1,)``; None: nothing."""
        if self.inner is None or self.inner.value_bytes != value.itemsize:
            raise KernelError(f"map {self.name}: {value.itemsize} bytes are not what is behind it")
        if (fd := self.inner_fd(slot)) is None:
            return None
        try:
            zero, found = np.zeros(1, np.uint32), np.zeros(1, value)
            result = lib().bpf_map_lookup_elem(fd, pointer(zero), pointer(found))
            check(result, f"map {self.name}: reading slot {slot}")
        finally:
            os.close(fd)
        return found

    def table(
        self, slot: int, element: np.dtype[Any], part: tuple[int, int] | None = None
    ) -> NDArray[Any] | None:
        """The memory behind the slot, or of so many elements from one on; None: nothing."""
        if (fd := self.inner_fd(slot)) is None:
            return None
        return mapped(fd, element, *(part or (0, facts(fd)[4])))

    def link(self, slot: int, other: int) -> None:
        """Put behind a slot what is behind another."""
        if (fd := self.inner_fd(other)) is not None:
            self._write_singly(np.array([slot], np.uint32), np.array([fd], np.uint32))
            os.close(fd)

    def empty(self, slot: int) -> None:
        """Leave nothing behind the slot of a map-in-map; this waits until no program uses it."""
        if self._inner_id(slot) is None:
            return
        key = np.array([slot], np.uint32)
        result = lib().bpf_map_delete_elem(self.fd, pointer(key))
        check(result, f"map {self.name}: emptying slot {slot}")

    def _new_inner(self, content_bytes: int) -> int:
        inner = self.inner
        assert inner is not None  # noqa: S101 (checked by swap)
        options = sized(
            "opts_map",
            map_flags=inner.flags,
            btf_fd=inner.btf_fd,
            key_type=inner.key_type,
            value_type=inner.value_type,
        )
        return check(
            lib().bpf_map_create(
                inner.type,
                f"{self.name[:11]}_gen".encode(),
                inner.key_bytes,
                inner.value_bytes,
                content_bytes // inner.value_bytes,
                options,
            ),
            f"map {self.name}: making a new generation",
        )


def facts(fd: int) -> tuple[int, ...]:
    """Type, id, bytes of key and value, entries and flags: how ``struct bpf_map_info`` begins."""
    info, size = np.zeros(6, np.uint32), ffi.new("uint32_t *", 24)
    check(lib().bpf_obj_get_info_by_fd(fd, pointer(info), size), "reading what a map is")
    return tuple(info.tolist())


def _as_void(keys: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(keys).view(f"V{keys.dtype.itemsize}")
