"""The loaded programs, once a module, with counters that begin at zero in each test."""

import pytest

from ebpfsentinel.domains.scrub.tests.scrubbed import Scrubbed


@pytest.fixture(scope="module")
def loaded():
    made = Scrubbed()
    yield made
    made.close()


@pytest.fixture
def scrubbed(loaded):
    loaded.begin()
    return loaded
