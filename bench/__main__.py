"""``make bench``: all measurements, to ``bench/results/latest.json`` and ``docs/performance.md``.

``python -m bench [NAME...]`` runs only those (``firewall``, ``ring``...) and prints,
writing nothing into the page. A measurement that cannot be made here is reported, and the exit
code is 1.
"""

from __future__ import annotations

import importlib
import json
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "latest.json"
PAGE = HERE.parent / "docs" / "performance.md"
_BETWEEN = re.compile(r"(<!-- bench: begin -->\n).*?(\n<!-- bench: end -->)", re.DOTALL)


def machine() -> dict[str, Any]:
    """What it ran on."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", text)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": text.count("processor\t"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of all modules, and the names of those that failed."""
    rows, failed = [], []
    for name in names:
        began = time.monotonic()
        try:
            found = importlib.import_module(f"bench.bench_{name}").run()
        except Exception as error:  # noqa: BLE001 (one measurement must not cost the others)
            failed.append(name)
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        rows += found if isinstance(found, list) else [found]
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return rows, failed


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        low, high = value["spread"]
        return f"{_number(value['median'])} ({_number(low)} to {_number(high)})"
    return _number(value)


def _cells(row: dict[str, Any]) -> tuple[str, str]:
    """The figure, and what else there is to say."""
    notes = []
    if "median" in row:
        figure = _figure(row)
        notes += [f"{row['runs']} runs"] if "runs" in row else []
    else:
        figure = f"mixed {_figure(row['mixed'])}"
        figure += f"; hot {_figure(row['hot'])}" if "hot" in row else ""
        notes += [f"hot worst {row['hot_max']}"] if "hot_max" in row else []
        notes += [f"wrapper {row['base']['median']}"] if "base" in row else []
    notes += [f"p50 {row['p50']:g}"] if "p50" in row else []
    notes += [f"the last rules judged {_number(row['judged'])}"] if "judged" in row else []
    for key in ("all_distinct", "sustained"):
        notes += [f"{key.replace('_', ' ')} {_figure(row[key])}"] if key in row else []
    notes += [f"{key} {value} us" for key, value in row.get("microseconds", {}).items()]
    return figure, "; ".join(notes)


def table(host: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The page's table."""
    lines = [
        ", ".join((host["cpu"], f"{host['cpus']} CPUs", f"kernel {host['kernel']}", host["date"])),
        "",
        "Medians, with the spread of the runs in brackets.",
        "",
        "| what | unit | measured | must | aim | notes |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figure, notes = _cells(row)
        goals = [_number(row[key]) if row.get(key) is not None else "" for key in ("must", "aim")]
        lines.append(
            f"| {row['name']} | {row['unit']} | {figure} | {' | '.join(goals)} | {notes} |"
        )
    return "\n".join(lines)


def main() -> int:
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    asked = sys.argv[1:]
    if unknown := sorted(set(asked) - set(known)):
        print(f"no measurement {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    rows, failed = measure(asked or known)
    host = machine()
    text = table(host, rows)
    print(text)
    if not asked:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": host, "rows": rows, "failed": failed}, indent=2))
        page = _BETWEEN.sub(lambda found: found[1] + text + found[2], PAGE.read_text())
        PAGE.write_text(page)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
