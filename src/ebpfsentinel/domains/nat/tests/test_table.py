"""The table of translations: timeouts, what gives way, and many CPUs at once."""

import os
import struct
import threading
import time

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from ebpfsentinel.domains.nat.tests.judge import SHOT
from ebpfsentinel.domains.nat.views import translations
from ebpfsentinel.kernel.libbpf import ffi, lib, sized

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

INSIDE, OUTSIDE, SERVER = "10.0.0.7", "203.0.113.1", "198.51.100.9"
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
SNAT = {"id": "s", "type": "snat", "translated_addr": OUTSIDE}
SECOND = 10**9
NEW, REPLIED, ESTABLISHED, CLOSING = range(4)
WAYS, SETS = 8, 32768
SLACK = 3
"""Seconds: a packet refreshes its entries once a second, and a slow machine takes its time."""


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def table(judge):
    return judge.kernel.read("nat_table")[1]


def entries(judge):
    """What is in the table, live or not."""
    found = table(judge)
    return found["entries"][(found["tags"] & 1) == 1]


def forward(judge):
    """The one translation that there is, on its way out."""
    rows = entries(judge)
    (row,) = rows[(rows["flags"] & 3) == 0]
    return row


def left(judge):
    """Its state, and the seconds that it will live."""
    row = forward(judge)
    return int(row["state"]), (int(row["until_ns"]) - now_ns()) / SECOND


def edit(judge, change):
    """Write the table anew, with what ``change`` makes of it."""
    keys, values = judge.kernel.read("nat_table")
    change(values)
    judge.kernel._maps["nat_table"].write(keys, values)


def out(kind, **fields):
    return LINK / IP(src=INSIDE, dst=SERVER) / kind(sport=4000, dport=80, **fields)


def back(kind, **fields):
    return LINK / IP(src=SERVER, dst=OUTSIDE) / kind(sport=80, dport=4000, **fields)


def test_a_connections_timeouts_are_those_of_where_it_is_in_its_life(judge):
    judge.rules(snat_rules=[SNAT])
    for way, frame, state, seconds in (
        (judge.leaves, out(TCP, flags="S"), NEW, 120),
        (judge.comes, back(TCP, flags="SA"), REPLIED, 60),
        (judge.leaves, out(TCP, flags="S"), REPLIED, 60),
        (judge.leaves, out(TCP, flags="A"), ESTABLISHED, 432_000),
        (judge.comes, back(TCP, flags="PA"), ESTABLISHED, 432_000),
        (judge.comes, back(TCP, flags="FA"), CLOSING, 120),
        (judge.leaves, out(TCP, flags="A"), CLOSING, 120),
        (judge.leaves, out(TCP, flags="S"), NEW, 120),
    ):
        way(frame)
        assert left(judge) == (state, pytest.approx(seconds, abs=SLACK))


def test_datagrams_and_echoes_live_shortly(judge):
    judge.rules(snat_rules=[SNAT])
    for way, frame, seconds in (
        (judge.leaves, out(UDP), 30),
        (judge.comes, back(UDP), 120),
        (judge.leaves, out(UDP), 120),
    ):
        way(frame)
        assert left(judge)[1] == pytest.approx(seconds, abs=SLACK)
    judge.leaves(LINK / IP(src=INSIDE, dst=SERVER) / ICMP(id=5))
    rows = entries(judge)
    (row,) = rows[((rows["flags"] & 3) == 0) & (rows["from"]["protocol"] == 1)]
    assert (int(row["until_ns"]) - now_ns()) / SECOND == pytest.approx(30, abs=SLACK)


def test_what_has_lapsed_is_gone_and_its_port_free_again(judge):
    judge.rules(snat_rules=[SNAT | {"translated_port": 7000}])
    assert judge.leaves(out(UDP))[UDP].sport == 7000
    other = LINK / IP(src="10.0.0.8", dst=SERVER) / UDP(sport=1, dport=80)
    assert judge.leaves(other) is None

    def lapse(values):
        values["entries"]["until_ns"] = np.minimum(values["entries"]["until_ns"], 1)

    edit(judge, lapse)
    answer = LINK / IP(src=SERVER, dst=OUTSIDE) / UDP(sport=80, dport=7000)
    assert judge.comes(answer)[IP].dst == OUTSIDE
    edit(judge, lapse)
    assert judge.leaves(other)[UDP].sport == 7000
    assert judge.comes(answer)[IP].dst == "10.0.0.8"


