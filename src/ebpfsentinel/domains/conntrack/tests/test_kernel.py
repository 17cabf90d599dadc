"""The tracker in this machine's kernel, packet by packet: ``tc_root`` in, ``egress_root`` out."""

import os
import time

import numpy as np
import pytest

from ebpfsentinel.domains.conntrack.tests.packets import (
    HERE,
    TCP,
    THERE,
    Ends,
    Raw,
    frame,
    ip,
    solicitation,
)
from ebpfsentinel.domains.conntrack.tests.tracked import IN, all_of
from ebpfsentinel.model.action import EndFlows, FlowTable, MapWrite
from ebpfsentinel.model.flows import FlowFilter
from tests.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

FOUR = Ends()
FAMILIES = pytest.mark.parametrize("ends", [FOUR, FOUR.six()], ids=["ipv4", "ipv6"])


def opened(ends):
    return [("in", ends.tcp("S")), ("out", ends.back("SA")), ("in", ends.tcp("A"))]


def open_one(tracked, ends=FOUR):
    for way, each in opened(ends):
        tracked.run(each, IN if way == "in" else "egress_root")


def by_port(tracked):
    return {row["key"]["port"].tobytes(): row.tobytes() for row in tracked.kernel.flows()}


@FAMILIES
def test_a_connection_from_syn_to_time_wait(tracked, ends):
    talk = [
        *opened(ends),
        ("in", ends.tcp("PA", b"GET /")),
        ("out", ends.back("PA", b"200")),
        ("out", ends.back("FA")),
        ("in", ends.tcp("A")),
        ("in", ends.tcp("FA")),
        ("out", ends.back("A")),
    ]
    assert all_of(tracked, talk) == [
        "syn_sent",
        "syn_recv",
        *["established"] * 3,
        "fin_wait",
        "close_wait",
        "last_ack",
        "time_wait",
    ]
    flow = tracked.flow()
    assert (flow["src_ip"], flow["dst_ip"]) == (ends.client, ends.server)
    assert (flow["src_port"], flow["dst_port"]) == (40000, 80)
    assert (flow["packets_fwd"], flow["packets_rev"]) == (5, 4)
    assert flow["bytes_fwd"] == sum(len(each) for way, each in talk if way == "in")
    assert flow["bytes_rev"] == sum(len(each) for way, each in talk if way == "out")


@FAMILIES
def test_a_connection_that_this_host_opens(tracked, ends):
    ends = ends.turned()
    talk = [("out", ends.tcp("S")), ("in", ends.back("SA")), ("out", ends.tcp("A"))]
    assert all_of(tracked, talk) == ["syn_sent", "syn_recv", "established"]
    assert tracked.flow()["src_ip"] == ends.client


def test_simultaneous_open(tracked):
    talk = [
        ("in", FOUR.tcp("S")),
        ("out", FOUR.back("S")),
        ("in", FOUR.tcp("SA")),
        ("out", FOUR.back("SA")),
        ("out", FOUR.back("A")),
    ]
    states = ["syn_sent", "syn_sent_both", "syn_recv", "syn_recv", "established"]
    assert all_of(tracked, talk) == states


def test_simultaneous_close(tracked):
    open_one(tracked)
    talk = [("in", FOUR.tcp("FA")), ("out", FOUR.back("FA")), ("in", FOUR.tcp("A"))]
    assert all_of(tracked, talk) == ["fin_wait", "last_ack", "time_wait"]


def test_a_fin_sent_again_moves_nothing(tracked):
    open_one(tracked)
    talk = [
        ("in", FOUR.tcp("FA")),
        ("in", FOUR.tcp("FA")),
        ("in", FOUR.tcp("A")),
        ("out", FOUR.back("A")),
        ("in", FOUR.tcp("FA")),
        ("out", FOUR.back("FA")),
        ("out", FOUR.back("A")),
        ("out", FOUR.back("FA")),
        ("in", FOUR.tcp("A")),
    ]
    assert all_of(tracked, talk) == [
        *["fin_wait"] * 3,
        *["close_wait"] * 2,
        *["last_ack"] * 3,
        "time_wait",
    ]


