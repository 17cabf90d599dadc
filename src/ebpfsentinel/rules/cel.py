"""CEL conditions (the language definition of google/cel-spec) compiled to columnar evaluation.

Google's C++ implementation parses, checks types and, for what the columnar form cannot say,
evaluates; nothing of the language is written anew here. What it evaluates, once per distinct
combination of the fields in question and only on rows that the rest of the condition leaves open:
comparing two string fields, string concatenation and conversion, ``map``, ``filter``,
``exists_one``, maps, ``dyn``, bytes, timestamps and durations.

Ordering an int against a double, which the specification allows and the library's checker leaves
out by default, is declared here.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from cel_expr_python import cel

from ebpfsentinel.model.conditions import ConditionError, FieldType
from ebpfsentinel.rules import checked
from ebpfsentinel.rules.form import Pool
from ebpfsentinel.rules.matcher import ColumnMatcher, Condition
from ebpfsentinel.rules.texts import compile_regex
from ebpfsentinel.rules.translate import Translator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.model.conditions import Field, Matcher
    from ebpfsentinel.rules.checked import Expr

MAX_LENGTH = 4096
"""Characters of a condition. Nesting is held to 32 levels by the library."""

_TYPES = {
    FieldType.STRING: cel.Type.STRING,
    FieldType.INT: cel.Type.INT,
    FieldType.DOUBLE: cel.Type.DOUBLE,
    FieldType.BOOL: cel.Type.BOOL,
    FieldType.STRINGS: cel.Type.List(cel.Type.STRING),
}
_ORDERINGS = {
    "_<_": "less",
    "_<=_": "less_equals",
    "_>_": "greater",
    "_>=_": "greater_equals",
}
_ORDERED = {
    "int64": cel.Type.INT,
    "uint64": cel.Type.UINT,
    "double": cel.Type.DOUBLE,
    "string": cel.Type.STRING,
    "bool": cel.Type.BOOL,
    "bytes": cel.Type.BYTES,
    "timestamp": cel.Type.TIMESTAMP,
    "duration": cel.Type.DURATION,
}
_METHODS = ["contains", "startsWith", "endsWith", "matches", "size"]
_MACROS = ["exists", "all", "exists_one", "filter", "map", "has"]
_CONVERSIONS = ["int", "double", "string", "bool", "bytes", "uint", "type", "dyn"]
_FUNCTIONS = [*_METHODS, *_MACROS, *_CONVERSIONS, "duration", "timestamp"]
_HAS = re.compile(
    r"[rR]?(?:\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')|//[^\n]*"
    r"|(?<![\w.])has\s*\(\s*(?P<field>[A-Za-z_][\w.]*)\s*\)",
    re.DOTALL,
)
_PROBLEM = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): (.*)")


class Cel:
    """CEL as a :class:`~ebpfsentinel.model.conditions.RuleLanguage`."""

    def compile(self, conditions: Sequence[str], fields: Sequence[Field]) -> Matcher:
        """Compile all conditions.

        Raises:
            ConditionError: the first condition that is not valid, with its index and position.
        """
        types = {field.name: field.type for field in fields}
        environment = _environment(types)
        pool = Pool()
        translator = Translator(types, pool)
        compiled = [
            _Compiler(index, text, types, environment).compile(translator)
            for index, text in enumerate(conditions)
        ]
        return ColumnMatcher(compiled, pool, types)


def _environment(types: dict[str, FieldType]) -> cel.Env:
    """The standard environment plus the fields, with int and double comparable."""
    excluded = "".join(f'    - name: "{name}"\n' for name in _ORDERINGS)
    config = cel.NewEnvConfigFromYaml(f"stdlib:\n  exclude_functions:\n{excluded}")
    pairs = [(one, one) for one in _ORDERED] + [("int64", "double"), ("double", "int64")]
    functions = [
        cel.FunctionDecl(
            name,
            [
                cel.Overload(
                    f"{word}_{one}" if one == two else f"{word}_{one}_{two}",
                    cel.Type.BOOL,
                    [_ORDERED[one], _ORDERED[two]],
                    is_member=False,
                )
                for one, two in pairs
            ],
        )
        for name, word in _ORDERINGS.items()
    ]
    variables = {name: _TYPES[type_] for name, type_ in types.items()}
    return cel.NewEnv(config=config, variables=variables, functions=functions)


class _Compiler:
    """One condition on its way from text to form."""

    def __init__(
        self, index: int, text: str, types: dict[str, FieldType], environment: cel.Env
    ) -> None:
        self._index = index
        self._text = text
        self._types = types
        self._environment = environment

    def compile(self, translator: Translator) -> Condition:
        self._check_text()
        try:
            expression = self._environment.compile(_HAS.sub(self._has, self._text))
        except RuntimeError as error:
            raise self._refusal(str(error)) from None
        result = expression.return_type()
        if result not in (cel.Type.BOOL, cel.Type.DYN):
            raise self._error(
                1, 1, f"the condition gives {result.name().lower()}, not true or false"
            )
        tree = checked.read(expression.serialize())
        fields = self._check_tree(tree)
        return Condition(translator.translate(tree.root), fields, _evaluator(expression))

    def _check_text(self) -> None:
        if len(self._text) > MAX_LENGTH:
            before = self._text[:MAX_LENGTH]
            raise self._error(
                *_line_and_column(before, MAX_LENGTH),
                f"the condition is longer than {MAX_LENGTH} characters",
            )
        for at, letter in enumerate(self._text):
            if letter == "\0" or "\ud800" <= letter <= "\udfff":
                problem = f"the character U+{ord(letter):04X} has no place in a condition"
                raise self._error(*_line_and_column(self._text, at), problem)

    def _has(self, found: re.Match[str]) -> str:
        """Every field is there, so ``has(field)`` is true; as long as the original, for positions.

        The library's checker takes a dotted field under ``has`` for the field itself.
        """
        whole = found[0]
        if found["field"] not in self._types:
            return whole
        return "true" + re.sub(r"[^\n]", " ", whole[4:])

    def _check_tree(self, tree: checked.Checked) -> frozenset[str]:
        """The fields that are read; regular expressions are checked on the way."""
        names = set()
        for node in _walk(tree.root):
            if isinstance(node, checked.Ident):
                names.add(node.name.removeprefix("."))
            if isinstance(node, checked.Call) and node.function == "matches":
                self._check_regex(node.arguments[-1], tree.positions)
        return frozenset(names & self._types.keys())

    def _check_regex(self, argument: Expr, positions: dict[int, int]) -> None:
        if not (isinstance(argument, checked.Const) and isinstance(argument.value, str)):
            return
        try:
            compile_regex(argument.value)
        except ValueError as error:
            place = _line_and_column(self._text, positions.get(argument.id, 0))
            raise self._error(*place, str(error)) from None

    def _error(self, line: int, column: int, problem: str) -> ConditionError:
        return ConditionError(self._index, line, column, problem)

    def _refusal(self, report: str) -> ConditionError:
        """The library's report as one sentence with a remedy."""
        found = _PROBLEM.search(report)
        if found is None or int(found[1]) < 1:
            deep = "recursion" in report
            problem = "the condition is nested deeper than 32 levels" if deep else report
            return self._error(1, 1, problem.splitlines()[0][:200])
        line, column, problem = int(found[1]), int(found[2]), found[3]
        if missing := re.match(r"undeclared reference to '(.*?)'", problem):
            return self._undeclared(line, column, missing[1])
        if overload := re.match(
            r"found no matching overload for '(.*)' applied to '(.*)'", problem
        ):
            return self._error(line, column, _mismatch(overload[1], overload[2]))
        if selection := re.match(r"expression of type '(.*?)' cannot be the operand", problem):
            return self._error(line, column, f"a {selection[1]} has no fields of its own")
        return self._error(line, column, _syntax(problem))

    def _undeclared(self, line: int, column: int, name: str) -> ConditionError:
        """An unknown field, function or method; the column is where its name begins."""
        source = self._text.splitlines()[line - 1] if self._text else ""
        start = source.rfind(name, 0, column + len(name))
        if start >= 0:
            column = start + 1
        if not source[column - 1 + len(name) :].lstrip().startswith("("):
            return self._error(line, column, self._no_field(name))
        kind = "method" if source[: column - 1].rstrip().endswith(".") else "function"
        if name in _FUNCTIONS:
            return self._error(line, column, f"'{name}' is used with the wrong arguments here")
        near = _nearest(name, _FUNCTIONS)
        return self._error(line, column, f"there is no {kind} '{name}'{near}")

    def _no_field(self, name: str) -> str:
        within = [field for field in self._types if field.startswith(f"{name}.")]
        near = "" if within else _nearest(name, list(self._types))
        if near:
            return f"there is no field '{name}'{near}"
        known = ", ".join(sorted(within or self._types)[:8])
        return f"there is no field '{name}'; there is {known}" if known else f"no field '{name}'"


