"""Any packets in any order: the kernel's state machine against a table written for this test."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfsentinel.domains.conntrack.tests.packets import Ends
from ebpfsentinel.domains.conntrack.tests.tracked import IN, OUT
from ebpfsentinel.model.action import EndFlows
from ebpfsentinel.model.flows import FlowFilter

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

FLAGS = {"syn": "S", "syn_ack": "SA", "ack": "A", "fin": "FA", "rst": "R"}
KINDS = st.sampled_from(list(FLAGS))
SAME, INVALID, ANEW = "same", "invalid", "anew"
OPENING = {
    # who opened it            who answers
    "syn_sent": (
        {"syn": SAME, "syn_ack": INVALID, "ack": INVALID, "fin": INVALID},
        {"syn": "syn_sent_both", "syn_ack": "syn_recv", "ack": SAME, "fin": INVALID},
    ),
    "syn_sent_both": (
        {"syn": SAME, "syn_ack": "syn_recv", "ack": SAME, "fin": INVALID},
        {"syn": SAME, "syn_ack": "syn_recv", "ack": SAME, "fin": INVALID},
    ),
    "syn_recv": (
        {"syn": SAME, "syn_ack": INVALID, "ack": "established"},
        {"syn": INVALID, "syn_ack": SAME, "ack": SAME},
    ),
    "syn_recv, both opened": (
        {"syn": SAME, "syn_ack": SAME, "ack": "established"},
        {"syn": SAME, "syn_ack": SAME, "ack": "established"},
    ),
}
OPEN = (
    {"syn": SAME, "syn_ack": INVALID, "ack": SAME},
    {"syn": INVALID, "syn_ack": SAME, "ack": SAME},
)
SHUT = (
    {"syn": ANEW, "syn_ack": INVALID, "ack": SAME},
    {"syn": ANEW, "syn_ack": SAME, "ack": SAME},
)
RESET = ({"syn": ANEW, "syn_ack": INVALID, "ack": SAME},) * 2


class Model:
    """A connection as the documentation says it goes; ends are 0 (opened it) and 1."""

    def __init__(self, opener):
        self.begin(opener)

    def begin(self, opener):
        self.opener, self.state = opener, "syn_sent"
        self.both, self.closed, self.packets = False, [], [0, 0]
        self.packets[0] = 1

    def rules(self, role):
        if self.state == "syn_recv" and self.both:
            return OPENING["syn_recv, both opened"][role]
        if self.state in OPENING:
            return OPENING[self.state][role]
        if self.state == "close":
            return RESET[role]
        return (SHUT if self.state in ("last_ack", "time_wait") else OPEN)[role]

    def see(self, end, kind):
        role = int(end != self.opener)
        rules = self.rules(role)
        found = "close" if kind == "rst" else rules.get(kind, SAME)
        if found == INVALID:
            return
        if found == ANEW:
            self.begin(end)
            return
        self.packets[role] += 1
        if kind == "fin" and self.state not in ("time_wait", "close"):
            self.fin(role)
        elif kind == "ack" and self.state in ("fin_wait", "last_ack") and self.closed[-1] != role:
            self.state = {"fin_wait": "close_wait", "last_ack": "time_wait"}[self.state]
        elif found != SAME:
            self.both = self.both or found == "syn_sent_both"
            self.state = found

    def fin(self, role):
        if role in self.closed:
            return
        self.closed.append(role)
        self.state = "fin_wait" if len(self.closed) == 1 else "last_ack"


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.booleans(), st.lists(st.tuples(st.booleans(), KINDS), max_size=14), st.booleans())
def test_any_packets_in_any_order(tracked, ours, packets, six):
    ends = Ends().six() if six else Ends()
    tracked.apply(EndFlows((FlowFilter(),)))

    def send(client, kind):
        frame = ends.tcp(FLAGS[kind]) if client else ends.back(FLAGS[kind])
        tracked.run(frame, IN if client else OUT)

    model = Model(int(ours))
    send(not ours, "syn")
    for client, kind in packets:
        send(client, kind)
        model.see(int(not client), kind)
    flow = tracked.flow()
    assert flow["state"] == model.state
    assert [flow["packets_fwd"], flow["packets_rev"]] == model.packets
    assert flow["src_ip"] == (ends.server if model.opener else ends.client)
    status = tracked.poll()
    gone = status["ended"] + status["replaced"] + status["expired"]
    assert status["created"] == gone + 1
    half = model.state in ("syn_sent", "syn_sent_both", "syn_recv")
    assert list(tracked.sources().values()) == [(1, int(half))]
