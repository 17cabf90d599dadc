"""The loaded limiter, once a module, and a judge over it with empty buckets."""

import pytest

from ebpfsentinel.domains.ratelimit import DOMAIN
from ebpfsentinel.domains.ratelimit.tests.judge import Judge, place_interface
from ebpfsentinel.kernel.load import LinuxKernel


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    yield kernel
    kernel.detach()


@pytest.fixture
def judge(loaded):
    place_interface(loaded, 0)
    for name in ("rl_own", "rl_table", "rl_count", "rl_table_count"):
        keys, _ = loaded.read(name)
        loaded._maps[name].delete(keys)
    return Judge(loaded)
