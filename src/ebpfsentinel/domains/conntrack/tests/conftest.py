"""The loaded tracker, once a module, and an empty table for each test."""

import pytest

from ebpfsentinel.domains.conntrack import DOMAIN
from ebpfsentinel.domains.conntrack.tests.tracked import Tracked
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.action import FlowTable


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    kernel._fill_chains()
    yield kernel
    kernel.detach()


@pytest.fixture
def tracked(loaded):
    loaded.apply([FlowTable(None)])
    for name in ("flow_sources", "flow_count", "flow_fragments", "ct_listen"):
        keys, _ = loaded.read(name)
        loaded._maps[name].delete(keys)
    loaded.drain("ct_events")
    made = Tracked(loaded)
    made.settings()
    return made
