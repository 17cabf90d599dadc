"""One suite, three kernels: what FakeKernel promises is what LinuxKernel does, also remotely."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.door.charter import Card, Charter
from ebpfsentinel.kernel.door.remote import RemoteKernel
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.kernel.libbpf import check, ffi, lib, sized
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.kernel.maps import ARRAY, ARRAY_OF_MAPS, pointer
from ebpfsentinel.kernel.pins import ROOT, detach_all, drop_maps, hold, prepare
from ebpfsentinel.model.action import (
    Engage,
    Kill,
    Lend,
    MapDelete,
    MapReplace,
    MapWrite,
    Patch,
    Swap,
    Switch,
)
from ebpfsentinel.model.domain import Domain, Program
from ebpfsentinel.model.health import CANARY_WORD
from ebpfsentinel.model.kernel import DRY, Frames, KernelError, OnExit
from tests.waiting import until

RECORD = np.dtype(
    {
        "names": ["serial", "bytes", "word", "text", "parts", "grid", "pad"],
        "formats": [
            "<u8",
            "<u4",
            "<u4",
            "S16",
            (np.dtype({"names": ["port", "pad"], "formats": ["<u2", ("u1", 6)]}), 2),
            (np.dtype(("u1", (3,))), 2),
            ("u1", 2),
        ],
    }
)
COUNT = np.dtype([("packets", "<u8"), ("last_ns", "<u8")])
TABLE = np.dtype([("drop_above", "<u4"), ("generation", "<u4")])
HEAD = np.dtype([("current", "<u4"), ("pad", "<u4"), ("serial", "<u8", 2)])
TRIE_KEY = np.dtype([("prefix_bits", "<u4"), ("address", "u1", 4)])
RING_BYTES, STRIDE = 4096, 8 + RECORD.itemsize
XDP_DROP, XDP_PASS = 1, 2
BPF_F_MMAPABLE = 1 << 10
FRAME = bytes(12) + b"\x88\xb5" + bytes(46)
PROGRAMS = (
    Program("contract_xdp", order=10),
    Program("contract_undo", order=5),
    Program("contract_absent", optional=True),
)


class ContractEngine:
    """Only its module matters here: the object is found beside it."""

    def __init__(self, tools):
        self.tools = tools


@pytest.fixture(scope="session")
def card(tmp_path_factory):
    target = tmp_path_factory.mktemp("contract") / "contract.bpf.o"
    compile_object(Path(__file__).with_name("contract.bpf.c"), target)
    return Domain(
        name="contract",
        summary="One of everything.",
        settings=msgspec.Struct,
        engine=ContractEngine,
        object=str(target),
        programs=PROGRAMS,
    )


class InMemory:
    """The fake with the Python half of what contract.bpf.c does."""

    def __init__(self):
        self.kernel = FakeKernel(refused={"contract_absent": "there is no such hook"})
        self.kernel.act["contract_xdp"] = self.emit
        self.kernel.act["contract_undo"] = self.undo

    def close(self):
        """Nothing is left."""

    def prepare(self):
        row = np.zeros(1, RECORD)
        row["bytes"], row["serial"] = os.getpid(), 1
        self.kernel.put_seed("contract_iter", row)

    def emit(self, frame):
        row, counts = np.zeros(1, RECORD), self.kernel.total("c_count")
        row["serial"], row["bytes"], row["text"] = counts["packets"][0], len(frame), b"c"
        row["word"] = 4_000_000_000
        row["parts"]["port"][0, 1], row["grid"][0, 1, 2] = 443, 7
        counts["packets"][0] += 1
        counts["last_ns"][0] = len(frame)
        self.kernel.set_total("c_count", counts)
        self.kernel.put("c_ring", row)
        return XDP_DROP if len(frame) > min(self.limits(), default=len(frame)) else XDP_PASS

    def limits(self):
        """As ``limit`` of the program."""
        slots = [("c_tables", 0)]
        with contextlib.suppress(KeyError):
            current = int(self.kernel.generation("c_head")["current"][0])
            slots = [("c_places", 2 * place + (current >> place & 1)) for place in (0, 1)]
        for name, slot in slots:
            with contextlib.suppress(KeyError):
                yield self.kernel.generation(name, slot)["drop_above"][0]

    def undo(self, frame):
        if len(frame) == 77:
            self.kernel.discard("c_ring")
        return XDP_PASS

    @contextlib.contextmanager
    def interface(self):
        self.kernel.add_interface("ebs-c0")
        yield "ebs-c0", lambda: self.kernel.remove_interface("ebs-c0")

    @contextlib.contextmanager
    def process(self):
        self.kernel.processes = {4242: 5_000_000_000}
        yield Kill(4242, 5_000_000_000), lambda: 4242 in self.kernel.processes


class OnThisMachine:
    """The real kernel, a veth pair, and a child to kill."""

    def __init__(self, pins):
        self.kernel = LinuxKernel(pin_root=pins)

    def close(self):
        """Nothing is left."""

    def prepare(self):
        """Nothing: the iterator finds this process by itself."""

    @contextlib.contextmanager
    def interface(self):
        name = f"ebs{uuid.uuid4().hex[:8]}"

        def remove():
            subprocess.run(["ip", "link", "del", name], check=True)

        subprocess.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True
        )
        try:
            yield name, remove
        finally:
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)

    @contextlib.contextmanager
    def process(self):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
        start_ns = ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")

        try:
            yield Kill(child.pid, start_ns), lambda: child.poll() is None
        finally:
            child.kill()
            child.wait()
            child.stdin.close()


class BehindTheDoor(OnThisMachine):
    """The real kernel in a keeper of its own, and the agent's end of the door to it."""

    def __init__(self, folder, card):
        folder.mkdir(mode=0o700)
        cards = [card, replace(card, name="elsewhere", object="/nonexistent.bpf.o")]
        cards.append(replace(card, name="needed", programs=PROGRAMS[:2]))
        charter = Charter(
            every_interface=True,
            kills=(),
            pin_root=str(folder / "pins"),
            domains=tuple(Card(name=c.name, object=c.object, programs=c.programs) for c in cards),
        )
        place = folder / "charter.json"
        place.write_bytes(msgspec.json.encode(charter))
        ours, theirs = socket.socketpair()
        command = "from ebpfsentinel.keeper import main; main()"
        options = [f"--charter={place}", f"--connected={theirs.fileno()}"]
        self.keeper = subprocess.Popen(
            [sys.executable, "-c", command, *options], pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self.kernel = RemoteKernel(lambda: ours)

    def close(self):
        assert self.keeper.wait(20) == 0


@pytest.fixture(params=["fake", "linux", "remote"])
def bench(request, card, tmp_path):
    if request.param != "fake" and os.geteuid():
        pytest.skip("loading programs needs root")
    made = {
        "fake": InMemory,
        "linux": lambda: OnThisMachine(tmp_path / "pins"),
        "remote": lambda: BehindTheDoor(tmp_path / "door", card),
    }[request.param]()
    try:
        made.kernel.load([card])
        made.prepare()
        yield made
    finally:
        made.kernel.detach()
        made.close()


@pytest.fixture(autouse=True)
def one_cpu():
    """Serial numbers are counted by CPU."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def kernel(bench):
    return bench.kernel


def u32(*values):
    return np.array(values, np.uint32)


def u64(*values):
    return np.array(values, np.uint64)


def pairs(kernel, name):
    keys, values = kernel.read(name)
    return dict(zip(keys.tolist(), values.tolist(), strict=True))


def ledger(kernel):
    found = next(each for each in kernel.ledgers() if each.ring == "c_ring")
    assert found.seen == found.sent + sum(found.lost.values())
    return found


def test_names_of_rings_seeds_and_programs(kernel):
    assert list(kernel.rings()) == ["c_ring"]
    assert list(kernel.seeds()) == ["contract_iter"]
    assert {kernel.owner(name) for name in ("c_ring", "c_hash", "contract_iter")} == {"contract"}
    assert kernel.owner("failures") == "dispatch"
    status = {program.name: program for program in kernel.programs()}
    assert set(status) == {
        "xdp_root",
        "xdp_dry",
        "tc_root",
        "tc_replay",
        "egress_root",
        "contract_xdp",
        "contract_undo",
        "contract_trace",
        "contract_iter",
        "contract_absent",
    }
    assert status["contract_xdp"].hook == "xdp"
    assert status["contract_xdp"].domain == "contract"
    assert status["contract_iter"].hook == "iter/task"
    assert not status["contract_absent"].loaded
    assert status["contract_absent"].reason
    assert all(program.loaded for name, program in status.items() if name != "contract_absent")


def test_an_unknown_name_is_a_key_error(kernel):
    one = u32(1)
    for call in (
        lambda: kernel.read("nothing"),
        lambda: kernel.total("nothing"),
        lambda: kernel.drain("nothing"),
        lambda: kernel.seed("nothing"),
        lambda: kernel.run("nothing", FRAME),
        lambda: kernel.run("c_hash", FRAME),
        lambda: kernel.owner("nothing"),
        lambda: kernel.apply([MapWrite("nothing", one, one)]),
        lambda: kernel.apply([MapDelete("nothing", one)]),
        lambda: kernel.apply([MapReplace("nothing", one, one)]),
        lambda: kernel.apply([Swap("nothing", 0, one)]),
    ):
        with pytest.raises(KeyError):
            call()


def test_a_hash_takes_and_gives_pairs_and_forgets_what_is_deleted(kernel):
    assert pairs(kernel, "c_hash") == {}
    kernel.apply([MapWrite("c_hash", u64(1, 2, 3), u32(10, 20, 30))])
    kernel.apply([MapWrite("c_hash", u64(2), u32(21))])
    kernel.apply([MapDelete("c_hash", u64(3, 99))])
    assert pairs(kernel, "c_hash") == {1: 10, 2: 21}
    keys, values = kernel.read("c_hash")
    assert (keys.dtype, values.dtype) == (np.uint64, np.uint32)
    kernel.apply([MapWrite("c_hash", u64(), u32())])
    assert pairs(kernel, "c_hash") == {1: 10, 2: 21}


def test_replace_leaves_exactly_its_pairs(kernel):
    kernel.apply([MapWrite("c_hash", u64(1, 2, 3), u32(1, 1, 1))])
    kernel.apply([MapReplace("c_hash", u64(3, 4), u32(5, 6))])
    assert pairs(kernel, "c_hash") == {3: 5, 4: 6}
    kernel.apply([MapReplace("c_hash", u64(), u32())])
    assert pairs(kernel, "c_hash") == {}


def test_a_full_hash_says_so_and_keeps_what_it_has(kernel):
    kernel.apply([MapWrite("c_hash", np.arange(7, dtype=np.uint64), u32(*range(7)))])
    with pytest.raises(KernelError, match=r"c_hash.*full"):
        kernel.apply([MapWrite("c_hash", u64(7, 8), u32(7, 8))])
    assert pairs(kernel, "c_hash") == {number: number for number in range(8)}


def test_what_was_applied_before_a_refusal_is_in_force(kernel):
    with pytest.raises(KeyError):
        kernel.apply(
            [
                MapWrite("c_hash", u64(1), u32(1)),
                MapDelete("nothing", u32(1)),
                MapWrite("c_hash", u64(2), u32(2)),
            ]
        )
    assert pairs(kernel, "c_hash") == {1: 1}


def test_wrong_dtypes_and_lengths_are_refused(kernel):
    for action in (
        MapWrite("c_hash", u32(1), u32(1)),
        MapWrite("c_hash", u64(1), u64(1)),
        MapWrite("c_array", u32(1), u64(1)),
        MapWrite("c_array", u32(1), np.zeros(1, COUNT)),
        MapDelete("c_hash", u32(1)),
        MapReplace("c_hash", u32(1), u32(1)),
        MapWrite("c_hash", u64(1, 2), u32(1)),
        Swap("c_tables", 0, np.zeros(1, COUNT)),
        Swap("c_array", 0, np.zeros(1, TABLE)),
    ):
        with pytest.raises(KernelError, match=action.map):
            kernel.apply([action])
    assert pairs(kernel, "c_hash") == {}


def test_an_array_has_all_its_entries_and_deleting_is_zero(kernel):
    values = np.array([(1, 2), (3, 4)], TABLE)
    kernel.apply([MapWrite("c_array", u32(0, 3), values)])
    assert pairs(kernel, "c_array") == {0: (1, 2), 1: (0, 0), 2: (0, 0), 3: (3, 4)}
    kernel.apply([MapDelete("c_array", u32(0))])
    assert pairs(kernel, "c_array")[0] == (0, 0)
    kernel.apply([MapReplace("c_array", u32(1), values[:1])])
    assert pairs(kernel, "c_array") == {0: (0, 0), 1: (1, 2), 2: (0, 0), 3: (0, 0)}
    with pytest.raises(KernelError, match="c_array"):
        kernel.apply([MapWrite("c_array", u32(4), values[:1])])


def test_an_lru_hash_evicts_instead_of_refusing(kernel):
    for start in range(0, 640, 64):
        keys = np.arange(start, start + 64, dtype=np.uint32)
        kernel.apply([MapWrite("c_lru", keys, keys)])
    found = pairs(kernel, "c_lru")
    assert 0 < len(found) <= 64
    assert all(key == value for key, value in found.items())
    assert max(found) >= 576


def test_a_trie_knows_prefixes_and_their_limit(kernel):
    def key(bits, *address):
        return np.array([(bits, address)], TRIE_KEY)

    kernel.apply([MapWrite("c_trie", key(8, 10, 1, 2, 3), u32(1))])
    kernel.apply([MapWrite("c_trie", key(8, 10, 9, 9, 9), u32(2))])
    kernel.apply([MapWrite("c_trie", key(32, 10, 9, 9, 9), u32(3))])
    keys, values = kernel.read("c_trie")
    assert sorted(zip(keys["prefix_bits"].tolist(), values.tolist(), strict=True)) == [
        (8, 2),
        (32, 3),
    ]
    kernel.apply([MapDelete("c_trie", key(8, 10, 0, 0, 0))])
    assert kernel.read("c_trie")[1].tolist() == [3]
    with pytest.raises(KernelError, match="c_trie"):
        kernel.apply([MapWrite("c_trie", key(33, 1, 1, 1, 1), u32(1))])


def test_a_write_to_a_per_cpu_array_reaches_every_cpu(kernel):
    kernel.apply([MapWrite("c_count", u32(1), np.array([(2, 7)], COUNT))])
    keys, values = kernel.read("c_count")
    assert keys.tolist() == [0, 1]
    cpus = values.shape[1]
    assert values["packets"].tolist() == [[0] * cpus, [2] * cpus]
    total = kernel.total("c_count")
    assert (total.shape, total.dtype) == ((2,), COUNT)
    assert total.tolist() == [(0, 0), (2 * cpus, 7)]
    assert kernel.total("c_count", 2).tolist() == total.tolist()
    assert kernel.total("c_count", 1).tolist() == [(0, 0), (0, 0)]


def test_a_swap_changes_the_verdict_and_a_bad_slot_is_refused(kernel):
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS
    kernel.apply([Swap("c_tables", 0, np.array([(len(FRAME) - 1, 1)], TABLE))])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    with pytest.raises(KernelError, match="c_tables"):
        kernel.apply([Swap("c_tables", 2, np.zeros(1, TABLE))])
    kernel.apply([Swap("c_tables", 0, np.array((len(FRAME), 2), TABLE))])
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS


def test_a_map_that_is_lent_is_the_map_itself(kernel):
    kernel.apply([Lend("c_tables", 0, "c_lent"), Lend("c_tables", 0, "c_lent")])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP, "it drops above 0 bytes"
    for limit, verdict in ((len(FRAME) - 1, XDP_DROP), (len(FRAME), XDP_PASS)):
        kernel.apply([MapWrite("c_lent", u32(0), np.array([(limit, 1)], TABLE))])
        assert kernel.run("xdp_root", FRAME).retval == verdict
    for action in (Lend("c_array", 0, "c_lent"), Lend("c_tables", 0, "c_array")):
        with pytest.raises(KernelError, match=action.map):
            kernel.apply([action])
    kernel.apply([Swap("c_tables", 0, np.array([(len(FRAME) - 1, 1)], TABLE))])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP


def test_many_frames_are_answered_as_each_alone(kernel):
    kernel.apply([Swap("c_tables", 0, np.array([(100, 1)], TABLE))])
    sizes = [60, 1000, 100, 101, 5, 60, 9000]
    frames = Frames.of([FRAME[:14].ljust(size, b"x")[:size] for size in sizes])
    assert len(frames) == len(sizes)
    assert frames.frame(1) == FRAME[:14].ljust(1000, b"x")
    found = kernel.run_many("xdp_root", frames)
    kernel.drain("c_ring")
    assert found.refused.tolist() == [size < 14 for size in sizes]
    for at in np.flatnonzero(~found.refused):
        alone = kernel.run("xdp_root", frames.frame(at))
        assert found.retval[at] == alone.retval == (XDP_DROP if sizes[at] > 100 else XDP_PASS)
    empty = kernel.run_many("xdp_root", frames[:0])
    assert len(empty.retval) == len(empty.meta) == 0


def test_a_question_is_answered_and_nothing_is_left_of_it(kernel):
    found = kernel.run_many(DRY, Frames.of([FRAME] * 3))
    assert found.retval.tolist() == [XDP_PASS] * 3
    assert kernel.run(DRY, FRAME).retval == XDP_PASS
    assert all(not any(each.packets.values()) for each in kernel.interface_counters())
    assert next(p for p in kernel.programs() if p.name == DRY).attached == ()


def test_a_frame_comes_in_on_an_interface_that_is_there(bench, kernel):
    with bench.interface() as (name, _):
        assert kernel.run("xdp_root", FRAME, interface=name).retval == XDP_PASS
    with pytest.raises(KernelError, match="no interface 'absent0'"):
        kernel.run("xdp_root", FRAME, interface="absent0")


def places(head, kept, **limits):
    """A switch to a limit for each place that is named (``p0``, ``p1``)."""
    values = {int(name[1]): np.array([(limit, 0)], TABLE) for name, limit in limits.items()}
    value = np.zeros(1, HEAD)
    value["serial"] = head
    return Switch("c_places", values, kept, "c_head", value)


def test_a_switch_puts_several_places_in_force_at_once_and_keeps_others(kernel):
    low, high = len(FRAME) - 1, len(FRAME)
    kernel.apply([places((1, 1), {}, p0=high, p1=low)])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    kernel.apply([places((1, 2), {0: 1}, p1=high)])
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS
    kernel.apply([places((3, 2), {1: 2}, p0=low)])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    with pytest.raises(KernelError, match="c_places: place 1"):
        kernel.apply([places((4, 9), {1: 9}, p0=high)])
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    kernel.apply([places((0, 2), {1: 2})])  # place 0 is no longer used
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS


def test_a_patch_writes_into_what_is_in_force_and_only_there(kernel):
    low, high = len(FRAME) - 1, len(FRAME)
    kernel.apply([places((1, 1), {}, p0=high, p1=high)])
    kernel.apply([places((2, 1), {1: 1}, p0=high)])  # in its second slot now

    def patch(place, serial, limit):
        writes = ((4, bytes(4)), (0, limit.to_bytes(4, "little")))
        kernel.apply([Patch("c_places", place, serial, "c_head", HEAD, writes)])

    patch(0, 2, low)
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    patch(0, 2, high)
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS
    patch(1, 1, low)
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
    with pytest.raises(KernelError, match="c_places: place 1"):
        patch(1, 2, high)
    assert kernel.run("xdp_root", FRAME).retval == XDP_DROP


def test_a_patch_of_nothing_is_refused(kernel):
    with pytest.raises(KernelError, match="c_places: place 0"):
        kernel.apply([Patch("c_places", 0, 1, "c_head", HEAD, ((0, bytes(4)),))])


def test_records_come_by_the_ring_in_order_and_are_accounted_for(kernel):
    result = kernel.run("xdp_root", FRAME, repeat=3)
    assert result.data == FRAME
    assert result.duration_ns >= 0
    assert ledger(kernel).sent == 3
    rows = kernel.drain("c_ring")
    assert rows.dtype == RECORD
    assert rows["serial"].tolist() == [0, 1, 2]
    assert rows["bytes"].tolist() == [len(FRAME)] * 3
    row = rows[2]
    assert (row["word"], row["text"], row["parts"][1]["port"]) == (4_000_000_000, b"c", 443)
    assert row["grid"].tolist() == [[0, 0, 0], [0, 0, 7]]
    assert len(kernel.drain("c_ring")) == 0
    found = ledger(kernel)
    assert found.sent == found.delivered == 3
    assert kernel.total("c_count")[0].tolist() == (3, len(FRAME))


def test_a_full_ring_loses_into_its_ledger_and_recovers(kernel):
    kernel.run("xdp_root", FRAME, repeat=100)
    taken = RING_BYTES // 4 * 3 // STRIDE + 1
    found = ledger(kernel)
    assert (found.seen, found.sent, found.delivered) == (100, taken, 0)
    assert sum(found.lost.values()) == found.lost["backpressure"] == 100 - taken
    assert kernel.drain("c_ring")["serial"].tolist() == list(range(taken))
    kernel.run("xdp_root", FRAME)
    assert kernel.drain("c_ring")["serial"].tolist() == [100]
    found = ledger(kernel)
    assert found.sent == found.delivered == taken + 1


def test_discarded_records_are_in_the_ledger(kernel):
    kernel.run("xdp_root", FRAME + bytes(77 - len(FRAME)), repeat=4)
    assert len(kernel.drain("c_ring")) == 4
    found = ledger(kernel)
    assert (found.seen, found.lost["discarded"]) == (8, 4)
    assert found.sent == found.delivered == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_kept_maps_of_other_maps_than_ours_are_replaced(card):
    root = ROOT.with_name(f"contract-{uuid.uuid4().hex[:8]}")
    prepare(root)
    options = sized("opts_map", map_flags=BPF_F_MMAPABLE)
    inner = check(lib().bpf_map_create(ARRAY, b"c_place", 4, 24, 1, options), "making a map")
    options = sized("opts_map", inner_map_fd=inner)
    outer = check(lib().bpf_map_create(ARRAY_OF_MAPS, b"c_places", 4, 4, 4, options), "and its")
    try:
        keys = np.array([2], np.uint32), np.array([inner], np.uint32)
        slot, link = (pointer(key) for key in keys)
        check(lib().bpf_map_update_elem(outer, slot, link, 0), "linking")
        check(lib().bpf_obj_pin(outer, str(root / "maps" / "c_places").encode()), "pinning")
        kernel = LinuxKernel(OnExit.KEEP, pin_root=root)
        kernel.load([card])
        kernel.attach([])
        try:
            kernel.apply([places((1, 1), {}, p0=len(FRAME) - 1)])
            assert kernel.run("xdp_root", FRAME).retval == XDP_DROP
        finally:
            kernel.detach()
    finally:
        os.close(inner)
        os.close(outer)
        detach_all(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
@pytest.mark.parametrize("held", [True, False])
def test_a_chain_that_is_held_keeps_its_programs_when_its_pin_goes(card, held):
    """The kernel empties a program array with the last one who could reach it from outside."""
    root = ROOT.with_name(f"contract-{uuid.uuid4().hex[:8]}")
    prepare(root)
    try:
        kernel = LinuxKernel(OnExit.KEEP, pin_root=root)
        kernel.load([card])
        kernel.attach([])
        (chain,) = hold(["xdp_chain"], root)
        number = map_id(chain)
        kernel.detach()
        if not held:
            os.close(chain)
        drop_maps(["xdp_chain"], root)
        found = chain if held else lib().bpf_map_get_fd_by_id(number)
        slot, program = np.zeros(1, np.uint32), np.zeros(1, np.uint32)
        there = found >= 0 and not lib().bpf_map_lookup_elem(found, pointer(slot), pointer(program))
        assert there is held
        if found >= 0:
            os.close(found)
    finally:
        detach_all(root)


@pytest.fixture
def pinned():
    root = ROOT.with_name(f"contract-{uuid.uuid4().hex[:8]}")
    yield root
    detach_all(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_what_is_handed_over_stays_and_the_next_takes_it_over(card, pinned):
    with OnThisMachine(pinned).interface() as (name, _):
        first = LinuxKernel(pin_root=pinned)
        first.load([card])
        first.attach([name])
        first.run("xdp_root", FRAME, repeat=3)
        first.outlive(on=True)
        (link,) = (pinned / "links").iterdir()
        first.detach()
        assert link.exists()
        second = LinuxKernel(pin_root=pinned)
        second.load([card])
        second.attach([name])
        second.run("xdp_root", FRAME, repeat=2)
        assert second.total("c_count")["packets"][0] == 5
        second.outlive(on=False)
        assert not pinned.exists()
        assert [place.interface for place in second.attachments()] == [name]
        second.detach()
        third = LinuxKernel(pin_root=pinned)
        third.load([card])
        third.attach([name])  # nobody is in its way
        assert third.total("c_count")["packets"][0] == 0
        third.detach()


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_nothing_is_handed_over_where_another_keeps_its_own(card, pinned):
    other = LinuxKernel(OnExit.KEEP, pin_root=pinned)
    other.load([card])
    kept = sorted(pinned.rglob("*"))
    kernel = LinuxKernel(pin_root=pinned)
    kernel.load([card])
    with pytest.raises(KernelError, match="detach --all"):
        kernel.outlive(on=True)
    assert sorted(pinned.rglob("*")) == kept
    kernel.detach()
    other.detach()


def map_id(fd):
    info, size = ffi.new("uint32_t[64]"), ffi.new("uint32_t *", 256)
    check(lib().bpf_obj_get_info_by_fd(fd, info, size), "asking")
    return info[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_nothing_is_lost_unseen_while_programs_run_on_all_cpus(card):
    kernel = LinuxKernel()
    kernel.load([card])
    allowed = os.cpu_count()
    short, discarding = FRAME, FRAME + bytes(77 - len(FRAME))

    def produce(cpu):
        os.sched_setaffinity(0, {cpu})
        for _ in range(20):
            kernel.run("xdp_root", short, repeat=500)
            kernel.run("xdp_root", discarding, repeat=500)

    producers = [threading.Thread(target=produce, args=(cpu,)) for cpu in range(allowed)]
    batches = []
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        batches.append(kernel.drain("c_ring"))
    for producer in producers:
        producer.join()
    rows = np.concatenate([*batches, kernel.drain("c_ring")])
    found = ledger(kernel)
    kernel.detach()
    assert found.seen == allowed * 30_000
    assert found.sent == found.delivered == len(rows)
    assert found.lost["discarded"] > 0
    for cpu in range(allowed):
        serials = rows["serial"][rows["pad"][:, 0] == cpu].astype(np.int64)
        assert len(serials) > 0
        assert (np.diff(serials) > 0).all()
    assert set(rows["bytes"].tolist()) <= {len(short), len(discarding)}


def test_the_ring_over_many_wraps(kernel):
    expected = 0
    for burst in (1, 7, 30, 13, 29, 5) * 20:
        kernel.run("xdp_root", FRAME, repeat=burst)
        rows = kernel.drain("c_ring")
        assert rows["serial"].tolist() == list(range(expected, expected + burst))
        expected += burst


def test_a_descriptor_polls_readable_when_records_are_there(kernel):
    fd = kernel.rings()["c_ring"]
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    kernel.run("xdp_root", FRAME)
    assert poll.poll(60_000) == [(fd, select.POLLIN)]
    kernel.drain("c_ring")
    assert poll.poll(0) == []


def test_what_was_drained_is_the_callers_own(kernel):
    kernel.run("xdp_root", FRAME)
    rows = kernel.drain("c_ring")
    before = rows.tobytes()
    for _ in range(10):
        kernel.run("xdp_root", FRAME, repeat=20)
        kernel.drain("c_ring")
    assert rows.tobytes() == before
    rows["serial"] = 5


def test_an_iterator_returns_its_records(kernel):
    rows = kernel.seed("contract_iter")
    assert rows.dtype == RECORD
    assert os.getpid() in rows["bytes"].tolist()


def test_interfaces_come_and_go(bench, kernel):
    with bench.interface() as (name, remove):
        kernel.attach([name, "ebs-absent"])
        (place,) = kernel.attachments()
        assert (place.interface, place.how) in {(name, "native"), (name, "generic")}
        assert place.ifindex > 0
        slots = kernel.interface_slots()
        assert 0 < slots[name] < 64
        status = {program.name: program for program in kernel.programs()}
        assert status["contract_xdp"].attached == (name,)
        assert status["contract_trace"].attached == ("raw_tp/sys_enter",)
        assert name in [counter.interface for counter in kernel.interface_counters()]
        remove()
        kernel.attach([name])
        assert list(kernel.attachments()) == []
    with bench.interface() as (name, _):
        kernel.attach([name])
        assert [place.interface for place in kernel.attachments()] == [name]
        kernel.attach([])
        assert list(kernel.attachments()) == []


def test_a_domain_that_is_not_named_any_more_leaves_the_chain(kernel, card):
    kernel.load([])
    assert kernel.run("xdp_root", FRAME).retval == XDP_PASS
    assert ledger(kernel).seen == 0
    assert list(kernel.seeds()) == []
    kernel.load([card])
    kernel.run("xdp_root", FRAME)
    assert ledger(kernel).seen == 1


def test_a_killed_process_is_dead_and_a_wrong_one_is_left_alone(bench, kernel):
    with bench.process() as (kill, alive):
        with pytest.raises(KernelError, match="left alone"):
            kernel.apply([replace(kill, start_ns=kill.start_ns + 10_000_000_000)])
        assert alive()
        kernel.apply([kill])
        until(lambda: not alive())
        with pytest.raises(KernelError, match=str(kill.pid)):
            kernel.apply([kill])


def test_a_program_that_is_not_there_cannot_be_engaged(kernel):
    kernel.apply([Engage("contract_xdp", on=True), Engage("contract_xdp", on=False)])
    with pytest.raises(KernelError, match="nobody is not loaded"):
        kernel.apply([Engage("nobody", on=True)])


def test_engaging_an_optional_program_that_the_kernel_refused_changes_nothing(kernel):
    kernel.apply([Engage("contract_absent", on=True)])
    assert [p.loaded for p in kernel.programs() if p.name == "contract_absent"] in ([False], [])


def test_boot_time_becomes_wall_time(bench, kernel):
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(kernel.wall_ns(now + 10**12) - kernel.wall_ns(now) - 10**12) < 10**8
    if isinstance(bench, OnThisMachine):
        assert abs(kernel.wall_ns(now) - time.time_ns()) < 10**10


def test_slots_are_reserved_before_attaching_and_stay(kernel):
    kernel.reserve(["ebs-a", "ebs-b"])
    slots = kernel.interface_slots()
    assert sorted(slots.values()) == [1, 2]
    kernel.attach(["ebs-b"])
    kernel.reserve(["ebs-c"])
    assert kernel.interface_slots() == slots | {"ebs-c": 3}
    with pytest.raises(KernelError, match="63 is the most"):
        kernel.reserve([f"ebs-{number}" for number in range(70)])


def test_runs_are_counted_while_measured(kernel):
    def runs():
        return next(each.run_count for each in kernel.programs() if each.name == "xdp_root")

    kernel.run("xdp_root", FRAME)
    before = runs()
    kernel.measure(on=True)
    kernel.run("xdp_root", FRAME, repeat=5)
    kernel.measure(on=False)
    kernel.run("xdp_root", FRAME)
    assert runs() - before >= 5  # another agent on this machine may measure as well


def test_failures_have_names_and_start_at_none(kernel):
    assert {"scratch", "tables"} <= set(kernel.failures())
    assert not any(kernel.failures().values())


def test_a_missing_object_is_an_error_with_a_remedy(kernel, card):
    with pytest.raises(KernelError, match="make setup"):
        kernel.load([replace(card, name="elsewhere", object="/nonexistent.bpf.o")])


def test_a_refused_program_that_is_needed_ends_the_start(bench, card):
    needed = replace(card, name="needed", programs=PROGRAMS[:2])
    with pytest.raises(KernelError, match="contract_absent"):
        bench.kernel.load([needed])


def test_who_does_not_hand_over_leaves_nothing(kernel):
    kernel.outlive(on=False)
    kernel.detach()
    with pytest.raises(KeyError):
        kernel.read("c_hash")


def test_after_detach_nothing_is_there(kernel):
    kernel.detach()
    assert list(kernel.attachments()) == []
    with pytest.raises(KeyError):
        kernel.read("c_hash")


def test_a_canary_comes_out_of_its_ring_and_is_in_the_ledger(kernel):
    kernel.drain("c_ring")
    before = next(each for each in kernel.ledgers() if each.ring == "c_ring")
    assert kernel.canary("c_ring")
    rows = kernel.drain("c_ring").view(np.uint64)
    words = rows.reshape(-1, RECORD.itemsize // 8)
    assert (words == CANARY_WORD).all(axis=1).any()
    after = next(each for each in kernel.ledgers() if each.ring == "c_ring")
    assert after.delivered > before.delivered
    assert "c_ring_canary" not in {each.name for each in kernel.programs()}


def test_what_nobody_touched_is_as_it_was(kernel):
    assert list(kernel.inspect()) == []
    assert list(kernel.inspect(mend=True)) == []
