"""Fallback ladders: which refusals a domain survives, and which end the start."""

from __future__ import annotations

import pytest

from ebpfsentinel.kernel.objects import can_do_without
from ebpfsentinel.model.domain import Program

FIRST, SECOND = Program("first"), Program("second", instead_of="first")
CARDS = {"first": FIRST, "second": SECOND, "spare": Program("spare", optional=True)}


@pytest.mark.parametrize(
    ("name", "refused", "survives"),
    [
        ("first", {}, True),
        ("second", {}, True),
        ("second", {"first": "no"}, False),
        ("first", {"second": "no"}, False),
        ("spare", {"first": "no"}, True),
        ("unlisted", {}, False),
    ],
)
def test_a_domain_never_ends_up_with_neither_program_nor_stand_in(name, refused, survives):
    assert can_do_without(name, CARDS, refused) is survives


def test_an_optional_programs_stand_in_may_fail_too():
    cards = {"first": Program("first", optional=True), "second": SECOND}
    assert can_do_without("second", cards, {"first": "no"})
