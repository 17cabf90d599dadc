"""Loading one object: open, share maps, trial-load, and step down the ladder where refused.

What a kernel can do is found by loading, never by its version or configuration. libbpf loads all
programs of an object or none, so a refused program is switched off, its stand-in on, and the
object opened again, until it loads. A program that has no stand-in and is not optional ends the
start with the kernel's own words.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.btf import Btf
from ebpfsentinel.kernel.cpus import possible_cpus
from ebpfsentinel.kernel.libbpf import check_pointer, each, ffi, lib, log, raw_btf, text
from ebpfsentinel.kernel.maps import (
    ARRAY_OF_MAPS,
    CPUMAP,
    DEVMAP_HASH,
    HASH_OF_MAPS,
    Inner,
    Map,
    facts,
)
from ebpfsentinel.model.kernel import NOT_NEEDED, KernelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ebpfsentinel.model.domain import Program

_REFUSED = re.compile(r"prog '([^']+)': .*(?:failed|error|BPF program load)", re.IGNORECASE)
_KIND_OF_SECTION = {
    "xdp": "xdp",
    "tc": "tc",
    "iter": "iter",
    "cgroup": "cgroup",
}
CANARY = "_canary"
"""How the name of the program ends that puts a canary into a ring."""
_WHOLE = {"tc/egress": "egress", "raw_tp/canary": "canary"}
_SCHED_CLS = 3
INTERFACE_KINDS = ("xdp", "tc", "egress")
"""Programs that are chained on an interface's hooks."""
HOST_KINDS = ("tracing", "cgroup")
"""Programs that are attached once, for the whole host."""
_XDP_HAS_FRAGS = 1 << 5


@dataclass(slots=True)
class LoadedProgram:
    """A program in the kernel: ``kind`` is as of :func:`kind_of`."""

    name: str
    section: str
    kind: str
    fd: int
    handle: Any
    card: Program | None = None


@dataclass(slots=True)
class LoadedObject:
    """One object in the kernel; ``refused`` maps programs that did not load to the reason."""

    name: str
    handle: Any
    btf: Btf
    programs: dict[str, LoadedProgram] = field(default_factory=dict)
    maps: dict[str, Map] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def record(self, name: str) -> np.dtype[Any]:
        """The record dtype of a ring or an iterator program."""
        return self.btf.dtype(self.btf.records()[name])

    def records(self) -> dict[str, np.dtype[Any]]:
        """The record dtypes of all of them."""
        return {name: self.btf.dtype(number) for name, number in self.btf.records().items()}

    def names(self) -> list[str]:
        """Of its maps and programs."""
        return [*self.maps, *self.programs]


def kind_of(section: str) -> str:
    """xdp, tc, egress, cgroup, iter, canary or tracing, from an ELF section name."""
    if section in _WHOLE:
        return _WHOLE[section]
    return _KIND_OF_SECTION.get(re.split(r"[./]", section)[0], "tracing")


def load_object(
    path: Path,
    cards: Sequence[Program] = (),
    shared: Mapping[str, Map] | None = None,
    pins: Path | None = None,
    *,
    fragments: bool = True,
) -> LoadedObject:
    """Load an object with the ladder of its programs' cards.

    ``shared`` maps replace the object's own of the same name; with ``pins`` every map of its own is
    pinned in that folder, or taken over from there when it is compatible. ``fragments``: XDP
    programs also take frames of several buffers (Linux 5.18; all programs of a chain or none).

    Raises:
        KernelError: the object is missing, damaged, or a program it needs does not load.
    """
    if not path.exists():
        raise KernelError(f"{path} is missing: run 'make setup'")
    btf = Btf(raw_btf(str(path)))
    by_name = {card.name: card for card in cards}
    off = {card.name for card in cards if card.instead_of and not _is_hook(path, card)}
    refused: dict[str, str] = {}
    kept = pins is not None and any(pins.iterdir())
    while True:
        handle = _open(path, off, shared or {}, pins, fragments)
        inners = _inners(handle)  # libbpf forgets them when it loads
        if pins is not None and any(_holds_others(pins / name, inners[name]) for name in inners):
            lib().bpf_object__close(handle)
            raise IncompatiblePinsError("maps of maps hold others than ours")
        log().clear()
        result = lib().bpf_object__load(handle)
        if not result:
            break
        name, reason = _who_was_refused()
        lib().bpf_object__close(handle)
        if pins is not None and not name:
            raise IncompatiblePinsError(reason)
        try:
            _step_down(name, reason, by_name, off, refused)
        except KernelError as error:
            if pins is None or not kept:
                raise
            raise IncompatiblePinsError(str(error)) from None  # what is behind a map of maps
    loaded = LoadedObject(path.name.removesuffix(".bpf.o"), handle, btf, refused=refused)
    _collect(loaded, by_name, off, inners)
    return loaded


