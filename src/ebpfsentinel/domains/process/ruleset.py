"""All rules in force, compiled.

A condition that does not read ``event.type`` is about execs: otherwise the specification's own
example, ``process.path.contains('/tmp/')``, would also alert on every fork and exit of such a
process. Execs are therefore judged by all rules, other events by those that read ``event.type``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from ebpfsentinel.domains.process.calls import SETUID_CALLS, request_name, request_of_bit
from ebpfsentinel.domains.process.columns import table
from ebpfsentinel.domains.process.fields import ARGUMENT_FIELDS, CWD_FIELDS, FIELDS
from ebpfsentinel.model.conditions import ConditionError
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ebpfsentinel.domains.process.columns import Events
    from ebpfsentinel.domains.process.rule_file import ProcessRule, RuleFile
    from ebpfsentinel.model.conditions import Matcher, RuleLanguage

_TYPE = "event.type"
_MAY_READ_TYPE = re.compile(r"event\s*\.\s*type")


class RuleSet:
    """The enabled rules of a file, and those that users added at run time.

    A runtime rule takes the place of the file's rule of the same name.

    Raises:
        SettingsError: a condition is not valid; names rule, line and column.
    """

    def __init__(
        self, language: RuleLanguage, file: RuleFile, runtime: Sequence[ProcessRule]
    ) -> None:
        added = {rule.name for rule in runtime}
        self.rules = [*(rule for rule in file.rules if rule.name not in added), *runtime]
        self.active = [rule for rule in self.rules if rule.enabled]
        self._check(language, file, runtime)
        self._all = language.compile([rule.condition for rule in self.active], FIELDS)
        self._typed_rules = [rule for rule in self.active if _reads_type(language, rule)]
        self._typed = language.compile([rule.condition for rule in self._typed_rules], FIELDS)
        self.matched: Counter[str] = Counter()

    @staticmethod
    def _check(language: RuleLanguage, file: RuleFile, runtime: Sequence[ProcessRule]) -> None:
        """Every condition must be valid, those of rules that are off included."""
        try:
            language.compile([rule.condition for rule in file.rules], FIELDS)
        except ConditionError as error:
            raise file.condition_error(
                error.index, error.line, error.column, error.problem
            ) from None
        try:
            language.compile([rule.condition for rule in runtime], FIELDS)
        except ConditionError as error:
            raise SettingsError(
                f"process.rules[{runtime[error.index].name}].condition",
                str(error),
                "Correct the condition; the fields it may name are listed in the process docs.",
            ) from None

    def judges(self, event_type: str) -> bool:
        """May any rule match an event of this type?"""
        if event_type == "exec":
            return bool(self.active) and self._all.possible(_TYPE, event_type)
        return bool(self._typed_rules) and self._typed.possible(_TYPE, event_type)

    def ptrace_requests(self) -> int:
        """The bits of ``process_wanted.ptrace_requests``."""
        if not self.judges("ptrace"):
            return 0
        return sum(
            1 << bit
            for bit in range(64)
            if self._typed.possible("ptrace.request", request_name(request_of_bit(bit)))
        )

    def setuid_calls(self) -> int:
        """The bits of ``process_wanted.setuid_calls``."""
        if not self.judges("setuid"):
            return 0
        return sum(
            1 << call
            for call, name in SETUID_CALLS.items()
            if self._typed.possible("setuid.call", name)
        )

    @property
    def reads_arguments(self) -> bool:
        """Does any condition read arguments?"""
        return bool(self._all.fields & ARGUMENT_FIELDS)

    @property
    def reads_cwd(self) -> bool:
        """Does any condition read the working directory?"""
        return bool(self._all.fields & CWD_FIELDS)

    def match(self, events: Events) -> Iterator[tuple[int, ProcessRule]]:
        """Row and rule of every match, in the order of rows and rules."""
        matcher, rules = self._of(events.type)
        rows, which = matcher.match(table(events, matcher.fields))
        for row, rule in zip(rows.tolist(), which.tolist(), strict=True):
            self.matched[rules[rule].name] += 1
            yield row, rules[rule]

    def errors(self) -> dict[str, int]:
        """How often the evaluation of each rule failed, by rule name."""
        found: Counter[str] = Counter()
        for matcher, rules in ((self._all, self.active), (self._typed, self._typed_rules)):
            for index, count in matcher.errors().items():
                found[rules[index].name] += count
        return dict(found)

    def _of(self, event_type: str) -> tuple[Matcher, list[ProcessRule]]:
        if event_type == "exec":
            return self._all, self.active
        return self._typed, self._typed_rules


def _reads_type(language: RuleLanguage, rule: ProcessRule) -> bool:
    """Does the condition read ``event.type``? The text is asked first: compiling costs more."""
    if not _MAY_READ_TYPE.search(rule.condition):
        return False
    return _TYPE in language.compile([rule.condition], FIELDS).fields
