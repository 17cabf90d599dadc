"""Full tables, floods, bytes of chance: nothing established gives way, every flow is counted."""

import itertools
import os
import random
import struct
import threading

import numpy as np
import pytest

from ebpfsentinel.domains.conntrack.tests.packets import Ends
from ebpfsentinel.domains.conntrack.tests.tracked import IN, OUT, Tracked
from ebpfsentinel.model.flows import Stage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

SYN, ACK = Ends().tcp("S"), Ends().tcp("A")
SRC_ADDR, SRC_PORT = 26, 34
LEAST = 54
"""BPF_PROG_RUN takes nothing that is shorter than its IP header."""


def from_client(frame, number):
    """The frame, from client ``number`` of a large network."""
    return b"".join(
        (
            frame[:SRC_ADDR],
            struct.pack(">I", 0x0C000000 + number // 20000),
            frame[SRC_ADDR + 4 : SRC_PORT],
            struct.pack(">H", 2000 + number % 20000),
            frame[SRC_PORT + 2 :],
        )
    )


def to_client(frame, number):
    """The frame, back to it."""
    return b"".join(
        (
            frame[: SRC_ADDR + 4],
            struct.pack(">I", 0x0C000000 + number // 20000),
            frame[SRC_PORT : SRC_PORT + 2],
            struct.pack(">H", 2000 + number % 20000),
            frame[SRC_PORT + 4 :],
        )
    )


def adds_up(tracked):
    """What was created, less what went, is what is there; the status it was told from."""
    status = tracked.poll()
    assert status["active"] == len(tracked.kernel.flows()), status
    return status


def establish(tracked, count):
    back = Ends().back("SA")
    for number in range(count):
        tracked.run(from_client(SYN, number))
        tracked.run(to_client(back, number), OUT)
        tracked.run(from_client(ACK, number))


def stages(tracked):
    return np.bincount(tracked.kernel.flows()["status"] & 31, minlength=20)


def test_a_syn_flood_pushes_out_half_open_flows_and_no_established_one(tracked):
    tracked.settings(max_entries=1024)
    establish(tracked, 700)
    for number in range(20_000):
        tracked.run(from_client(SYN, 1_000_000 + number))
    assert stages(tracked)[Stage.ESTABLISHED] == 700
    status = adds_up(tracked)
    evicted = status["evicted"]
    assert evicted["unreplied"] > 19_000
    assert (evicted["closing"], evicted["replied"], evicted["assured"]) == (0, 0, 0)
    for number in range(700):
        tracked.run(from_client(ACK, number))
    assert tracked.poll()["created"] == status["created"], "all were found again"
    assert sum(half for _, half in tracked.sources().values()) == stages(tracked)[Stage.SYN_SENT]
    assert sum(flows for flows, _ in tracked.sources().values()) == status["active"]


def test_a_flood_of_forged_acks_is_no_more_than_one_of_syns(tracked):
    tracked.settings(max_entries=1024)
    establish(tracked, 700)
    for number in range(10_000):
        tracked.run(from_client(ACK, 1_000_000 + number))
    assert stages(tracked)[Stage.ESTABLISHED] == 700
    assert adds_up(tracked)["evicted"]["assured"] == 0


def test_a_table_full_of_established_flows_takes_no_more_from_outside(tracked):
    tracked.settings(max_entries=64)
    establish(tracked, 1000)
    full = int(stages(tracked)[Stage.ESTABLISHED])
    assert 64 <= full <= 80
    status = adds_up(tracked)
    assert status["full"] > 900
    (alert,) = tracked.engine.feed(
        "flow_count", more(tracked.kernel.total("flow_count"), full=1), 1
    ).alerts
    assert alert.rule_id == "conntrack-table"


def more(rows, **fields):
    rows = rows.copy()
    for name, count in fields.items():
        rows[name] += count
    return rows


def test_what_this_host_opens_finds_a_place_even_then(tracked):
    tracked.settings(max_entries=64)
    establish(tracked, 1000)
    before = int(stages(tracked)[Stage.ESTABLISHED])
    own = [Ends().turned().tcp("S")[:34] + struct.pack(">H", port) + Ends().turned().tcp("S")[36:]
           for port in range(30000, 30005)]  # fmt: skip
    for each in own:
        tracked.run(each, OUT)
    found = stages(tracked)
    evicted = adds_up(tracked)["evicted"]
    assert found[Stage.SYN_SENT] + evicted["unreplied"] == 5, "each has had a place"
    assert evicted["assured"] == before - found[Stage.ESTABLISHED] > 0


def test_connections_that_open_and_close_leave_no_trace(tracked):
    tracked.settings(max_entries=256)
    steps = [
        ("in", "S"),
        ("out", "SA"),
        ("in", "A"),
        ("in", "FA"),
        ("out", "A"),
        ("out", "FA"),
        ("in", "A"),
    ]
    frames = [
        (way, Ends().tcp(flags) if way == "in" else Ends().back(flags)) for way, flags in steps
    ]
    for number, (way, frame) in itertools.product(range(5000), frames):
        if way == "in":
            tracked.run(from_client(frame, number))
        else:
            tracked.run(to_client(frame, number), OUT)
    status = adds_up(tracked)
    assert (status["created"], status["full"], status["invalid"]) == (5000, 0, 0)
    assert status["evicted"]["closing"] == 5000 - status["active"]
    assert sum(flows for flows, _ in tracked.sources().values()) == status["active"]


@pytest.mark.parametrize("program", [IN, OUT])
def test_bytes_of_chance_break_nothing(tracked, program):
    tracked.settings(max_entries=256, window_checks=True, events=True)
    chance = random.Random(6)
    seeds = []
    for ends in (Ends(), Ends().six()):
        seeds += [
            ends.tcp("S", options=[("WScale", 7), ("MSS", 1400)]),
            ends.back("SA", options=[("NOP", None), ("WScale", 9)]),
            ends.udp(),
            ends.echo(),
            ends.error(ends.udp()),
            *ends.fragments(),
            ends.other(),
        ]
    for _ in range(20_000):
        frame = bytearray(chance.choice(seeds))
        for _ in range(chance.randrange(4)):
            frame[chance.randrange(14, min(len(frame), 100))] = chance.randrange(256)
        cut = chance.choice(
            [len(frame), len(frame), chance.randrange(min(LEAST, len(frame)), len(frame) + 1)]
        )
        assert tracked.run(bytes(frame[:cut]), program) == 0xFFFFFFFF
    adds_up(tracked)


def test_each_frame_cut_at_each_byte(tracked):
    for ends in (Ends(), Ends().six()):
        for frame in (ends.tcp("S"), ends.echo(), ends.error(ends.tcp("S")), *ends.fragments()[:2]):
            for cut in range(LEAST, min(len(frame), 130)):
                assert tracked.run(frame[:cut]) == 0xFFFFFFFF
    adds_up(tracked)


def side_by_side(tracked, *frames, repeat=1):
    """Two threads, each of which sends all frames: on two CPUs, where there are two."""

    def send():
        mine = Tracked(tracked.kernel)
        for frame in frames:
            mine.run(frame, repeat=repeat)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_cpus_count_every_packet_of_one_flow(tracked):
    establish(tracked, 1)
    side_by_side(tracked, from_client(ACK, 0), repeat=200_000)
    assert tracked.flow()["packets_fwd"] == 2 + 2 * 200_000
    assert adds_up(tracked)["raced"] == 0


def test_two_cpus_that_begin_the_same_flows_count_each_once(tracked):
    tracked.settings(max_entries=8192)
    side_by_side(tracked, *(from_client(SYN, number) for number in range(4000)))
    rows = tracked.kernel.flows()
    assert len(rows) == len(np.unique(rows["key"]["port"][:, 1])) == 4000
    status = adds_up(tracked)
    assert int(rows["end"]["packets"].sum()) + status["raced"] == 8000


def test_two_cpus_in_a_full_table_account_for_every_flow(tracked):
    tracked.settings(max_entries=64)
    side_by_side(tracked, *(from_client(SYN, number) for number in range(10_000)))
    adds_up(tracked)
    sources = tracked.sources().values()
    assert sum(flows for flows, _ in sources) == len(tracked.kernel.flows())
    assert sum(half for _, half in sources) == len(tracked.kernel.flows())


def test_user_space_places_a_flow_where_the_kernel_looks_for_it(tracked):
    for ends in (Ends(), Ends().six()):
        tracked.come(ends.tcp("S"))
    rows = tracked.kernel.flows()
    tracked.settings(max_entries=2048, secret=b"yet another")
    table = tracked.kernel._flows()
    tracked.apply()
    for row in rows:
        table.end_keys(row["key"].reshape(1))
    assert len(tracked.kernel.flows()) == 0
    assert table.put_rows(rows) == 2
    for ends in (Ends(), Ends().six()):
        tracked.leave(ends.back("SA"))
    assert [flow["state"] for flow in tracked.flows()] == ["syn_recv"] * 2
