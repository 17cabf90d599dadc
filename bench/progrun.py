"""BPF_PROG_RUN for measurements: one frame many times, or a trace of frames in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, check_pointer, each, ffi, lib, sized, text

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAME_BYTES = 80
_XDP_HAS_FRAGS = 1 << 5
TRACE = 512


class Object:
    """An object as libbpf loads it, without our loader's conventions."""

    def __init__(self, path: Path) -> None:
        self._handle = check_pointer(
            lib().bpf_object__open_file(str(path).encode(), ffi.NULL), str(path)
        )
        for found in each(lib().bpf_object__next_map, self._handle):
            lib().bpf_map__set_pin_path(found, ffi.NULL)
        for program in each(lib().bpf_object__next_program, self._handle):
            if text(lib().bpf_program__name(program)).startswith("frags_"):
                lib().bpf_program__set_flags(program, _XDP_HAS_FRAGS)
        check(lib().bpf_object__load(self._handle), f"loading {path}")

    def program(self, name: str) -> int:
        """The file descriptor of a program."""
        return next(
            lib().bpf_program__fd(found)
            for found in each(lib().bpf_object__next_program, self._handle)
            if text(lib().bpf_program__name(found)) == name
        )

    def map(self, name: str) -> int:
        """The file descriptor of a map."""
        return next(
            lib().bpf_map__fd(found)
            for found in each(lib().bpf_object__next_map, self._handle)
            if text(lib().bpf_map__name(found)) == name
        )

    def close(self) -> None:
        lib().bpf_object__close(self._handle)


def update(map_fd: int, key: bytes, value: bytes) -> None:
    """Write one entry."""
    check(
        lib().bpf_map_update_elem(map_fd, ffi.from_buffer(key), ffi.from_buffer(value), 0),
        "writing a map entry",
    )


def prog_run(program: int, frame: bytes, repeat: int) -> tuple[int, int]:
    """Return code of the last run, and nanoseconds per run."""
    options = sized(
        "opts_run", data_in=ffi.from_buffer(frame), data_size_in=len(frame), repeat=repeat
    )
    check(lib().bpf_prog_test_run_opts(program, options), "running a program")
    return int(options.retval), int(options.duration)


class Trace:
    """Runs a program over 512 frames in turn; ``base_ns`` is what that costs by itself."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(__file__).parent / "trace.bpf.c"
            self._object = Object(compile_object(source, Path(folder) / "trace.bpf.o"))

    def load(self, frames: Sequence[bytes]) -> None:
        """The frames of the trace, cut or padded to 80 bytes."""
        assert len(frames) == TRACE
        body = b"".join(frame[:FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for frame in frames)
        update(self._object.map("trace"), bytes(4), bytes(8) + body)

    def run(self, program: int | None, *, frags: bool, rounds: int = 400) -> int:
        """Nanoseconds per packet over ``rounds`` times the trace; None: an empty program."""
        kind = "frags" if frags else "plain"
        target = self._object.program(f"{kind}_pass") if program is None else program
        update(self._object.map(f"{kind}_target"), bytes(4), target.to_bytes(4, "little"))
        wrapper = self._object.program(f"{kind}_trace")
        code, nanoseconds = prog_run(wrapper, bytes(FRAME_BYTES), TRACE * rounds)
        assert code, "the program under test was not reached"
        return nanoseconds

    def close(self) -> None:
        self._object.close()


def fd_of(kernel: Any, program: str) -> int:
    """The file descriptor of a program that ``LinuxKernel`` loaded."""
    return next(
        int(found.programs[program].fd)
        for found in kernel._objects.values()  # noqa: SLF001 (not in the contract, nor should be)
        if program in found.programs
    )
