"""The loaded firewall, once a module, and a judge over it."""

import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.domains.firewall.tests.property_run import place_interface
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
    return Judge(loaded)