def fill(judge, **fields):
    """All places in use, by strangers such as ``fields`` say."""

    def occupy(values):
        until_ns = fields.get("until_ns", now_ns() + 1000 * SECOND)
        values["tags"] = 1 | np.uint64(0xABCD << 48 | until_ns >> 30 << 2)
        rows = values["entries"]
        rows["until_ns"] = until_ns
        rows["serial"] = 7
        rows["peer"] = SETS * WAYS - 1
        for name, value in fields.items():
            rows[name] = value

    edit(judge, occupy)


@pytest.mark.parametrize(
    ("fields", "counter"),
    [
        ({"flags": 2}, "evicted_untouched"),
        ({"state": CLOSING}, "evicted_closing"),
        ({"state": NEW}, "evicted_unreplied"),
        ({"state": REPLIED}, "evicted_replied"),
        ({"flags": 2, "state": ESTABLISHED}, "evicted_untouched"),
        ({"until_ns": 5}, None),
    ],
)
def test_what_gives_way_in_a_full_table_is_counted_by_what_it_was(judge, fields, counter):
    judge.rules(snat_rules=[SNAT])
    fill(judge, **fields)
    assert judge.leaves(out(UDP))[IP].src == OUTSIDE
    counts = judge.counts()
    evicted = {name: count for name, count in counts.items() if name.startswith("evicted")}
    assert {name for name, count in evicted.items() if count} == ({counter} if counter else set())
    assert sum(evicted.values()) == (2 if counter else 0)
    assert judge.comes(back(UDP))[IP].dst == INSIDE


def test_no_established_translation_gives_way(judge):
    judge.rules(snat_rules=[SNAT])
    fill(judge, state=ESTABLISHED)
    before = table(judge).tobytes()
    assert judge.leaves(out(UDP)) is None
    assert judge.counts()["table_full"] == 1
    assert table(judge).tobytes() == before


def test_of_two_the_one_worth_less_gives_way(judge):
    judge.rules(snat_rules=[SNAT])
    fill(judge, state=ESTABLISHED)
    edit(judge, lambda values: values["entries"]["state"].__setitem__(np.s_[:, 3], REPLIED))
    edit(judge, lambda values: values["entries"]["state"].__setitem__(np.s_[:, 5], CLOSING))
    judge.leaves(out(UDP))
    assert judge.counts()["evicted_closing"] == 2
    assert ((table(judge)["entries"]["state"][:, 3]) == REPLIED).all()


def test_an_evicted_half_takes_the_other_with_it(judge):
    """Else answers would be translated to somebody who is not asked for any more."""
    judge.rules(snat_rules=[SNAT])
    judge.leaves(out(UDP))
    mine = table(judge)
    fill(judge, state=ESTABLISHED)

    def restore(values):
        used = (mine["tags"] & 1) == 1
        values["tags"][used], values["entries"][used] = mine["tags"][used], mine["entries"][used]

    edit(judge, restore)
    assert judge.comes(back(UDP))[IP].dst == INSIDE
    edit(judge, restore)  # without an answer it may give way
    frame = bytes(LINK / IP(src="10.0.0.8", dst=SERVER) / UDP(sport=1, dport=9))
    for port in range(1, 65536):  # until one of them finds its place
        other = frame[:34] + port.to_bytes(2) + frame[36:]
        passed = judge.kernel.run("egress_root", other).retval != SHOT
        if (passed or port % 1000 == 0) and judge.counts()["evicted_unreplied"]:
            break
    assert judge.counts()["evicted_unreplied"] == 1
    assert judge.comes(back(UDP))[IP].dst == OUTSIDE