def _evaluator(expression: cel.Expression) -> Any:
    """The library's verdict of a row given by field name; None is an error."""

    def evaluate(row: dict[str, Any]) -> bool | None:
        value = expression.eval(data=row)
        return bool(value.value()) if value.type() == cel.Type.BOOL else None

    return evaluate


def _walk(node: Expr) -> Iterator[Expr]:
    """The node and all below it."""
    yield node
    children: tuple[Expr | None, ...] = ()
    match node:
        case checked.Call(target=target, arguments=arguments):
            children = (target, *arguments)
        case checked.Items(elements=elements):
            children = elements
        case checked.Fold(over=over, start=start, step=step, result=result):
            children = (over, start, step, result)
        case checked.Other(children=inside):
            children = inside
        case _:
            pass
    for child in children:
        if child is not None:
            yield from _walk(child)


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Line and column from 1 of a code point."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _nearest(name: str, known: Sequence[str]) -> str:
    by_fold = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), list(by_fold), 1, 0.6)
    return f"; did you mean '{by_fold[near[0]]}'?" if near else ""


def _mismatch(function: str, types: str) -> str:
    operator = function.strip("_@").replace("_", " ")
    numbers = {"(int, double)", "(double, int)"}
    remedy = "; convert one with double(...) or int(...)" if types in numbers else ""
    if types.startswith("(null") or "null_type" in types:
        remedy = "; a field is never null"
    return f"'{operator}' does not take {types}{remedy}"


def _syntax(problem: str) -> str:
    """The parser's complaint without its list of tokens."""
    problem = problem.replace(" [INVALID_ARGUMENT]", "")
    if "input '<EOF>'" in problem:
        return "the condition ends too early"
    if found := re.search(r"token recognition error at: '(.*)", problem):
        return f"unexpected {found[1].removesuffix(chr(39))[:40]!r}"
    if found := re.search(r"(?:mismatched|extraneous) input '(.*?)'(?: expecting.*)?$", problem):
        return f"unexpected {found[1][:40]!r}"
    return problem[:200]
