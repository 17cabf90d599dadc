"""``flow_state()`` from XDP: it says of a packet what tracking will, before TC has seen it."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ebpfsentinel.domains.conntrack import DOMAIN
from ebpfsentinel.domains.conntrack.events import FlowState
from ebpfsentinel.domains.conntrack.tests.packets import Ends, solicitation
from ebpfsentinel.domains.conntrack.tests.tracked import Tracked
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.domain import Domain, Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

ANSWERS = 100
FAMILIES = pytest.mark.parametrize("ends", [Ends(), Ends().six()], ids=["ipv4", "ipv6"])
UNKNOWN, NEW, ESTABLISHED, RELATED, INVALID = (
    getattr(FlowState, f"FLOW_{word}").value
    for word in ("UNKNOWN", "NEW", "ESTABLISHED", "RELATED", "INVALID")
)


class Asking:
    """An engine for a card; only its module matters."""


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    target = tmp_path_factory.mktemp("asks") / "asks.bpf.o"
    compile_object(Path(__file__).with_name("asks.bpf.c"), target)
    card = Domain(
        name="asks",
        summary="Asks for the state of a packet.",
        settings=msgspec.Struct,
        engine=Asking,
        object=str(target),
        programs=(Program("xdp_asks", order=10),),
    )
    kernel = LinuxKernel()
    kernel.load([DOMAIN, card])
    kernel._fill_chains()
    yield kernel
    kernel.detach()


@pytest.fixture
def tracked(asking):
    asking.apply([FlowTable(None)])
    keys, _ = asking.read("flow_fragments")
    asking._maps["flow_fragments"].delete(keys)
    translate(asking, on=False)
    made = Tracked(asking)
    made.settings()
    return made


def translate(kernel, *, on):
    """Is NAT on?"""
    target = kernel._maps["tr_head"]
    head = np.zeros(1, target.value)
    head["active"] = on
    target.write(np.zeros(1, target.key), head)


def state(tracked, frame, program="xdp_root"):
    return tracked.run(frame, program) - ANSWERS


@FAMILIES
def test_a_connection_as_xdp_sees_it(tracked, ends):
    assert state(tracked, ends.tcp("S")) == NEW
    tracked.come(ends.tcp("S"))
    assert state(tracked, ends.tcp("S")) == NEW
    tracked.leave(ends.back("SA"))
    assert state(tracked, ends.tcp("A")) == ESTABLISHED
    tracked.come(ends.tcp("A"))
    assert state(tracked, ends.tcp("PA", b"x")) == ESTABLISHED
    assert state(tracked, ends.back("A")) == ESTABLISHED


@FAMILIES
def test_the_first_answer_to_what_this_host_opens_is_established(tracked, ends):
    ends = ends.turned()
    tracked.leave(ends.tcp("S"))
    assert state(tracked, ends.back("SA")) == ESTABLISHED
    tracked.leave(ends.udp())
    assert state(tracked, ends.udp_back()) == ESTABLISHED
    tracked.leave(ends.echo())
    assert state(tracked, ends.echo_back()) == ESTABLISHED


@FAMILIES
@pytest.mark.parametrize("flags", ["SA", "R", "FA", "SF", ""])
def test_what_can_be_of_no_flow_is_invalid(tracked, ends, flags):
    assert state(tracked, ends.tcp(flags)) == INVALID
    assert state(tracked, ends.echo_back()) == INVALID


@FAMILIES
def test_the_midst_of_a_connection_is_new_or_invalid_by_the_settings(tracked, ends):
    assert state(tracked, ends.tcp("A")) == NEW
    tracked.settings(pickup=False)
    assert state(tracked, ends.tcp("A")) == INVALID


@FAMILIES
def test_errors_are_related_or_invalid(tracked, ends):
    ours = ends.turned()
    tracked.leave(ours.udp())
    assert state(tracked, ours.error(ours.udp())) == RELATED
    assert state(tracked, ours.error(ours.tcp("S"))) == INVALID


@FAMILIES
def test_later_fragments_are_what_their_first_is(tracked, ends):
    tracked.come(ends.udp())
    tracked.leave(ends.udp_back())
    first, *later = ends.fragments()
    assert [state(tracked, each) for each in later] == [INVALID] * len(later)
    assert state(tracked, first) == ESTABLISHED
    assert [state(tracked, each) for each in later] == [ESTABLISHED] * len(later)


def test_neighbour_discovery_and_what_is_not_ip_is_nothing_of_all_this(tracked):
    assert state(tracked, solicitation()) == UNKNOWN
    assert state(tracked, bytes(12) + b"\x08\x06" + bytes(46)) == UNKNOWN


def test_without_a_table_nothing_is_known(tracked):
    tracked.apply(FlowTable(None))
    assert state(tracked, Ends().tcp("SF")) == UNKNOWN


def test_asking_leaves_no_trace(tracked):
    before = tracked.poll()
    for frame in (Ends().tcp("S"), Ends().udp(), Ends().tcp("SF")):
        state(tracked, frame)
    assert tracked.poll() == before
    assert tracked.flows() == []
    assert state(tracked, Ends().fragments()[0], "xdp_dry") == NEW
    assert len(tracked.kernel.read("flow_fragments")[0]) == 0


@FAMILIES
def test_what_is_of_no_flow_is_not_of_one_because_nat_is_on(tracked, ends):
    translate(tracked.kernel, on=True)
    assert state(tracked, ends.back("SA")) == INVALID
    assert state(tracked, ends.error(ends.udp())) == INVALID
    assert state(tracked, ends.tcp("S")) == NEW
