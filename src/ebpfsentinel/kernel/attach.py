"""Hooks on interfaces: XDP native, then generic, then TC; tcx, then clsact.

A hook is a BPF link, which vanishes with the agent, or stays where it is pinned. A kept link is
taken over by updating its program in place: the interface is never without one. clsact filters
(kernels before 6.6) know no links; they are removed when the agent leaves.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ebpfsentinel.kernel.inspect import identity
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.model.health import Breach
from ebpfsentinel.model.kernel import Attachment, KernelError, XdpMode

if TYPE_CHECKING:
    from pathlib import Path

_BPF_XDP = 37
_TCX = {"tc": 46, "egress": 47}
_CLSACT = {"tc": 1, "egress": 2}
_FLAG = {"native": 1 << 2, "generic": 1 << 1, "offloaded": 1 << 3}
_LADDER = {
    XdpMode.AUTO: ("native", "generic"),
    XdpMode.NATIVE: ("native",),
    XdpMode.GENERIC: ("generic",),
    XdpMode.OFFLOADED: ("offloaded",),
    XdpMode.TC: (),
}
_TC_PRIORITY = 1


@dataclass(slots=True)
class Hook:
    """One attached link (``fd``), or a clsact filter (``fd`` is -1)."""

    fd: int
    pin: Path | None = None


@dataclass(slots=True)
class Place:
    """What we have on one interface."""

    name: str
    ifindex: int
    how: str
    reason: str = ""
    asked: str = ""
    hooks: dict[str, Hook] = field(default_factory=dict)

    def attachment(self) -> Attachment:
        """As the contract shows it."""
        return Attachment(self.name, self.ifindex, self.how, self.reason, self.asked)


@dataclass(frozen=True, slots=True)
class Roots:
    """File descriptors of the root programs.

    ``tc_needed``: TC has work of its own to do, XDP or not. ``egress_needed``: something looks at
    what leaves.
    """

    xdp: int
    tc: int
    egress: int
    tc_needed: bool
    egress_needed: bool


def attach(name: str, ifindex: int, roots: Roots, mode: XdpMode, pins: Path | None) -> Place:
    """Attach to one interface, down the ladder.

    Raises:
        KernelError: no step of the ladder holds; each step's reason is in the text.
    """
    reasons = []
    place = Place(name, ifindex, "tc")
    for how in _LADDER[mode]:
        try:
            place.hooks["xdp"] = _link(
                roots.xdp, ifindex, _BPF_XDP, _FLAG[how], _pin(pins, ifindex, "xdp")
            )
        except KernelError as error:
            reasons.append(f"{how}: {error}")
        else:
            place.how = how
            break
    if "xdp" not in place.hooks and mode not in (XdpMode.AUTO, XdpMode.TC):
        raise KernelError(f"{name}: XDP {mode} was asked for and cannot be had: {reasons[-1]}")
    place.reason = "; ".join(reasons)
    follow(place, roots, pins)
    return place


def follow(place: Place, roots: Roots, pins: Path | None) -> None:
    """Attach TC where it has work and is not; detach it where it has none.

    Raises:
        KernelError: it is needed and cannot be had.
    """
    _follow(place, "tc", roots.tc, pins, needed=roots.tc_needed or "xdp" not in place.hooks)
    _follow(place, "egress", roots.egress, pins, needed=roots.egress_needed)


def _follow(place: Place, kind: str, root: int, pins: Path | None, *, needed: bool) -> None:
    pin = _pin(pins, place.ifindex, kind)
    if needed and kind not in place.hooks:
        place.hooks[kind] = _attach_tc(place, kind, root, pins)
    elif not needed and kind in place.hooks:
        _let_go(place, kind, place.hooks.pop(kind), keep=False)
    elif not needed and pin is not None:
        pin.unlink(missing_ok=True)  # of an agent that had work for it


def leave(place: Place, *, keep: bool) -> None:
    """Detach from one interface, or leave what is pinned in force."""
    for kind, hook in place.hooks.items():
        _let_go(place, kind, hook, keep=keep)
    place.hooks.clear()


def to_pin(place: Place, pins: Path) -> dict[Path, int]:
    """The links of a place by where they would be pinned."""
    return {
        pins / f"{place.ifindex}-{kind}": hook.fd
        for kind, hook in place.hooks.items()
        if hook.fd >= 0
    }


def repin(place: Place, pins: Path | None) -> None:
    """The links of a place are pinned there now, or nowhere any more."""
    for kind, hook in place.hooks.items():
        hook.pin = _pin(pins, place.ifindex, kind) if hook.fd >= 0 else None


def _let_go(place: Place, kind: str, hook: Hook, *, keep: bool) -> None:
    if hook.fd < 0:
        with contextlib.suppress(KernelError):
            _detach_clsact(place.ifindex, kind)
        return
    if not keep and hook.pin is not None:
        hook.pin.unlink(missing_ok=True)
    os.close(hook.fd)


def _pin(pins: Path | None, ifindex: int, kind: str) -> Path | None:
    return pins / f"{ifindex}-{kind}" if pins else None


def _attach_tc(place: Place, kind: str, program: int, pins: Path | None) -> Hook:
    try:
        return _link(program, place.ifindex, _TCX[kind], 0, _pin(pins, place.ifindex, kind))
    except KernelError as error:
        if "tcx" not in place.reason:
            place.reason += f"; tcx: {error}; clsact is used"
    _attach_clsact(place.ifindex, kind, program)
    return Hook(-1)


def _link(program: int, ifindex: int, attach_type: int, flags: int, pin: Path | None) -> Hook:
    """Take over the kept link of this place, or make a new one."""
    if pin is not None and pin.exists():
        kept = lib().bpf_obj_get(os.fsencode(pin))
        if (
            kept >= 0
            and _target(kept) == ifindex
            and not lib().bpf_link_update(kept, program, ffi.NULL)
        ):
            return Hook(kept, pin)
        if kept >= 0:
            os.close(kept)
        pin.unlink()
    options = sized("opts_flags", flags=flags)
    fd = check(
        lib().bpf_link_create(program, ifindex, attach_type, options if flags else ffi.NULL),
        "attaching",
    )
    if pin is not None:
        check(lib().bpf_obj_pin(fd, os.fsencode(pin)), f"pinning {pin}")
    return Hook(fd, pin)


def _target(link: int) -> int:
    """The interface index a link is on; 0 when the interface is gone (struct bpf_link_info)."""
    info, size = ffi.new("char[]", 256), ffi.new("uint32_t *", 256)
    if lib().bpf_obj_get_info_by_fd(link, info, size):
        return 0
    return int(struct.unpack_from("I", ffi.buffer(info), 16)[0])


def link_target(place: Place) -> int:
    """The interface index that the place's first link is on now; 0 when it is gone."""
    return next((_target(hook.fd) for hook in place.hooks.values() if hook.fd >= 0), place.ifindex)