class IncompatiblePinsError(KernelError):
    """Maps kept by an earlier agent have another layout: they must be replaced."""


def _holds_others(pin: Path, inner: Inner) -> bool:
    """Are there, in the map of maps that is pinned here, others than such?

    libbpf takes such a map over all the same, and the verifier then refuses our programs.
    """
    if (outer := lib().bpf_obj_get(str(pin).encode())) < 0:
        return False
    try:
        word = np.dtype("<u4")
        slots = Map(pin.name, outer, ARRAY_OF_MAPS, word, word, facts(outer)[4])
        for slot in range(slots.max_entries):
            fd = slots.inner_fd(slot)
            if fd is not None:
                found = facts(fd)
                os.close(fd)
                entries = found[4] if inner.any_size else inner.max_entries
                return found[2:] != (inner.key_bytes, inner.value_bytes, entries, inner.flags)
    finally:
        os.close(outer)
    return False


def _is_hook(path: Path, card: Program) -> bool:
    """Stand-ins on interface hooks are loaded at once and attached interface by interface."""
    handle = check_pointer(lib().bpf_object__open_file(str(path).encode(), ffi.NULL), str(path))
    try:
        sections = {
            text(lib().bpf_program__name(found)): text(lib().bpf_program__section_name(found))
            for found in each(lib().bpf_object__next_program, handle)
        }
    finally:
        lib().bpf_object__close(handle)
    return kind_of(sections.get(card.name, "")) in INTERFACE_KINDS


def _open(
    path: Path, off: set[str], shared: Mapping[str, Map], pins: Path | None, fragments: bool
) -> Any:
    handle = check_pointer(lib().bpf_object__open_file(str(path).encode(), ffi.NULL), str(path))
    for program in each(lib().bpf_object__next_program, handle):
        lib().bpf_program__set_autoload(program, text(lib().bpf_program__name(program)) not in off)
        kind = kind_of(text(lib().bpf_program__section_name(program)))
        if kind == "egress":  # a section that libbpf knows since 1.3
            lib().bpf_program__set_type(program, _SCHED_CLS)
        if fragments and kind == "xdp":
            lib().bpf_program__set_flags(program, _XDP_HAS_FRAGS)
    for found in each(lib().bpf_object__next_map, handle):
        name = text(lib().bpf_map__name(found))
        if lib().bpf_map__type(found) == CPUMAP:  # the kernel takes no more than it was built for
            lib().bpf_map__set_max_entries(found, possible_cpus())
        if name in shared:
            lib().bpf_map__reuse_fd(found, shared[name].fd)
        elif pins is not None and _is_kept(found):
            lib().bpf_map__set_pin_path(found, str(pins / name).encode())
    return handle


def _is_kept(found: Any) -> bool:
    """Can the map be pinned and taken over? libbpf 1.1 takes a DEVMAP's own flags for another map.

    Programs that were left attached have theirs all the same, until others take their place.
    """
    return not lib().bpf_map__is_internal(found) and lib().bpf_map__type(found) != DEVMAP_HASH