@pytest.mark.parametrize("flags", ["R", "RA"])
def test_a_reset_closes(tracked, flags):
    open_one(tracked)
    tracked.leave(FOUR.back(flags))
    assert tracked.state() == "close"


def test_a_refused_connection_is_closed(tracked):
    assert all_of(tracked, [("in", FOUR.tcp("S")), ("out", FOUR.back("RA"))]) == [
        "syn_sent",
        "close",
    ]


@pytest.mark.parametrize("closing", ["time_wait", "close"])
def test_a_closed_connection_opens_anew_and_the_old_one_is_counted(tracked, closing):
    open_one(tracked)
    if closing == "close":
        tracked.come(FOUR.tcp("R"))
    else:
        tracked.come(FOUR.tcp("FA"))
        tracked.leave(FOUR.back("FA"))
        tracked.come(FOUR.tcp("A"))
    assert tracked.state() == closing
    tracked.come(FOUR.tcp("S"))
    flow = tracked.flow()
    assert (flow["state"], flow["packets_fwd"]) == ("syn_sent", 1)
    status = tracked.poll()
    assert (status["created"], status["replaced"], status["active"]) == (2, 1, 1)


def test_a_server_that_opens_anew_under_the_same_ports_is_the_source_then(tracked):
    open_one(tracked)
    tracked.come(FOUR.tcp("R"))
    tracked.leave(FOUR.back("S"))
    assert tracked.flow()["src_ip"] == HERE


@pytest.mark.parametrize("flags", ["", "SF", "SR", "FR", "F", "P", "SAF", "FSRPAU"])
def test_flags_that_no_tcp_sends_are_invalid_and_touch_nothing(tracked, flags):
    open_one(tracked)
    before = tracked.flow()
    tracked.come(FOUR.tcp(flags))
    assert tracked.flow() == before
    assert tracked.poll()["invalid"] == 1


@pytest.mark.parametrize("flags", ["SA", "R", "RA", "FA"])
def test_what_cannot_begin_a_flow_is_invalid(tracked, flags):
    tracked.come(FOUR.tcp(flags))
    assert tracked.flows() == []
    assert tracked.poll()["invalid"] == 1


def test_an_ack_before_the_answer_is_invalid(tracked):
    tracked.come(FOUR.tcp("S"), FOUR.tcp("A"))
    assert tracked.state() == "syn_sent"
    assert tracked.poll()["invalid"] == 1


@FAMILIES
def test_a_connection_from_before_is_picked_up(tracked, ends):
    talk = [("in", ends.tcp("A")), ("in", ends.tcp("PA", b"x")), ("out", ends.back("A"))]
    assert all_of(tracked, talk) == ["picked_up", "picked_up", "established"]
    assert tracked.flow()["src_ip"] == ends.client


def test_the_end_with_the_lower_port_of_a_picked_up_connection_is_the_server(tracked):
    tracked.leave(FOUR.back("A"))
    assert tracked.flow()["dst_port"] == 80


def test_without_pickup_the_midst_of_a_connection_is_invalid(tracked):
    tracked.settings(pickup=False)
    tracked.come(FOUR.tcp("A"))
    assert tracked.flows() == []
    assert tracked.poll()["invalid"] == 1


@FAMILIES
def test_udp_is_unreplied_replied_and_then_a_stream(tracked, ends):
    began = time.monotonic()
    tracked.come(ends.udp())
    assert tracked.state() == "unreplied"
    tracked.leave(ends.udp_back())
    assert tracked.state() == "replied"

    def goes_on():
        tracked.come(ends.udp())
        return tracked.state() == "stream"

    until(goes_on)
    assert time.monotonic() - began >= 1.9


@FAMILIES
def test_echoes_are_flows_by_their_identifier(tracked, ends):
    tracked.come(ends.echo(1), ends.echo(2), ends.echo(1))
    tracked.leave(ends.echo_back(1))
    found = {flow["src_port"]: flow for flow in tracked.flows()}
    assert {number: flow["state"] for number, flow in found.items()} == {
        1: "replied",
        2: "unreplied",
    }
    assert (found[1]["packets_fwd"], found[1]["packets_rev"]) == (2, 1)


