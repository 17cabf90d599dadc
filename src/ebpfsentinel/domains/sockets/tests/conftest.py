"""Connection tracking and socket owners in a namespace, and processes at both ends."""

import pytest

from ebpfsentinel.domains.sockets.tests.tracked import Tracked
from tests.lab import Lab


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def tracked(lab):
    made = Tracked(lab)
    yield made
    made.close()