def _who_was_refused() -> tuple[str, str]:
    """Name of the refused program and the last telling line of the verifier."""
    names = [match[1] for line in log() if (match := _REFUSED.search(line))]
    telling = [
        line
        for line in log()
        if line.strip() and not line.startswith(("libbpf:", "processed", "--", "verification"))
    ]
    libbpf_lines = [line for line in log() if line.startswith("libbpf:")]
    reason = (telling or libbpf_lines or ["no reason given"])[-1].strip()
    return (names[0] if names else ""), reason


def can_do_without(name: str, cards: Mapping[str, Program], refused: Mapping[str, str]) -> bool:
    """May the program be missing?

    If it is optional, or a canary's; if a stand-in of its own works; or if it is itself a stand-in,
    and what it stands in for works or need not.
    """
    card = cards.get(name)
    if (card and card.optional) or name.endswith(CANARY):
        return True
    if any(other.instead_of == name and other.name not in refused for other in cards.values()):
        return True
    if card is None or not card.instead_of:
        return False
    first = cards.get(card.instead_of)
    return card.instead_of not in refused or bool(first and first.optional)


def _step_down(
    name: str, reason: str, cards: Mapping[str, Program], off: set[str], refused: dict[str, str]
) -> None:
    """Switch the refused program off and its stand-in on, or give up."""
    if not name or name in refused or not can_do_without(name, cards, refused):
        tail = "\n  ".join(list(log())[-12:])
        raise KernelError(f"the kernel refused {name or 'an object'}: {reason}\n  {tail}")
    refused[name] = reason
    off.add(name)
    off -= {card.name for card in cards.values() if card.instead_of == name}


def _collect(
    loaded: LoadedObject, cards: Mapping[str, Program], off: set[str], inners: Mapping[str, Inner]
) -> None:
    for program in each(lib().bpf_object__next_program, loaded.handle):
        name = text(lib().bpf_program__name(program))
        section = text(lib().bpf_program__section_name(program))
        if name in off:
            loaded.refused.setdefault(name, NOT_NEEDED)
            continue
        fd = lib().bpf_program__fd(program)
        loaded.programs[name] = LoadedProgram(
            name, section, kind_of(section), fd, program, cards.get(name)
        )
    types = loaded.btf.maps()
    btf_fd = max(lib().bpf_object__btf_fd(loaded.handle), 0)
    btf_known = {name: replace(inner, btf_fd=btf_fd) for name, inner in inners.items()}
    for found in each(lib().bpf_object__next_map, loaded.handle):
        if not lib().bpf_map__is_internal(found):
            made = _map(found, loaded.btf, types, btf_known)
            loaded.maps[made.name] = made


def _map(
    found: Any, btf: Btf, types: Mapping[str, tuple[int, int]], inners: Mapping[str, Inner]
) -> Map:
    name = text(lib().bpf_map__name(found))
    key, value = types.get(name, (0, 0))
    return Map(
        name,
        lib().bpf_map__fd(found),
        lib().bpf_map__type(found),
        btf.dtype(key) if key else np.dtype(f"V{lib().bpf_map__key_size(found) or 4}"),
        btf.dtype(value) if value else np.dtype(f"V{lib().bpf_map__value_size(found) or 4}"),
        lib().bpf_map__max_entries(found),
        inners.get(name),
    )


def _inners(handle: Any) -> dict[str, Inner]:
    """What the inner maps of map-in-maps look like, by the outer map's name."""
    return {
        text(lib().bpf_map__name(found)): _inner(lib().bpf_map__inner_map(found))
        for found in each(lib().bpf_object__next_map, handle)
        if lib().bpf_map__type(found) in (ARRAY_OF_MAPS, HASH_OF_MAPS)
    }


def _inner(found: Any) -> Inner:
    return Inner(
        lib().bpf_map__type(found),
        lib().bpf_map__key_size(found),
        lib().bpf_map__value_size(found),
        lib().bpf_map__max_entries(found),
        lib().bpf_map__map_flags(found),
        0,
        lib().bpf_map__btf_key_type_id(found),
        lib().bpf_map__btf_value_type_id(found),
    )
