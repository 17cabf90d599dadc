"""What conditions mean, which rows they match, and how they are refused."""

import numpy as np
import pytest

from ebpfsentinel.model.conditions import ConditionError, Field, FieldType, Table, Words
from ebpfsentinel.rules import Cel

FIELDS = [
    Field("process.path", FieldType.STRING, "path"),
    Field("process.name", FieldType.STRING, "name"),
    Field("process.uid", FieldType.INT, "user"),
    Field("process.argv", FieldType.STRINGS, "arguments"),
    Field("process.score", FieldType.DOUBLE, "score"),
    Field("process.root", FieldType.BOOL, "is root"),
]


def table():
    return Table(
        4,
        {
            "process.path": Words(np.array([0, 1, 1, 2]), ["/tmp/x", "/usr/bin/ls", "/é\n"]),
            "process.name": Words(np.array([0, 1, 1, 0], np.uint8), ["x", "ls"]),
            "process.uid": np.array([0, 1000, 0, 5], np.uint32),
            "process.argv": Words(np.array([0, 1, 1, 2]), [("x", "-e"), (), ("ls",)]),
            "process.score": np.array([0.1, 0.5, 0.9, 1.0]),
            "process.root": np.array([True, False, True, False]),
        },
    )


def matches(condition):
    matcher = Cel().compile([condition], FIELDS)
    rows, which = matcher.match(table())
    assert not which.any()
    return rows.tolist(), matcher.errors().get(0, 0)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("true", [0, 1, 2, 3]),
        ("false", []),
        ("process.root", [0, 2]),
        ("!process.root", [1, 3]),
        ("process.path.contains('/tmp/')", [0]),
        ("process.path.contains('')", [0, 1, 2, 3]),
        ("process.path.startsWith('/usr')", [1, 2]),
        ("process.path.endsWith('/ls')", [1, 2]),
        ("process.path.matches('^/(tmp|usr)/')", [0, 1, 2]),
        ("process.path.matches('(?i)/TMP/')", [0]),
        ("matches(process.path, 'ls$')", [1, 2]),
        ("process.path.matches('é$')", []),
        ("process.path.matches('(?m)é$')", [3]),
        ("process.path.matches('^/.\\\\n$')", [3]),
        ("process.path.matches(r'^/.\\n$')", [3]),
        ("process.path == '/tmp/x'", [0]),
        ("'/tmp/x' == process.path", [0]),
        ('process.path != "/tmp/x"', [1, 2, 3]),
        ("process.path in ['/tmp/x', '/\\u00e9\\n']", [0, 3]),
        ("process.path > '/u'", [1, 2, 3]),
        ("'/u' > process.path", [0]),
        ("size(process.path) == 3", [3]),
        ("process.path.size() > 5 && process.uid < 1", [0, 2]),
        ("process.uid == 0 || process.uid == 5", [0, 2, 3]),
        ("process.uid in [5, 1000]", [1, 3]),
        ("process.uid + 1 >= 6", [1, 3]),
        ("process.uid * -1 < 0 && process.uid % 2 == 0", [1]),
        ("-process.uid == -5", [3]),
        ("process.uid == 0x3E8", [1]),
        ("process.score >= 0.5", [1, 2, 3]),
        ("process.score < 1", [0, 1, 2]),
        ("process.uid > 0.5", [1, 3]),
        ("1 <= process.score", [3]),
        ("double(process.uid) / 2.0 == 2.5", [3]),
        ("process.root ? process.uid == 0 : process.uid == 5", [0, 2, 3]),
        ("(process.root ? 1 : process.uid) == 1", [0, 2]),
        ("process.root == (process.uid == 0)", [0, 1, 2, 3]),
        ("has(process.path) && process.root", [0, 2]),
        ("process.argv.exists(a, a.startsWith('-'))", [0]),
        ("process.argv.all(a, size(a) < 2)", [1, 2]),
        ("!process.argv.all(a, a == 'ls')", [0]),
        ("process.argv.exists(a, a in ['ls', '-l'] || a.matches('^-[el]$'))", [0, 3]),
        ("'ls' in process.argv", [3]),
        ("size(process.argv) == 0", [1, 2]),
        ("process.argv.size() > 0 && process.argv[0] == 'ls'", [3]),
        ("['/tmp/', '/var/'].exists(d, process.path.startsWith(d))", [0]),
        ("process.path.contains('has(process.path)') // has(process.path)", []),
        # What the library evaluates row by row.
        ("process.path.endsWith(process.name)", [0, 1, 2]),
        ("process.root && process.path.endsWith(process.name)", [0, 2]),
        ("process.argv.exists(a, a == process.name)", [0]),
        ("process.argv.exists_one(a, a != '')", [3]),
        ("process.argv.map(a, size(a)).exists(n, n == 2)", [0, 3]),
        ("process.argv.filter(a, a != 'x') == ['-e']", [0]),
        ("'/tmp/' + process.name == process.path", [0]),
        ("string(process.uid) == '1000'", [1]),
        ("{'x': 7}[process.name] == 7", [0, 3]),
        ("type(process.path) == string", [0, 1, 2, 3]),
    ],
)
def test_condition_matches_rows(condition, rows):
    assert matches(condition)[0] == rows


