"""Columnar results against the CEL library's own evaluator, row by row, on random conditions."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ebpfsentinel.model.conditions import ConditionError, Field, FieldType, Table, Words
from ebpfsentinel.rules import Cel
from ebpfsentinel.rules.cel import _environment, _evaluator
from ebpfsentinel.rules.form import Column, Look, Text
from ebpfsentinel.rules.texts import Panel, compile_regex

FIELDS = {
    "p.path": FieldType.STRING,
    "p.name": FieldType.STRING,
    "uid": FieldType.INT,
    "p.size": FieldType.INT,
    "p.argv": FieldType.STRINGS,
    "p.score": FieldType.DOUBLE,
    "p.root": FieldType.BOOL,
}
STRINGS = [
    "",
    "a",
    "ab",
    "/tmp/a",
    "b/tmp/",
    "é",
    "a\nb",
    "b\n",
    "-e",
    "A b",
    "\x0bq",
    "ſK",
    "\x7f",
]
INTS = [0, 1, -1, 2, 3, 7, -(1 << 63), (1 << 63) - 1, 1 << 53, (1 << 53) + 1]
DOUBLES = [0.0, -0.0, 1.0, -1.5, 2.0, 0.5, 2.0**53, 2.0**63, -(2.0**63), 1e300]
REGEXES = [
    "a",
    "^a",
    "b$",
    "(?i)K",
    "^.$",
    "[^a]",
    "a|b",
    "^$",
    r"\sb",
    r"\S",
    r"\ba\b",
    "(a|é)+",
    "q",
]
REGEXES += [
    r"^\w+$",
    r"/tmp/?",
    "a.*b",
    r"\W",
    "(?s)a.b",
    "^.{2,3}$",
    r"\z",
    r"(?m)^b",
    "[[:alpha:]]",
]


def quoted(text):
    return "'" + "".join(f"\\u{ord(c):04x}" if not c.isalnum() else c for c in text) + "'"


def joined(*parts):
    return st.tuples(*parts).map("".join)


ints = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["uid", "p.size", "uid", "p.size"]),
        st.sampled_from(INTS).map(lambda n: f"({n})"),
        joined(st.just("size("), strings, st.just(")")),
        st.just("size(p.argv)"),
        joined(st.just("("), ints, st.sampled_from("+-*/%"), ints, st.just(")")),
        joined(st.just("-("), ints, st.just(")")),
        joined(st.just("("), bools, st.just("?"), ints, st.just(":"), ints, st.just(")")),
    )
)
doubles = st.deferred(
    lambda: st.one_of(
        st.just("p.score"),
        st.sampled_from(DOUBLES).map(lambda n: f"({n!r})"),
        joined(st.just("double("), ints, st.just(")")),
        joined(st.just("("), doubles, st.sampled_from("+-*/"), doubles, st.just(")")),
    )
)
literals = st.sampled_from(STRINGS).map(quoted)
strings = st.one_of(
    st.sampled_from(["p.path", "p.name"]), st.sampled_from(["p.argv[0]", "p.argv[1]"]), literals
)
relations = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def string_bools(source):
    return st.one_of(
        joined(source, relations, literals),
        joined(literals, relations, source),
        joined(
            source,
            st.sampled_from([".contains(", ".startsWith(", ".endsWith("]),
            literals,
            st.just(")"),
        ),
        joined(source, st.just(".matches("), st.sampled_from(REGEXES).map(quoted), st.just(")")),
        joined(source, st.just(" in ["), literals, st.just(","), literals, st.just("]")),
    )


element_bools = st.one_of(
    string_bools(st.just("a")),
    joined(st.just("size(a)"), relations, st.sampled_from(["0", "1", "2"])),
    joined(st.just("1 / size(a)"), relations, st.just("1")),
    joined(st.just("(a == p.name || "), string_bools(st.just("a")), st.just(")")),
    joined(string_bools(st.just("a")), st.sampled_from(["&&", "||"]), string_bools(st.just("a"))),
)
bools = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["p.root", "true", "false", "has(p.path)", "p.path == p.name"]),
        string_bools(strings),
        joined(ints, relations, ints),
        joined(doubles, relations, doubles),
        joined(ints, st.sampled_from(["<", "<=", ">", ">="]), doubles),
        joined(doubles, st.sampled_from(["<", "<=", ">", ">="]), ints),
        joined(ints, st.just(" in [0, 1, 7]")),
        joined(literals, st.just(" in p.argv")),
        joined(
            st.sampled_from(["p.argv.exists(a, ", "p.argv.all(a, ", "['a', '/tmp/'].exists(a, "]),
            element_bools,
            st.just(")"),
        ),
        joined(st.just("!("), bools, st.just(")")),
        joined(st.just("(("), bools, st.sampled_from([") == (", ") != ("]), bools, st.just("))")),
        joined(st.just("("), bools, st.sampled_from([" && ", " || "]), bools, st.just(")")),
        joined(st.just("("), bools, st.just("?"), bools, st.just(":"), bools, st.just(")")),
    )
)
rows_ = st.lists(
    st.fixed_dictionaries(
        {
            "p.path": st.sampled_from(STRINGS),
            "p.name": st.sampled_from(STRINGS),
            "uid": st.sampled_from(INTS),
            "p.size": st.sampled_from(INTS),
            "p.argv": st.lists(st.sampled_from(STRINGS), max_size=3),
            "p.score": st.sampled_from([*DOUBLES, float("inf"), float("nan")]),
            "p.root": st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)


def words(values):
    distinct = list(dict.fromkeys(values))
    return Words(np.array([distinct.index(value) for value in values], np.int16), distinct)


def table(rows):
    columns = {}
    for name, type_ in FIELDS.items():
        values = [row[name] for row in rows]
        if type_ is FieldType.STRING:
            columns[name] = words(values)
        elif type_ is FieldType.STRINGS:
            columns[name] = words([tuple(value) for value in values])
        else:
            columns[name] = np.array(values)
    return Table(len(rows), columns)


FIELD_LIST = [Field(name, type_, "") for name, type_ in FIELDS.items()]
ENVIRONMENT = _environment(FIELDS)


@settings(max_examples=400, deadline=None)
@given(st.lists(bools, min_size=1, max_size=4), rows_)
def test_columnar_agrees_with_the_library_row_by_row(conditions, rows):
    try:
        matcher = Cel().compile(conditions, FIELD_LIST)
    except ConditionError as error:
        assert "nested" in error.problem or "longer" in error.problem  # noqa: PT017 - or passes
        return
    found = {tuple(pair) for pair in np.transpose(matcher.match(table(rows))).tolist()}
    for index, condition in enumerate(conditions):
        expression = ENVIRONMENT.compile(condition.replace("has(p.path)", "true"))
        verdicts = [_evaluator(expression)(row) for row in rows]
        for at, verdict in enumerate(verdicts):
            assert ((at, index) in found) is (verdict is True), (condition, rows[at])
        failed = sum(verdict is None for verdict in verdicts)
        assert matcher.errors().get(index, 0) == failed, condition


@settings(max_examples=150, deadline=None)
@given(bools, rows_, st.sampled_from(sorted(FIELDS)))
def test_possible_is_never_wrongly_false(condition, rows, field):
    try:
        matcher = Cel().compile([condition], FIELD_LIST)
    except ConditionError:
        return
    for at in matcher.match(table(rows))[0].tolist():
        assert matcher.possible(field, rows[at][field])


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
@example("'''\n")
@example("has(p.path")
@example("p.path.matches('[')")
@example("{}.a.b{}")
@example("[].exists(x, x)")
@example("dyn(1)")
@example("dyn(p.root) && p.argv.map(a, a)[0] == 'a'")
def test_arbitrary_text_is_compiled_or_refused(text):
    try:
        matcher = Cel().compile([text], FIELD_LIST)
    except ConditionError as error:
        assert error.line >= 1  # noqa: PT017 - or passes
        assert 1 <= error.column <= len(text) + 1  # noqa: PT017
        return
    matcher.match(table([{"p.path": "", "p.name": "", "uid": 0, "p.size": 0, "p.argv": [],
                          "p.score": 0.0, "p.root": True}]))  # fmt: skip


TOKENS = ["p.path", "p.argv", "uid", "(", ")", "[", "]", "{", "}", ",", ":", "?", ".", "'a'", "1"]
TOKENS += [
    "==",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "/",
    " in ",
    ".exists(a,",
    ".size()",
    "has(",
    "true",
    "1.5",
]
TOKENS += [".matches(", ".map(a,", "dyn(", "b'x'", "1u", "null", "a", "size(", "//", "\n"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join))
def test_token_soup_is_compiled_or_refused(text):
    test_arbitrary_text_is_compiled_or_refused.hypothesis.inner_test(text)


ATOMS = [
    "a",
    "b",
    "/",
    "\\.",
    ".",
    "\\d",
    "\\w",
    "\\s",
    "\\b",
    "[ab/]",
    "[^a]",
    "(?:",
    ")",
    "(",
    "|",
    "*",
]
ATOMS += [
    "+",
    "?",
    "{1,2}",
    "^",
    "$",
    " ",
    "-",
    "\\S",
    "\\W",
    "0",
    "_",
    "[a-c]",
    "(?i)",
    "\\$",
    "{2}",
    ",",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(ATOMS), min_size=1, max_size=8).map("".join),
    st.lists(st.text("abcAB/. 01_-$\n\x0bé", max_size=7), min_size=1, max_size=6),
)
def test_hyperscan_agrees_with_re2_where_it_judges(source, values):
    try:
        expected = [compile_regex(source).search(value) is not None for value in values]
    except ValueError:
        with pytest.raises(ValueError, match="regular expression"):
            compile_regex(source)
        return
    test = Text(Column("p.path", FieldType.STRING), Look.MATCHES, (source,))
    assert Panel([test]).judge(values)[0].tolist() == expected