def _attach_clsact(ifindex: int, kind: str, program: int) -> None:
    hook = sized("tc_hook", ifindex=ifindex, attach_point=_CLSACT[kind])
    lib().bpf_tc_hook_create(hook)  # fails where it is there already: attaching will tell
    options = sized("tc_opts", prog_fd=program, handle=1, priority=_TC_PRIORITY)
    check(lib().bpf_tc_attach(hook, options), "attaching to clsact")


def _detach_clsact(ifindex: int, kind: str) -> None:
    hook = sized("tc_hook", ifindex=ifindex, attach_point=_CLSACT[kind])
    options = sized("tc_opts", handle=1, priority=_TC_PRIORITY)
    check(lib().bpf_tc_detach(hook, options), "detaching from clsact")


def clsact_breach(subject: str, ifindex: int, kind: str, program: int) -> Breach | None:
    """Is our program still in the clsact filter?"""
    hook = sized("tc_hook", ifindex=ifindex, attach_point=_CLSACT[kind])
    options = sized("tc_opts", handle=1, priority=_TC_PRIORITY)
    if lib().bpf_tc_query(hook, options):
        return Breach("hook", subject, "our program was detached")
    if options.prog_id != identity(program):
        return Breach("hook", subject, f"program {options.prog_id} runs in the place of ours")
    return None
