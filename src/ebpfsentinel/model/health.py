"""How the agent is, by proof: what came back, and what is wrong."""

from __future__ import annotations

import msgspec

from ebpfsentinel.model.alert import Severity

BLINDING = frozenset({"hook", "ring", "engine", "pipeline"})
"""With a trouble of these kinds we may not see what we should: the agent is not ready."""


CANARY_WORD = 0xCA9A27600D50F7ED
"""Every eight bytes of a canary's record (``record.h``)."""


KINDS = (*sorted(BLINDING), "sink", "tamper")
"""Of troubles."""


class Breach(msgspec.Struct, frozen=True):
    """Something of ours that is not as we left it.

    ``kind`` is ``hook`` (detached, or another program is there), ``chain`` (a program is missing
    in a chain), ``pin`` (unpinned, or another object has the name) or ``map`` (its content was
    changed by somebody else). ``subject`` names it, ``text`` says what was found.
    """

    kind: str
    subject: str
    text: str


class Proof(msgspec.Struct, kw_only=True):
    """One way that canaries take. ``state``: ``well``, ``silent``, or ``unproven`` as yet.

    ``kind`` is ``hook``, ``ring``, ``engine``, ``pipeline`` or ``sink``; ``heard_ns`` is wall time.
    """

    kind: str
    name: str
    state: str
    latency_ms: float | None = None
    heard_ns: int = 0
    why: str = ""


class Trouble(msgspec.Struct, frozen=True):
    """What is wrong. ``kind`` is that of a proof, or ``tamper``; ``key`` tells troubles apart."""

    kind: str
    key: str
    text: str
    severity: Severity = Severity.CRITICAL
    remedy: str = ""


class Health(msgspec.Struct, kw_only=True):
    """``state``: ``well``, ``degraded`` (something is wrong) or ``blind`` (we may miss things)."""

    state: str
    troubles: list[Trouble]
    proofs: list[Proof]
    alarms: dict[str, int]

    @classmethod
    def of(cls, troubles: list[Trouble], proofs: list[Proof], alarms: dict[str, int]) -> Health:
        """From what there is; ``alarms`` counts those raised since the start, by kind."""
        blind = any(trouble.kind in BLINDING for trouble in troubles)
        state = "blind" if blind else "degraded" if troubles else "well"
        return cls(state=state, troubles=troubles, proofs=proofs, alarms=alarms)