def program_of(judge, name):
    found = (each.programs for each in judge.kernel._objects.values())
    return next(each[name].fd for each in found if name in each)


def test_a_flood_of_flows_pushes_out_whole_translations_and_nothing_leaks(judge):
    """More than there is room for: every packet is translated, every entry has its other half."""
    judge.rules(snat_rules=[SNAT])
    judge.at("wan")
    program, buffer, leaked = program_of(judge, "egress_root"), ffi.new("char[]", 64), 0
    frame = bytearray(bytes(LINK / IP(src=INSIDE, dst=SERVER) / UDP(sport=1, dport=9)))
    for number in range(150_000):
        frame[27:30], frame[32:34] = number.to_bytes(3), (number % 500).to_bytes(2)
        frame[34:36] = (1024 + number % 60_000).to_bytes(2)
        sent = bytes(frame)
        options = sized(
            "opts_run",
            data_in=ffi.from_buffer(sent),
            data_size_in=len(sent),
            data_out=buffer,
            data_size_out=64,
        )
        assert not lib().bpf_prog_test_run_opts(program, options)
        leaked += ffi.buffer(buffer)[26:30] != bytes([203, 0, 113, 1])
    counts = judge.counts()
    assert (leaked, counts["dropped"], counts["created"]) == (0, 0, 150_000)
    assert counts["evicted_unreplied"] > 10_000
    found = table(judge)
    used = (found["tags"] & 3) == 1
    mine = found["entries"][used]
    other = found["entries"].reshape(-1)[mine["peer"]]
    assert used.sum() + 2 * counts["evicted_unreplied"] == 300_000
    assert (other["serial"] == mine["serial"]).all()
    assert ((found["tags"].reshape(-1)[mine["peer"]] & 3) == 1).all()


def test_many_cpus_never_give_one_port_twice(judge):
    """Two threads begin flows of the same ports at once; each answer must find its own client."""
    judge.rules(snat_rules=[SNAT | {"translated_port": "7000-7499"}])
    judge.at("wan")
    program = program_of(judge, "egress_root")
    given = [{}, {}]

    def begin(half):
        frames = {
            f"10.0.{half}.{n % 250}.{4000 + n // 250}": bytes(
                LINK / IP(src=f"10.0.{half}.{n % 250}", dst=SERVER)
                / UDP(sport=4000 + n // 250, dport=53)
            )
            for n in range(260)
        }  # fmt: skip
        buffer = ffi.new("char[]", 256)
        for name, frame in frames.items():
            options = sized(
                "opts_run",
                data_in=ffi.from_buffer(frame),
                data_size_in=len(frame),
                data_out=buffer,
                data_size_out=256,
            )
            assert not lib().bpf_prog_test_run_opts(program, options)
            if options.retval != 2:
                (sport,) = struct.unpack_from("!H", ffi.buffer(buffer), 34)
                given[half][name] = sport

    threads = [threading.Thread(target=begin, args=(half,)) for half in (0, 1)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    ports = [*given[0].values(), *given[1].values()]
    assert len(ports) == len(set(ports)) == 500, "all of the range, and none twice"
    counts = judge.counts()
    assert counts["port_alloc_fail"] == 20
    assert counts["contended"] == 0


def test_the_view_lists_what_is_live(judge):
    judge.rules(snat_rules=[SNAT])
    judge.leaves(out(TCP))
    judge.comes(back(TCP, flags="SA"))
    judge.leaves(LINK / IP(src=SERVER, dst="192.0.2.1") / TCP(sport=1, dport=2, flags="SA"))
    found = translations(table(judge), judge.engine.name, now_ns(), 10)
    assert (found["translations"], found["untouched_flows"], found["in_use"]) == (1, 1, 4)
    (row,) = found["listed"]
    assert (row["rule_id"], row["type"], row["state"]) == ("s", "snat", "replied")
    assert (row["src"], row["translated_src"]) == (f"{INSIDE}:4000", f"{OUTSIDE}:4000")
    assert (row["packets"], row["reply_packets"]) == (1, 1)
