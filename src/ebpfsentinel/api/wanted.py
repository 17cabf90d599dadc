"""Which live alerts a listener asks for: the same words for SSE, WebSocket and gRPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsentinel.api.errors import Refusal
from ebpfsentinel.api.query import severity
from ebpfsentinel.model import attack

if TYPE_CHECKING:
    from ebpfsentinel.model.alert import Alert, Severity


@dataclass(frozen=True, slots=True)
class Wanted:
    """Every field that is set narrows; ``technique`` takes its sub-techniques along."""

    least: Severity | None = None
    component: str | None = None
    tactic: str | None = None
    technique: str | None = None

    def takes(self, alert: Alert) -> bool:
        """Is it one of those?"""
        if self.component is not None and alert.component != self.component:
            return False
        if self.least is not None and alert.severity.ordinal < self.least.ordinal:
            return False
        return self._is_such_an_attack(alert.technique or "")

    def _is_such_an_attack(self, key: str) -> bool:
        if self.technique is not None and not f"{key}.".startswith(f"{self.technique}."):
            return False
        if self.tactic is None:
            return True
        known = attack.technique(key)
        return known is not None and self.tactic in known.tactics


def wanted(
    least: str | None, component: str | None, tactic: str | None, technique: str | None
) -> Wanted:
    """What a request says, in its own words.

    Raises:
        Refusal: a word is not known; the message says which are.
    """
    return Wanted(severity(least), component, _tactic(tactic), _technique(technique))


def _tactic(text: str | None) -> str | None:
    if text is None:
        return None
    found = attack.tactic(text)
    if found is None:
        choices = ", ".join(name for _, name in attack.TACTICS.values())
        problem = f"{text[:100]!r} is not an ATT&CK tactic. Write one of: {choices}."
        raise Refusal(400, "VALIDATION_ERROR", problem)
    return found


def _technique(text: str | None) -> str | None:
    if text is not None and not attack.is_technique(text):
        problem = f"{text[:100]!r} is not an ATT&CK technique. Write T1059, or T1059.004."
        raise Refusal(400, "VALIDATION_ERROR", problem)
    return text and text.upper()
