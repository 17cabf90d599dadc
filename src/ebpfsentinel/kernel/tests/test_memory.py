"""What is predicted of memory is what the kernel says once it is loaded."""

import sys
from pathlib import Path

import numpy as np
import pytest

import ebpfsentinel.kernel
from ebpfsentinel import domains
from ebpfsentinel.config import discover
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.maps import facts
from ebpfsentinel.kernel.memory import LPM_TRIE, behind, needs
from ebpfsentinel.model.action import FlowTable, Swap

CARDS = [card for card in discover(domains) if card.object]
NO_PREALLOC, DIRECT = 1, 320
OBJECTS = [
    ("shared", Path(ebpfsentinel.kernel.__file__).parent / "dispatch.bpf.o"),
    *((c.name, Path(sys.modules[c.engine.__module__].__file__).parent / c.object) for c in CARDS),
]


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load(CARDS)
    yield kernel
    kernel.detach()


def memlock(fd):
    """What the kernel says that a map takes."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("memlock")).split()[1])


def test_maps_take_what_was_predicted(loaded):
    predicted = {need.map: need.bytes for need in needs(OBJECTS)}
    assert set(predicted) >= set(loaded._maps)
    wrong = {}
    for name, found in loaded._maps.items():
        real, lazy = memlock(found.fd), found.type == LPM_TRIE or facts(found.fd)[5] & NO_PREALLOC
        low = 0 if lazy else predicted[name] * 0.97 - 1024
        if not low <= real <= predicted[name] * 1.03 + 1024:
            wrong[name] = (predicted[name], real)
    assert not wrong


def test_what_rules_are_compiled_into_is_counted():
    head = np.zeros(1, [("sets", "<u4")])
    head["sets"] = 9
    actions = [Swap("one", 0, np.zeros(1000, np.uint8)), FlowTable(head), FlowTable(None)]
    assert behind(actions, 128) == 1000 + 10 * 128
