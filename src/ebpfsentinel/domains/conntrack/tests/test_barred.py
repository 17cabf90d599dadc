"""Flows that were ended and barred: what brings them back, and what does not."""

import os

import pytest

from ebpfsentinel.domains.conntrack.tests.packets import Ends
from ebpfsentinel.domains.conntrack.tests.tracked import IN, OUT
from ebpfsentinel.model.action import EndFlows
from ebpfsentinel.model.flows import FlowFilter, PacketFilter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

THEIRS, OURS = Ends(), Ends().turned()
ALL = (FlowFilter(),)


def opened(tracked, ends):
    there, here = (IN, OUT) if ends is THEIRS else (OUT, IN)
    for program, frame in (
        (there, ends.tcp("S")),
        (here, ends.back("SA")),
        (there, ends.tcp("A")),
    ):
        tracked.run(frame, program)
    assert tracked.state() == "established"


def ended(tracked, ends, *, barred):
    opened(tracked, ends)
    tracked.apply(EndFlows(ALL, barred=barred))
    assert tracked.flows() == []
    status = tracked.poll()
    assert (status["active"], status["ended"]) == (0, 1)


def test_without_a_bar_the_next_packet_brings_it_back(tracked):
    ended(tracked, OURS, barred=False)
    tracked.leave(OURS.tcp("A"))
    assert len(tracked.flows()) == 1


@pytest.mark.parametrize("ends", [THEIRS, OURS], ids=["theirs", "ours"])
def test_what_this_host_sends_does_not(tracked, ends):
    ended(tracked, ends, barred=True)
    tracked.leave(*[ends.back("PA", b"x") if ends is THEIRS else ends.tcp("PA", b"x")] * 3)
    assert tracked.flows() == []


def test_an_answer_that_comes_in_does_not(tracked):
    ended(tracked, OURS, barred=True)
    tracked.come(OURS.back("A"))
    assert tracked.flows() == []


def test_one_of_who_opened_it_that_was_let_in_does(tracked):
    ended(tracked, THEIRS, barred=True)
    tracked.come(THEIRS.tcp("A"))
    (flow,) = tracked.flows()
    assert flow["src_ip"] == THEIRS.client


@pytest.mark.parametrize("ends", [THEIRS, OURS], ids=["theirs", "ours"])
def test_a_syn_does(tracked, ends):
    ended(tracked, ends, barred=True)
    tracked.run(ends.tcp("S"), IN if ends is THEIRS else OUT)
    assert tracked.state() == "syn_sent"


def test_counts_add_up_when_the_bar_lapses_or_is_lifted(tracked):
    tracked.settings(timeouts={"tcp_close": 1})
    ended(tracked, THEIRS, barred=True)
    tracked.run(THEIRS.tcp("S"))
    status = tracked.poll()
    gone = status["expired"] + status["ended"] + sum(status["evicted"].values())
    assert status["created"] == status["active"] + gone + status["replaced"]


def test_ranges_of_packets_are_met_by_either_end(tracked):
    opened(tracked, THEIRS)
    tracked.apply(EndFlows((PacketFilter(4, src_ports=((81, 90),)),), barred=True))
    assert tracked.state() == "established"
    tracked.apply(EndFlows((PacketFilter(6),), barred=True))
    assert tracked.state() == "established"
    tracked.apply(EndFlows((PacketFilter(4, dst_ports=((40000, 40000),)),), barred=True))
    assert tracked.flows() == []
