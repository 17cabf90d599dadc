"""A flood of real frames between the namespaces of a lab, from as many forged sources as wanted."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.objects import load_object

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIVE_FRAMES, _BATCH, _ATTACH_XDP = 2, 64, 37
_LEAST_BYTES = 74
_CHECKS = {(4, 6): 50, (6, 6): 70, (4, 17): 40, (6, 17): 60, (4, 1): 0, (6, 58): 56}
"""Where a checksum that counts addresses stands, by family and protocol; 0: there is none."""
_SLICE_S = 0.02


class Flood:
    """``send0`` of a lab floods ``guard0`` with a frame, its source forged."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self._lab = lab
        source = folder / "flood.bpf.o"
        self._object = load_object(
            compile_object(Path(__file__).parent / "flood.bpf.c", source), fragments=False
        )
        self.sent = 0
        with lab.inside(lab.sender):
            self._ifindex = socket.if_nametoindex("send0")
        self._links: list[int] = []
        self.take(lab.sender, "send0")

    def take(self, namespace: str, device: str) -> None:
        """Let the end of a veth take what its peer sends by XDP: it does so with a program only."""
        with self._lab.inside(namespace):
            program, ifindex = self._object.programs["take"].fd, socket.if_nametoindex(device)
            made = lib().bpf_link_create(program, ifindex, _ATTACH_XDP, ffi.NULL)
        self._links.append(check(made, f"attaching to {device}"))

    def aim(self, frame: bytes, base: str, sources: int) -> None:
        """Send this frame from now on, from ``sources`` addresses beginning with ``base``."""
        first = ipaddress.ip_address(base)
        frame = frame.ljust(_LEAST_BYTES, b"\0")
        protocol = frame[23] if first.version == 4 else frame[20]
        value = struct.pack(
            f"<IIII{_LEAST_BYTES}s2x",
            self._ifindex,
            sources,
            int(first) & 0xFFFFFFFF,
            _CHECKS[first.version, protocol],
            frame,
        )
        self._frame = frame
        made = self._object.maps["flood_map"]
        check(
            lib().bpf_map_update_elem(
                made.fd, ffi.from_buffer(bytes(4)), ffi.from_buffer(value), 0
            ),
            "aiming the flood",
        )

    def send(self, count: int) -> None:
        """So many frames, from this thread."""
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(self._frame),
            data_size_in=len(self._frame),
            repeat=count,
            flags=_LIVE_FRAMES,
            batch_size=_BATCH,
        )
        with self._lab.inside(self._lab.sender):
            program = self._object.programs["forge"].fd
            check(lib().bpf_prog_test_run_opts(program, options), "sending live frames")
        self.sent += count

    @contextlib.contextmanager
    def flowing(self, pps: int, cpu: int | None = None) -> Iterator[None]:
        """In the background, at most so many a second; on one CPU, where it is named."""
        ended = threading.Event()

        def carry() -> None:
            if cpu is not None:
                os.sched_setaffinity(threading.get_native_id(), {cpu})
            began, sent = time.monotonic(), 0
            while not ended.wait(_SLICE_S / 4):
                due = int((time.monotonic() - began) * pps) - sent
                if due > 0:
                    self.send(due)
                    sent += due

        thread = threading.Thread(target=carry)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        for link in self._links:
            os.close(link)
