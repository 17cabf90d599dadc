"""Rule files: what is wrong is named with rule, line, column and remedy."""

import json
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from process_records import bare, plan

from ebpfsentinel.domains.process.rule_file import ProcessRule, RuleFile, position
from ebpfsentinel.model.settings import SettingsError

RULE = {"name": "a", "condition": "process.uid == 0", "risk_score": 0.5, "action": "alert"}


def refused(text):
    with pytest.raises(SettingsError) as caught:
        plan(bare(), text)
    assert caught.value.place == "process.rules_file"
    assert caught.value.remedy
    return caught.value.problem


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"risk_score": 1.5}, "risk_score"),
        ({"risk_score": "high"}, "risk_score"),
        ({"action": "explode"}, "explode"),
        ({"name": "two words"}, "name"),
        ({"name": ""}, "name"),
        ({"condition": ""}, "condition"),
        ({"technique": "X1"}, "technique"),
        ({"severity": "dire"}, "dire"),
        ({"confidence": -1}, "confidence"),
    ],
)
def test_a_wrong_value_is_placed_at_the_value(change, told):
    text = json.dumps({"rules": [RULE, {**RULE, "name": "b", **change}]}, indent=2)
    problem = refused(text)
    key = next(iter(change))
    line = next(
        number for number, each in list(enumerate(text.split("\n"), 1))[8:] if f'"{key}":' in each
    )
    assert told in problem
    assert f"line {line}," in problem


def test_an_unknown_key_names_the_nearest():
    text = json.dumps({"rules": [{**RULE, "risk_scor": 1}]})
    with pytest.raises(SettingsError, match="risk_scor") as caught:
        plan(bare(), text)
    assert caught.value.remedy == "Did you mean 'risk_score'?"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"rules": 3}',
        '{"rules": [], "x": 1}',
        '{"rules": [}',
        "nul",
        '{"rules": [3]}',
        '{"rules": [{"name": NaN}]}',
        "{}",
        '{"rules": []} x',
        '{"rules": [], "rules": []}',
        '"' + "[" * 100,
        "[" * 100_000,
    ],
)
def test_what_is_not_a_rule_file_is_refused(text):
    refused(text)


def test_a_file_that_is_not_utf8_is_refused():
    with pytest.raises(SettingsError, match="byte 2 is not UTF-8"):
        RuleFile("/x", b'{"\xff')


def test_a_taken_name_is_refused_at_its_second_use():
    problem = refused('{"rules": [\n' + json.dumps(RULE) + ",\n" + json.dumps(RULE) + "]}")
    assert "line 3, column 1" in problem
    assert "rule 'a'" in problem


def test_a_wrong_condition_is_placed_within_the_file():
    text = (
        '{"rules": [\n  {"name": "a", "risk_score": 1, "action": "log",\n'
        '   "condition": "process.pth == 1"}]}'
    )
    problem = refused(text)
    assert "rule 'a'" in problem
    assert f"line 3, column {text.split(chr(10))[2].index('process') + 1}" in problem


def test_escapes_within_a_condition_do_not_move_the_place():
    condition = "process.path == '\\\\' &&\n\t process.pth == 'é😀'"
    for ascii_only in (True, False):
        text = json.dumps({"rules": [{**RULE, "condition": condition}]}, ensure_ascii=ascii_only)
        assert f"column {text.index('process.pth') + 1}," in refused(text)


@given(st.text(max_size=40), st.integers(0, 39), st.booleans())
@settings(max_examples=300)
def test_a_place_in_a_condition_is_the_place_in_the_file(text, at, ascii_only):
    at = min(at, len(text))
    rule = {**RULE, "condition": text + "x"}
    source = json.dumps({"rules": [rule]}, ensure_ascii=ascii_only)
    file = RuleFile("/x", source.encode("utf-8", "replace")) if text.isprintable() else None
    if file is None or "?" in source:
        return
    line, column = position(text, at)
    told = file.condition_error(0, line, column, "p").problem
    start = source.index('"condition": "') + len('"condition": "')
    before = len(json.dumps(text[:at], ensure_ascii=ascii_only)) - 2
    assert f"line 1, column {start + before + 1}," in told


def outcome(content):
    """The refusal of a file, or None when it is taken."""
    try:
        RuleFile("/x", content)
    except SettingsError as error:
        return error
    return None


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
bodies = st.dictionaries(
    st.sampled_from(ProcessRule.__struct_fields__) | st.text(string.ascii_letters, max_size=6),
    values | st.sampled_from(["a", "alert", "process.uid == 0", 0.5, "T1059"]),
    max_size=8,
)


@given(st.lists(bodies, max_size=3))
@settings(max_examples=200, deadline=None)
def test_any_rule_body_is_taken_or_refused_with_a_place(rules):
    content = json.dumps({"rules": rules}).encode("utf-8", "replace")
    told = outcome(content)
    assert told is None or ("line" in told.problem and told.remedy)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_taken_or_refused(content):
    told = outcome(content)
    assert told is None or told.remedy
