"""The loaded translator, once a module, and a judge over it with an empty table."""

import pytest

from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    yield kernel
    kernel.detach()


@pytest.fixture
def judge(loaded):
    for name in ("nat_table", "nat_marks", "nat_count", "nat_rule_count"):
        keys, _ = loaded.read(name)
        loaded._maps[name].delete(keys)
    return Judge(loaded)
