"""What the audit trail keeps of a reload: both sides of what differs, and no secret."""

from typing import Annotated

import msgspec
from msgspec import Meta, field

from ebpfsentinel.config.differing import MOST, differing
from ebpfsentinel.model.settings import Section


class Item(Section):
    id: str
    port: int = 0


class Part(Section):
    mode: str = "alert"
    level: int = 1
    key: Annotated[str, Meta(extra_json_schema={"x-secret": True})] = ""
    items: list[Item] = field(default_factory=list)


class Whole(Section):
    part: Part = field(default_factory=Part)
    other: Part = field(default_factory=Part)


def whole(**part):
    return msgspec.convert({"part": part}, Whole)


def test_only_what_differs_is_told_on_both_sides():
    found = differing(whole(mode="alert", level=2), whole(mode="block", level=2))
    assert found == ({"part": {"mode": "alert"}}, {"part": {"mode": "block"}})


def test_items_that_stayed_are_left_out():
    stays, goes, comes = ({"id": name, "port": 1} for name in "abc")
    before, after = differing(whole(items=[stays, goes]), whole(items=[stays, comes]))
    assert [each["id"] for each in before["part"]["items"]] == ["b"]
    assert [each["id"] for each in after["part"]["items"]] == ["c"]


def test_a_changed_secret_shows_that_it_changed_and_no_more():
    found = differing(whole(key="one", level=1), whole(key="two", level=3))
    assert "one" not in str(found)
    assert "two" not in str(found)
    assert found[1]["part"]["level"] == 3


def test_thousands_of_items_are_counted():
    many = [{"id": str(number)} for number in range(MOST + 50)]
    _, after = differing(whole(), whole(items=many))
    assert len(after["part"]["items"]) == MOST + 1
    assert after["part"]["items"][-1] == "and 50 more"


def test_equal_configurations_differ_in_nothing():
    assert differing(whole(level=2), whole(level=2)) == ({}, {})