def test_an_echo_to_oneself_is_answered_by_oneself(tracked):
    ends = Ends(client=HERE, server=HERE)
    tracked.leave(ends.echo(), ends.echo_back())
    assert tracked.state() == "replied"


@FAMILIES
def test_an_echo_reply_that_nobody_asked_for_is_invalid(tracked, ends):
    tracked.come(ends.turned().echo_back())
    assert tracked.flows() == []
    assert tracked.poll()["invalid"] == 1


@FAMILIES
def test_errors_belong_to_the_flow_that_they_quote(tracked, ends):
    tracked.come(ends.udp())
    tracked.leave(ends.error(ends.udp()))
    tracked.leave(ends.error(ends.tcp("S")))
    status = tracked.poll()
    assert (status["related"], status["invalid"], status["created"]) == (1, 1, 1)
    assert tracked.flow()["packets_rev"] == 0


@FAMILIES
def test_errors_of_routers_between_belong_to_it_too(tracked, ends):
    router = "2001:db8:9::9" if ":" in ends.client else "192.0.2.9"
    tracked.come(ends.tcp("S"))
    tracked.leave(ends.error(ends.tcp("S"), sender=router))
    tracked.come(ends.echo(5))
    tracked.leave(ends.error(ends.echo(5), sender=router))
    assert tracked.poll()["related"] == 2


@FAMILIES
def test_other_protocols_are_flows_of_two_addresses(tracked, ends):
    tracked.come(ends.other())
    assert tracked.state() == "unreplied"
    tracked.leave(ends.turned().other())
    assert tracked.state() == "replied"
    assert tracked.flow()["protocol"] == "47"


@FAMILIES
def test_fragments_belong_to_the_flow_of_their_first(tracked, ends):
    pieces = ends.fragments()
    assert len(pieces) >= 3
    tracked.come(*pieces)
    flow = tracked.flow()
    assert (flow["packets_fwd"], flow["src_port"]) == (len(pieces), 40000)


@FAMILIES
def test_a_fragment_without_its_first_is_invalid_and_counted(tracked, ends):
    tracked.come(*ends.fragments()[1:])
    assert tracked.flows() == []
    status = tracked.poll()
    assert status["fragments_lost"] == status["invalid"] >= 2


def test_neighbour_discovery_is_not_tracked(tracked):
    tracked.come(solicitation())
    status = tracked.poll()
    assert (status["created"], status["invalid"]) == (0, 0)


def test_a_vlan_tag_does_not_hide_a_flow(tracked):
    tracked.come(frame(ip(THERE, HERE), TCP(sport=1, dport=2, flags="S"), vlan=7))
    assert tracked.state() == "syn_sent"


def test_nothing_is_dropped(tracked):
    for each in (FOUR.tcp("SF"), FOUR.tcp("S"), FOUR.tcp("R"), FOUR.udp(), b"\x00" * 60):
        assert tracked.run(each) == 0xFFFFFFFF


def test_a_flow_lapses_in_the_kernel(tracked):
    tracked.settings(timeouts={"udp": 2})
    tracked.come(FOUR.udp())
    assert len(tracked.flows()) == 1
    until(lambda: not tracked.flows())
    tracked.leave(FOUR.udp_back())
    assert tracked.flow()["src_ip"] == HERE, "the answer came too late: it begins a flow"
    status = tracked.poll()
    assert (status["created"], status["expired"], status["active"]) == (2, 1, 1)


def test_sweeping_takes_out_what_has_lapsed_without_a_packet_of_it(tracked):
    tracked.settings(timeouts={"tcp_syn_sent": 3})
    for port in range(1000, 1050):
        tracked.come(Ends(sport=port).tcp("S"))
    assert tracked.sources()[0x0A000002] == (50, 50)

    def swept():
        tracked.sweep()
        return not tracked.poll()["active"]

    until(swept)
    assert tracked.poll()["expired"] == 50
    assert tracked.sources() == {}


