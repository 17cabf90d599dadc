"""The kernel's arithmetic against textbook models, packet for packet, at times that a test sets."""

import os
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.ratelimit.events import RlAlgorithm
from ebpfsentinel.domains.ratelimit.tests.models import (
    SECOND,
    FixedWindow,
    LeakyBucket,
    SlidingWindow,
    TokenBucket,
)
from ebpfsentinel.kernel.build import PACKAGE, compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.objects import load_object

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

TICK, UNIT = 512, 8_000_000
MOST = 256
BOOT = 3 * 10**15
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Runs ``steps.bpf.c`` beside the headers that it is about."""
    folder = tmp_path_factory.mktemp("steps")
    for path in [HERE / "steps.bpf.c", *(PACKAGE / "domains" / "ratelimit").glob("*.h")]:
        (folder / path.name).write_text(path.read_text())
    loaded = load_object(compile_object(folder / "steps.bpf.c"), fragments=False)
    yield lambda *limit: run(loaded, *limit)
    lib().bpf_object__close(loaded.handle)


def run(loaded, algorithm, rate, burst, times):
    """Which of the packets are admitted."""
    target = loaded.maps["steps"]
    value = np.zeros(1, target.value)
    interval = round((SECOND << 8) / rate)
    value["interval"], value["tolerance"] = interval, interval * (burst - 1)
    value["rate"], value["algorithm"], value["count"] = rate, algorithm, len(times)
    value["now_ns"][0, : len(times)] = times
    target.write(np.zeros(1, np.uint32), value)
    frame = bytes(64)
    options = sized("opts_run", data_in=ffi.from_buffer(frame), data_size_in=64, repeat=1)
    check(lib().bpf_prog_test_run_opts(loaded.programs["run_steps"].fd, options), "running")
    _, values = target.read()
    return values["admitted"][0, : len(times)].astype(bool).tolist()


def judged(model, times):
    return [model.admits(now) for now in times]


rates = st.one_of(st.integers(1, 20), st.sampled_from([3001, 99_991, 1_000_000]))
gaps = st.one_of(
    st.integers(0, 3_000),
    st.integers(0, SECOND // 50),
    st.sampled_from([SECOND // 3, SECOND - 1, SECOND, SECOND + 1, 2 * SECOND, 90 * SECOND]),
)
moments = st.lists(gaps, min_size=1, max_size=MOST).map(
    lambda found: [BOOT + after for after in accumulate(found)]
)


@pytest.mark.parametrize("kind", [TokenBucket, LeakyBucket])
@given(rates, st.integers(1, 50), moments)
@settings(max_examples=60, deadline=None)
def test_buckets(kernel, kind, rate, burst, times):
    """The kernel's interval is that of the rate to 1/256 ns; with it, all is exact."""
    interval = Fraction(round((SECOND << 8) / rate), 256)
    assert abs(interval * rate - SECOND) <= Fraction(rate, 512)
    wanted = judged(kind(interval, burst), times)
    assert kernel(RlAlgorithm.RL_GCRA, rate, burst, times) == wanted


@given(rates, moments)
@settings(max_examples=60, deadline=None)
def test_fixed_windows(kernel, rate, times):
    wanted = judged(FixedWindow(rate, TICK), times)
    assert kernel(RlAlgorithm.RL_FIXED_WINDOW, rate, 1, times) == wanted


@given(rates, moments)
@settings(max_examples=60, deadline=None)
def test_sliding_windows(kernel, rate, times):
    wanted = judged(SlidingWindow(rate, TICK, UNIT), times)
    assert kernel(RlAlgorithm.RL_SLIDING_WINDOW, rate, 1, times) == wanted


@pytest.mark.parametrize("algorithm", list(RlAlgorithm))
def test_a_clock_that_lags_a_moment_behind_another_cpus_gains_nothing(kernel, algorithm):
    """Read on two CPUs, times come out of order by some hundred nanoseconds."""
    times = [BOOT + step * 1000 - (step % 2) * 700 for step in range(MOST)]
    assert sum(kernel(algorithm, 10, 10, times)) == 10


@pytest.mark.parametrize("algorithm", list(RlAlgorithm))
def test_w6_a_source_that_never_pauses_gets_its_rate(kernel, algorithm):
    """Faster than the drain step of any integer arithmetic, for ten seconds."""
    times = [BOOT + step * (10 * SECOND // MOST) for step in range(MOST)]
    assert sum(kernel(algorithm, 5, 5, times)) in range(50, 56)


def test_w7_no_remainder_is_lost(kernel):
    """A packet each 0.9 intervals: of ten, nine pass, where a lost remainder lets half through."""
    interval = SECOND // 1000
    times = [BOOT + step * interval * 9 // 10 for step in range(MOST)]
    assert sum(kernel(RlAlgorithm.RL_GCRA, 1000, 2, times)) >= MOST * 9 // 10
