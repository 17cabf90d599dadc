"""Findings to ``docs/kernels.md``: what works on which kernel, and what degrades, with the reason.

Cells name no release, count or date, so that the page changes only when a kernel's abilities do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Findings = dict[str, Any]
_WORKS, _FAILS = "yes", "**no**"
DENIED, ALLOWED = 7001, 7002
_HEAD = """# Kernels

What the agent can do on Debian's cloud kernels, as a virtual machine found it out. Made by
`make test-kernels`: change nothing here.

Every kernel loads all programs, attaches them to an interface between two network namespaces,
judges real datagrams of both families and one frame by `BPF_PROG_RUN`, copies packets to a mirror
(a veth: what native XDP sends there arrives if the other end has GRO, from 5.13 on, or an XDP
program of its own), and must see a process that is executed. What a kernel lacks is found by
loading, never by its version; the step of the ladder that is in effect is also in
`ebpfsentinel-agent ebpf status` and in the log.

"""


def cells(found: Findings) -> dict[str, str]:
    """One column: what to what became of it."""
    return dict(_cells(found))


def faults(found: Findings) -> list[str]:
    """What must work on every kernel and did not."""
    wrong = [f"{name}: {text}" for name, text in found["errors"].items()]
    wrong += [f"{name}: {cell}" for name, cell in cells(found).items() if cell == _FAILS]
    return wrong + [f"the kernel complained: {line}" for line in found["complaints"]]


def _cells(found: Findings) -> Iterator[tuple[str, str]]:
    for mode, title in (("auto", "XDP"), ("generic", "generic XDP"), ("tc", "TC")):
        at = found.get(f"packets {mode}")
        yield f"{title}: attached as", _attached(at)
        yield f"{title}: what is denied dies, what is allowed arrives", _yes(at and _judged(at))
        copied = found.get(f"copies {mode}")
        yield f"{title}: copies by a mirror, of what is denied", _copied(copied, DENIED)
        yield f"{title}: copies by a mirror, of what passes", _copied(copied, ALLOWED)
    steered = (found.get("copies auto") or {}).get("steered")
    yield "XDP: packets are steered to a CPU", _yes(steered)
    yield "routes are found for alerts", _yes(found.get("routes") == ["local", "none"])
    yield "`BPF_PROG_RUN` gives the verdict", _yes(_runs(found))
    yield "an exec, its fork and its exit are seen", _yes(_seen(found.get("exec")))
    yield "processes that were there before are found", _yes(_seeded(found.get("exec")))
    loaded = found.get("programs", [])
    whole = loaded and not any(program.get("needed") for program in loaded)
    yield "programs are all loaded, or a stand-in is", _yes(whole)


def _yes(good: Any) -> str:
    return _WORKS if good else _FAILS


def _copied(at: Findings | None, port: int) -> str:
    """Did as many leave as came?"""
    return _yes(at and at["seen"][str(port)] == at["counted"]["sent"] // 2 > 0)


def _attached(at: Findings | None) -> str:
    if not at:
        return _FAILS
    return str(at["tc"]) if at["how"] == "tc" else str(at["how"])


def _judged(at: Findings) -> bool:
    return not at["failures"] and all(at[family] == [0, at["sent"]] for family in ("ipv4", "ipv6"))


def _runs(found: Findings) -> bool:
    runs = [found[name]["run"] for name in found if name.startswith("packets")]
    return bool(runs) and all(list(run.values()) == [1, 2] for run in runs)


def _seen(execs: Findings | None) -> bool:
    return execs is not None and [execs[ring] for ring in ("execs", "forks", "exits")] == [1, 1, 1]


def _seeded(execs: Findings | None) -> bool:
    return execs is not None and all(count > 0 for count in execs["seeds"].values())


def page(found: Mapping[str, Findings]) -> str:
    """The page, from series to findings."""
    columns = {series: cells(each) for series, each in found.items()}
    rows = [("", *columns), ("---", *("---" for _ in columns))]
    rows += [(name, *(c[name] for c in columns.values())) for name in next(iter(columns.values()))]
    text = _HEAD + _markdown(rows) + "\n## What degrades\n\n"
    return text + _degraded(found)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _degraded(found: Mapping[str, Findings]) -> str:
    """Programs and hooks a step down their ladder, and the kernel's own words."""
    rows: list[Sequence[str]] = [("on", "what", "because"), ("---", "---", "---")]
    for series, each in found.items():
        for program in each.get("programs", []):
            reason = _plain(program["reason"])
            if reason and not reason.startswith("not needed"):
                name = f"`{program['name']}` ({program['domain']})"
                whole = f"the domain {program['domain']}"
                rows.append((series, whole if program.get("needed") else name, reason))
        for mode in ("auto", "generic", "tc"):
            reason = _plain(each.get(f"packets {mode}", {}).get("reason", ""))
            if reason:
                rows.append((series, f"attaching, {mode}", reason))
        for name, text in each["errors"].items():
            rows.append((series, name, _plain(_telling(text))))
    return _markdown(rows) if len(rows) > 2 else "Nothing.\n"


def _telling(text: str) -> str:
    """The line of a long error that says most."""
    lines = [line for line in text.splitlines() if "failed to load object" not in line]
    return lines[0] if lines else "no reason given"


def _plain(reason: str) -> str:
    """Without register numbers and counts, which compilers change."""
    return re.sub(r"\s+", " ", reason).strip("; ").replace("|", "/")


def column(text: str, series: str) -> dict[str, str] | None:
    """A column of the page as it stands; None where it has no such kernel."""
    lines = text.partition("## What degrades")[0].splitlines()
    rows = [re.split(r"\s*\|\s*", line)[1:-1] for line in lines if line.startswith("|")]
    if not rows or series not in rows[0]:
        return None
    at = rows[0].index(series)
    return {row[0]: row[at] for row in rows[2:]}
