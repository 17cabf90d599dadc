"""``make test-kernels KERNELS="6.1 6.12"``: every kernel in turn, in a virtual machine.

With all kernels of the page it writes ``docs/kernels.md``; with some of them it holds what it found
against the page. The exit code is 1 where something that must work does not, or the page is stale.
"""

from __future__ import annotations

import difflib
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.kernels import machine, packages, table

SERIES = ("5.10", "6.1", "6.12", "6.18", "7.2")
PARTLY = ("5.10",)
"""Where not all works, and the page says what: atomic instructions came with 5.12, and some domains
need them."""
PAGE = Path(__file__).resolve().parents[2] / "docs/kernels.md"


def main(asked: list[str]) -> int:
    """Run, tell, write or compare."""
    asked = asked or list(SERIES)
    found: dict[str, dict[str, Any]] = {}
    bad = False
    for series in asked:
        began = time.monotonic()
        try:
            kernel = packages.fetch(series)
            found[series] = machine.boot(kernel)
        except (packages.FetchError, machine.GuestError) as error:
            print(f"{series}: {error}", file=sys.stderr)
            bad = True
            continue
        wrong = table.faults(found[series])
        took = f"{time.monotonic() - began:.0f} s"
        print(f"{series} ({kernel.release}): {'all works' if not wrong else 'FAULTS'}, {took}")
        for line in wrong:
            print(f"  {line}")
        bad = bad or (bool(wrong) and series not in PARTLY)
        (packages.CACHE / f"{series}.json").write_text(json.dumps(found[series], indent=1))
    return int((_keep(found) if found else True) or bad)


def _keep(found: dict[str, dict[str, Any]]) -> bool:
    """Write the page, or compare with it; True: it is stale."""
    made = table.page(found)
    if set(found) == set(SERIES):
        PAGE.write_text(made)
        print(f"written: {PAGE.name}")
        return False
    stale = False
    kept = PAGE.read_text()
    for series in found:
        new, old = table.column(made, series), table.column(kept, series)
        if new != old:
            stale = True
            lines = [[f"{k}: {v}" for k, v in (each or {}).items()] for each in (old, new)]
            print(f"{PAGE.name} is not what {series} is: run 'make test-kernels'")
            print("\n".join(difflib.unified_diff(*lines, "page", "found", lineterm="", n=0)))
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
