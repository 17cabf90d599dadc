"""The tree is exact whatever the order of the records."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from process_records import bare, record, rows

from ebpfsentinel.domains.process.image import NO_IMAGE
from ebpfsentinel.domains.process.tree import MAX_ANCESTORS, Ended, Link, Tree

SOURCES = {"fork": "forks", "exec": "execs", "exit": "exits"}


def life(pid, start, parent):
    return [
        ("fork", record("fork", pid, start, parent, time=start)),
        ("exec", record("exec", pid, start, parent, time=start + 1, path=b"/bin/true")),
        ("exit", record("exit", pid, start, parent, time=start + 2, code=3, signal=0)),
    ]


def test_any_order_of_fork_exec_and_exit_ends_in_the_same_tree():
    for order in itertools.permutations(life(7, 70, (1, 1))):
        made = bare()
        for kind, row in order:
            made.feed(SOURCES[kind], row, 0)
        node = made.tree.get((7, 70))
        assert made.tree.live == 0
        assert (node.ended.code, node.image.path) == (3, b"/bin/true")


def test_an_exec_that_arrives_late_does_not_undo_a_later_one():
    made = bare()
    late = record("exec", 7, time=100, path=b"/bin/first")
    made.feed("execs", rows(record("exec", 7, time=200, path=b"/bin/second"), late), 0)
    assert made.tree.at_pid(7).image.path == b"/bin/second"


def test_a_pid_that_is_used_again_is_another_process():
    made = bare()
    made.feed("execs", record("exec", 7, 70, path=b"/bin/old"), 0)
    made.feed("exits", record("exit", 7, 70), 0)
    made.feed("forks", record("fork", 7, 9_000), 0)
    made.feed("execs", record("exec", 7, 9_000, path=b"/bin/new"), 0)
    assert made.tree.get((7, 70)).ended
    assert made.tree.get((7, 9_000)).ended is None
    assert made.tree.at_pid(7).image.path == b"/bin/new"
    assert made.tree.live == 1


def test_a_late_record_of_the_earlier_holder_does_not_take_the_pid_back():
    made = bare()
    made.feed("forks", record("fork", 7, 9_000), 0)
    made.feed("execs", record("exec", 7, 70, path=b"/bin/old"), 0)
    assert made.tree.at_pid(7).key == (7, 9_000)


def test_a_forked_child_runs_what_its_parent_ran_and_keeps_it_as_its_ancestor():
    made = bare()
    made.feed("execs", record("exec", 5, path=b"/usr/sbin/nginx"), 0)
    made.feed("forks", record("fork", 6, parent=(5, 50)), 0)
    assert made.tree.at_pid(6).image.path == b"/usr/sbin/nginx"
    made.feed("execs", record("exec", 5, time=9_999, path=b"/bin/other"), 0)
    made.feed("exits", record("exit", 5), 0)
    assert made.tree.at_pid(6).up.names == ("nginx",)


def test_the_fork_tells_who_started_an_orphan():
    made = bare()
    made.feed("execs", record("exec", 5, path=b"/bin/dash"), 0)
    made.feed("execs", record("exec", 6, parent=(1, 1), path=b"/bin/sleep"), 0)
    made.feed("forks", record("fork", 6, parent=(5, 50)), 0)
    node = made.tree.at_pid(6)
    assert (node.up.names, node.parent, node.image.path) == (("dash",), (5, 50), b"/bin/sleep")


def family():
    """A shell forks a subshell, which forks a child that execs; then the shell execs again."""
    return [
        ("forks", record("fork", 5, 100, (2, 20), time=100)),
        ("execs", record("exec", 5, 100, (2, 20), time=110, path=b"/bin/dash")),
        ("forks", record("fork", 6, 120, (5, 100), time=120)),
        ("forks", record("fork", 7, 130, (6, 120), time=130)),
        ("execs", record("exec", 7, 130, (6, 120), time=140, path=b"/bin/sleep")),
        ("execs", record("exec", 5, 100, (2, 20), time=150, path=b"/bin/other")),
    ]


def test_ancestry_is_by_time_and_not_by_arrival():
    for order in itertools.permutations(family()):
        made = bare()
        made.feed("execs", record("exec", 2, 20, (1, 1), time=30, path=b"/usr/bin/python3"), 0)
        for source, row in order:
            made.feed(source, row, 0)
        images = {pid: made.tree.at_pid(pid).image.path for pid in (5, 6, 7)}
        assert images == {5: b"/bin/other", 6: b"/bin/dash", 7: b"/bin/sleep"}
        assert made.tree.at_pid(7).up.names == ("dash", "dash", "python3")


def test_history_is_bounded_and_what_ended_lately_is_kept_for_two_ticks():
    made = bare(3)
    for pid in range(10, 30):
        for kind, row in life(pid, pid * 10, (1, 1)):
            made.feed(SOURCES[kind], row, 0)
    made.tick(0)
    assert len(made.tree) == 20
    made.tick(0)
    made.tick(0)
    assert len(made.tree) == 3
    assert made.tree.at_pid(29) is not None
    assert made.tree.at_pid(10) is None
    assert made.tree.live == 0


def test_the_seed_finds_parents_whatever_the_order_of_pids():
    made = bare()
    seeds = rows(
        record("task", 3, 900, (40, 800), time=5_000, path=b"/bin/child"),
        record("task", 40, 800, (1, 1), time=5_001, path=b"/bin/parent"),
        record("task", 1, 1, (0, 0), time=5_002, path=b"/sbin/init"),
    )
    made.feed("process_tasks", seeds, 0)
    assert made.tree.at_pid(3).up.names == ("parent", "init")
    assert made.tree.live == 3


def test_a_seed_does_not_revive_what_has_exited_nor_hide_arguments():
    made = bare()
    made.feed("exits", record("exit", 7, time=4_000), 0)
    made.feed("execs", record("exec", 8, path=b"/bin/cat", argv=["cat", "x"]), 0)
    seeds = rows(
        record("task", 7, time=3_999, path=b"/bin/gone"),
        record("task", 8, time=3_999, path=b"/bin/cat"),
    )
    made.feed("process_tasks", seeds, 0)
    assert made.tree.at_pid(7).ended
    assert made.tree.at_pid(8).image.argv == b"cat\0x"
    assert made.tree.live == 1


def test_a_second_seed_ends_ghosts_and_spares_the_newly_born():
    made = bare()
    made.feed("execs", record("exec", 7, 70, time=80, path=b"/bin/ghost"), 0)
    made.feed("forks", record("fork", 9, 6_000), 0)
    made.feed("process_tasks", record("task", 1, 1, (0, 0), time=5_000, path=b"/sbin/init"), 0)
    assert made.tree.at_pid(7).ended == Ended(5_000, -1, 0)
    assert made.tree.at_pid(9).ended is None


def test_a_chain_of_forks_without_end_stays_bounded():
    link = None
    for pid in range(2, 5_000):
        link = Link((pid, pid), NO_IMAGE, link)
    assert link.depth <= 2 * MAX_ANCESTORS + 1
    assert [each.key[0] for each in link.chain()] == list(range(4_999, 4_999 - MAX_ANCESTORS, -1))


@given(st.lists(st.tuples(st.integers(2, 6), st.integers(1, 3), st.sampled_from(list(SOURCES)))))
@settings(max_examples=200, deadline=None)
def test_live_and_ended_always_add_up(steps):
    made, ended, known = bare(2), set(), set()
    for pid, start, kind in steps:
        made.feed(SOURCES[kind], record(kind, pid, start), 0)
        known.add((pid, start))
        ended |= {(pid, start)} if kind == "exit" else set()
    assert made.tree.live == len(known - ended)
    assert {node.key for node in made.tree if node.ended is None} == known - ended
    for _ in range(4):
        made.tick(0)
    assert len(made.tree) == len(known - ended) + min(2, len(ended))


def test_processes_that_claim_to_be_their_own_ancestors_do_no_harm():
    made = bare()
    for _ in range(3):
        made.feed("execs", rows(record("exec", 5, 50, (5, 50)), record("exec", 6, 50, (7, 50))), 0)
        made.feed("forks", rows(record("fork", 7, 50, (6, 50)), record("fork", 5, 50, (6, 60))), 0)
    assert made.tree.live == 3


def test_an_empty_tree_ticks():
    tree = Tree(0)
    tree.tick()
    assert len(tree) == 0
