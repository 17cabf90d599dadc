"""Many frames judged by a rule set, or by two: tallies by rule, and what differs.

The verdicts come from the loaded programs (``xdp_dry``); here they are counted, by column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.describe import (
    DEFAULT_RULE,
    UNJUDGED,
    endpoints,
    packet_text,
    verdict,
)
from ebpfsentinel.model.kernel import DRY, REPLAY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.firewall.engine import FirewallEngine
    from ebpfsentinel.model.access import Trial
    from ebpfsentinel.model.kernel import Answers, Frames, Kernel

_CODES = 1 << 24
NOT_JUDGED = -1
"""The code of a frame that the programs did not see: too short to be one, or too long."""


def codes_of(answers: Answers) -> NDArray[np.int64]:
    """Verdict and rule of each frame as one number, shape ``(n,)``: what differs, differs."""
    meta = answers.meta
    codes = np.asarray(meta["action"].astype(np.int64) * _CODES + meta["rule_id"])
    codes[answers.refused | (meta["flags"] == 0)] = NOT_JUDGED
    return codes


@dataclass(slots=True)
class Judge:
    """One rule set: what it says of frames, and the sum of that.

    It ``follows`` flows from frame to frame, where these are tracked. ``names`` maps the numbers of
    rules to their ids; ``order`` has the ids as they are tried.
    """

    kernel: Kernel
    names: dict[int, str]
    order: Sequence[str]
    come_in_on: Callable[[str], None]
    follows: bool = False
    tally: dict[int, list[int]] = field(default_factory=dict)

    def judge(self, frames: Frames) -> Answers:
        """The verdicts, counted."""
        answers = self.kernel.run_many(DRY, frames, REPLAY if self.follows else "")
        found, which = np.unique(codes_of(answers), return_inverse=True)
        packets = np.bincount(which)
        sizes = np.bincount(which, weights=frames.length)
        for code, count, size in zip(found.tolist(), packets.tolist(), sizes.tolist(), strict=True):
            total = self.tally.setdefault(code, [0, 0])
            total[0] += int(count)
            total[1] += int(size)
        return answers

    def told(self, code: int) -> dict[str, str]:
        """A code as verdict and rule."""
        if code == NOT_JUDGED:
            return {"verdict": UNJUDGED, "rule": "-"}
        number = code % _CODES
        rule = self.names.get(number, f"rule-{number}") if number else DEFAULT_RULE
        return {"verdict": verdict(code // _CODES), "rule": rule}

    def table(self) -> list[dict[str, Any]]:
        """Frames and bytes of each rule, in the rules' order; those never hit are left out."""
        ranks = {name: rank for rank, name in enumerate(self.order)}
        rows = [
            self.told(code) | {"frames": total[0], "bytes": total[1]}
            for code, total in self.tally.items()
        ]
        return sorted(rows, key=lambda row: ranks.get(row["rule"], len(ranks)))


def judge_of(trial: Trial) -> Judge:
    """A judge over a trial."""
    engine: FirewallEngine = trial.engine  # type: ignore[assignment]
    _, rules = engine.in_force()
    order = [found.rule.id for found in rules]
    follows = "flows" in engine.surroundings().provided
    return Judge(trial.kernel, engine.names(), order, trial.come_in_on, follows)


@dataclass(slots=True)
class Difference:
    """Frames that two rule sets judge differently.

    ``frames`` lists the first ``most`` of them; ``kinds`` counts all, by what became of what.
    """

    most: int
    frames: list[dict[str, Any]] = field(default_factory=list)
    kinds: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    verdicts: int = 0
    total: int = 0

    def add(
        self,
        first: int,
        frames: Frames,
        judges: tuple[Judge, Judge],
        answers: tuple[Answers, Answers],
    ) -> None:
        """Compare one chunk, whose first frame has the number ``first``."""
        words: dict[tuple[str, str], int] = {}
        old, new = (_numbered(*each, words) for each in zip(judges, answers, strict=True))
        told = list(words)
        apart = np.flatnonzero(old != new)
        pairs, counts = np.unique(np.stack([old[apart], new[apart]]), axis=1, return_counts=True)
        for (was, becomes), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            kind = (*told[was], *told[becomes])
            self.kinds[kind] = self.kinds.get(kind, 0) + count
            self.verdicts += count * (kind[0] != kind[2])
        for at in apart[: max(self.most - len(self.frames), 0)].tolist():
            kind = (*told[old[at]], *told[new[at]])
            self.frames.append(_row(first + at, frames.frame(at), answers[0].meta[at], kind))
        self.total += len(apart)

    def summary(self) -> list[dict[str, Any]]:
        """What became of what, the most frequent first."""
        ranked = sorted(self.kinds.items(), key=lambda pair: -pair[1])
        return [_sides(kind) | {"frames": count} for kind, count in ranked]


def _numbered(
    judge: Judge, answers: Answers, words: dict[tuple[str, str], int]
) -> NDArray[np.int64]:
    """Verdict and rule id of each frame as a number in ``words``, which grows.

    The numbers of the rules themselves cannot be compared: each rule set has its own.
    """
    codes, which = np.unique(codes_of(answers), return_inverse=True)
    told = [(each["verdict"], each["rule"]) for each in map(judge.told, codes.tolist())]
    numbers = [words.setdefault(each, len(words)) for each in told]
    return np.array(numbers, np.int64)[which]


def _sides(kind: tuple[str, str, str, str]) -> dict[str, Any]:
    return {
        "before": {"verdict": kind[0], "rule": kind[1]},
        "after": {"verdict": kind[2], "rule": kind[3]},
    }


def _row(number: int, frame: bytes, meta: Any, kind: tuple[str, str, str, str]) -> dict[str, Any]:
    found = endpoints(frame, meta)
    return {"frame": number, "packet": packet_text(found), **found, **_sides(kind)}


def replay(
    chunks: Any, judges: Sequence[Judge], most: int, moved: Callable[[int, int], None]
) -> tuple[Difference, int, int]:
    """Every frame through one rule set, or through two; frames are numbered from 1.

    Returns the difference, how many frames there were, and of how many the file holds only the
    beginning. ``moved`` is told how far reading has come.
    """
    difference, count, cut = Difference(most), 0, 0
    for chunk in chunks:
        answers = [judge.judge(chunk.frames) for judge in judges]
        if len(judges) > 1:
            pair = (judges[0], judges[1]), (answers[0], answers[1])
            difference.add(count + 1, chunk.frames, *pair)
        count, cut = count + len(chunk.frames), cut + chunk.cut
        moved(chunk.at, chunk.size)
    return difference, count, cut
