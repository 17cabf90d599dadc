"""The fold: what goes on, what is counted instead, and that nothing else happens to an alert."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.alerts import Fold
from ebpfsentinel.alerts.fold import SECOND_NS
from ebpfsentinel.model.alert import Alert, Severity


def alert(rule="r", src=1, count=1, pid=None, **rest):
    return Alert(
        timestamp_ns=7,
        component="c",
        severity=Severity.LOW,
        rule_id=rule,
        action="log",
        message="",
        src_addr=[src, 0, 0, 0],
        count=count,
        pid=pid,
        **rest,
    )


def test_every_alert_gets_an_id_of_its_own():
    first, second = Fold().fold([alert(src=1), alert(src=2)], 0)
    assert (first.id, second.id) == ("7-r-1", "7-r-2")


def test_equal_alerts_within_the_window_are_one_and_after_it_two():
    fold = Fold()
    assert len(fold.fold([alert(), alert(count=3)], 0)) == 1
    assert fold.dropped == {"dedup": 3}
    assert not fold.fold([alert()], 60 * SECOND_NS - 1)
    assert len(fold.fold([alert()], 60 * SECOND_NS)) == 1


def test_the_last_word_of_an_ipv6_address_tells_alerts_apart():
    near, far = alert(), alert()
    far.src_addr = [1, 0, 0, 9]
    assert len(Fold().fold([near, far], 0)) == 2


def test_two_processes_are_two_alerts():
    assert len(Fold().fold([alert(pid=1), alert(pid=2), alert(pid=2)], 0)) == 2


def test_a_noisy_entity_is_throttled_its_first_hits_pass_and_others_are_not_touched():
    fold = Fold()
    fold.configure(throttle_max=2)
    noise = [alert(dst_port=n) for n in range(5)]
    kept = fold.fold([*noise, alert(src=2), alert(rule="other")], 0)
    assert [(found.rule_id, found.src_addr[0]) for found in kept] == [
        ("r", 1),
        ("r", 1),
        ("r", 2),
        ("other", 1),
    ]
    assert fold.dropped == {"throttle": 3}
    assert len(fold.fold([alert(dst_port=9)], 300 * SECOND_NS)) == 1


def test_without_a_source_the_executable_is_the_entity_and_without_that_the_host():
    def of(pid, path=None):
        context = {"any": {"pid": pid, "start_ns": 1, "path": path}} if path else {}
        return alert(src=0, pid=pid, context=context)

    fold = Fold()
    fold.configure(throttle_max=1, dedup_window_ns=0)
    assert len(fold.fold([of(1, "/a"), of(2, "/a"), of(3, "/b")], 0)) == 2
    assert len(fold.fold([of(None), of(None)], 0)) == 1


def test_what_was_held_back_is_told_of_when_the_window_ends():
    fold = Fold()
    fold.configure(throttle_max=1, throttle_window_ns=100 * SECOND_NS)
    fold.fold([alert(dst_port=n, count=2) for n in range(4)] + [alert(count=5)] * 2, 0)
    assert fold.dropped == {"throttle": 6, "dedup": 10}
    assert fold.close(60 * SECOND_NS - 1) == []
    (equal,) = fold.close(60 * SECOND_NS)
    assert equal.context["suppressed"]["reason"] == "dedup"
    assert equal.count == 10
    (noisy,) = fold.close(100 * SECOND_NS)
    assert noisy.context["suppressed"]["count"] == noisy.count == 6
    assert noisy.rule_id == "r"
    assert noisy.id
    assert fold.close(1000 * SECOND_NS) == []


def test_a_follow_up_does_not_hide_what_was_held_back_before_it():
    fold = Fold()
    fold.fold([alert(), alert(count=3)], 0)
    assert len(fold.fold([alert()], 60 * SECOND_NS)) == 1
    assert [found.count for found in fold.close(61 * SECOND_NS)] == [3]


def test_when_the_agent_ends_all_windows_do():
    fold = Fold()
    fold.fold([alert(), alert()], 0)
    assert len(fold.close(1, every=True)) == 1


def test_stages_can_be_switched_off():
    fold = Fold()
    fold.configure(dedup_window_ns=0, throttle_max=0)
    assert len(fold.fold([alert()] * 500, 0)) == 500
    fold.configure(enabled=False)
    assert not fold.fold([alert(count=2)], 0)
    assert fold.dropped == {"disabled": 2}


def test_what_no_window_covers_is_forgotten():
    fold = Fold()
    fold.fold([alert(src=n) for n in range(50)], 0)
    fold.close(300 * SECOND_NS)
    assert not len(fold._equal)
    assert not len(fold._noisy)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 400)), max_size=60))
def test_every_alert_is_either_passed_or_counted_and_told_of(steps):
    fold = Fold()
    fold.configure(throttle_max=4)
    now, seen, passed, told = 0, 0, 0, 0
    for src, count, seconds in steps:
        now += seconds * SECOND_NS
        seen += count
        passed += sum(found.count for found in fold.fold([alert(src=src, count=count)], now))
        told += sum(found.count for found in fold.close(now))
    told += sum(found.count for found in fold.close(now, every=True))
    assert passed + sum(fold.dropped.values()) == seen
    assert told == sum(fold.dropped.values())
