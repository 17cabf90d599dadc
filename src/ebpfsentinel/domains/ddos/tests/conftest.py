"""The loaded defence, anew for each test: counters and buckets begin at zero."""

import pytest

from ebpfsentinel.domains.ddos.tests.defended import Defended


@pytest.fixture
def defended():
    made = Defended()
    yield made
    made.close()