def test_sources_are_counted_while_their_flows_are_there(tracked):
    for port in range(1000, 1010):
        open_one(tracked, Ends(sport=port))
    for port in range(2000, 2003):
        tracked.come(Ends(sport=port).tcp("S"))
    tracked.come(Ends(sport=3000).udp())
    assert tracked.sources() == {0x0A000002: (14, 3)}
    tracked.come(Ends(sport=2000).tcp("R"))
    assert tracked.sources() == {0x0A000002: (14, 2)}
    tracked.apply(EndFlows((FlowFilter(),)))
    assert tracked.sources() == {}


def test_ending_flows_by_a_filter(tracked):
    for port in range(1000, 1100):
        open_one(tracked, Ends(sport=port))
    open_one(tracked, FOUR.six())
    tracked.apply(EndFlows((FlowFilter(source_ports=(1000, 1039)), FlowFilter(family=6))))
    assert len(tracked.flows()) == 60
    status = tracked.poll()
    assert (status["ended"], status["active"]) == (41, 60)


def test_timeouts_change_without_losing_a_flow(tracked):
    open_one(tracked)
    tracked.settings(timeouts={"tcp_established": 100})
    tracked.come(FOUR.tcp("A"))
    flow = tracked.flow()
    left_s = (flow["expires_ns"] - flow["last_seen_ns"]) / 1e9
    assert 99 < left_s < 101
    assert flow["packets_fwd"] == 3


@pytest.mark.parametrize("size", [128, 8192])
def test_flows_move_to_a_table_of_another_size(tracked, size):
    for port in range(1000, 1100):
        open_one(tracked, Ends(sport=port))
    tracked.come(Ends(sport=900).tcp("S"))
    before = by_port(tracked)
    tracked.settings(max_entries=size, secret=b"another")
    status = tracked.poll()
    assert status["moved"] + status["move_lost"] == 101
    if size > 1000:
        assert by_port(tracked) == before
        tracked.come(Ends(sport=1000).tcp("A"))
        assert len(tracked.flows()) == 101
    assert len(tracked.flows()) == status["active"] == status["moved"]


def test_without_a_table_nothing_of_its_flows_stays_counted(tracked):
    tracked.come(FOUR.tcp("S"), FOUR.udp())
    assert tracked.poll()["active"] == 2
    tracked.apply(FlowTable(None))
    tracked.come(FOUR.tcp("A"))
    assert tracked.flows() == []
    tracked.settings()
    assert tracked.sources() == {}
    assert tracked.poll()["active"] == 0


def test_a_table_of_another_version_is_not_taken_over(tracked):
    tracked.come(FOUR.tcp("S"))
    other = tracked.kernel._flows().head()[0]
    other["version"] += 1
    tracked.apply(FlowTable(other))
    assert tracked.flows() == []
    tracked.settings()
    tracked.come(FOUR.udp())
    assert tracked.poll()["active"] == len(tracked.flows()) == 1


def test_events_are_emitted_only_while_somebody_listens(tracked):
    open_one(tracked, Ends(sport=1))
    assert len(tracked.events()) == 0
    until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 5_000_000_000
    keys = np.zeros(1, np.uint32)
    tracked.apply(MapWrite("ct_listen", keys, np.array([until], np.uint64)))
    open_one(tracked)
    tracked.come(FOUR.tcp("R"))
    tracked.apply(EndFlows((FlowFilter(port=40000),)))
    rows = tracked.events()
    assert rows["change"].tolist() == [0, 1, 2, 3]
    assert rows["why"][-1] == 2
    tracked.apply(MapWrite("ct_listen", keys, np.array([1], np.uint64)))
    open_one(tracked, Ends(sport=2))
    assert len(tracked.events()) == 0


def test_a_setting_has_events_emitted_always(tracked):
    tracked.settings(events=True)
    open_one(tracked)
    assert tracked.events()["change"].tolist() == [0, 1]


