"""The spool: nothing that was written is lost, whatever is done to the folder meanwhile."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfsentinel.sinks.backlog import MEMORY_BYTES, Backlog
from ebpfsentinel.sinks.spool import SEGMENT_BYTES, Spool, record, records, sync

LARGE = 1 << 30


def everything(spool, after=None):
    after, found = spool.acknowledged if after is None else after, []
    while more := spool.read(after, spool.sequence + 1, 1000):
        found += more
        after = more[-1][0]
    return found


def segments(folder):
    return sorted(folder.glob("*.segment"))


def test_what_was_written_is_read_in_order_by_the_next_spool(tmp_path):
    spool = Spool(tmp_path / "s", LARGE)
    assert spool.append([b"one", b"two"]) == 2
    assert spool.append([b"three"]) == 1
    spool.acknowledge(1)  # no close: the agent was killed
    again = Spool(tmp_path / "s", LARGE)
    assert everything(again) == [(2, b"two"), (3, b"three")]
    assert (again.sequence, again.acknowledged, again.count()) == (3, 1, 2)
    again.append([b"four"])
    assert everything(again)[-1] == (4, b"four")


def test_no_more_is_read_at_once_than_asked_for_wherever_it_begins(tmp_path):
    spool = Spool(tmp_path / "s", LARGE)
    spool.append([b"x" * 100] * 50)
    again = Spool(tmp_path / "s", LARGE)
    for after in (0, 20, 29, 7):
        found = again.read(after, 51, 1000)
        assert [number for number, _ in found] == list(range(after + 1, after + 1 + len(found)))
        assert 8 <= len(found) <= 10


def test_numbers_go_on_when_all_was_acknowledged_and_deleted(tmp_path):
    spool = Spool(tmp_path / "s", LARGE)
    spool.append([b"x" * SEGMENT_BYTES] * 2)
    spool.append([b"y"])
    spool.acknowledge(3)
    spool.close()
    assert not [path for path in segments(tmp_path / "s") if path.stat().st_size > 1000]
    again = Spool(tmp_path / "s", LARGE)
    assert again.sequence == 3
    again.append([b"z"])
    assert everything(again) == [(4, b"z")]


def test_segments_go_when_they_are_done_with(tmp_path):
    spool = Spool(tmp_path / "s", LARGE)
    for number in range(30):
        spool.append([b"%d" % number + b"x" * 500_000])
    assert len(segments(tmp_path / "s")) > 2
    spool.acknowledge(25)
    assert spool.used_bytes < 9_000_000
    assert [number for number, _ in everything(spool)] == [26, 27, 28, 29, 30]


def test_the_newest_is_refused_when_it_is_full_and_taken_again_when_there_is_room(tmp_path):
    spool = Spool(tmp_path / "s", 100_000)
    assert spool.append([b"x" * 10_000] * 20) == 9
    assert spool.append([b"x" * 10_000]) == 0
    assert not spool.trouble
    spool.acknowledge(9)
    assert spool.append([b"x" * 10_000]) == 1
    assert everything(spool)[0][0] == 10


def test_a_folder_cut_at_any_byte_gives_what_was_whole(tmp_path):
    spool = Spool(tmp_path / "whole", LARGE)
    texts = [b"a", b"", b"ccc" * 20, b"dd"]
    spool.append(texts)
    spool.close()
    data = segments(tmp_path / "whole")[0].read_bytes()
    ends = [end for end, _, _ in records(data)]
    assert len(ends) == len(texts)
    for cut in range(len(data) + 1):
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        path = segments(folder)[0]
        path.write_bytes(data[:cut])
        torn = Spool(folder, LARGE)
        whole = sum(end <= cut for end in ends)
        assert [body for _, body in everything(torn)] == texts[:whole]
        assert torn.damaged == (cut not in (0, *ends))
        assert torn.append([b"after"]) == 1
        assert everything(Spool(folder, LARGE))[-1][1] == b"after"
        torn.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=12), st.data())
def test_a_flipped_byte_gives_only_what_was_written(tmp_path_factory, texts, data):
    folder = tmp_path_factory.mktemp("flip")
    spool = Spool(folder, LARGE)
    spool.append(texts)
    spool.close()
    path = segments(folder)[0]
    damaged = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    again = Spool(folder, LARGE)
    found = [body for _, body in everything(again)]
    assert found == texts[: len(found)]
    assert len(found) < len(texts)
    assert again.damaged
    again.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1100), st.integers(0, 255))
def test_one_torn_slot_of_what_was_acknowledged_leaves_the_other(tmp_path_factory, at, value):
    folder = tmp_path_factory.mktemp("slots")
    spool = Spool(folder, LARGE)
    spool.append([b"x"] * 9)
    spool.acknowledge(4)
    spool.acknowledge(5)
    spool.close()
    path = folder / "acknowledged"
    data = bytearray(path.read_bytes())
    if at < len(data):
        data[at] = value
    path.write_bytes(data)
    again = Spool(folder, LARGE)
    assert again.acknowledged in (4, 5)
    assert again.sequence == 9
    again.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["put", "done", "kill"]), st.integers(1, 30)), max_size=40)
)
def test_a_backlog_gives_each_alert_in_order_and_never_forgets_one(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("backlog")
    backlog, given_, expected = Backlog(folder, LARGE), 0, []
    for step, count in steps:
        if step == "put":
            backlog.put([b"%d" % number for number in range(given_, given_ + count)])
            expected += range(given_, given_ + count)
            given_ += count
        elif step == "kill":
            backlog = Backlog(folder, LARGE)
        elif batch := backlog.next(count):
            assert [int(item.body) for item in batch] == expected[: len(batch)]
            backlog.done(batch)
            del expected[: len(batch)]
        assert backlog.depth == len(expected)
    while batch := backlog.next(7):
        assert [int(item.body) for item in batch] == expected[: len(batch)]
        backlog.done(batch)
        del expected[: len(batch)]
    assert not expected
    backlog.close()


def test_a_backlog_larger_than_memory_is_read_from_disk_in_order(tmp_path):
    backlog, size = Backlog(tmp_path / "b", LARGE), 100_000
    count = 2 * MEMORY_BYTES // size
    for number in range(count):
        backlog.put([b"%08d" % number + b"x" * size])
    assert len(backlog._memory) < count
    seen = []
    while batch := backlog.next(5):
        seen += [int(item.body[:8]) for item in batch]
        backlog.done(batch)
        if len(seen) == 20:
            backlog.put([b"%08d" % count])
    assert seen == list(range(count + 1))
    backlog.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "small", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_counted_and_memory_goes_on(small_disk):
    backlog = Backlog(small_disk / "s", LARGE)
    for number in range(100):
        assert backlog.put([b"%08d" % number + b"x" * 10_000]) == 1
    assert "No space left" in backlog.spool.trouble
    taken = sum(backlog.put([b"%08d" % 999 + b"x" * 100_000]) for _ in range(60))
    assert taken < 60
    backlog.refuse(60 - taken)
    assert backlog.dropped == {"queue_full": 60 - taken}
    seen = []
    while batch := backlog.next(9):
        seen += [int(item.body[:8]) for item in batch]
        backlog.done(batch)
    assert seen == [*range(100), *[999] * taken]
    assert backlog.put([b"again"]) == 1
    assert not backlog.spool.trouble
    backlog.close()


def test_a_record_is_what_its_layout_says():
    assert record(7, b"body").endswith(b"body")
    assert list(records(record(7, b"body") + b"torn")) == [(20, 7, b"body")]


def test_syncing_closes_what_it_was_given(tmp_path):
    spool = Spool(tmp_path / "s", LARGE)
    spool.append([b"x"])
    found = spool.unsynced()
    sync(found)
    assert found
    assert not spool.trouble
    spool.close()
