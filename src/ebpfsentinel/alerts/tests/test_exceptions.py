"""Exceptions: what one made from an alert covers, and what it does not."""

import pytest

from ebpfsentinel.alerts import Exceptions, Scope, made_from
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.settings import SettingsError


def alert(src="10.0.0.1", path="/bin/x", rule="r", **rest):
    return Alert(
        timestamp_ns=1,
        component="c",
        severity=Severity.LOW,
        rule_id=rule,
        action="log",
        message="",
        src_ip=src,
        pid=7,
        context={"any": {"pid": 7, "start_ns": 1, "path": path, "uid": 0}},
        **rest,
    )


@pytest.mark.parametrize(
    ("scopes", "covered", "other"),
    [
        ([Scope.RULE], alert(src="10.9.9.9"), alert(rule="other")),
        ([Scope.SOURCE], alert(path="/bin/y"), alert(src="10.0.0.2")),
        ([Scope.EXECUTABLE], alert(src="10.9.9.9"), alert(path="/bin/y")),
        ([Scope.SOURCE, Scope.USER], alert(path="/bin/y"), alert(src="10.0.0.2")),
    ],
)
def test_an_exception_covers_its_scope_and_no_more(scopes, covered, other):
    made = made_from(alert(), scopes, "ex-1")
    assert made.covers(alert())
    assert made.covers(covered)
    assert not made.covers(other)


def test_a_scope_the_alert_has_nothing_of_is_refused():
    with pytest.raises(SettingsError, match=r"has no container\. It has: rule, source, executable"):
        made_from(alert(), [Scope.CONTAINER], "ex-1")


def test_hits_are_counted_in_records_and_time_ends_an_exception():
    found = Exceptions([made_from(alert(), [Scope.RULE], "ex-1", expires_ns=100)])
    kept, covered = found.sift([alert(count=3), alert(rule="other")], 99)
    assert [each.rule_id for each in kept] == ["other"]
    assert len(covered) == 1
    assert (found.all()[0].hits, found.all()[0].last_hit_ns) == (3, 99)
    assert found.changed
    assert found.sift([alert()], 100)[1] == []
    assert [each.id for each in found.expire(100)] == ["ex-1"]
    assert found.all() == []


def test_one_that_is_removed_covers_nothing():
    found = Exceptions([made_from(alert(), [Scope.RULE], "ex-1")])
    assert found.remove("ex-1").id == "ex-1"
    assert found.remove("ex-1") is None
    assert found.sift([alert()], 1) == ([alert()], [])
