"""The loaded translator, once a module, and a judge over it with an empty table."""

import pytest

from ebpfsentinel.domains.nat import DOMAIN
from ebpfsentinel.domains.nat.tests.judge import Judge, empty
from ebpfsentinel.kernel.load import LinuxKernel


@pytest.fixture(scope="module")
def loaded():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    yield kernel
    kernel.detach()


@pytest.fixture
def judge(loaded):
    empty(loaded)
    return Judge(loaded)
