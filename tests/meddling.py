"""What somebody else with root does to an agent's kernel half: bpf(2), by hand."""

import contextlib
import ctypes
import json
import os
import struct
from pathlib import Path

MAP_UPDATE, PROG_FD, MAP_FD, INFO, LINK_UPDATE, LINK_FD, LINK_DETACH = 2, 13, 14, 15, 29, 30, 34
BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]


def bpf(command, layout, *fields):
    """bpf(2) as somebody else would call it."""
    attr = struct.pack(layout, *fields).ljust(128, b"\0")
    found = ctypes.CDLL(None, use_errno=True).syscall(BPF, command, attr, len(attr))
    if found < 0:
        raise OSError(ctypes.get_errno(), f"bpf {command} {fields}")
    return found


def held(pid, word):
    """What a process's descriptors say of BPF objects: fdinfo with this word in it."""
    found = []
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            lines = [line.split(":", 1) for line in path.read_text().splitlines() if ":" in line]
            facts = {name.strip(): value.strip() for name, value in lines}
            if word in facts:
                found.append(facts)
    return found


def link_on(lab, pid, name):
    """A descriptor of ours of its XDP link, and the id of the program in it."""
    index = json.loads(lab.run(lab.guarded, "ip", "-j", "link", "show", name).stdout)
    wanted = str(index[0]["ifindex"])
    xdp = [each for each in held(pid, "link_type") if each["link_type"] == "xdp"]
    (link,) = [each for each in xdp if each["ifindex"] == wanted]
    return bpf(LINK_FD, "I", int(link["link_id"])), int(link["prog_id"])


def map_called(pid, name):
    """A descriptor of ours of its map of this name."""
    for facts in held(pid, "map_id"):
        fd = bpf(MAP_FD, "I", int(facts["map_id"]))
        info = ctypes.create_string_buffer(80)
        bpf(INFO, "IIQ", fd, len(info), ctypes.addressof(info))
        if info.raw[24:40].rstrip(b"\0").decode() == name:
            return fd
        os.close(fd)
    raise AssertionError(name)