@pytest.mark.parametrize(
    ("condition", "rows", "errors"),
    [
        ("10 / process.uid == 2", [3], 2),
        ("process.uid != 0 && 10 / process.uid == 2", [3], 0),
        ("10 / process.uid == 2 || process.root", [0, 2, 3], 0),
        ("!(10 % process.uid == 0)", [1], 2),
        ("process.argv[0] == 'ls'", [3], 2),
        ("process.argv[-1] == 'ls'", [], 4),
        ("process.argv[0] == 'ls' || process.uid == 1000", [1, 3], 1),
        ("process.uid + 9223372036854775807 > 0", [0, 2], 2),
        ("process.root ? 1 / process.uid == 1 : true", [1, 3], 2),
        ("{'x': 7}[process.name] == 7", [0, 3], 2),
    ],
)
def test_failed_evaluation_is_no_match_and_is_counted(condition, rows, errors):
    assert matches(condition) == (rows, errors)


def test_many_conditions_are_sorted_by_row_then_condition():
    conditions = ["process.root", "process.uid == 5", "process.uid >= 0"]
    rows, which = Cel().compile(conditions, FIELDS).match(table())
    assert list(zip(rows.tolist(), which.tolist(), strict=True)) == [
        (0, 0), (0, 2), (1, 2), (2, 0), (2, 2), (3, 1), (3, 2),
    ]  # fmt: skip


def test_no_conditions_and_no_rows():
    rows, which = Cel().compile([], FIELDS).match(table())
    assert rows.size == which.size == 0
    empty = Table(
        0,
        {
            "process.path": Words(np.empty(0, np.int32), []),
            "process.argv": Words(np.empty(0, np.int32), []),
            "process.uid": np.empty(0, np.uint32),
        },
    )
    conditions = [
        "process.path.contains('a') && process.uid / 0 == 1",
        "process.argv.all(a, a == '') || process.argv[0] == process.path",
    ]
    assert Cel().compile(conditions, FIELDS).match(empty)[0].size == 0


def test_an_unsigned_value_beyond_int_is_an_error():
    field = Field("n", FieldType.INT, "n")
    matcher = Cel().compile(["n > 0"], [field])
    rows, _ = matcher.match(Table(2, {"n": np.array([1 << 63, 1], np.uint64)}))
    assert rows.tolist() == [1]
    assert matcher.errors() == {0: 1}


def test_a_missing_column_is_named():
    with pytest.raises(KeyError, match=r"process\.uid"):
        Cel().compile(["process.uid == 1"], FIELDS).match(Table(1, {}))


def test_fields_are_those_the_conditions_read():
    conditions = [
        "process.root || process.argv.exists(a, a == process.name)",
        "{'a': process.uid}.a == 1",
    ]
    matcher = Cel().compile(conditions, FIELDS)
    assert matcher.fields == {"process.root", "process.argv", "process.name", "process.uid"}


