"""BPF_PROG_RUN: frames through a loaded program, one or a million.

The problem. A system call per frame takes the kernel about 700 ns; a Python loop that builds its
arguments and picks its answers apart takes several times that. The way: the arguments of a few
thousand calls are one numpy array, filled by column; the calls are one ``map`` over the addresses
of its rows, which leaves no Python object behind but an integer; the answers are columns of the
same array. Of the packet only the first bytes are taken back, which is where XDP metadata stands:
that there is no room for the rest makes the call say ENOSPC, after it has answered.

Rejected: a program that takes frames from a map and tail-calls the chain (no system call per frame,
but its metadata is gone by the time it could read it, and frames are cut to one size); threads (the
interpreter is the bottleneck by then, not the kernel).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.model.kernel import META, Answers, KernelError, RunResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ebpfsentinel.kernel.objects import LoadedProgram
    from ebpfsentinel.model.kernel import Frames

_RUN_BYTES = 1 << 16
_BATCH = 4096
_META_ROOM = 256  # XDP_PACKET_HEADROOM of linux/bpf.h: metadata cannot be longer
_LINEAR_BYTES = 3000  # above, a frame is in pieces, which the kernel hands back whole or not at all
_CALL = np.dtype(
    [
        ("sz", "<u8"),
        ("data_in", "<u8"),
        ("data_out", "<u8"),
        ("data_size_in", "<u4"),
        ("data_size_out", "<u4"),
        ("ctx", "<u8", 2),
        ("ctx_sizes", "<u4", 2),
        ("retval", "<u4"),
        ("repeat", "<i4"),
        ("duration", "<u4"),
        ("rest", "<u4", 3),
    ]
)
"""``struct bpf_test_run_opts`` of libbpf."""


def run_once(program: LoadedProgram, frame: bytes, repeat: int, interface: str) -> RunResult:
    """One frame; see :meth:`ebpfsentinel.model.kernel.Kernel.run`."""
    out = ffi.new("char[]", _RUN_BYTES)
    options = sized(
        "opts_run",
        data_in=ffi.from_buffer(frame),
        data_size_in=len(frame),
        data_out=out,
        data_size_out=_RUN_BYTES,
        repeat=repeat,
    )
    ifindex = _index_of(interface) if interface else 0
    context = ffi.new("uint32_t[6]", [0, len(frame), 0, ifindex, 0, 0])  # struct xdp_md
    if program.kind == "xdp":
        options.ctx_in = options.ctx_out = context
        options.ctx_size_in = options.ctx_size_out = ffi.sizeof(context)
    result = lib().bpf_prog_test_run_opts(program.fd, options)
    if result == -errno.EINVAL and program.kind == "xdp" and not interface:
        result = _run_bare(program.fd, options, context)
    check(result, f"running {program.name}")
    metadata_bytes = context[0]  # what XDP wrote in front of the frame
    whole = bytes(ffi.buffer(out, options.data_size_out))
    meta, data = whole[:metadata_bytes], whole[metadata_bytes:]
    return RunResult(options.retval, data, options.duration, meta)


def _run_bare(fd: int, options: Any, context: Any) -> int:
    """Before Linux 5.15 there is no context; what the frame has grown by is its metadata."""
    options.ctx_in = options.ctx_out = ffi.NULL
    options.ctx_size_in = options.ctx_size_out = 0
    options.data_size_out = _RUN_BYTES
    result = lib().bpf_prog_test_run_opts(fd, options)
    context[0] = max(0, options.data_size_out - options.data_size_in)
    return int(result)


def _index_of(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        raise KernelError(f"there is no interface {interface!r}: 'ip link' lists them") from None


def run_many(program: LoadedProgram, frames: Frames, behind: LoadedProgram | None) -> Answers:
    """Many frames; see :meth:`ebpfsentinel.model.kernel.Kernel.run_many`."""
    if behind is not None:
        with _on_one_cpu():
            return _run_all([program.fd, behind.fd], frames)
    return _run_all([program.fd], frames)


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    """Programs that run behind one another find what the first left on its CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _run_all(programs: list[int], frames: Frames) -> Answers:
    count = len(frames)
    answers = Answers(np.zeros(count, np.uint32), np.zeros(count, META), np.zeros(count, np.bool_))
    for first in range(0, count, _BATCH):
        part = slice(first, min(first + _BATCH, count))
        _run_batch(programs, frames[part], answers, part)
    return answers


def _run_batch(programs: list[int], frames: Frames, answers: Answers, part: slice) -> None:
    calls = np.zeros(len(frames), _CALL)
    room = np.where(frames.length > _LINEAR_BYTES, frames.length + _META_ROOM, META.itemsize)
    start = np.cumsum(room) - room
    out = np.zeros(int(room.sum()), np.uint8)
    calls["sz"], calls["repeat"] = _CALL.itemsize, 1
    calls["data_in"] = frames.buffer.ctypes.data + frames.offset
    calls["data_size_in"] = frames.length
    calls["data_out"], calls["data_size_out"] = out.ctypes.data + start, room
    results = _call_each(programs, calls)
    answers.retval[part] = calls["retval"]
    heads = out[start[:, None] + np.arange(META.itemsize)]
    wrote = calls["data_size_out"] > frames.length  # the packet has grown by its metadata
    answers.meta[part] = np.where(
        wrote, np.ascontiguousarray(heads).view(META)[:, 0], answers.meta[part]
    )
    answers.refused[part] = (results != 0) & (results != -errno.ENOSPC)


def _call_each(programs: list[int], calls: NDArray[Any]) -> NDArray[np.int32]:
    """Make the calls, in order, of each program in turn; what the first of them returned."""
    every = np.repeat(calls, len(programs))
    every["data_out"].reshape(-1, len(programs))[:, 1:] = 0
    every["data_size_out"].reshape(-1, len(programs))[:, 1:] = 0
    addresses = (every.ctypes.data + np.arange(len(every)) * every.itemsize).tolist()
    called = map(_test_run(), itertools.cycle(programs), addresses)
    results = np.fromiter(called, np.int32, len(every))[:: len(programs)]
    calls[:] = every[:: len(programs)]
    return results


@cache
def _test_run() -> Any:
    """The library's function, with a plain number for the address of its options."""
    return ffi.cast("int (*)(int, uintptr_t)", lib().bpf_prog_test_run_opts)