class TestWindows:
    """RFC 9293 3.4, RFC 5961: what is out of the window moves nothing."""

    @pytest.fixture
    def connected(self, tracked):
        tracked.settings(window_checks=True)
        options = [("MSS", 1460), ("WScale", 7)]
        tracked.come(FOUR.tcp("S", seq=1000, window=64240, options=options))
        tracked.leave(FOUR.back("SA", seq=5000, ack=1001, window=65160, options=options))
        tracked.come(FOUR.tcp("A", seq=1001, ack=5001, window=502))
        assert tracked.state() == "established"
        return tracked

    def test_data_goes_on(self, connected):
        connected.come(FOUR.tcp("PA", b"x" * 100, seq=1001, ack=5001, window=502))
        connected.leave(FOUR.back("PA", b"y" * 1000, seq=5001, ack=1101, window=509))
        connected.come(FOUR.tcp("A", seq=1101, ack=6001, window=502))
        assert connected.poll()["invalid"] == 0
        assert connected.flow()["packets_fwd"] == 4

    @pytest.mark.parametrize("seq", [900_000, 1001 - 200_000])
    def test_a_blind_reset_is_not_believed(self, connected, seq):
        connected.come(FOUR.tcp("R", seq=seq % (1 << 32)))
        assert connected.state() == "established"
        assert connected.poll()["invalid"] == 1

    def test_a_reset_within_the_window_is(self, connected):
        connected.come(FOUR.tcp("R", seq=1001))
        assert connected.state() == "close"

    def test_an_acknowledgement_of_what_was_not_sent_is_invalid(self, connected):
        connected.come(FOUR.tcp("A", seq=1001, ack=9001, window=502))
        assert connected.poll()["invalid"] == 1

    def test_data_beyond_the_window_is_invalid(self, connected):
        beyond = 1001 + 65160 + (509 << 7) + 100_000
        connected.come(FOUR.tcp("PA", b"x", seq=beyond, ack=5001, window=502))
        assert connected.poll()["invalid"] == 1

    def test_an_acknowledgement_may_lie_a_window_of_its_sender_behind(self, connected):
        connected.leave(FOUR.back("A", seq=5001, ack=1001, window=2000))
        for seq in (1001, 200_001):  # all of the 256,000 bytes may be on their way
            connected.come(FOUR.tcp("PA", b"x" * 1000, seq=seq, ack=5001, window=502))
        connected.leave(FOUR.back("A", seq=5001, ack=2001, window=2000))
        assert connected.poll()["invalid"] == 0
        connected.leave(FOUR.back("A", seq=5001, ack=(201_001 - 256_001) % (1 << 32), window=2000))
        assert connected.poll()["invalid"] == 1

    def test_a_reset_that_answers_a_syn_must_acknowledge_it(self, tracked):
        tracked.settings(window_checks=True)
        tracked.come(FOUR.tcp("S", seq=1000))
        tracked.leave(FOUR.back("RA", seq=0, ack=77))
        assert tracked.state() == "syn_sent"
        tracked.leave(FOUR.back("RA", seq=0, ack=1001))
        assert tracked.state() == "close"

    def test_a_connection_that_was_picked_up_is_not_checked(self, tracked):
        tracked.settings(window_checks=True)
        tracked.come(FOUR.tcp("A", seq=1, ack=1))
        tracked.leave(FOUR.back("A", seq=1_000_000_000, ack=5))
        assert tracked.state() == "established"
        assert tracked.poll()["invalid"] == 0


def test_padding_of_a_small_frame_is_no_data(tracked):
    tracked.settings(window_checks=True)
    padding = Raw(b"\0" * 6)
    for flags, seq, ack, way in (("S", 10, 0, "in"), ("SA", 90, 11, "out"), ("A", 11, 91, "in")):
        client, server = (THERE, HERE) if way == "in" else (HERE, THERE)
        ports = (40000, 80) if way == "in" else (80, 40000)
        tcp = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack)
        tracked.run(
            frame(ip(client, server, len=40), tcp, padding), IN if way == "in" else "egress_root"
        )
    tracked.come(FOUR.tcp("PA", b"abc", seq=11, ack=91))
    assert tracked.poll()["invalid"] == 0
    assert int(tracked.kernel.flows()["end"]["window"]["end"][0].max()) in (14, 91)