@pytest.mark.parametrize(
    ("condition", "field", "value", "possible"),
    [
        ("process.path.contains('/tmp/') && process.uid == 0", "process.path", "/usr/a", False),
        ("process.path.contains('/tmp/') && process.uid == 0", "process.path", "/tmp/a", True),
        ("process.path.contains('/tmp/') && process.uid == 0", "process.uid", 1, False),
        ("process.path.contains('/tmp/') && process.uid == 0", "process.name", "x", True),
        ("process.path.contains('/tmp/') || process.uid == 0", "process.path", "/usr/a", True),
        ("!process.path.contains('/tmp/')", "process.path", "/tmp/a", False),
        ("process.path.endsWith(process.name)", "process.name", "x", True),
        ("process.path + 'x' == 'ax'", "process.path", "a", True),
        ("process.path + 'x' == 'ax'", "process.path", "b", False),
        ("process.argv.exists(a, a == '-e')", "process.argv", ("-l",), False),
        ("process.argv.exists(a, a == '-e')", "process.argv", ["-e"], True),
        ("process.root ? process.uid == 0 : false", "process.root", False, False),
        ("process.uid > 5", "process.uid", 2**64 - 1, False),
        ("process.score > 0.5", "process.score", 0.5, False),
        ("1 / process.uid == 1", "process.uid", 0, False),
    ],
)
def test_possible_with_one_field_known(condition, field, value, possible):
    assert Cel().compile([condition], FIELDS).possible(field, value) is possible


@pytest.mark.parametrize(
    ("condition", "line", "column", "problem"),
    [
        ("process.pth == 'a'", 1, 1, "no field 'process.pth'; did you mean 'process.path'"),
        ("true &&\n proces.uid == 1", 2, 2, "did you mean 'process.uid'"),
        ("process == 'a'", 1, 1, "there is process.argv, process.name"),
        ("has(process.pth)", 1, 5, "did you mean 'process.path'"),
        ("process.path.startswith('a')", 1, 14, "method 'startswith'; did you mean 'startsWith'"),
        ("process.path.foo()", 1, 14, "there is no method 'foo'"),
        ("len(process.path) > 1", 1, 1, "there is no function 'len'"),
        ("process.path.contains()", 1, 14, "'contains' is used with the wrong arguments"),
        ("process.path.contains(1)", 1, 22, "'contains' does not take (string, int)"),
        ("process.path.name == 'a'", 1, 13, "a string has no fields"),
        ("process.path == 1", 1, 14, "'==' does not take (string, int)"),
        ("process.uid == 1.0", 1, 13, "convert one with double(...)"),
        ("process.path == null", 1, 14, "a field is never null"),
        ("process.uid && true", 1, 13, "'&&' does not take (int, bool)"),
        ("process.uid", 1, 1, "gives int, not true or false"),
        ("process.root &&", 1, 16, "ends too early"),
        ("", 1, 1, "ends too early"),
        ("process.root process.root", 1, 14, "unexpected 'process'"),
        ("process.path.contains('a)", 1, 23, "unexpected"),
        ("$", 1, 1, "unexpected '$'"),
        ("process.path.matches('a(')", 1, 22, "regular expression is not valid: missing )"),
        ("process.path.matches('(a{1000}){1000}')", 1, 22, "not valid"),
        (f"process.path.matches('{'a' * 1025}')", 1, 22, "longer than 1024"),
        ("process.uid == 99999999999999999999", 1, 16, "invalid int literal"),
        ("(" * 100 + "true" + ")" * 100, 1, 1, "nested deeper than 32"),
        ("process.uid" + "+1" * 100 + " == 0", 1, 1, "nested deeper than 32"),
        ("true || " * 600 + "true", 1, 4097, "longer than 4096"),
        ("true &&\n\0", 2, 1, "U+0000"),
        ("process.path == '\ud800'", 1, 18, "U+D800"),
    ],
)
def test_refusal_names_the_place_and_the_remedy(condition, line, column, problem):
    with pytest.raises(ConditionError) as refused:
        Cel().compile(["true", condition], FIELDS)
    assert (refused.value.index, refused.value.line, refused.value.column) == (1, line, column)
    assert problem in refused.value.problem


def test_a_loop_that_unrolls_too_far_is_still_right():
    numbers = "[" + ",".join(map(str, range(90))) + "]"
    condition = f"{numbers}.exists(a, {numbers}.exists(b, a + b == process.uid - 827))"
    assert matches(condition)[0] == [1]
